"""Parquet files, read in a process of its own: Arrow ends the process at some damage."""

import os
import select
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from vtd_jax.errors import UserError
from vtd_jax.installed.python_processes import isolated
from vtd_jax.untrusted.limits import DATA_SET_VIDEO_BYTES, SMALL_JSON_BYTES
from vtd_jax.untrusted.parquet_process import LENGTH_BYTES, Wanted

_CODE = "from vtd_jax.untrusted.parquet_process import main; main()"
# seconds for a row, or for what a table holds
_PATIENCE = 300.0
_MOST = DATA_SET_VIDEO_BYTES + SMALL_JSON_BYTES
_BLOCK = 2**20


class Look(NamedTuple):
    """What a table holds.

    Attributes:
      where: the file, for messages.
      rows: how many.
      kinds: column -> what it holds, see `ParquetTable`.
      features: what `datasets` says of the columns.
    """

    where: str
    rows: int
    kinds: dict[str, str]
    features: dict[str, Any]


class _Answer(msgspec.Struct):
    """What comes beside rows; `error` is a line for people."""

    rows: int = 0
    kinds: dict[str, str] = {}
    features: dict[str, Any] = {}
    bytes: int = 0
    error: str = ""


class Tables:
    """The process that reads Parquet files, started when it is first needed."""

    def __init__(self):
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Tables":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process.wait()
            self._process = None

    def look(self, path: Path, where: str) -> Look:
        """What a table holds.

        Raises:
          UserError: not a Parquet file, or a damaged one.
        """
        found = self._ask(Wanted(str(path), where))
        return Look(where, found.rows, found.kinds, found.features)

    def check(self, path: Path, where: str, columns: Sequence[str]) -> int:
        """The bytes that columns have, see `ParquetTable.check`."""
        return self._ask(Wanted(str(path), where, list(columns))).bytes

    def read(self, path: Path, where: str, columns: Sequence[str]) -> Iterator[list[Any]]:
        """The rows of some columns, see `ParquetTable.read`."""
        self._send(Wanted(str(path), where, list(columns), True))
        while not isinstance(found := self._message(where, list[Any] | _Answer), _Answer):
            if len(found) != len(columns) or not all(map(_is_value, found)):
                raise self._died(where)
            yield found
        if found.error:
            raise UserError(found.error)

    def _ask(self, wanted: Wanted) -> _Answer:
        self._send(wanted)
        found = self._message(wanted.where, _Answer)
        if found.error:
            raise UserError(found.error)
        return found

    def _send(self, wanted: Wanted) -> None:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                isolated(_CODE),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # pages that are gone are given back, and no arena is reserved
                env=os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system"},
            )
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(wanted) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died(wanted.where) from None

    def _message(self, where: str, kind: Any) -> Any:
        size = int.from_bytes(self._bytes(LENGTH_BYTES, where), "little")
        if size > _MOST:
            raise self._died(where)
        try:
            return msgspec.msgpack.decode(self._bytes(size, where), type=kind)
        except msgspec.MsgspecError:
            raise self._died(where) from None

    def _bytes(self, size: int, where: str) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        found, number = bytearray(), self._process.stdout.fileno()
        while len(found) < size:
            if not select.select([number], [], [], _PATIENCE)[0]:
                self.close()
                raise UserError(f"{where}: nothing came of it in {_PATIENCE:.0f} s; is it damaged?")
            block = os.read(number, min(_BLOCK, size - len(found)))
            if not block:
                raise self._died(where)
            found += block
        return bytes(found)

    def _died(self, where: str) -> UserError:
        self.close()
        return UserError(
            f"{where}: not a Parquet file, or damaged (the process that read it ended: it crashes "
            "Arrow, or asks for more memory than a whole file does)"
        )


def _is_value(value: Any) -> bool:
    """Whether a process that is well sends this: bytes, a text, a number, nothing, or a file."""
    if isinstance(value, list):
        return (
            len(value) == 2
            and isinstance(value[0], bytes | None)
            and isinstance(value[1], str | None)
        )
    return isinstance(value, bytes | str | int | None)
