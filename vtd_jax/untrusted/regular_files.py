"""Opens untrusted files: never a pipe or a device, and reads no more than a limit."""

import os
import stat
from io import BufferedReader
from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.untrusted.limits import TEXT_BYTES

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def open_regular(path: str | os.PathLike, what: str = "file") -> BufferedReader:
    """Opens a file for reading without ever waiting, as the opening of a pipe would.

    Args:
      path: of the file; links are followed.
      what: what messages call it, without an article.

    Raises:
      UserError: it is a pipe, a socket, a device or a folder.
      OSError: it is not there, or cannot be read.
    """
    # without O_NONBLOCK, opening a pipe waits for a writer
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        kind = stat.S_IFMT(os.fstat(number).st_mode)
        if kind != stat.S_IFREG:
            raise UserError(f"{path}: {_KINDS.get(kind, 'no file')}, expected a {what}")
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def read_bytes(path: str | os.PathLike, what: str = "file", most: int = TEXT_BYTES) -> bytes:
    """All of a file of at most `most` bytes.

    Raises:
      UserError: it is larger, or no regular file.
      OSError: it is not there, or cannot be read.
    """
    with open_regular(path, what) as file:
        size = os.fstat(file.fileno()).st_size
        # asking for `most` would take that much memory; a file may grow, or be of /proc, which has
        # no size
        content = file.read(size + 1) if size <= most else b""
        if len(content) > size:
            content += file.read(most + 1 - len(content))
    if size > most or len(content) > most:
        raise UserError(
            f"{path}: {max(size, len(content)):,} bytes, expected a {what} of at most {most:,}"
        )
    return content


def read_text(path: str | os.PathLike, what: str = "file", most: int = TEXT_BYTES) -> str:
    """Reads a UTF-8 text file; drops a byte-order mark and refuses zero bytes.

    Raises:
      UserError: it is larger, no regular file, or not UTF-8.
      OSError: it is not there, or cannot be read.
    """
    content = read_bytes(path, what, most)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: byte {error.start} is not UTF-8; save the {what} as UTF-8 text"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{path}:{line}: a zero byte, as in UTF-16; save the {what} as UTF-8 text")
    return text


def is_regular(path: str | os.PathLike) -> bool:
    """Whether there is a regular file; never raises, whatever the path."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False
