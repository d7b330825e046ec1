"""`metrics.csv` of a run: rows that are there at once, and what becomes of them when the run
resumes.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.files import naming, write_text
from vtd_jax.outputs import CsvWriter, csv_text
from vtd_jax.terminal import counted, warn
from vtd_jax.train.checkpoints.integrity import step_of
from vtd_jax.untrusted.csv_text import csv_fields
from vtd_jax.untrusted.regular_files import read_text

# columns that files of before do not have
LATER_COLUMNS = ("input_wait",)
# what is written in a cell beside the step
_CELL = re.compile(r"|-?(inf|nan|[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?)")


class CsvLog:
    """`metrics.csv`: one row a step that was logged, flushed at once.

    Resuming from a step drops the rows after it, which the run will write again: no step is there
    twice. `evaluated` says whether an evaluation of that very step counts: without, its row (the
    one without a loss) is dropped too. `rows` is how many there should be then; what is missing or
    damaged is said in one line, and costs no training.

    Attributes:
      rows: that the file has now.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[str],
        step: int = 0,
        evaluated: bool = True,
        rows: int = 0,
    ):
        self.path, self.columns = Path(path), tuple(columns)
        kept = self._rows_until(step) if step and os.path.lexists(self.path) else []
        if not evaluated:
            loss = self.columns.index("loss")
            kept = [row for row in kept if int(row[0]) < step or row[loss]]
        if len(kept) < rows:
            warn(
                f"{self.path}: {len(kept)} of {counted(rows, 'row')} up to step {step} are there, "
                "the others are lost; checkpoints do not depend on them"
            )
        write_text(self.path, csv_text([self.columns, *kept], guarded=False))
        self._file = self.path.open("a", newline="")
        self._writer = CsvWriter(self._file, guarded=False)
        self.rows = len(kept)

    def write(self, row: Mapping[str, object]) -> None:
        """Appends a row; a column without a value stays empty."""
        with naming(self.path):
            self._writer.writerow(row.get(column, "") for column in self.columns)
            self._file.flush()
        self.rows += 1

    def close(self) -> None:
        """Closes the file."""
        with naming(self.path):
            self._file.close()

    def _rows_until(self, step: int) -> list[list[str]]:
        try:
            text = read_text(self.path, "metrics.csv")
        except UserError as error:
            warn(f"{error}; moved to {self._move_aside()}, a new one begins")
            return []
        lines = text.replace("\r\n", "\n").split("\n")
        header = _fields(lines[0]) or []
        if [*header] != [
            column for column in self.columns if column in header or column not in LATER_COLUMNS
        ]:
            raise UserError(
                f"{self.path}: line 1: columns {str(header)[:500]}, expected {list(self.columns)}; "
                "move the file away to start a new one"
            )
        # the last line has no end only where a crash cut it off
        read = [(number, _row(line, header)) for number, line in enumerate(lines[1:-1], start=2)]
        damaged = [number for number, row in read if row is None]
        if damaged:
            warn(
                f"{self.path}:{damaged[0]}: no row of numbers, left out as are {len(damaged) - 1} "
                f"more; the file as it was is {self._move_aside()}"
            )
        rows = [row for _, row in read if row is not None and int(row["step"]) <= step]
        return [[row.get(column, "") for column in self.columns] for row in rows]

    def _move_aside(self) -> Path:
        place, number = self.path.with_name(f"{self.path.name}.damaged"), 1
        while os.path.lexists(place):
            number += 1
            place = self.path.with_name(f"{self.path.name}.damaged_{number}")
        self.path.rename(place)
        return place


def _fields(line: str) -> list[str] | None:
    try:
        return csv_fields(line, "")
    except UserError:
        return None


def _row(line: str, header: Sequence[str]) -> dict[str, str] | None:
    """A line's cells by column; None where it is not one that this class writes."""
    cells = _fields(line)
    if cells is None or len(cells) != len(header) or not all(map(_CELL.fullmatch, cells)):
        return None
    row = dict(zip(header, cells))
    return None if step_of(row["step"]) is None else row
