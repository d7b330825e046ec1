"""One request over HTTP: where it may lead, how long it may take, and what went wrong in a line."""

import contextlib
import functools
import http.client
import ipaddress
import socket
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Mapping

import vtd_jax
from vtd_jax.errors import UserError
from vtd_jax.printable import brief

_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
# what was open before a request failed, for the watch
Sockets = list[socket.socket]


class Broken(Exception):
    """A connection ended or stopped; another attempt may help."""


# http.client raises ValueError at a chunk whose size is no number
BROKEN = (Broken, OSError, http.client.HTTPException, ValueError)


class Watch:
    """Ends connections on which too little arrives: a time limit of a socket starts again at each
    byte.

    Attributes:
      has_ended: whether it did.
    """

    def __init__(self, seconds: float):
        self.sockets: Sockets = []
        self.has_ended = False
        self.seconds = seconds
        self._due = time.monotonic() + seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._wait, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        for each in self.sockets:
            each.close()

    def again(self) -> None:
        """Begins to count again: enough has arrived."""
        self._due = time.monotonic() + self.seconds

    def _wait(self) -> None:
        while (left := self._due - time.monotonic()) > 0:
            if self._done.wait(left):
                return
        self.has_ended = True
        # a connection may be made after this moment
        while True:
            for each in list(self.sockets):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            if self._done.wait(0.05):
                return


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https only; a server on this machine may send to another one on it."""

    max_redirections = 5

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        to, here = urllib.parse.urlsplit(newurl), urllib.parse.urlsplit(req.full_url)
        inside = _is_loopback(here.hostname) and _is_loopback(to.hostname)
        if to.scheme != "https" and not (inside and to.scheme == "http"):
            fp.close()
            raise UserError(
                f"{shown_url(req.full_url)}: redirects to {shown_url(newurl)}, which is not https: "
                "not followed"
            )
        found = super().redirect_request(req, fp, code, msg, headers, newurl)
        # a token is for the server that it was meant for
        if found is not None and (to.scheme, to.netloc) != (here.scheme, here.netloc):
            found.remove_header("Authorization")
        return found


class _Http(urllib.request.HTTPHandler):
    """Notes the sockets of its connections."""

    def __init__(self, sockets: Sockets):
        super().__init__()
        self._sockets = sockets

    def http_open(self, req):
        return self.do_open(
            functools.partial(_kept, self._sockets, http.client.HTTPConnection), req
        )


class _Https(urllib.request.HTTPSHandler):
    """Notes the sockets of its connections."""

    def __init__(self, sockets: Sockets):
        super().__init__()
        self._sockets = sockets

    def https_open(self, req):
        kept = functools.partial(_kept, self._sockets, http.client.HTTPSConnection)
        return self.do_open(kept, req)


def _kept(sockets: Sockets, kind: type[http.client.HTTPConnection], *given, **options):
    """A connection whose socket is noted before anything, such as TLS, is read from it."""
    found = kind(*given, **options)
    connect = found._create_connection  # pyright: ignore[reportAttributeAccessIssue]

    def noted(*of, **how):
        sock = connect(*of, **how)
        # TLS takes the first one over, and an end is of both
        sockets.append(sock.dup())
        return sock

    found._create_connection = noted  # pyright: ignore[reportAttributeAccessIssue]
    return found


def send(
    url: str,
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
    *,
    timeout: float,
    watch: Watch,
) -> http.client.HTTPResponse:
    """The reply to a request, its body still to be read.

    Args:
      url: http or https; a user and password in it are sent as such.
      headers: of the request, beside our own.
      method: of the request.
      timeout: seconds without a byte after which the connection counts as dead.
      watch: ends it where too little arrives.

    Raises:
      UserError: a redirect to what is not https.
      OSError, HTTPException, ValueError: as `urllib` raises them.
    """
    url, own = _without_password(url)
    own |= {"User-Agent": f"vtd_jax/{vtd_jax.__version__}", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=own | dict(headers or {}), method=method)
    try:
        return _opener(watch.sockets).open(request, timeout=timeout)
    except BROKEN as error:
        if isinstance(error, urllib.error.HTTPError):
            # its number and headers are enough
            error.close()
        if watch.has_ended:
            raise _slow(watch) from None
        raise


def read(reply: http.client.HTTPResponse, size: int, watch: Watch) -> bytes:
    """What has arrived of a body, at most `size` bytes; b"" at its end.

    Raises:
      Broken: the watch ended it.
      OSError, HTTPException, ValueError: as `http.client` raises them.
    """
    try:
        block = reply.read1(size)
    except BROKEN:
        if watch.has_ended:
            raise _slow(watch) from None
        raise
    if watch.has_ended:
        raise _slow(watch)
    return block


def shown_url(url: str) -> str:
    """An address without user, password, and what may be a signature, for messages."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return urllib.parse.urlunsplit((parts.scheme, host, parts.path, "", ""))
    except ValueError:
        return "an address that cannot be read"


