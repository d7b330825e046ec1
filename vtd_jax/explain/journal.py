"""What a long job has finished: one line a video, so that the same command goes on after any interruption."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vtd_jax.errors import UserError
from vtd_jax.files import naming
from vtd_jax.printable import utf8

# how every journal begins
_FIRST = b'{"job": '


class Journal:
    """A file of JSON lines: first what the job is, then what became of each video.

    A line counts when it ends; half a line, of a process that was killed, is cut off. The file is UTF-8 whatever the
    videos are called: a name that is not is written as it is shown, and its bytes beside it.

    Attributes:
      path: of the file.
      done: videos that have a line.
    """

    def __init__(self, path: Path, job: Mapping[str, Any], restart: bool = False):
        """Opens or begins a journal.

        Args:
          path: of the file.
          job: all that results depend on; JSON-able.
          restart: whether what is there is thrown away.

        Raises:
          UserError: what is there is of another job, or is no journal.
          OSError: with the file's name, also where the disk is full.
        """
        self.path, self.done = path, set()
        job = json.loads(json.dumps(job))
        if restart or self._unbegun():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("wb", buffering=0)
            try:
                self._line({"job": job})
            except OSError:
                self.remove()
                raise
            return
        self._check(job)
        self.done = {entry["video"] for entry in self.entries()}
        self._file = path.open("r+b", buffering=0)
        self._file.truncate(self._whole())
        self._file.seek(0, os.SEEK_END)

    def _unbegun(self) -> bool:
        """Whether there is nothing but the beginning of a first line."""
        if not self.path.exists():
            return True
        with self.path.open("rb") as file:
            line = file.readline()
        return not line.endswith(b"\n") and _FIRST.startswith(line[: len(_FIRST)])

    def _check(self, job: Mapping[str, Any]) -> None:
        try:
            with self.path.open(encoding="utf-8") as file:
                there = json.loads(file.readline())["job"]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{self.path}: not what an interrupted run left; move it away, or give --restart") from None
        differ = sorted(key for key in {*there, *job} if there.get(key) != job.get(key))
        if differ:
            raise UserError(
                f"{self.path}: an interrupted run left it, which had another {', '.join(differ)}; give that again to "
                "go on, or --restart to throw away what it finished"
            )

    def _whole(self) -> int:
        """Bytes up to the end of the last whole line."""
        end = 0
        with self.path.open("rb") as file:
            for line in file:
                end += len(line) if line.endswith(b"\n") else 0
        return end

    def add(self, video: str, **fields: Any) -> None:
        """A video is finished; on disk when this returns."""
        shown = utf8(video)
        self._line({"video": shown} | ({} if shown == video else {"bytes": os.fsencode(video).hex()}) | fields)
        self.done.add(video)

    def entries(self) -> Iterator[dict[str, Any]]:
        """The lines of finished videos, one at a time."""
        with self.path.open("rb") as file:
            next(file, None)
            for line in file:
                if line.endswith(b"\n"):
                    entry = json.loads(line)
                    if "bytes" in entry:
                        entry["video"] = os.fsdecode(bytes.fromhex(entry.pop("bytes")))
                    yield entry

    def _line(self, value: Mapping[str, Any]) -> None:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        line, start = f"{text}\n".encode(errors="backslashreplace"), self._file.tell()
        try:
            with naming(self.path):
                while line:
                    line = line[self._file.write(line) :]
        except OSError:
            # the disk is full: what was written before stays, and is whole
            self._file.truncate(start)
            raise

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
