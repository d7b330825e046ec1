"""Checkpoints of what is learnable, with all that a run needs to go on exactly where it was
(orbax).
"""

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
from vtd_jax.train.place import Place, names_in, remove_remains
from vtd_jax.trees import flatten_arrays
from vtd_jax.untrusted.limits import CHECKPOINT_BYTES

_ASIDE = "damaged"
# old checkpoints leave under this name, at once, and are deleted there: no half of one is ever
# among the whole
_LEAVING = "leaving"


class Checkpoints(StoredCheckpoints):
    """The checkpoints under `workdir/checkpoints`, one folder a step, of a run that writes them.

    Each holds `learnable` and `optimizer` (flat: dotted path -> array) and `progress` (JSON) with a
    digest over all three, which every reading checks. A checkpoint is written in the background,
    beside its place, and renamed when whole. Kept are the last `keep` and the one with the highest
    metric. Frozen weights are not in them, so a checkpoint of a ViT-B/16 run has a few MB instead
    of 600.

    Reading changes nothing in the folder; the first `save` removes what a killed run left of an
    unfinished one.
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
        self._place: Place | None = None
        # what was in the workdir, and the checkpoints, when the one that is being written began
        self._before: tuple[set[str], set[int]] = set(), set()

    @property
    def steps(self) -> list[int]:
        """Steps with a checkpoint, ascending; waits for the one that is being written."""
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
        """Writes one checkpoint in the background.

        Everything is copied first: the arrays may be changed or given away as soon as this returns.

        Args:
          step: micro-batches done.
          learnable, opt_state: trees of arrays.
          progress: all else that the run needs to go on; gets the step.
          metric: what "best" goes by, higher is better; None where it was not evaluated.
          rows: of metrics.csv up to this step; None where nobody counts them.

        Raises:
          UserError: the checkpoint before could not be written, this one would be too large to be
            read again, or the workdir is no longer there.
        """
        self.wait()
        if self._place is None:
            self.workdir.mkdir(parents=True, exist_ok=True)
            self._place = Place(self.workdir)
        # from here on a workdir that goes is not made again
        self._place.check()
        self.folder.mkdir(exist_ok=True)
        self._make_way(step)
        metric = float(metric) if metric is not None and math.isfinite(metric) else None
        noted = {"metric": metric} | ({} if rows is None else {"rows": rows})
        stored = Stored(
            _copied(learnable), _copied(opt_state), dict(progress) | {"step": step}, noted
        )
        size = sum(
            array.nbytes for item in (stored.learnable, stored.optimizer) for array in item.values()
        )
        if size > CHECKPOINT_BYTES:
            raise UserError(
                f"{self.folder / str(step)}: would have {size:,} bytes, and no checkpoint of more "
                f"than {CHECKPOINT_BYTES:,} is read again; learn less (fewer prompts)"
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
        """Until the checkpoint that is being written is whole.

        Raises:
          UserError: it could not be written, or the workdir went meanwhile.
        """
        if self._writing is None:
            return
        try:
            self._manager.wait_until_finished()
        except (
            Exception
        ) as error:  # whatever the file system answers, through orbax and tensorstore
            raise self._unwritten(error) from error
        self._check_place()
        self._writing = None
        remove_tree(self.folder / _LEAVING, must=False)

    def stored(self, step: int) -> Stored:
        """As `StoredCheckpoints.stored`; waits for the one that is being written."""
        self.wait()
        return super().stored(step)

    def add_metric(self, step: int, metric: float, rows: int | None = None) -> None:
        """Notes what a checkpoint was found to be worth after it was written; before the first
        `save` only.
        """
        if self._manager is not None:
            raise RuntimeError("orbax has read the metrics already")
        stored = self.stored(step)
        noted = (
            dict(stored.noted)
            | {"metric": float(metric)}
            | ({} if rows is None else {"rows": rows})
        )
        self._read = {step: stored._replace(noted=noted)}
        integrity.write_progress(self.folder / str(step), self._read[step])

    def set_aside(self, wrong: Mapping[int, str], last: int) -> None:
        """Moves damaged checkpoints, and another run's, out of the way, each with a warning; `last`
        is resumed from.
        """
        for step, why in wrong.items():
            place = self._move_aside(str(step))
            warn(
                f"{self.folder / str(step)}: {why}; moved to {place}; going on from the "
                f"checkpoint of step {last}"
            )

    def close(self) -> None:
        """Waits for what is being written.

        Raises:
          UserError: it could not be written.
        """
        self.wait()
        if self._manager is not None:
            # what could not be written was raised above, and orbax raises it again
            with contextlib.suppress(Exception):
                self._manager.close()
            self._manager = None

    def _steps(self) -> list[int]:
        return integrity.steps_in(self.folder)

    def _move_aside(self, name: str) -> Path:
        aside = self.workdir / _ASIDE
        if aside.is_symlink():
            raise UserError(
                f"{aside}: a link in the place of the folder for damaged checkpoints; remove it"
            )
        aside.mkdir(exist_ok=True)
        place, number = aside / name, 1
        while os.path.lexists(place):
            number += 1
            place = aside / f"{name}_{number}"
        (self.folder / name).rename(place)
        return place

    def _make_way(self, step: int) -> None:
        """Moves what is no folder out of the place of the checkpoint that is to be written."""
        place = self.folder / str(step)
        if os.path.lexists(place) and not place.is_dir():
            warn(
                f"{place}: no folder, in the place of a checkpoint; moved to "
                f"{self._move_aside(str(step))}"
            )

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

    def _check_place(self, failed: bool = False) -> None:
        """Raises, and waits no more for the checkpoint, where the workdir went while it was
        written.
        """
        step = self._writing
        try:
            self._place.check()
            names, steps = self._before
            # removing a folder fails where somebody writes into it: it stays, and what was in it
            # before is gone
            if (names and not names & names_in(self.workdir)) or (
                failed and steps and not steps & set(self._steps())
            ):
                raise self._place.lost()
        except (UserError, OSError):
            self._writing = None
            # orbax makes the folders above what it writes
            remove_remains(self.folder, {str(step), _LEAVING})
            self._place.check()
            raise

    def _unwritten(self, error: Exception) -> UserError:
        try:
            self._check_place(failed=True)
        except UserError as lost:
            return lost
        step, self._writing = self._writing, None
        before = max((other for other in self._steps() if other != step), default=None)
        told = "there is none before it" if before is None else f"the last one is of step {before}"
        return UserError(
            f"{self.folder / str(step)}: this checkpoint could not be written ({reason(error)}); "
            f"{told}; see to space and permissions, then run the same command again"
        )


def _copied(tree: Any) -> dict[str, np.ndarray]:
    # on a CPU, what NumPy sees of a device's array is its memory, which the next step writes over
    return {name: np.array(value, copy=True) for name, value in flatten_arrays(tree).items()}


def _metric(metrics: Mapping[str, float]) -> float:
    return metrics["metric"]
