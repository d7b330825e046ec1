"""What a long job has finished: one line a video, so that the same command goes on after any
interruption.
"""

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

# how every journal begins
_FIRST = b'{"job": '
# how every line ends: the beginning of the SHA-256 of the line before's sum and of this line
_END = re.compile(rb', "sum": "([0-9a-f]{16})"\}\n\Z')
# halves of characters, and bytes of file names that are no text, which JSON cannot hold
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class Journal:
    """A file of JSON lines: first what the job is, then what became of each video.

    It grows by a line a video, so it is no manifest, which is written as a whole.

    A line counts when it ends; half a line, of a process that was killed, is cut off. Every line
    carries a checksum over itself and the lines before it: one that was changed, lost or moved is
    refused, not taken over. A file of an older version, without checksums, is taken over with a
    warning, and gets them. The file is UTF-8 whatever the videos are called: a name that is not is
    written as it is shown, and its bytes beside it.

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
        legacy: Mapping[str, Callable[[], str]] = MappingProxyType({}),
    ):
        """Opens or begins a journal.

        Args:
          path: of the file.
          job: all that results depend on; JSON-able.
          restart: whether what is there is thrown away.
          kind: type of a video's line, as `untrusted.json_text.convert` takes it; what it does not
            name may be there.
          legacy: the fields of `job` that are fingerprints, and what computes them as earlier
            versions did.

        Raises:
          UserError: what is there is of another job, is no journal, or has a damaged line; or a
            link or pipe is there.
          OSError: with the file's name, also where the disk is full.
        """
        self.path, self.done, self._kind, self._legacy = path, set(), kind, legacy
        if self._unbegun() or restart:
            self._begin(job)
            return
        self._check(json.loads(_text(job)))
        end = 0
        for line, entry in self._read():
            end += len(line)
            self._sum = _sum_of(line)
            if "video" in entry:
                self.done.add(entry["video"])
        self._file = open_own(path, "r+b")
        self._file.truncate(end)
        self._file.seek(0, os.SEEK_END)

    def _begin(self, job: Mapping[str, Any]) -> None:
        """Writes the first line; where that fails, nothing stays that was not there."""
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
        """Whether no video was finished for sure: half a first line, or one without a checksum and
          none behind it.

        Raises:
          UserError: it is no journal.
        """
        if not os.path.lexists(self.path):
            return True
        # what is no journal is not thrown away either
        with open_own(self.path, "r+b"), open_regular(self.path, "journal") as file:
            head = file.read(len(_FIRST))
        if head != _FIRST[: len(head)] and not any(map(_END.search, self._lines())):
            raise UserError(
                f"{self.path}: not what an interrupted run left, so {setting('restart')} would not "
                "remove it either; move it away, or give another output"
            )
        first = list(itertools.islice(self._lines(), 2))
        return not first or (
            len(first) == 1 and len(first[0]) <= JSON_BYTES and not _END.search(first[0])
        )

    def _check(self, job: Mapping[str, Any]) -> None:
        """Refuses a journal of another job, and a damaged first line; what has no checksums gets
        them.
        """
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
                f"{self.path}: an interrupted run left it, which had another {', '.join(differ)}; "
                f"give that again to resume, or {setting('restart')} to throw away what it finished"
            )

    def _renew(self, job: Mapping[str, Any]) -> None:
        """Gives checksums to the lines of an older version, which had none, as they are."""
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
                    # the first line had a checksum once, as others have
                    raise UserError(f"{self.path}:1: {_damaged()}")
                else:
                    convert(entry, where, self._kind, remedy=_restart())
                    _video(dict(entry), where)
                self._line(entry)
        warn(
            f"{self.path}: an older version left it; its lines carry no checksums and cannot be "
            "checked"
        )

    def add(self, video: str, **fields: Any) -> None:
        """A video is finished; on disk when this returns."""
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
          UserError: a line is damaged; with its number.
        """
        return (entry for _, entry in self._read() if "video" in entry)

    def _lines(self) -> Iterator[bytes]:
        """Every whole line, and pieces of one that is too long."""
        with open_regular(self.path, "journal") as file:
            for line in iter(lambda: file.readline(JSON_BYTES + 1), b""):
                if not line.endswith(b"\n") and len(line) <= JSON_BYTES:
                    return
                yield line

    def _read(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Every whole line with what it says, the first one too; each is checked."""
        before = b""
        for number, line in enumerate(self._lines(), start=1):
            where, end = f"{self.path}:{number}", _END.search(line)
            if end is None or end[1] != _checksum(before, line[: end.start()]):
                kept = f"; or cut the file off before this line, to keep the {number - 2} before it"
                raise UserError(f"{where}: {_damaged()}{kept if number > 2 else ''}")
            before = end[1]
            text = line[: end.start()] + b"}"
            if number == 1:
                yield line, {}
                continue
            entry = parse_json(text, where, dict[str, Any], remedy=_restart())
            convert(entry, where, self._kind, remedy=_restart())
            yield line, entry | {"video": _video(entry, where)}

    def _line(self, value: Mapping[str, Any]) -> None:
        content, start = _text(value)[:-1].encode(), self._file.tell()
        found = _checksum(self._sum, content)
        line = b'%s, "sum": "%s"}\n' % (content, found)
        try:
            with naming(self.path):
                while line:
                    line = line[self._file.write(line) :]
        except OSError:
            # the disk is full: what was written before stays, and is whole
            self._file.truncate(start)
            raise
        self._sum = found

    def close(self) -> None:
        """Ends writing; the file stays."""
        self._file.close()

    def remove(self) -> None:
        """Ends writing and removes the file: all is done."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _text(value: Mapping[str, Any]) -> str:
    """JSON in one line; half a character is written as text, `\\ud83d`."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return _SURROGATE.sub(lambda half: f"\\\\u{ord(half[0]):04x}", text)


def _checksum(before: bytes, content: bytes) -> bytes:
    """Of a line without its end, after a line whose sum was `before`."""
    return fingerprint(before + content).encode()


def _sum_of(line: bytes) -> bytes:
    return _END.search(line)[1]


def _video(entry: Mapping[str, Any], where: str) -> str:
    """The file that a line is about, as the system calls it."""
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
    return f"damaged, its checksum does not fit; {_restart()}"
