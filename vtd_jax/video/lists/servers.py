"""A file of a server over HTTP: its size and who sends it, then its bytes."""

import string
import urllib.error
from collections.abc import Generator
from http.client import HTTPResponse
from urllib.parse import quote, urlsplit

from vtd_jax.console.consent import amount
from vtd_jax.errors import UserError
from vtd_jax.installed.transport import BROKEN, Watch, read, send, shown_url, why

# what servers send in the place of a file: pages to log in, and errors
_PAGES = (
    "text/html", "application/xhtml+xml", "text/xml", "application/xml", "application/json",
    "application/problem+json",
)  # fmt: skip
_BLOCK = 2**20
# seconds in which so many bytes must arrive
_SILENCE, _PROGRESS = 60.0, 2**16


def look(address: str) -> tuple[int | None, str]:
    """The size of a file, None if the server does not say, and the host that sends it.

    Raises:
      UserError: there is none, a page in its place, or a redirect to what is not https.
    """
    parts = urlsplit(address)
    if not parts.path or parts.path.endswith(("/", "*")):
        raise UserError(
            f"{shown_url(address)}: expected the address of a file: servers list no folders"
        )
    size, host, page = None, "", ""
    # some do not answer to HEAD, or say no size there, or send a page
    for method in ("HEAD", "GET"):
        try:
            with (
                Watch(_SILENCE) as watch,
                send(_encoded(address), method=method, timeout=_SILENCE, watch=watch) as reply,
            ):
                size, host, page = _length(reply), _host(reply), _page(reply)
        except urllib.error.HTTPError as error:
            if method == "GET":
                raise UserError(why(address, error)) from None
        except UserError:
            raise
        except BROKEN as error:
            raise UserError(why(address, error)) from None
        if size is not None and not page:
            break
    if page:
        raise UserError(_no_video(address, page))
    return size, host


def blocks(address: str, host: str) -> Generator[bytes, None, None]:
    """The content of a file.

    Args:
      address: of the file.
      host: that `look` found.

    Raises:
      UserError: it ends too soon, cannot be read, or comes from another host.
    """
    try:
        with (
            Watch(_SILENCE) as watch,
            send(_encoded(address), timeout=_SILENCE, watch=watch) as reply,
        ):
            if _host(reply) != host:
                raise UserError(
                    f"{shown_url(address)}: now comes from {_host(reply)}, and {host} was the one "
                    "that was asked about: not copied; try again"
                )
            if page := _page(reply):
                raise UserError(_no_video(address, page))
            done = since = 0
            while block := read(reply, _BLOCK, watch):
                done, since = done + len(block), since + len(block)
                if since >= _PROGRESS:
                    since = 0
                    watch.again()
                yield block
            if done < (most := _length(reply) or 0):
                raise UserError(
                    f"{shown_url(address)}: only {amount(done)} of {amount(most)} came; try again"
                )
    except UserError:
        raise
    except BROKEN as error:
        raise UserError(why(address, error)) from None


def _page(reply: HTTPResponse) -> str:
    """The type of what comes in the place of a video; "" for anything that may be one."""
    kind = reply.headers.get_content_type() if "Content-Type" in reply.headers else ""
    return kind if kind in _PAGES else ""


def _no_video(address: str, kind: str) -> str:
    return (
        f"{shown_url(address)}: the server sends {kind}, a page in the place of a video; does it "
        "ask for a login? Open the address in a browser"
    )


def _host(reply: HTTPResponse) -> str:
    return urlsplit(shown_url(reply.geturl())).netloc


def _length(reply: HTTPResponse) -> int | None:
    text = reply.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() and len(text) < len(str(2**63)) else None


def _encoded(address: str) -> str:
    """An address as requests have it: blanks and letters beyond ASCII are escaped."""
    parts = urlsplit(address)
    path, query = (quote(part, safe=string.punctuation) for part in (parts.path, parts.query))
    return parts._replace(path=path, query=query, fragment="").geturl()
