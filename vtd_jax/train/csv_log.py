"""`metrics.csv` of a run, also when the run resumes."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.files import naming, write_text
from vtd_jax.outputs import CsvWriter, csv_text
from vtd_jax.terminal import counted, warn
from vtd_jax.train.checkpoints.integrity import step_of
from vtd_jax.train.workdir_handle import free_path
from vtd_jax.untrusted.csv_text import csv_fields
from vtd_jax.untrusted.regular_files import read_text

# columns that files of earlier versions lack
LATER_COLUMNS = ("input_wait",)
# an empty cell, or a number
_CELL = re.compile(r"|-?(inf|nan|[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?)")


class CsvLog:
    """`metrics.csv`: one row per logged step, flushed at once.

    When a run resumes, the rows after its step are dropped, since they will be written again.
    Missing or damaged rows are a warning; checkpoints do not depend on them.

    Attributes:
      rows: the number of rows in the file.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[str],
        step: int = 0,
        evaluated: bool = True,
        rows: int = 0,
    ):
        """
        Args:
          path: of the file.
          columns: its header.
          step: the run resumes after this step; 0 starts a new file.
          evaluated: whether the evaluation of `step` is kept; its row is the one without a loss.
          rows: the expected number of rows up to `step`.
        """
        self.path, self.columns = Path(path), tuple(columns)
        kept = self._rows_until(step) if step and os.path.lexists(self.path) else []
        if not evaluated:
            loss = self.columns.index("loss")
            kept = [row for row in kept if int(row[0]) < step or row[loss]]
        if len(kept) < rows:
            warn(
                f"{self.path}: has {len(kept)} of {counted(rows, 'row')} up to step {step}, the "
                "others are lost; checkpoints do not depend on them"
            )
        # not guarded against formulas: cells are numbers
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
            warn(f"{error}; moved to {self._move_aside()}, starting a new one")
            return []
        lines = text.replace("\r\n", "\n").split("\n")
        header = _fields(lines[0]) or []
        expected = [c for c in self.columns if c in header or c not in LATER_COLUMNS]
        if list(header) != expected:
            raise UserError(
                f"{self.path}: line 1: columns {str(header)[:500]}, expected {list(self.columns)}; "
                "move the file away to start a new one"
            )
        # without the last line, which is empty, or was cut off by a crash
        read = [(number, _row(line, header)) for number, line in enumerate(lines[1:-1], start=2)]
        damaged = [number for number, row in read if row is None]
        if damaged:
            warn(
                f"{self.path}:{damaged[0]}: no row of numbers; it and {len(damaged) - 1} more are "
                f"left out; the old file is now {self._move_aside()}"
            )
        rows = [row for _, row in read if row is not None and int(row["step"]) <= step]
        return [[row.get(column, "") for column in self.columns] for row in rows]

    def _move_aside(self) -> Path:
        return self.path.rename(free_path(self.path.with_name(f"{self.path.name}.damaged")))


def _fields(line: str) -> list[str] | None:
    try:
        return csv_fields(line, "")
    except UserError:
        return None


def _row(line: str, header: Sequence[str]) -> dict[str, str] | None:
    """A line's cells by column; None if this class did not write it."""
    cells = _fields(line)
    if cells is None or len(cells) != len(header) or not all(map(_CELL.fullmatch, cells)):
        return None
    row = dict(zip(header, cells))
    return None if step_of(row["step"]) is None else row
