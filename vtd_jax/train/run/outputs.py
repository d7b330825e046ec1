"""The files of a run: checkpoints, metrics, events and a trace."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vtd_jax.errors import UserError
from vtd_jax.terminal import warn
from vtd_jax.train.checkpoints.checkpoint import Checkpoints
from vtd_jax.train.logging import RunLog, Window
from vtd_jax.train.profiling import Profile
from vtd_jax.train.resume import Best
from vtd_jax.train.run.plan import Plan
from vtd_jax.train.run.start import Start
from vtd_jax.train.workdir_handle import WorkdirHandle


@dataclasses.dataclass(frozen=True)
class _Files:
    checkpoints: Checkpoints
    log: RunLog
    profile: Profile
    handle: WorkdirHandle


class Outputs:
    """The files of a run. On all processes but 0 the methods do nothing."""

    def __init__(
        self,
        workdir: Path,
        checkpoints: Checkpoints | None,
        start: Start,
        plan: Plan,
        splits: Sequence[str],
        profile: tuple[int, int] | None,
    ):
        """
        Args:
          workdir: the folder.
          checkpoints: its checkpoints; None on all processes but 0.
          start: where this call begins.
          plan: of the run.
          splits: the names of the splits, for the columns of metrics.csv.
          profile: first and last step to trace, counted from 1.
        """
        self._files: _Files | None = None
        if checkpoints is None:
            return
        log = RunLog(
            workdir,
            total_steps=plan.total,
            splits=splits,
            step=start.step,
            evaluated=start.evaluated,
            rows=start.rows,
        )
        profiled = Profile(profile, workdir, log.line)
        self._files = _Files(checkpoints, log, profiled, WorkdirHandle(workdir))

    def line(self, text: str) -> None:
        """Logs a line."""
        if self._files:
            self._files.log.line(text)

    def start_timing(self, waited: float = 0.0) -> None:
        """Restarts the timing of steps, after an evaluation or a checkpoint."""
        if self._files:
            self._files.log.start_timing(waited)

    def before_step(self, step: int) -> None:
        """Call before step number `step`, from 1."""
        if self._files:
            self._files.profile.before(step)

    def step_begun(self, step: int) -> None:
        """Call when step number `step` was dispatched."""
        if self._files:
            self._files.log.begun(step)

    def after_step(self, step: int, results: Any) -> None:
        """Call last for step number `step`; `results` are its outputs, maybe not ready."""
        if self._files:
            self._files.profile.after(step, results)

    def row(self, step: int, epoch: float, window: Window, waited: float) -> None:
        """Writes one row for the micro-batches that end with `step`.

        Raises:
          UserError: the folder is gone.
        """
        if self._files:
            self._files.handle.check()
            self._files.log.train(step, epoch, window, waited)

    def evaluation(
        self, step: int, epoch: float, values: Mapping[str, float | None], best: Best | None
    ) -> None:
        """Writes one row of accuracies."""
        if self._files:
            self._files.log.evaluation(step, epoch, values, best)

    def save(
        self,
        step: int,
        learnable: dict[str, np.ndarray],
        opt_state: dict[str, np.ndarray],
        progress: dict[str, Any],
        metric: float | None,
    ) -> None:
        """Writes a checkpoint, in the background.

        Raises:
          UserError: the folder is gone, or the checkpoint before this one could not be written.
        """
        if self._files:
            self._files.handle.check()
            rows = self._files.log.rows
            self._files.checkpoints.save(step, learnable, opt_state, progress, metric, rows)

    def add_metric(self, step: int, metric: float) -> None:
        """Adds the metric of a later evaluation to a checkpoint."""
        if self._files:
            self._files.checkpoints.add_metric(step, metric, self._files.log.rows)

    def wait(self) -> None:
        """Waits until all checkpoints are written."""
        if self._files:
            self._files.checkpoints.wait()

    def check(self, last: int) -> None:
        """Checks that the folder still holds the metrics and the checkpoint of step `last`."""
        if self._files:
            self._files.handle.check(["metrics.csv", f"checkpoints/{last}"])

    def close(self, failed: bool = False) -> None:
        """Closes all files; if the run has `failed`, an error of a checkpoint is only a warning."""
        if not self._files:
            return
        with contextlib.ExitStack() as stack:
            # in reverse order, each even if another one raises
            stack.callback(_close, self._files.checkpoints, failed)
            stack.callback(self._files.log.close)
            stack.callback(self._files.profile.close)


def _close(checkpoints: Checkpoints, failed: bool) -> None:
    try:
        checkpoints.close()
    except UserError as error:
        if not failed:
            raise
        warn(error)
