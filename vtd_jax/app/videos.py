"""Videos that the page may use: those of a folder, and uploads."""

import contextlib
import dataclasses
import hashlib
import os
import secrets
import subprocess
import tempfile
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO

from vtd_jax.errors import UserError
from vtd_jax.files import remove_tree
from vtd_jax.printable import brief, utf8
from vtd_jax.untrusted.limits import (
    APP_LISTED,
    APP_UPLOAD_BYTES,
    APP_UPLOADING,
    APP_UPLOADS,
    APP_UPLOADS_BYTES,
    NAME_CHARACTERS,
)
from vtd_jax.untrusted.regular_files import is_regular
from vtd_jax.video.suffixes import SUFFIXES, is_video

# what a browser is told; all others are of no use to it
_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".ogv": "video/ogg",
    ".avi": "video/x-msvideo",
    ".mpg": "video/mpeg",
    ".mpeg": "video/mpeg",
    ".wmv": "video/x-ms-wmv",
    ".flv": "video/x-flv",
    ".3gp": "video/3gpp",
    ".gif": "image/gif",
}
# videos of an answer to a search, and seconds for which a list of the folder is taken as it was
SHOWN, _FRESH = 200, 3.0
# waits until the process that holds the other end of its input is gone, however it ended
_CLEANER = 'cat >/dev/null; rm -rf -- "$1"'


class NoVideo(UserError):
    """There is no video of this id: it never was, or an upload had to go."""


class Busy(UserError):
    """Too many videos are on their way; try again later."""


@dataclasses.dataclass(frozen=True)
class Video:
    """A video of the folder, or an upload.

    Attributes:
      id: 32 hexadecimal digits; of the path in the folder, or of the content.
      name: as people know it.
      path: of the file.
      bytes: of the file.
    """

    id: str
    name: str
    path: Path
    bytes: int

    @property
    def content_type(self) -> str:
        """For a browser: that of a video, whatever is in the file."""
        return _TYPES[self.path.suffix.lower()]

    def to_dict(self) -> dict[str, str | int]:
        """JSON-able, without the path."""
        return {"id": self.id, "name": self.name, "bytes": self.bytes}


