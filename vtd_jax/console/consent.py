"""Whether weights and videos may be downloaded: nothing is fetched by surprise."""

import contextlib
import contextvars
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from vtd_jax.errors import UserError, function, setting
from vtd_jax.printable import brief
from vtd_jax.terminal import asked, log

VARIABLE = "VTD_JAX_DOWNLOAD"
_YES, _NO = ("1", "true", "yes"), ("0", "false", "no")
_given: contextvars.ContextVar[bool | None] = contextvars.ContextVar("download", default=None)
# a name, and the file that it was read from
_found: contextvars.ContextVar[tuple[str, str]] = contextvars.ContextVar("found", default=("", ""))
# the same of a command's saved settings, in all threads of its process
_saved: dict[str, str] = {}


class Refused(UserError):
    """No request may be made: a call as a whole ends, and not only one of its files."""


@contextlib.contextmanager
def given(download: bool | None) -> Iterator[None]:
    """Until the block ends, the answer is `download`; None leaves it as it was."""
    token = None if download is None else _given.set(download)
    try:
        yield
    finally:
        if token is not None:
            _given.reset(token)


def answer() -> bool | None:
    """What `given` or the environment says; None where a terminal may be asked.

    Raises:
      Refused: the variable is neither yes nor no.
    """
    if (found := _given.get()) is not None:
        return found
    text = os.environ.get(VARIABLE, "").lower()
    if text not in ("", *_YES, *_NO):
        raise Refused(f"{VARIABLE}={brief(text)}: expected 1 or 0")
    return None if not text else text in _YES


@contextlib.contextmanager
def found_in(file: str | os.PathLike, name: str | os.PathLike) -> Iterator[None]:
    """Until the block ends, this name of weights is one that a file says, not the user.

    Consent to download what the user named does not cover it, see `check_named`.
    """
    token = _found.set((os.fspath(name), os.fspath(file)))
    try:
        yield
    finally:
        _found.reset(token)


def note_saved(file: str | os.PathLike, name: str) -> None:
    """As `found_in`, for the rest of this process."""
    _saved[name] = os.fspath(file)


def file_that_names(name: str) -> str:
    """The file that says a name which the user did not give; "" for none."""
    said, file = _found.get()
    return file if said == name else _saved.get(name, "")


def check_named(name: str) -> None:
    """Refuses a name that only a file says, and not the user: a file decides about no request.

    Raises:
      UserError: says which file, and how to name the weights oneself.
    """
    if file := file_that_names(name):
        raise UserError(
            f"{file} names {name}, which is not on this machine, and consent to download is for "
            f"what you name yourself: give {setting('clip', name)}, or fetch it first with "
            f"{function('refreshed')} {name}"
        )


def is_possible() -> bool:
    """Whether a request may be made: downloads are allowed, or a terminal can be asked.

    Raises:
      UserError: as `answer`.
    """
    allowed = answer()
    return _has_terminal() if allowed is None else allowed


def check_possible(what: str, about: str) -> None:
    """Refuses what is not here before any request, where nobody allows one.

    Args:
      what: the name of the weights, or the address of a video.
      about: what would be fetched, from where and into which place.

    Raises:
      Refused: says how to allow it.
    """
    if not is_possible():
        raise Refused(
            f"{what}: not on this machine; {setting('download', True)} or {VARIABLE}=1 downloads "
            f"{about}"
        )


def ask(what: str, size: int | None, source: str, place: Path) -> None:
    """Returns if weights or videos may be downloaded, after a line that says size and place.

    Args:
      what: the name of the weights, or the address of a video.
      size: bytes to fetch; None if the server does not say.
      source: address that they come from.
      place: file or folder that they go to.

    Raises:
      UserError: they may not, or there is no room for them; says how to allow it.
    """
    allow(what, f"{amount(size)} from {source} into {place}")
    announce(what, size, source, place)


def allow(what: str, about: str) -> None:
    """Returns if weights or videos may be downloaded; makes no request, so it comes before any.

    Args:
      what: the name of the weights, or the address of a video.
      about: what is known of it: its size, from where and into which place.

    Raises:
      UserError: they may not; says how to allow it.
    """
    check_possible(what, about)
    if answer() is None and not _ask(f"{what} is not on this machine. Download {about}? [y/N] "):
        raise Refused(f"{what}: not downloaded: {about}")


def may_refresh(what: str, source: str) -> bool:
    """Whether a server may be asked for a newer version of what is on this machine.

    Args:
      what: the name of the weights.
      source: address that is asked.

    Raises:
      UserError: as `answer`.
    """
    allowed = answer()
    if allowed is None and _has_terminal():
        return _ask(
            f"{what} is on this machine. Ask {source} for a newer version, and download what is "
            "new? [y/N] "
        )
    return bool(allowed)


def announce(what: str, size: int | None, source: str, place: Path) -> None:
    """Logs that an allowed download begins; the arguments are those of `ask`.

    Raises:
      UserError: there is no room for it.
    """
    check_room(what, size, place)
    log(f"{what}: downloading {amount(size)} from {source} into {place}")


def ask_token(what: str, source: str) -> None:
    """Returns if a person at the terminal lets the user's token be sent.

    Args:
      what: the name of the weights.
      source: address that it goes to.

    Raises:
      UserError: it may not be sent.
    """
    if not _ask(f"{what}: {source} is not there for everyone. Ask with your token? [y/N] "):
        raise UserError(
            f"{what}: {source} is not there for everyone, and your token was not sent: check the "
            "name, or answer y"
        )


def amount(size: int | None) -> str:
    """A number of bytes for people: `599.0 MB`."""
    if size is None:
        return "an unknown size"
    for unit, width in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= width:
            return f"{size / width:.{2 if unit == 'GB' else 1}f} {unit}"
    return f"{size} bytes"


def check_room(what: str, size: int | None, place: Path) -> None:
    """Refuses what does not fit on the disk of a place, which need not exist yet.

    Raises:
      UserError: says how much is free.
    """
    there = place
    while not there.exists() and there != there.parent:
        there = there.parent
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(there).free
        if size is not None and free < size:
            raise UserError(
                f"{what}: {amount(size)} do not fit into {place}, where {amount(free)} are free: "
                "make room, or set VTD_JAX_CACHE or HF_HOME to a larger disk"
            )


def _has_terminal() -> bool:
    streams = (sys.stdin, sys.stderr)
    return all(stream is not None and stream.isatty() for stream in streams)


def _ask(question: str) -> bool:
    # only a terminal needs it, and rich with it
    from vtd_jax.console import status

    status.clear()
    return asked(question).lower() in ("y", "yes")
