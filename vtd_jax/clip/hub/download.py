"""Downloads one file over HTTP: resumed where it stopped, checked against its hash."""

import contextlib
import dataclasses
import hashlib
import http.client
import time
import urllib.error
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from vtd_jax.clip.hub.verified import new_hash
from vtd_jax.console.consent import amount
from vtd_jax.errors import UserError
from vtd_jax.files import naming, open_own, remedy
from vtd_jax.installed.transport import (
    BROKEN,
    Broken,
    Watch,
    is_lasting,
    read,
    send,
    shown_url,
    why,
)
from vtd_jax.untrusted.regular_files import open_regular

# bytes that count as progress
_PROGRESS = 2**16
_BLOCK = 2**20
_PAUSES = (1.0, 2.0, 4.0)


@dataclasses.dataclass(frozen=True)
class Source:
    """What to download.

    Attributes:
      what: its name in messages.
      url: https, or http of a server that the user named.
      digest: hex digits of its SHA-256 (64), or of its SHA-1 as a blob of git (40).
      most: bytes that it may have; for a blob of git those that it has.
      timeout: seconds without a byte after which a connection counts as dead.
      pauses: seconds before each further attempt that follows one without progress.
      patience: seconds in which `_PROGRESS` bytes must arrive.
      headers: of requests, not sent on to other servers.
      why: a line about an error and an address.
    """

    what: str
    url: str
    digest: str
    most: int
    timeout: float = 30.0
    pauses: tuple[float, ...] = _PAUSES
    patience: float = 60.0
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    why: Callable[[str, BaseException], str] = why

    def explain(self, error: BaseException) -> str:
        """A line about an error."""
        return f"{self.what}: {self.why(self.url, error)}"


def size_of(source: Source) -> int | None:
    """The bytes that the server says a file has; None where it does not say.

    Raises:
      UserError: it cannot be reached or does not have the file.
    """
    for pause in (*source.pauses, None):
        try:
            with (
                Watch(source.patience) as watch,
                send(source.url, source.headers, "HEAD", timeout=source.timeout, watch=watch) as it,
            ):
                return _length(it.headers.get("Content-Length"))
        except UserError:
            raise
        except BROKEN as error:
            code = getattr(error, "code", 0)
            if code in (405, 501):
                # a server without HEAD
                return None
            # one that is not there is not asked again: a person waits
            if pause is None or not code or is_lasting(error):
                raise UserError(source.explain(error)) from None
            time.sleep(pause)
    raise AssertionError


def finish(source: Source, target: Path) -> bool:
    """Takes a part that is whole, as a process leaves it that died before it renamed it.

    Args:
      source: what; nothing is asked of where it is from.
      target: as for `download`.

    Returns:
      Whether the file is at its final name now.
    """
    part = _part_of(source, target)
    if not _bytes(part):
        return False
    found = new_hash(source.digest, source.most)
    _read_part(part, found)
    if found.hexdigest() != source.digest:
        return False
    part.replace(target)
    return True


def download(source: Source, target: Path, progress: Any) -> None:
    """Fetches a file; an earlier attempt's part is continued where the server can.

    No request is made for a part that is whole.

    Args:
      source: what, from where.
      target: its final name, in an existing folder; a part has a name of its own beside it.
      progress: with `update(done, total)`.

    Raises:
      UserError: the server does not give the file, the connection ends again and again, the disk
        is full, or the file has another hash. A part is kept unless its bytes are wrong.
    """
    part = _part_of(source, target)
    try:
        _attempts(source, part, target, progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{amount(_bytes(part))} of {source.what} are kept; the same command resumes"
        ) from None
    finally:
        if not _bytes(part):
            part.unlink(missing_ok=True)


def _attempts(source: Source, part: Path, target: Path, progress: Any) -> None:
    """Attempts until one is complete, or several in a row brought next to nothing."""
    tries, best = 0, 0
    while True:
        try:
            return _attempt(source, part, target, progress)
        except UserError:
            raise
        except BROKEN as error:
            done = _bytes(part)
            if isinstance(error, OSError) and (cure := remedy(error)):
                where = error.filename or part
                raise UserError(f"{where}: {error.strerror}{cure}") from None
            tries, best = (1, done) if done >= best + _PROGRESS else (tries + 1, best)
            if tries > len(source.pauses) or is_lasting(error):
                kept = f"; {amount(done)} are kept, the same call resumes" if done else ""
                raise UserError(source.explain(error) + kept) from None
            time.sleep(source.pauses[tries - 1])