def checked_endpoint(variable: str, text: str) -> str:
    """The address of a server as a variable gives it, without a slash at its end.

    Raises:
      UserError: it is none.
    """
    with contextlib.suppress(ValueError):
        parts = urllib.parse.urlsplit(text)
        known = parts.scheme in ("https", "http") and parts.hostname and text.isascii()
        plain = text.isprintable() and " " not in text and not parts.query + parts.fragment
        # a port that is none raises
        if known and plain and parts.port != 0:
            return text.rstrip("/")
    raise UserError(
        f"{variable}={brief(_hidden(text))}: expected an address, https://HOST or https://HOST/PATH"
    )


def _hidden(text: str) -> str:
    """A text that is no address, without what may be a password in it."""
    return text.rpartition("@")[2] if "@" in text else text


def is_lasting(error: BaseException) -> bool:
    """Whether another attempt cannot help."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code not in _TRANSIENT
    reason = getattr(error, "reason", error)
    return isinstance(reason, ssl.SSLCertVerificationError) or "Tunnel connection" in str(reason)


def why(url: str, error: BaseException) -> str:
    """A line about what went wrong with a request, its address in front."""
    where = shown_url(url)
    if isinstance(error, urllib.error.HTTPError):
        return f"{where}: {_refusal(error)}"
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return (
            f"{where}: its certificate cannot be verified ({reason.verify_message}); behind a "
            "proxy that inspects traffic, set SSL_CERT_FILE to its certificates"
        )
    text = "no answer in time" if isinstance(reason, TimeoutError) else _short(reason)
    scheme, host = urllib.parse.urlsplit(where)[:2]
    proxy = urllib.request.getproxies().get(scheme)
    if proxy and not urllib.request.proxy_bypass(host):
        return f"{where}: cannot be reached through the proxy of {scheme}_proxy ({text})"
    return f"{where}: cannot be reached ({text}); is this machine online?"


def _refusal(error: urllib.error.HTTPError) -> str:
    status = f"HTTP {error.code} {_short(error.reason)}".rstrip()
    if error.code in (404, 410):
        return f"the server does not have it (HTTP {error.code})"
    if error.code < 400:
        # the reason holds the whole address
        return f"redirects to what is not https, or too often (HTTP {error.code}): not followed"
    if error.code == 429:
        return f"too many requests from here ({status}): wait, then try again"
    if error.code >= 500:
        return f"the server fails ({status}): try again later"
    return f"the server refuses it ({status})"


def _short(reason: object) -> str:
    """What a server or a library says, at most a line of it."""
    return brief(str(reason))[1:-1]


def _slow(watch: Watch) -> Broken:
    return Broken(f"next to nothing arrived in {watch.seconds:g} s")


def _without_password(url: str) -> tuple[str, dict[str, str]]:
    """The address alone, and the header that says its user and password."""
    parts = urllib.parse.urlsplit(url)
    before, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, {}
    told = b64encode(urllib.parse.unquote(before).encode()).decode()
    bare = urllib.parse.urlunsplit(parts._replace(netloc=host))
    return bare, {"Authorization": f"Basic {told}"}


def _opener(sockets: Sockets) -> urllib.request.OpenerDirector:
    """An opener of http and https with the user's proxies; not of file: or ftp:."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Http(sockets),
        _Https(sockets),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
