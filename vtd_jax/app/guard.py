"""What every request passes before a route sees it: token, host, origin, size and pace of bodies.

Plain ASGI, around the whole application. A page of another site can make a browser send requests to
this server; it cannot know the token, and what it may send is refused by its origin as well. A name
that an attacker points at this address (DNS rebinding) is refused by the `Host` header.
"""

import asyncio
import contextlib
import hmac
import ipaddress
import json
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.responses import Response

from vtd_jax.errors import UserError, setting
from vtd_jax.printable import brief
from vtd_jax.untrusted.limits import (
    APP_JSON_BYTES,
    APP_PATIENCE_SECONDS,
    APP_SLOWEST_BYTES,
    APP_UPLOAD_BYTES,
)

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

# characters of a token that somebody chooses
LEAST_TOKEN = 16
HEADER = b"x-vtd-token"
UPLOAD = "/upload"
_FIELDS, _LONGEST_QUERY = 20, 8192
# of a body that is too large: as much is read as may be on its way
_DRAIN_BYTES, _DRAIN_SECONDS = 2**26, 2.0
_LOCAL = ("localhost", "127.0.0.1", "::1")

# for every answer; a page's own policy is in the page and can only be narrowed by this one
_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
_NO_FRAME = (b"x-frame-options", b"DENY")
_PAGE_POLICY = "frame-ancestors {}; base-uri 'none'; form-action 'none'"
# of what is no page: if a browser showed it, it could do nothing
_POLICY = "default-src 'none'; sandbox; " + _PAGE_POLICY.format("'none'")
# of an answer without a page
SAFETY = (*_HEADERS, _NO_FRAME, (b"content-security-policy", _POLICY.encode()))
# sites with a certificate, of which all subdomains may be meant, and this machine
_SITE = re.compile(
    r"https://(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)+(:\d{1,5})?|http://(localhost|127\.0\.0\.1)(:\d{1,5})?"
)
_NAME = re.compile(r"([a-z0-9-]+(?:\.[a-z0-9-]+)*)(:\d{1,5})?")


class Refused(UserError):
    """A request that no route sees.

    Attributes:
      status: of the answer.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class Guard:
    """An application behind its checks."""

    def __init__(
        self,
        app: App,
        token: str | None,
        *,
        hosts: Collection[str] = (),
        local: bool = True,
        patience: float = APP_PATIENCE_SECONDS,
        ancestors: Collection[str] = (),
    ):
        """
        Args:
          app: the application.
          token: that every request has; None where everybody may ask.
          hosts: names of this server beside those of loopback, each with its port where a browser
            shows one. Behind a proxy they are what the browser knows it by, whatever `Host` says.
          local: whether it listens on loopback only; else addresses made of numbers, which cannot
            be rebound, are its names, too.
          patience: seconds in which each part of a body comes.
          ancestors: sites whose frames may hold the page.

        Raises:
          UserError: what is no name, or no site.
        """
        self._app, self._patience = app, patience
        self._token = None if token is None else token.encode()
        self._named = {check_name(host) for host in hosts}
        self._hosts = {*_LOCAL, *(name.partition(":")[0] for name in self._named)}
        self._local, sites = local, " ".join(map(check_site, ancestors))
        self._frames = () if sites else (_NO_FRAME,)
        self._page_policy = _PAGE_POLICY.format(sites or "'none'")

    @property
    def tells_clients_apart(self) -> bool:
        """Whether clients come from addresses of their own, not from this machine or a proxy."""
        return not self._local and not self._named

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            # no route takes a websocket; refused before it is accepted
            await send({"type": "websocket.close", "code": 1008})
            return
        started = False

        async def guarded_send(message: Any) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = message | {"headers": self._with_policies(scope, message)}
            await send(message)

        try:
            self._check(scope)
            body = _Body(receive, scope["path"], self._patience)
            await self._app(scope, body, guarded_send)
        except Refused as error:
            if started:
                raise
            if error.status == 413:
                await _drain(receive)
            # a line of text for who opens an address
            await refusal(error, scope["path"] == "/")(scope, receive, guarded_send)

    def _check(self, scope: Any) -> None:
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        host = headers.get(b"host", [])
        if len(host) != 1 or not self._is_ours(name := host[0].decode("latin-1")):
            raise Refused(
                421,
                "Host: is no name of this server; open the address that it printed, or start it "
                f"with {setting('name')} and the name in the address bar",
            )
        self._check_origin(scope, headers, name)
        given = _token(scope, headers)
        if self._token is not None and not hmac.compare_digest(given, self._token):
            raise Refused(
                403,
                "token: missing or wrong; open the address that the server printed when it started",
            )
        _check_length(scope["path"], headers)

    def _is_ours(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name, _ = parts.hostname, parts.port
        except ValueError:
            return False
        if not name or parts.username is not None or parts.path or parts.query or "#" in host:
            return False
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return not self._local

    def _check_origin(self, scope: Any, headers: Mapping[bytes, list[bytes]], host: str) -> None:
        """Refuses what a page of another site makes a browser send, other ports included."""
        other = Refused(403, "Origin: another site may not ask here; open the page itself")
        for origin in headers.get(b"origin", []):
            # "null" is a sandboxed page, or a file
            if _place(origin) not in (host.lower(), *self._named):
                raise other
        for site in headers.get(b"sec-fetch-site", []):
            opens = scope["path"] == "/" and headers.get(b"sec-fetch-mode") == [b"navigate"]
            if site not in (b"same-origin", b"none") and not (opens and scope["method"] == "GET"):
                raise other

    def _with_policies(self, scope: Any, start: Any) -> list[tuple[bytes, bytes]]:
        """Headers of an answer, with those of safety."""
        given = [(name.lower(), value) for name, value in start.get("headers", ())]
        is_page = scope["path"] == "/" and start["status"] == 200
        policy = self._page_policy if is_page else _POLICY
        safety = (*_HEADERS, *(self._frames if is_page else (_NO_FRAME,)))
        names = {name for name, _ in given}
        more = [one for one in safety if one[0] not in names]
        return [*given, *more, (b"content-security-policy", policy.encode())]


class _Body:
    """A request's body as a route receives it: not too large, not too slow."""

    def __init__(self, receive: Receive, path: str, patience: float):
        self._receive, self._patience = receive, patience
        self._most = _most(path)
        self._size, self._whole, self._begun = 0, False, time.monotonic()

    async def __call__(self) -> Any:
        """The next part.

        Raises:
          Refused: there is too much, or nothing comes.
        """
        if self._whole:
            # what comes now is the end of the connection, which may take as long as it likes
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._patience)
        except TimeoutError:
            raise Refused(408, "the body comes too slowly; send it again") from None
        if message["type"] != "http.request":
            return message
        self._size += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._size > self._most:
            raise _too_large(self._most)
        spent = time.monotonic() - self._begun
        if not self._whole and spent > self._patience + self._size / APP_SLOWEST_BYTES:
            raise Refused(408, "the body comes too slowly; send it again")
        return message


