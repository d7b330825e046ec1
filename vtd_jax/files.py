"""Files that are there whole or not at all."""

import contextlib
import errno
import io
import os
import secrets
import shutil
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from vtd_jax.errors import UserError
from vtd_jax.outputs import NAME_BYTES, shortened

# no space, no quota left, and a file larger than may be: nothing that the writer could mend
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary sibling of `path`, with its ending, that takes its place when the block ends
    without an error.

    Nobody sees half a file, and what was at `path` stays until the new one is whole; after an error
    nothing is left. The sibling is made here, empty, under a name that cannot be guessed: no link
    planted there before is followed.

    Raises:
      OSError: with the name of the file, whatever the system says of the sibling, also where the
        disk is full.
    """
    around = f".{secrets.token_hex(6)}.part{path.suffix}"
    room, stem = NAME_BYTES - 1 - len(os.fsencode(around)), path.stem
    stem = stem if len(os.fsencode(stem)) <= room else shortened(stem, room)
    temporary = path.with_name(f".{stem}{around}")
    try:
        with naming(path, temporary):
            os.close(
                os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY, 0o666)
            )
            yield temporary
            os.replace(temporary, path)
    finally:
        # what went wrong before says more
        remove_tree(temporary, must=False)


def remove_tree(path: str | os.PathLike, *, must: bool = True) -> None:
    """Removes a folder with all that is in it, or whatever else stands in its place; what is not
    there is no fault.

    Of a link only the link goes. A pipe is removed without being opened: `shutil.rmtree` waits for
      its writer.

    Args:
      path: of the folder.
      must: whether what could not be removed is a fault; else as much as can be goes, without a
        word.

    Raises:
      OSError: something could not be removed.
    """
    try:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path, ignore_errors=not must)
        else:
            os.unlink(path)
    except FileNotFoundError:
        if os.path.lexists(path) and must:
            raise
    except OSError:
        if must:
            raise


def open_own(path: Path, mode: str) -> BinaryIO:
    """Opens a file of ours whose name others can know, never one that somebody planted in its
    place.

    Args:
      path: of the file.
      mode: "wb" empties it, "ab" appends to it, both make it where it is not there; "r+b" changes
        one that is there. Nothing is buffered.

    Raises:
      UserError: it is a link, has another name too (a hard link), or is no regular file: another
        file would be changed.
      OSError: it cannot be opened.
    """
    kinds = {
        "wb": os.O_WRONLY | os.O_CREAT,
        "ab": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
        "r+b": os.O_RDWR,
    }
    try:
        # without O_NONBLOCK, opening a pipe waits for somebody to read from it
        number = os.open(path, kinds[mode] | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        raise UserError(
            f"{path}: a link or a pipe in the place of a file that is written; remove it"
        ) from None
    try:
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode):
            raise UserError(
                f"{path}: no regular file, in the place of one that is written; remove it"
            )
        if found.st_nlink > 1:
            raise UserError(
                f"{path}: has another name too (a hard link), and what that names would change; "
                "remove it"
            )
        if mode == "wb":
            os.ftruncate(number, 0)
        return os.fdopen(number, mode, buffering=0)
    except BaseException:
        os.close(number)
        raise


@contextlib.contextmanager
def log_file(path: Path, mode: str = "ab") -> Iterator[TextIO]:
    """A text file for output, opened as `open_own` does; a full disk is reported with its name."""
    with (
        naming(path),
        io.TextIOWrapper(
            io.BufferedWriter(open_own(path, mode)), encoding="utf-8", errors="backslashreplace"
        ) as log,
    ):
        yield log


@contextlib.contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Names the file that was written in an error that says only that the disk is full, or another
    name for it.

    Args:
      path: the file's name, for people.
      temporary: the name under which it is written.
    """
    try:
        yield
    except OSError as error:
        nameless = error.errno in _FULL and error.filename in (None, str(path))
        if not nameless and (temporary is None or error.filename != str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def remedy(error: OSError) -> str:
    """What to do about what the system refused, to be put behind its message; "" where that is not
    known.
    """
    if error.errno in _FULL:
        return "; make room, and give the same command again"
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return (
            "; a file is where a folder would have to be: give another path, or move that file away"
        )
    if error.errno == errno.EISDIR:
        return (
            "; a folder is where a file would have to be: give another path, or move that folder "
            "away"
        )
    if error.errno == errno.ENAMETOOLONG:
        return "; give a shorter one"
    return ""


def write_text(path: Path, text: str) -> Path:
    """Writes UTF-8 text whole or not at all; returns the path."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def write_bytes(path: Path, content: bytes | memoryview) -> Path:
    """Writes bytes whole or not at all; returns the path."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path


def is_possible(path: str | os.PathLike) -> bool:
    """Whether a file could have this name; `Path.exists` and the like raise for one that is too
    long.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return True
    except (OSError, ValueError):
        return False
    return True


def folded(name: str) -> str:
    """A file's name without what people, disks and systems write differently: Unicode form, case,
    backslashes.
    """
    return unicodedata.normalize(
        "NFC", unicodedata.normalize("NFC", name.replace("\\", "/")).casefold()
    )


def likely(path: Path) -> Path | None:
    """What a path that is not there probably means: the only one that differs from it as `folded`
    says; else None.
    """
    parts = Path(str(path).replace("\\", "/")).parts
    here = Path()
    for part in parts:
        if not os.path.lexists(here / part):
            try:
                found = [name for name in os.listdir(here) if folded(name) == folded(part)]
            except (OSError, ValueError):
                return None
            if len(found) != 1:
                return None
            part = found[0]
        here /= part
    return here if parts and str(here) != str(path) else None