class Videos:
    """The folder's videos and the uploads. Methods may be called from any thread.

    A context manager: at its end, or that of the process, the uploads are removed.

    Attributes:
      folder: of videos; None for uploads only.
    """

    def __init__(self, folder: Path | None = None):
        self.folder = folder
        self._root = None if folder is None else os.path.realpath(folder)
        self._temporary = Path(tempfile.mkdtemp(prefix="vtd_app_"))
        # also after a kill, which no handler sees
        self._cleaner = subprocess.Popen(
            ["/bin/sh", "-c", _CLEANER, "sh", str(self._temporary)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._uploads: OrderedDict[str, Video] = OrderedDict()
        self._used: dict[str, int] = {}
        self._listed: dict[str, Video] = {}
        self._listed_at, self._uploading = -_FRESH, 0
        self._lock = threading.Lock()

    def list(self, search: str = "") -> tuple[list[Video], int]:
        """Videos of the folder whose names contain a text, and how many more there are."""
        self._look()
        wanted = search.casefold()
        with self._lock:
            found = [one for one in self._listed.values() if wanted in one.name.casefold()]
        return found[:SHOWN], max(0, len(found) - SHOWN)

    def find(self, number: str) -> Video:
        """The video of an id.

        Raises:
          NoVideo: there is none, or it has left the folder.
        """
        with self._lock:
            if (found := self._uploads.get(number)) is not None:
                self._uploads.move_to_end(number)
                return found
            found = self._listed.get(number)
        if found is None:
            self._look()
            with self._lock:
                found = self._listed.get(number)
        if found is None or not self._is_inside(found.path):
            raise NoVideo("video: it is not here (any more); choose or drop it again")
        return found

    def upload(self, name: str) -> "Upload":
        """Begins an upload.

        Args:
          name: of the file, which only is shown; its ending says what kind of video it is.

        Raises:
          UserError: a name that is no video's.
          Busy: too many uploads are on their way.
        """
        shown = utf8(name).replace("\\", "/").rpartition("/")[2]
        if not is_video(shown) or len(shown) > NAME_CHARACTERS:
            raise UserError(
                f"{brief(shown)}: expected a video whose name ends in {', '.join(sorted(SUFFIXES))}"
            )
        with self._lock:
            if self._uploading >= APP_UPLOADING:
                raise Busy(f"{self._uploading} uploads are on their way; try again later")
            self._uploading += 1
        ending = os.path.splitext(shown)[1].lower()
        return Upload(self, shown, self._temporary / f"{secrets.token_hex(16)}{ending}")

    def add(self, name: str, path: Path, digest: str, size: int) -> Video:
        """Takes a finished upload; the least recently used ones go where there are too many.

        Args:
          name: as people know it.
          path: of its file, in the temporary folder.
          digest: of its content, its id.
          size: bytes.
        """
        with self._lock:
            if (found := self._uploads.get(digest)) is not None:
                remove_tree(path)
                self._uploads.move_to_end(digest)
                return found
            self._uploads[digest] = video = Video(digest, name, path, size)
            self._let_go(digest)
        return video

    def ended(self) -> None:
        """An upload is finished, or failed."""
        with self._lock:
            self._uploading -= 1

    def hold(self, video: Video) -> None:
        """Keeps an upload while it is being read; `release` ends that."""
        with self._lock:
            self._used[video.id] = self._used.get(video.id, 0) + 1

    def release(self, video: Video) -> None:
        """See `hold`."""
        with self._lock:
            self._used[video.id] -= 1
            if not self._used[video.id]:
                del self._used[video.id]

    def close(self) -> None:
        """Removes the uploads."""
        remove_tree(self._temporary, must=False)
        assert self._cleaner.stdin is not None
        self._cleaner.stdin.close()
        self._cleaner.wait()

    def __enter__(self) -> "Videos":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _let_go(self, newest: str) -> None:
        for number in [*self._uploads]:
            total = sum(video.bytes for video in self._uploads.values())
            if len(self._uploads) <= APP_UPLOADS and total <= APP_UPLOADS_BYTES:
                return
            if number != newest and number not in self._used:
                remove_tree(self._uploads.pop(number).path, must=False)

    def _look(self) -> None:
        """Lists the folder, unless it was just listed."""
        if self._root is None or time.monotonic() - self._listed_at < _FRESH:
            return
        found: dict[str, Video] = {}
        for parent, folders, names in os.walk(self._root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                path = Path(parent, name)
                if len(found) >= APP_LISTED:
                    break
                if name.startswith(".") or not is_video(name) or not self._is_inside(path):
                    continue
                place = os.path.relpath(path, self._root)
                digest = hashlib.blake2b(os.fsencode(place), digest_size=16, person=b"folder")
                number = digest.hexdigest()
                # it may be removed meanwhile
                with contextlib.suppress(OSError):
                    found[number] = Video(number, utf8(place), path, path.stat().st_size)
            if len(found) >= APP_LISTED:
                break
        with self._lock:
            self._listed, self._listed_at = found, time.monotonic()

    def _is_inside(self, path: Path) -> bool:
        """Whether it is a file of the folder, which no link leads out of."""
        if self._root is None:
            return False
        real = os.path.realpath(path)
        return os.path.commonpath([real, self._root]) == self._root and is_regular(real)


class Upload:
    """An upload on its way; a context manager, at whose end what is not finished is removed."""

    def __init__(self, videos: Videos, name: str, path: Path):
        self._videos, self._name, self._path = videos, name, path
        self._file: BinaryIO = path.open("xb")
        self._digest = hashlib.blake2b(digest_size=16, person=b"upload")
        self._size, self._finished = 0, False

    def write(self, part: bytes) -> None:
        """The next part of the file.

        Raises:
          UserError: the file is too large.
        """
        self._size += len(part)
        if self._size > APP_UPLOAD_BYTES:
            raise UserError(f"{brief(self._name)}: more than {APP_UPLOAD_BYTES:,} bytes")
        self._digest.update(part)
        self._file.write(part)

    def finish(self) -> Video:
        """The video, once all of it was written.

        Raises:
          UserError: there was nothing in it.
        """
        if not self._size:
            raise UserError(f"{brief(self._name)}: is empty")
        self._file.close()
        self._finished = True
        return self._videos.add(self._name, self._path, self._digest.hexdigest(), self._size)

    def __enter__(self) -> "Upload":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()
        if not self._finished:
            remove_tree(self._path, must=False)
        self._videos.ended()
