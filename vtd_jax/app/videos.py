"""Videos that the page may use: those of a folder, and uploads."""

import contextlib
import dataclasses
import functools
import hashlib
import os
import secrets
import subprocess
import tempfile
import threading
import time
from collections import OrderedDict
from pathlib import Path

from vtd_jax.app.uploads import Upload
from vtd_jax.errors import UserError
from vtd_jax.files import remove_tree
from vtd_jax.printable import brief, shown, utf8
from vtd_jax.untrusted.limits import (
    APP_LISTED,
    APP_UPLOAD_SECONDS,
    APP_UPLOADING,
    APP_UPLOADING_BYTES,
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
# videos of an answer to a search, and seconds, at least, in which the folder is not listed again
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
      id: 32 hexadecimal digits; of the path in the folder, or of name and content.
      name: as people know it.
      path: of the file.
      bytes: of the file.
      changed: when its content last did, nanoseconds; 0 for an upload, which never does.
    """

    id: str
    name: str
    path: Path
    bytes: int
    changed: int = 0

    @property
    def content(self) -> str:
        """What results are kept for: of a file that was replaced none is true any more."""
        return f"{self.id} {self.changed} {self.bytes}" if self.changed else self.id

    @property
    def content_type(self) -> str:
        """For a browser: that of a video, whatever is in the file."""
        return _TYPES[self.path.suffix.lower()]

    def named(self, message: str) -> str:
        """A message about the file with its name in place of its path, which is not for strangers.

        Args:
          message: as an error has it, where what acts on a terminal is escaped.
        """
        path, name = os.fspath(self.path), shown(" ".join(self.name.split()))
        # as we say it, and as Python does
        for form in (path, repr(path)[1:-1]):
            message = message.replace(shown(" ".join(form.split())), name)
        return message

    def to_dict(self) -> dict[str, str | int]:
        """JSON-able, without the path."""
        return {"id": self.id, "name": self.name, "bytes": self.bytes}


class Videos:
    """The folder's videos and the uploads. Methods may be called from any thread.

    A context manager: at its end, or that of the process, the uploads are removed.

    Attributes:
      folder: of videos; None for uploads only.
      temporary: of uploads; a folder that goes with the process, however it ends.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        strangers: bool = False,
        seconds: float = APP_UPLOAD_SECONDS,
    ):
        """
        Args:
          folder: see above.
          strangers: whether clients do not know each other: then the id of an upload is one that
            nobody can guess, and the same content of two clients are two uploads.
          seconds: after which an upload that nobody uses goes.
        """
        self.folder, self._strangers, self._seconds = folder, strangers, seconds
        self._root = None if folder is None else os.path.realpath(folder)
        self.temporary = Path(tempfile.mkdtemp(prefix="vtd_app_"))
        # also after a kill, which no handler sees
        self._cleaner = subprocess.Popen(
            ["/bin/sh", "-c", _CLEANER, "sh", str(self.temporary)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._uploads: OrderedDict[str, Video] = OrderedDict()
        self._used_at: dict[str, float] = {}
        self._used: dict[str, int] = {}
        self._listed: dict[str, Video] = {}
        self._fresh_until, self._uploading, self._coming = 0.0, 0, 0
        self._lock, self._looking = threading.Lock(), threading.Lock()

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
                self._use(number)
                return found
            found = self._listed.get(number)
        if found is None:
            self._look()
            with self._lock:
                found = self._listed.get(number)
        if found is not None and self._is_inside(found.path):
            with contextlib.suppress(OSError):
                return _now(found)
        raise NoVideo("video: it is not here (any more); choose or drop it again")

    def given_path(self, video: Video) -> str:
        """Where a person finds it: from where the folder was named, or their own file."""
        with self._lock:
            is_upload = video.id in self._uploads
        # what a stranger sees names no folder of this machine
        if is_upload or self._strangers or self.folder is None:
            return video.name
        return os.path.join(self.folder, video.name)

    def upload(self, name: str) -> Upload[Video]:
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
        path = self.temporary / f"{secrets.token_hex(16)}{os.path.splitext(shown)[1].lower()}"
        try:
            done = functools.partial(self._add, shown, path)
            return Upload(shown, path, self._come, done, self._ended)
        except BaseException:
            self._ended(0)
            raise

    def expire(self) -> tuple[Video, ...]:
        """Removes uploads that nobody has used for long; these."""
        now = time.monotonic()
        with self._lock:
            old = [
                number
                for number, at in self._used_at.items()
                if now - at > self._seconds and number not in self._used
            ]
            return tuple(self._remove(number) for number in old)

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
            if video.id in self._uploads:
                self._use(video.id)

    def close(self) -> None:
        """Removes the uploads."""
        remove_tree(self.temporary, must=False)
        assert self._cleaner.stdin is not None
        self._cleaner.stdin.close()
        self._cleaner.wait()

    def __enter__(self) -> "Videos":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _add(self, name: str, path: Path, digest: str, size: int) -> Video:
        """Takes a finished upload; the least recently used ones go where there are too many."""
        # among clients that know each other the same file is the same video
        number = secrets.token_hex(16) if self._strangers else digest
        with self._lock:
            if (found := self._uploads.get(number)) is not None:
                remove_tree(path)
                self._use(number)
                return found
            self._uploads[number] = video = Video(number, name, path, size)
            self._use(number)
            self._let_go(number)
        return video

    def _come(self, more: int) -> None:
        with self._lock:
            if self._coming + more > APP_UPLOADING_BYTES:
                raise Busy("too much is being uploaded at once; try again later")
            self._coming += more

    def _ended(self, taken: int) -> None:
        with self._lock:
            self._uploading -= 1
            self._coming -= taken

    def _let_go(self, newest: str) -> None:
        for number in [*self._uploads]:
            total = sum(video.bytes for video in self._uploads.values())
            if len(self._uploads) <= APP_UPLOADS and total <= APP_UPLOADS_BYTES:
                return
            if number != newest and number not in self._used:
                self._remove(number)

    def _use(self, number: str) -> None:
        self._uploads.move_to_end(number)
        self._used_at[number] = time.monotonic()

    def _remove(self, number: str) -> Video:
        video = self._uploads.pop(number)
        del self._used_at[number]
        remove_tree(video.path, must=False)
        return video

    def _look(self) -> None:
        """Lists the folder, unless it was just listed; while somebody does, the list before holds.

        Large folders take seconds: if all looked at once, nobody would be answered.
        """
        if self._root is None or time.monotonic() < self._fresh_until:
            return
        if not self._looking.acquire(blocking=not self._fresh_until):
            return
        try:
            # the one that this one waited for may have just ended
            if (begun := time.monotonic()) < self._fresh_until:
                return
            found = self._found(self._root)
            with self._lock:
                self._listed, now = found, time.monotonic()
                self._fresh_until = now + max(_FRESH, now - begun)
        finally:
            self._looking.release()

    def _found(self, root: str) -> dict[str, Video]:
        """The videos of the folder by their ids."""
        found: dict[str, Video] = {}
        for parent, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                path = Path(parent, name)
                if len(found) >= APP_LISTED:
                    break
                if name.startswith(".") or not is_video(name):
                    continue
                # no link among the folders is followed
                if not (self._is_inside(path) if path.is_symlink() else is_regular(path)):
                    continue
                place = os.path.relpath(path, root)
                digest = hashlib.blake2b(os.fsencode(place), digest_size=16, person=b"folder")
                number = digest.hexdigest()
                # it may be removed meanwhile
                with contextlib.suppress(OSError):
                    found[number] = _now(Video(number, utf8(place), path, 0))
            if len(found) >= APP_LISTED:
                break
        return found

    def _is_inside(self, path: Path) -> bool:
        """Whether it is a file of the folder, which no link leads out of."""
        if self._root is None:
            return False
        real = os.path.realpath(path)
        return os.path.commonpath([real, self._root]) == self._root and is_regular(real)


def _now(video: Video) -> Video:
    """A video of the folder, as its file is now."""
    facts = video.path.stat()
    return dataclasses.replace(video, bytes=facts.st_size, changed=facts.st_mtime_ns)
