"""Reads Parquet files for another process: what crashes Arrow, or fills its memory, ends only this.

It takes lines of JSON, and answers in messages of msgpack with their length in front.
"""

import contextlib
import os
import sys
from typing import Any, BinaryIO

import msgspec

from vtd_jax.errors import UserError
from vtd_jax.untrusted.json_text import parse_json
from vtd_jax.untrusted.limits import PARQUET_MEMORY_BYTES
from vtd_jax.untrusted.parquet import ParquetTable

LENGTH_BYTES = 4


class Wanted(msgspec.Struct):
    """What a line asks for.

    Attributes:
      path: of the file.
      where: what messages call it.
      columns: to read; none asks what the table holds.
      rows: whether to read the rows, and not only to check what they claim.
    """

    path: str
    where: str
    columns: list[str] = []
    rows: bool = False


def main() -> None:
    """Answers until its input ends."""
    _limit()
    # what libraries print goes elsewhere
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        wanted = parse_json(line, "", Wanted)
        try:
            _answer(out, wanted)
        except (UserError, OSError) as error:
            said = str(error) if isinstance(error, UserError) else f"{wanted.where}: {error}"
            _send(out, {"error": said})
        except MemoryError:
            _send(out, {"error": f"{wanted.where}: asks for too much memory"})


def _answer(out: BinaryIO, wanted: Wanted) -> None:
    with ParquetTable(wanted.path, wanted.where) as table:
        if not wanted.columns:
            about = {"rows": table.rows, "kinds": table.kinds, "features": table.features}
            return _send(out, about)
        lacking = [name for name in wanted.columns if name not in table.kinds]
        if lacking:
            raise UserError(f"{wanted.where}: has no column {lacking[0]!r:.60}")
        if not wanted.rows:
            return _send(out, {"bytes": table.check(wanted.columns)})
        for row in table.read(wanted.columns):
            _send(out, row)
        return _send(out, {"rows": table.rows})


def _send(out: BinaryIO, message: Any) -> None:
    content = msgspec.msgpack.encode(message)
    out.write(len(content).to_bytes(LENGTH_BYTES, "little"))
    out.write(content)
    out.flush()


def _limit() -> None:
    """Bounds the memory of this process, where the system can."""
    # not on Windows; and a hard limit may be lower already
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (PARQUET_MEMORY_BYTES, PARQUET_MEMORY_BYTES))
        # a crash leaves no file behind
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