def _most(path: str) -> int:
    return APP_UPLOAD_BYTES if path == UPLOAD else APP_JSON_BYTES


def _too_large(most: int) -> Refused:
    return Refused(413, f"the body is larger than {most:,} bytes")


def _check_length(path: str, headers: Mapping[bytes, list[bytes]]) -> None:
    """Refuses a body that says it is too large, or two sizes, before it comes."""
    if b"content-length" in headers and b"transfer-encoding" in headers:
        # a proxy may take the other one, and see other requests than these (smuggling)
        raise Refused(400, "Content-Length: not beside Transfer-Encoding")
    for length in headers.get(b"content-length", []):
        if not length.isdigit() or len(length) > 15:
            raise Refused(400, "Content-Length: expected a number")
        if int(length) > _most(path):
            raise _too_large(_most(path))


def _token(scope: Any, headers: Mapping[bytes, list[bytes]]) -> bytes:
    """The token of a request, empty for none; one in the header counts first."""
    given = headers.get(HEADER, [])
    if given:
        return given[0] if len(given) == 1 else b""
    query = scope.get("query_string", b"")
    if len(query) > _LONGEST_QUERY:
        raise Refused(414, "the address is too long")
    try:
        fields = parse_qs(query.decode("latin-1"), max_num_fields=_FIELDS, errors="replace")
    except ValueError:
        raise Refused(400, "the address has too many fields") from None
    found = fields.get("token", [])
    return found[0].encode(errors="replace") if len(found) == 1 else b""


def _place(origin: bytes) -> str:
    """Name and port of an origin; "" for what is none."""
    try:
        return urlsplit(origin.decode("latin-1")).netloc.lower()
    except ValueError:
        return ""


def check_name(name: str) -> str:
    """A name of this server in lower case, with its port if it has one.

    Raises:
      UserError: it is none.
    """
    if not _NAME.fullmatch(name.lower()):
        raise UserError(
            f"{setting('name')}={brief(name)}: expected a name as demo.example, without https:// "
            "and path"
        )
    return name.lower()


def check_site(site: str) -> str:
    """A site whose frames may hold the page, in lower case.

    Raises:
      UserError: it is none.
    """
    if not _SITE.fullmatch(site.lower()):
        raise UserError(
            f"{setting('frame_ancestors')}={brief(site)}: expected a site as https://demo.example, "
            "without a path"
        )
    return site.lower()


def refusal(error: Refused, as_text: bool = False) -> Response:
    """The answer to a request that is refused: JSON for the page, or a line of text."""
    text = f"{error}\n" if as_text else json.dumps({"error": str(error)})
    kind = "text/plain" if as_text else "application/json"
    # what is left of a body is not read
    return Response(text, error.status, {"connection": "close"}, kind)


async def _drain(receive: Receive) -> None:
    """Reads on for a moment: who is still sending would not see the answer."""
    size = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while size < _DRAIN_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
