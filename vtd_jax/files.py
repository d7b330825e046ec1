"""Writes and removes files safely: whole or not at all, never through links; the cache folder."""

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
from typing import TextIO

from vtd_jax.errors import UserError
from vtd_jax.outputs import NAME_BYTES, shortened

CACHE_VARIABLE = "VTD_JAX_CACHE"
# modes of folders that only the user may write, and of those that only the user may read
NOT_WRITABLE, PRIVATE = 0o755, 0o700
# no space or quota left, or a file larger than allowed
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary sibling of `path`, with its suffix, that replaces it when the block ends.

    No other process sees a partial file. After an error the sibling is removed, and `path` is
    unchanged. The sibling is created here under a name that cannot be guessed, so that no link is
    followed.

    Raises:
      OSError: also if the disk is full; names `path`, not the sibling.
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
        # must not hide an earlier error
        remove_tree(temporary, must=False)


def remove_tree(path: str | os.PathLike, *, must: bool = True) -> None:
    """Removes a folder and its content, or a file; a missing one is not an error.

    Of a link only the link is removed. A pipe is not opened: `shutil.rmtree` would wait for its
    writer.

    Args:
      path: of the folder.
      must: whether to raise if something cannot be removed.

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


def open_own(path: Path, mode: str) -> io.FileIO:
    """Opens a file for writing whose name is predictable, unless it was replaced by a link.

    Args:
      path: of the file.
      mode: "wb" truncates and "ab" appends to the file, or creates it; "r+b" needs an existing one.
        Nothing is buffered.

    Raises:
      UserError: it is a link, has another hard link, or is not a regular file: another file would
        be changed.
      OSError: it cannot be opened.
    """
    kinds = {
        "wb": os.O_WRONLY | os.O_CREAT,
        "ab": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
        "r+b": os.O_RDWR,
    }
    try:
        # without O_NONBLOCK, opening a pipe waits for a reader
        number = os.open(path, kinds[mode] | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        raise UserError(
            f"{path}: a link or a pipe, expected a regular file to write; remove it"
        ) from None
    try:
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{path}: not a regular file, expected one to write; remove it")
        if found.st_nlink > 1:
            raise UserError(
                f"{path}: has another hard link, whose file would change, too; remove it"
            )
        if mode == "wb":
            os.ftruncate(number, 0)
        return io.FileIO(number, mode)
    except BaseException:
        os.close(number)
        raise


@contextlib.contextmanager
def log_file(path: Path, mode: str = "ab") -> Iterator[TextIO]:
    """A text file opened by `open_own`; an error of a full disk names it."""
    with (
        naming(path),
        io.TextIOWrapper(
            io.BufferedWriter(open_own(path, mode)), encoding="utf-8", errors="backslashreplace"
        ) as log,
    ):
        yield log


@contextlib.contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Puts the name of the file into errors of a full disk, and of its temporary sibling.

    Args:
      path: of the file.
      temporary: path under which it is written.
    """
    try:
        yield
    except OSError as error:
        nameless = error.errno in _FULL and error.filename in (None, str(path))
        if not nameless and (temporary is None or error.filename != str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def remedy(error: OSError) -> str:
    """What to do about an error of the system, the end of its message; "" if unknown."""
    if error.errno in _FULL:
        return "; make room, and give the same command again"
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return "; expected a folder, there is a file: give another path, or move that file away"
    if error.errno == errno.EISDIR:
        return "; expected a file, there is a folder: give another path, or move that folder away"
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
    """Whether a file could have this name; `Path.exists` raises for a name that is too long."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return True
    except (OSError, ValueError):
        return False
    return True


def folded(name: str) -> str:
    """A path without differences of Unicode form, case and backslashes, for comparison."""
    return unicodedata.normalize(
        "NFC", unicodedata.normalize("NFC", name.replace("\\", "/")).casefold()
    )


def likely(path: Path) -> Path | None:
    """The existing path that a missing one probably means: the only one with the same `folded`
    name; else None.
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


def cache_folder(given: str | os.PathLike | None = None) -> Path:
    """The folder `given`, else `$VTD_JAX_CACHE`, else `~/.cache/vtd_jax`; it may be missing.

    Raises:
      UserError: as `home`.
    """
    if given:
        return home(Path(given), "cache")
    return home(
        Path(os.environ.get(CACHE_VARIABLE) or Path("~", ".cache", "vtd_jax")), CACHE_VARIABLE
    )


def home(path: Path, variable: str) -> Path:
    """A path with the user's folder in the place of `~`.

    Args:
      path: to expand.
      variable: that says it, for the message.

    Raises:
      UserError: there is no such user, or nobody knows the folder.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        raise UserError(
            f"{variable}: the folder of {path.parts[0]} is not known; give a path without ~"
        ) from None


def make_folders(folder: Path, mode: int = NOT_WRITABLE) -> None:
    """Makes a folder and its missing parents, all with this mode.

    Raises:
      OSError: one cannot be made, or is no folder.
    """
    missing, above = [], folder
    while not os.path.lexists(above) and above != above.parent:
        missing.append(above)
        above = above.parent
    for part in reversed(missing):
        part.mkdir(mode, exist_ok=True)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