def _part_of(source: Source, target: Path) -> Path:
    return target.with_name(f".{target.name}.{source.digest[:8]}.part")


def _bytes(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _attempt(source: Source, part: Path, target: Path, progress: Any) -> None:
    """One connection: what is missing of the part, then the hash of the whole."""
    found = new_hash(source.digest, source.most)
    with naming(part), open_own(part, "ab") as file:
        done = _read_part(part, found)
        if done and found.hexdigest() == source.digest:
            # all came before, and a server has no bytes after the last
            progress.update(done, done)
            part.replace(target)
            return
        with (
            Watch(source.patience) as watch,
            contextlib.closing(_open(source, done, watch)) as reply,
        ):
            if done and reply.status != http.client.PARTIAL_CONTENT:
                # a server that ignores Range sends the file from its beginning
                file.truncate(0)
                done, found = 0, new_hash(source.digest, source.most)
            total = _total(source, reply, done)
            progress.update(done, total)
            done = _stream(source, reply, file, found, (done, total), progress, watch)
        if total is not None and done < total:
            raise Broken(f"the connection ended at {done:,} of {total:,} bytes")
    if (digest := found.hexdigest()) != source.digest:
        part.unlink(missing_ok=True)
        raise UserError(
            f"{source.what}: what {shown_url(source.url)} sent has the hash {digest}, expected "
            f"{source.digest}: damaged on its way, or another file; it was removed"
        )
    part.replace(target)


def _read_part(part: Path, found: "hashlib._Hash") -> int:
    """Hashes what an earlier attempt left; returns its bytes."""
    done = 0
    with open_regular(part, "part of a download") as file:
        while block := file.read(_BLOCK):
            found.update(block)
            done += len(block)
    return done


def _open(source: Source, done: int, watch: Watch) -> http.client.HTTPResponse:
    own = dict(source.headers)
    headers = own | {"Range": f"bytes={done}-"} if done else own
    try:
        return send(source.url, headers, timeout=source.timeout, watch=watch)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not done:
            raise
        # the part is the whole file, or longer
        return send(source.url, own, timeout=source.timeout, watch=watch)


def _stream(
    source: Source,
    reply: http.client.HTTPResponse,
    file: IO[bytes],
    found: "hashlib._Hash",
    place: tuple[int, int | None],
    progress: Any,
    watch: Watch,
) -> int:
    """Writes and hashes the body; returns the bytes of the file then."""
    done, total = place
    enough = done + _PROGRESS
    while block := read(reply, _BLOCK, watch):
        done += len(block)
        if done >= enough:
            watch.again()
            enough = done + _PROGRESS
        if done > min(source.most, total or source.most):
            file.truncate(0)
            raise UserError(
                f"{source.what}: {shown_url(source.url)} sends more than the "
                f"{total or source.most:,} bytes that the file may have: stopped"
            )
        _write(file, block)
        found.update(block)
        progress.update(done, total)
    return done


def _write(file: IO[bytes], block: bytes) -> None:
    # nothing is buffered, and a write may be short where the disk is nearly full
    left = memoryview(block)
    while left:
        left = left[file.write(left) :]


def _total(source: Source, reply: http.client.HTTPResponse, done: int) -> int | None:
    """Bytes of the whole file by the headers; None where they do not say."""
    if reply.status == http.client.PARTIAL_CONTENT:
        start, _, total = (
            reply.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        )
        if start.partition("-")[0] != str(done):
            raise Broken(f"the server sent another range than from byte {done:,}")
        size = _length(total)
    else:
        size = _length(reply.headers.get("Content-Length"))
    if size is not None and size > source.most:
        raise UserError(
            f"{source.what}: {shown_url(source.url)} is {size:,} bytes, expected at most "
            f"{source.most:,}"
        )
    return size


def _length(text: str | None) -> int | None:
    if text is None or not (text.isascii() and text.isdigit() and len(text) < 19):
        return None
    return int(text)
