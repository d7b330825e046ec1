"""The journal of a long job: one line for each finished video, so that the job can be resumed."""

import contextlib
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vtd_jax.errors import UserError, setting
from vtd_jax.files import naming, open_own, replacing
from vtd_jax.fingerprints import fingerprint
from vtd_jax.printable import utf8
from vtd_jax.terminal import warn
from vtd_jax.untrusted.json_text import convert, parse_json
from vtd_jax.untrusted.limits import JSON_BYTES
from vtd_jax.untrusted.regular_files import open_regular

# every journal begins with this
_FIRST = b'{"job": '
# end of every line: a fingerprint of the checksum of the line before and of this line
_END = re.compile(rb', "sum": "([0-9a-f]{16})"\}\n\Z')
# lone surrogates, and bytes of file names that are not UTF-8: JSON cannot hold them
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class Journal:
    """A file of JSON lines: the job first, then one line for each finished video.

    It is not a manifest, because a manifest is written as a whole.

    An incomplete last line, left by a killed process, is cut off. Every line has a checksum of
    itself and all lines before it, so that a changed, lost or moved line is refused. A file of an
    older version has no checksums: it is accepted with a warning, and checksums are added. The file
    is UTF-8. A video's name that is not UTF-8 is escaped, and its bytes are stored as hex.

    Attributes:
      path: of the file.
      done: videos that have a line.
    """

    def __init__(
        self,
        path: Path,
        job: Mapping[str, Any],
        restart: bool = False,
        kind: Any = dict[str, Any],
        legacy: Mapping[str, Callable[[], Any]] = MappingProxyType({}),
    ):
        """Opens or creates a journal.

        Args:
          path: of the file.
          job: everything that results depend on; JSON-able.
          restart: whether to discard an existing journal.
          kind: type of a video's line for `untrusted.json_text.convert`; other fields are allowed.
          legacy: fields of `job` that earlier versions wrote otherwise, with functions that compute
            them as these did; None for a field that they lacked.

        Raises:
          UserError: the file is a journal of another job, is not a journal, has a damaged line, or
            is a link or pipe.
          OSError: the file cannot be written; names the file, also if the disk is full.
        """
        self.path, self.done, self._kind, self._legacy = path, set(), kind, legacy
        if self._unbegun() or restart:
            self._begin(job)
            return
        self._check(json.loads(_text(job)))
        end = 0
        for size, checksum, entry in self._read():
            self._sum, end = checksum, end + size
            if "video" in entry:
                self.done.add(entry["video"])
        self._file = open_own(path, "r+b")
        self._file.truncate(end)
        self._file.seek(0, os.SEEK_END)

    def _begin(self, job: Mapping[str, Any]) -> None:
        """Writes the first line; if that fails, removes everything that it created."""
        made = [folder for folder in self.path.parents if not folder.exists()]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file, self._sum = open_own(self.path, "wb"), b""
            try:
                self._line({"job": job})
            except OSError:
                self.remove()
                raise
        except OSError:
            for folder in made:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise

    def _unbegun(self) -> bool:
        """Whether the file is missing, or certainly has no finished video.

        The latter is an incomplete first line, or a first line without a checksum and no other.

        Raises:
          UserError: it is not a journal.
        """
        if not os.path.lexists(self.path):
            return True
        # even with restart, a file that is not a journal is kept
        with open_own(self.path, "r+b"), open_regular(self.path, "journal") as file:
            head = file.read(len(_FIRST))
        if head != _FIRST[: len(head)] and not any(map(_END.search, self._lines())):
            raise UserError(
                f"{self.path}: not the journal of an interrupted run, so {setting('restart')} does "
                "not remove it; move it away, or give another output"
            )
        first = list(itertools.islice(self._lines(), 2))
        return not first or (
            len(first) == 1 and len(first[0]) <= JSON_BYTES and not _END.search(first[0])
        )

    def _check(self, job: Mapping[str, Any]) -> None:
        """Refuses a journal of another job and a damaged first line; adds missing checksums."""
        line, where = next(self._lines()), f"{self.path}:1"
        if (end := _END.search(line)) is None:
            self._renew(job)
            return
        if end[1] != _checksum(b"", line[: end.start()]):
            raise UserError(f"{where}: {_damaged()}")
        self._compare(parse_json(line, where, dict[str, Any], remedy=_restart()).get("job"), job)

    def _compare(self, there: Any, job: Mapping[str, Any]) -> None:
        if not isinstance(there, dict):
            raise UserError(f"{self.path}:1: job: expected object; {_restart()}")
        differ = sorted(
            key
            for key in {*there, *job}
            if there.get(key) != job.get(key)
            and not (key in self._legacy and there.get(key) == self._legacy[key]())
        )
        if differ:
            raise UserError(
                f"{self.path}: the journal of an interrupted run with another {', '.join(differ)}; "
                f"give the same to resume, or {setting('restart')} to discard what it finished"
            )

    def _renew(self, job: Mapping[str, Any]) -> None:
        """Adds checksums to a journal of an older version."""
        with replacing(self.path) as part, part.open("wb", buffering=0) as self._file:
            self._sum = b""
            for number, line in enumerate(self._lines(), start=1):
                where = f"{self.path}:{number}"
                try:
                    entry = parse_json(line, where, dict[str, Any], remedy=_restart())
                except UserError:
                    if number > 1:
                        raise
                    entry = {}
                if number == 1 and entry.keys() == {"job"}:
                    self._compare(entry["job"], job)
                elif number == 1 or "sum" in entry:
                    # other lines have checksums, so the first one had one, too
                    raise UserError(f"{self.path}:1: {_damaged()}")
                else:
                    convert(entry, where, self._kind, remedy=_restart())
                    _video(dict(entry), where)
                self._line(entry)
        warn(
            f"{self.path}: written by an older version, without checksums: damage cannot be noticed"
        )

    def add(self, video: str, **fields: Any) -> None:
        """Adds a finished video; it is on disk when this returns."""
        shown = utf8(video)
        self._line(
            {"video": shown}
            | ({} if shown == video else {"bytes": os.fsencode(video).hex()})
            | fields
        )
        self.done.add(video)

    def entries(self) -> Iterator[dict[str, Any]]:
        """The lines of finished videos, one at a time.

        Raises:
          UserError: a line is damaged; gives its number.
        """
        return (entry for *_, entry in self._read() if "video" in entry)

    def _lines(self) -> Iterator[bytes]:
        """Every complete line; a line that is too long comes in pieces."""
        with open_regular(self.path, "journal") as file:
            for line in iter(lambda: file.readline(JSON_BYTES + 1), b""):
                if not line.endswith(b"\n") and len(line) <= JSON_BYTES:
                    return
                yield line

    def _read(self) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
        """Every complete line, checked: its bytes, checksum and content ({} for the first line)."""
        before = b""
        for number, line in enumerate(self._lines(), start=1):
            where, end = f"{self.path}:{number}", _END.search(line)
            if end is None or end[1] != _checksum(before, line[: end.start()]):
                kept = f"; or cut the file off before this line, to keep the {number - 2} before it"
                raise UserError(f"{where}: {_damaged()}{kept if number > 2 else ''}")
            before = end[1]
            text = line[: end.start()] + b"}"
            if number == 1:
                yield len(line), before, {}
                continue
            entry = parse_json(text, where, dict[str, Any], remedy=_restart())
            convert(entry, where, self._kind, remedy=_restart())
            yield len(line), before, entry | {"video": _video(entry, where)}

    def _line(self, value: Mapping[str, Any]) -> None:
        content, start = _text(value)[:-1].encode(), self._file.tell()
        checksum = _checksum(self._sum, content)
        line = b'%s, "sum": "%s"}\n' % (content, checksum)
        try:
            with naming(self.path):
                while line:
                    line = line[self._file.write(line) :]
        except OSError:
            # the disk is full: remove the partial line
            self._file.truncate(start)
            raise
        self._sum = checksum

    def close(self) -> None:
        """Closes the file and keeps it."""
        self._file.close()

    def remove(self) -> None:
        """Closes and removes the file, after the job is finished."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _text(value: Mapping[str, Any]) -> str:
    """JSON in one line; a lone surrogate becomes text, `\\ud83d`."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return _SURROGATE.sub(lambda half: f"\\\\u{ord(half[0]):04x}", text)


def _checksum(before: bytes, content: bytes) -> bytes:
    """The checksum of a line (without its end) after a line with checksum `before`."""
    return fingerprint(before + content).encode()


def _video(entry: dict[str, Any], where: str) -> str:
    """The name of the video file that a line is about, for the file system."""
    video, raw = entry.get("video"), entry.pop("bytes", None)
    try:
        found = video if raw is None else os.fsdecode(bytes.fromhex(raw))
    except (TypeError, ValueError):
        found = None
    if not isinstance(found, str) or not found:
        raise UserError(f"{where}: names no video; {_restart()}")
    return found


def _restart() -> str:
    return f"give {setting('restart')} to begin again"


def _damaged() -> str:
    return f"damaged: its checksum is wrong; {_restart()}"
