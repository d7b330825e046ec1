"""Losses and gradients that are not finite: their batches, and when to stop."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypedDict

import numpy as np

from vtd_jax.errors import UserError, setting
from vtd_jax.files import write_text
from vtd_jax.parallel.processes import gather_rows, is_first, mark_common
from vtd_jax.terminal import warn
from vtd_jax.train.config import RunConfig
from vtd_jax.untrusted.json_text import Count, parse_json
from vtd_jax.untrusted.regular_files import read_text
from vtd_jax.video.records import Records

FILE = "nonfinite.jsonl"
# skipped updates in a row after which a run stops: parameters do not change, so more would follow
LIMIT = 10


class _Line(TypedDict):
    step: Count


class StepSums(NamedTuple):
    """The results of one micro-batch.

    Attributes:
      step: its number, from 1.
      index: of its videos in the records, -1 for padding.
      sums: numbers by name from `Trainer.step`, on the host.
    """

    step: int
    index: np.ndarray
    sums: Mapping[str, float]

    @property
    def wrong(self) -> str | None:
        """Which of loss and gradient is not finite, with its value; else None."""
        for key, name in (("loss", "loss"), ("grad_norm", "norm of the gradient")):
            if not math.isfinite(self.sums[key]):
                return f"{name} is {self.sums[key]}"
        return None

    @property
    def unusual(self) -> bool:
        """Whether loss or gradient is not finite, or the update was skipped."""
        return self.wrong is not None or self.sums["skipped"] > 0


class Guard:
    """Stops at numbers that are not finite, or counts skipped updates; writes down their batches.

    All processes call it for the same micro-batches, and all of them raise.

    Attributes:
      file: the list of batches.
      skipped: updates skipped in the whole run.
      in_a_row: the last ones without a gap.
    """

    def __init__(
        self,
        config: RunConfig,
        records: Records,
        per_epoch: int,
        workdir: Path,
        skipped: int = 0,
        in_a_row: int = 0,
    ):
        """
        Args:
          config: of the run.
          records: the training videos.
          per_epoch: micro-batches.
          workdir: gets the file.
          skipped, in_a_row: the counts so far.
        """
        self._config, self._records, self._per_epoch = config, records, per_epoch
        self.file = Path(workdir) / FILE
        self.skipped, self.in_a_row = skipped, in_a_row

    def check(self, one: StepSums, last_saved: int) -> None:
        """Looks at one micro-batch.

        Args:
          one: the micro-batch, with the videos of this process.
          last_saved: step of the last checkpoint; 0 for none.

        Raises:
          UserError: training cannot continue.
        """
        skipped = one.sums["skipped"] > 0
        self.skipped += skipped
        self.in_a_row = self.in_a_row + 1 if skipped else 0
        if not one.unusual:
            return
        wrong = one.wrong or "update is not finite"
        if not skipped:
            self.stop(one, wrong, last_saved)
        self._note(one, wrong)
        if self.in_a_row >= LIMIT:
            many = f", and {LIMIT} updates in a row were skipped, so parameters no longer change"
            raise self._error(one, wrong + many, last_saved, "their videos")

    def stop(self, one: StepSums, wrong: str, last_saved: int) -> NoReturn:
        """Ends the run at this micro-batch.

        Args:
          one, last_saved: see `check`.
          wrong: what is not finite, after "the ".

        Raises:
          UserError: always.
        """
        self._note(one, wrong)
        raise self._error(one, wrong, last_saved)

    def _error(
        self, one: StepSums, wrong: str, last_saved: int, videos: str = "the videos of this batch"
    ) -> Exception:
        skip = (
            f" or {setting('on_nonfinite', 'skip')}" if self._config.on_nonfinite == "stop" else ""
        )
        return mark_common(
            UserError(
                f"step {one.step}: the {wrong}; training stops, {videos} are in "
                f"{self.file}; the last checkpoint is of step {last_saved}; a lower "
                f"{setting('optimizer.lr')} (with {setting('override')}){skip} may help"
            )
        )

    def _note(self, one: StepSums, wrong: str) -> None:
        """Writes one line for the batch, instead of one from before the run resumed."""
        index = [int(i) for i in gather_rows(one.index) if i >= 0]
        if not is_first():
            return
        line = {
            "step": one.step,
            "epoch": (one.step - 1) // self._per_epoch,
            "what": wrong,
            "skipped": bool(one.sums["skipped"]),
            # JSON has no nan and no infinity: these are written as text
            **{key: _number(one.sums[key]) for key in ("loss", "grad_norm", "lr")},
            "seed": self._config.seed,
            "records": str(self._records.path),
            "list": self._records.name,
            "index": index,
            "files": [self._records[i].file for i in index],
        }
        lines = [text for text in self._lines() if parse_json(text, "", _Line)["step"] != one.step]
        lines.append(json.dumps(line, ensure_ascii=False))
        write_text(self.file, "".join(f"{text}\n" for text in lines))

    def _lines(self) -> list[str]:
        """The lines so far; a file that this class did not write is moved away."""
        if not os.path.lexists(self.file):
            return []
        try:
            lines = read_text(self.file, "list of batches").splitlines()
            for number, line in enumerate(lines, start=1):
                parse_json(line, f"{self.file}:{number}", _Line)
        except UserError as error:
            aside = self.file.with_name(f"{self.file.name}.damaged")
            os.replace(self.file, aside)
            warn(f"{error}; moved to {aside}, starting a new one")
            return []
        return lines


def not_finite(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """The names of arrays with a number that is not finite."""
    return [
        name
        for name, array in arrays.items()
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all()
    ]


def _number(value: Any) -> float | str:
    return value if math.isfinite(value) else str(value)
