"""An upload on its way: its file, and what its end is."""

import contextlib
import errno
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from vtd_jax.errors import UserError
from vtd_jax.files import remove_tree
from vtd_jax.printable import brief
from vtd_jax.untrusted.limits import APP_UPLOAD_BYTES

# what a full disk, a quota and a limit of file sizes say
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
T = TypeVar("T")


class Full(UserError):
    """There is no room on the disk."""


class Upload(Generic[T]):
    """An upload on its way; a context manager, at whose end what is not finished is removed."""

    def __init__(
        self,
        name: str,
        path: Path,
        more: Callable[[int], None],
        done: Callable[[str, int], T],
        ended: Callable[[int], None],
    ):
        """
        Args:
          name: for messages.
          path: of its file, which is made.
          more: called with the bytes of each part before it is written; may refuse them.
          done: called with the digest of name and content, and the bytes, of the whole file, which
            is its taker's then.
          ended: called at the end with the bytes that `more` took, whatever became of them.
        """
        self._name, self._path = name, path
        self._more, self._done, self._ended = more, done, ended
        self._file: BinaryIO = path.open("xb")
        # under another name it is another video: the ending says what a browser makes of it
        self._digest = hashlib.blake2b(name.encode() + b"\0", digest_size=16, person=b"upload")
        self._size, self._finished = 0, False

    def write(self, part: bytes) -> None:
        """The next part of the file.

        Raises:
          UserError: the file is too large.
          Full: the disk has no room for it.
        """
        if self._size + len(part) > APP_UPLOAD_BYTES:
            raise UserError(f"{brief(self._name)}: more than {APP_UPLOAD_BYTES:,} bytes")
        self._more(len(part))
        self._size += len(part)
        self._digest.update(part)
        with _room(self._name):
            self._file.write(part)

    def finish(self) -> T:
        """What `done` makes of it, once all of it was written.

        Raises:
          UserError: there was nothing in it.
          Full: the disk has no room for its last part.
        """
        if not self._size:
            raise UserError(f"{brief(self._name)}: is empty")
        with _room(self._name):
            self._file.close()
        self._finished = True
        return self._done(self._digest.hexdigest(), self._size)

    def __enter__(self) -> "Upload[T]":
        return self

    def __exit__(self, *_) -> None:
        # what is buffered may find no room
        with contextlib.suppress(OSError):
            self._file.close()
        if not self._finished:
            remove_tree(self._path, must=False)
        self._ended(self._size)


@contextlib.contextmanager
def _room(name: str) -> Iterator[None]:
    """Says that the disk is full in one line, without the path."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise Full(f"{brief(name)}: the server has no room for it; try again later") from None
