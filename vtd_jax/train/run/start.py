"""Where a call of `train` starts: at step 0 or at a checkpoint."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from vtd_jax.parallel.processes import on_all, on_first
from vtd_jax.train.batches import StoredBatches
from vtd_jax.train.checkpoints.checkpoint import Checkpoints
from vtd_jax.train.resume import Best, find, restore
from vtd_jax.train.run.plan import Plan
from vtd_jax.train.trainer import TrainState
from vtd_jax.video.pipeline import BatchIterator
from vtd_jax.video.records import Records


class Start(NamedTuple):
    """Where a call of `train` starts.

    Attributes:
      state: of training.
      best: the best evaluation so far.
      evaluated: False if the evaluation after this step is missing.
      skipped, in_a_row: see `Guard`.
      rows: of metrics.csv up to this step.
    """

    state: TrainState
    best: Best | None = None
    evaluated: bool = True
    skipped: int = 0
    in_a_row: int = 0
    rows: int = 0

    @property
    def step(self) -> int:
        """Micro-batches done before."""
        return self.state.step


def find_start(
    checkpoints: Checkpoints | None,
    identity: Mapping[str, str],
    legacy_clip: Callable[[], str],
    start: Start,
    batches: BatchIterator | StoredBatches,
    splits: Mapping[str, Records],
    plan: Plan,
    workdir: Path,
    override: bool,
) -> Start:
    """The last intact checkpoint, or `start` if there is none; damaged ones are moved away.

    All processes must call it.

    Args:
      checkpoints: of the run; None on all processes but 0.
      identity, legacy_clip: see `resume.find`.
      start: at step 0.
      batches, splits, override: see `resume.restore`.
      plan: when evaluations are due.
      workdir: the folder of the run, for messages.

    Raises:
      UserError: no checkpoint is intact, or the last one is another run's.
    """
    found = on_first(find, checkpoints, identity, legacy_clip)
    if found is None:
        return start
    where = f"{workdir}/checkpoints/{found.step}"
    state = on_all(restore, found, start.state, batches, splits, where, override)
    # only after all processes accepted the checkpoint
    on_first(Checkpoints.set_aside, checkpoints, found.damaged, found.step)
    saved = found.stored.progress
    best, evaluated = Best(**saved["best"]) if saved["best"] else None, saved["evaluated"]
    if not evaluated:
        # the metric may have been added after the checkpoint was written
        best = Best.of(best, found.metric, state.step)
        evaluated = found.metric is not None or not plan.evaluates(state.step)
    return Start(state, best, evaluated, saved["skipped"], saved["in_a_row"], found.rows)
