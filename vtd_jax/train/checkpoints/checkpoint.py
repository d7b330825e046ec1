"""Writes the checkpoints of a run with orbax, with everything that it needs to resume exactly."""

import contextlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from vtd_jax.errors import UserError
from vtd_jax.files import remove_tree
from vtd_jax.terminal import warn
from vtd_jax.train.checkpoints import integrity
from vtd_jax.train.checkpoints.integrity import Stored
from vtd_jax.train.checkpoints.orbax_manager import Manager, StepNames, quiet, reason
from vtd_jax.train.checkpoints.plain_path import plain
from vtd_jax.train.checkpoints.stored_checkpoints import StoredCheckpoints
from vtd_jax.train.workdir_handle import WorkdirHandle, free_path, names_in, remove_remains
from vtd_jax.trees import flatten_arrays
from vtd_jax.untrusted.limits import CHECKPOINT_BYTES

_ASIDE = "damaged"
# old checkpoints are renamed into this folder and deleted there, so that a half-deleted one never
# looks complete
_LEAVING = "leaving"


class Checkpoints(StoredCheckpoints):
    """The checkpoints under `workdir/checkpoints`, one folder per step, of a run that writes them.

    Each holds `learnable` and `optimizer` (flat: dotted path -> array) and `progress` (JSON) with a
    digest over all three, which every read checks. A checkpoint is written in the background under
    a temporary name and renamed when complete. The last `keep` and the best one are kept. Frozen
    weights are not stored: a checkpoint of a ViT-B/16 run has a few MB instead of 600.

    Reading changes nothing in the folder. The first `save` removes unfinished checkpoints of a
    killed run.
    """

    def __init__(self, workdir: Path, keep: int = 2):
        super().__init__(workdir)
        keep_best = managers.BestN(
            get_metric_fn=_metric, n=1, keep_checkpoints_without_metrics=False
        )
        self._options = ocp.CheckpointManagerOptions(
            best_fn=_metric,
            preservation_policy=managers.AnyPreservationPolicy([managers.LatestN(keep), keep_best]),
            enable_async_checkpointing=True,
            cleanup_tmp_directories=True,
            todelete_subdir=_LEAVING,
            create=False,
            step_name_format=StepNames(),
            # of several processes, only the first has checkpoints
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=0, active_processes={0}
            ),
        )
        self._manager: ocp.CheckpointManager | None = None
        self._writing: int | None = None
        self._handle: WorkdirHandle | None = None
        # the files of the workdir and the checkpoints before the one that is being written
        self._before: tuple[set[str], set[int]] = set(), set()

    @property
    def steps(self) -> list[int]:
        """The steps with a checkpoint, ascending; waits for the one that is being written."""
        self.wait()
        return self._steps()

    def save(
        self,
        step: int,
        learnable: Any,
        opt_state: Any,
        progress: Mapping[str, Any],
        metric: float | None = None,
        rows: int | None = None,
    ) -> None:
        """Writes one checkpoint in the background, from a copy of all arrays.

        Args:
          step: micro-batches done.
          learnable, opt_state: trees of arrays.
          progress: everything else that the run needs to resume; the step is added.
          metric: decides which checkpoint is best, higher is better; None if it was not evaluated.
          rows: of metrics.csv up to this step; None if they are not counted.

        Raises:
          UserError: the checkpoint before could not be written, this one would be too large to
            read, or the workdir is gone.
        """
        self.wait()
        if self._handle is None:
            self.workdir.mkdir(parents=True, exist_ok=True)
            self._handle = WorkdirHandle(self.workdir)
        # a workdir that disappears from here on is not made again
        self._handle.check()
        self.folder.mkdir(exist_ok=True)
        self._make_way(step)
        metric = float(metric) if metric is not None and math.isfinite(metric) else None
        noted = _noted(metric, rows)
        arrays = _copied(learnable), _copied(opt_state)
        stored = Stored(*arrays, dict(progress) | {"step": step}, noted)
        size = sum(array.nbytes for item in arrays for array in item.values())
        if size > CHECKPOINT_BYTES:
            raise UserError(
                f"{self.folder / str(step)}: would have {size:,} bytes, expected at most "
                f"{CHECKPOINT_BYTES:,}; learn fewer prompts"
            )
        stored = integrity.sealed(stored)
        items = ocp.args.Composite(
            learnable=ocp.args.StandardSave(stored.learnable),
            optimizer=ocp.args.StandardSave(stored.optimizer),
            progress=ocp.args.JsonSave(stored.progress),
        )
        metrics = None if metric is None else {"metric": metric}
        self._writing, self._before = step, (names_in(self.workdir), set(self._steps()) - {step})
        try:
            self._open().save(step, args=items, metrics=metrics, force=True)
        except Exception as error:
            raise self._unwritten(error) from error

    def wait(self) -> None:
        """Waits for the checkpoint that is being written.

        Raises:
          UserError: it could not be written, or the workdir disappeared meanwhile.
        """
        if self._writing is None:
            return
        try:
            self._open().wait_until_finished()
        except Exception as error:  # orbax and tensorstore pass on any error of the file system
            raise self._unwritten(error) from error
        self._check_workdir()
        self._writing = None
        remove_tree(self.folder / _LEAVING, must=False)

    def stored(self, step: int) -> Stored:
        """See `StoredCheckpoints.stored`; waits for the one that is being written."""
        self.wait()
        return super().stored(step)

    def add_metric(self, step: int, metric: float, rows: int | None = None) -> None:
        """Adds a metric to a checkpoint that was written before; only before the first `save`."""
        if self._manager is not None:
            raise RuntimeError("orbax has read the metrics already")
        stored = self.stored(step)
        self._read = {step: stored._replace(noted=dict(stored.noted) | _noted(float(metric), rows))}
        integrity.write_progress(self.folder / str(step), self._read[step])

    def set_aside(self, wrong: Mapping[int, str], last: int) -> None:
        """Moves checkpoints that cannot be used away, each with a warning.

        Args:
          wrong: why, by step.
          last: the step from which the run resumes.
        """
        for step, why in wrong.items():
            warn(
                f"{self.folder / str(step)}: {why}; moved to {self._move_aside(str(step))}; "
                f"resuming from step {last}"
            )

    def close(self) -> None:
        """Waits for the checkpoint that is being written.

        Raises:
          UserError: it could not be written.
        """
        self.wait()
        if self._manager is not None:
            # orbax raises a failed write again, which `wait` has raised before
            with contextlib.suppress(Exception):
                self._manager.close()
            self._manager = None

    def _steps(self) -> list[int]:
        return integrity.steps_in(self.folder)

    def _move_aside(self, name: str) -> Path:
        aside = self.workdir / _ASIDE
        if aside.is_symlink():
            raise UserError(
                f"{aside}: a link, expected a folder for damaged checkpoints; remove it"
            )
        aside.mkdir(exist_ok=True)
        return (self.folder / name).rename(free_path(aside / name))

    def _make_way(self, step: int) -> None:
        """Moves a file away that has the name of the next checkpoint."""
        path = self.folder / str(step)
        if os.path.lexists(path) and not path.is_dir():
            aside = self._move_aside(str(step))
            warn(f"{path}: not a folder, expected a checkpoint; moved to {aside}")

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            remove_tree(self.folder / _LEAVING, must=False)
            quiet()
            self._manager = Manager(
                plain(self.folder),
                self.metric,
                options=self._options,
                item_names=(integrity.LEARNABLE, integrity.OPTIMIZER, integrity.PROGRESS),
            )
        return self._manager

    def _check_workdir(self, failed: bool = False) -> None:
        """Raises a `UserError` if the workdir was removed while the checkpoint was written."""
        step, handle = self._writing, self._handle
        if handle is None:
            return
        try:
            handle.check()
            names, steps = self._before
            # removing a folder that is being written into fails: it stays, without its old files
            files_gone = names and not names & names_in(self.workdir)
            checkpoints_gone = steps and not steps & set(self._steps())
            if files_gone or (failed and checkpoints_gone):
                raise handle.lost()
        except (UserError, OSError):
            self._writing = None
            # orbax makes the folders above a checkpoint again
            remove_remains(self.folder, {str(step), _LEAVING})
            handle.check()
            raise

    def _unwritten(self, error: Exception) -> UserError:
        """The error to raise for a failed write."""
        try:
            self._check_workdir(failed=True)
        except UserError as lost:
            return lost
        step, self._writing = self._writing, None
        before = max((other for other in self._steps() if other != step), default=None)
        last = "there is none before it" if before is None else f"the last one is of step {before}"
        return UserError(
            f"{self.folder / str(step)}: this checkpoint could not be written ({reason(error)}); "
            f"{last}; check space and permissions, then run the same command again"
        )


def _noted(metric: float | None, rows: int | None) -> integrity.Noted:
    return {"metric": metric} if rows is None else {"metric": metric, "rows": rows}


def _copied(tree: Any) -> dict[str, np.ndarray]:
    # on a CPU, NumPy's view of a device array is its own memory, which the next step overwrites
    return {name: np.array(value, copy=True) for name, value in flatten_arrays(tree).items()}


def _metric(metrics: Mapping[str, float]) -> float:
    return metrics["metric"]
