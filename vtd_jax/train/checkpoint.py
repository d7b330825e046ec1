"""Checkpoints of what is learnable, with all that a run needs to go on exactly where it was (orbax)."""

import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx
from orbax.checkpoint import checkpoint_managers as managers

from vtd_jax.errors import UserError

_FOLDER = "checkpoints"


class Checkpoints:
    """The checkpoints under `workdir/checkpoints`, one folder a step.

    Each holds `learnable` and `optimizer` (flat: dotted path -> array) and `progress` (JSON). A checkpoint is
    written beside its place and renamed when whole. Kept are the last `keep` and the one with the highest metric.
    Frozen weights are not in them, so a checkpoint of a ViT-B/16 run has a few MB instead of 600.
    """

    def __init__(self, workdir: Path, keep: int = 2):
        self.folder = Path(workdir) / _FOLDER
        keep_best = managers.BestN(get_metric_fn=_metric, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            best_fn=_metric,
            preservation_policy=managers.AnyPreservationPolicy([managers.LatestN(keep), keep_best]),
            enable_async_checkpointing=False,
            create=False,
        )
        self._options = options
        self._manager: ocp.CheckpointManager | None = None

    @property
    def steps(self) -> list[int]:
        """Steps with a whole checkpoint, ascending."""
        return sorted(self._open().all_steps()) if self.folder.is_dir() else []

    def choose(self, which: str) -> int:
        """The step that "last", "best" or a number names.

        Raises:
          UserError: there is none.
        """
        steps = self.steps
        if not steps:
            raise UserError(
                f"{self.folder}: no checkpoints there; train first, or give the workdir of a run that has some"
            )
        if which == "last":
            return steps[-1]
        if which == "best":
            best = self._open().best_step()
            if best is None:
                raise UserError(f"{self.folder}: no checkpoint was evaluated yet, use --checkpoint=last")
            return best
        if which.isdigit() and int(which) in steps:
            return int(which)
        raise UserError(f"--checkpoint={which}: expected last, best or one of the steps {steps} of {self.folder}")

    def save(
        self,
        step: int,
        learnable: Any,
        opt_state: Any,
        progress: Mapping[str, Any],
        metric: float | None = None,
    ) -> None:
        """Writes one checkpoint; `metric` (higher is better) is what "best" goes by."""
        self.folder.mkdir(parents=True, exist_ok=True)
        items = ocp.args.Composite(
            learnable=ocp.args.StandardSave(flatten_arrays(learnable)),
            optimizer=ocp.args.StandardSave(flatten_arrays(opt_state)),
            progress=ocp.args.JsonSave(dict(progress)),
        )
        metrics = None if metric is None else {"metric": float(metric)}
        self._open().save(step, args=items, metrics=metrics, force=True)

    def progress(self, step: int) -> dict[str, Any]:
        """The JSON part of one checkpoint."""
        return self._restore(step, progress=ocp.args.JsonRestore())["progress"]

    def learnable(self, step: int, template: Any) -> Any:
        """The learnable variables of one checkpoint, in the structure of `template`."""
        found = self._restore(step, learnable=ocp.args.StandardRestore())["learnable"]
        return unflatten_arrays(template, found, f"{self.folder / str(step)}: learnable")

    def optimizer(self, step: int, template: Any) -> Any:
        """The optimizer's state of one checkpoint, in the structure of `template`."""
        found = self._restore(step, optimizer=ocp.args.StandardRestore())["optimizer"]
        return unflatten_arrays(template, found, f"{self.folder / str(step)}: optimizer")

    def close(self) -> None:
        """Waits for what is being written."""
        if self._manager is not None:
            self._manager.close()

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            self._manager = ocp.CheckpointManager(
                self.folder.resolve(),
                options=self._options,
                item_names=("learnable", "optimizer", "progress"),
            )
        return self._manager

    def _restore(self, step: int, **items: Any) -> Mapping[str, Any]:
        try:
            return self._open().restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # orbax and tensorstore raise whatever a damaged file provokes
            raise UserError(
                f"{self.folder / str(step)}: cannot be read ({type(error).__name__}: {str(error)[:200]}); "
                "remove this folder to fall back to the checkpoint before it"
            ) from error


def flatten_arrays(tree: Any) -> dict[str, np.ndarray]:
    """A tree of arrays as dotted path -> NumPy array."""
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(tree))
    # nnx wraps every array in a variable, whose attribute is no part of the name
    names = [jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value") for path, _ in leaves]
    return {name: np.asarray(leaf) for name, (_, leaf) in zip(names, leaves)}


def unflatten_arrays(template: Any, arrays: Mapping[str, Any], where: str) -> Any:
    """The inverse of `flatten_arrays`, in the structure of `template`.

    Raises:
      UserError: names or shapes that are not the template's: the checkpoint is of a run with other settings.
    """
    expected = flatten_arrays(template)
    wrong = sorted(set(expected) ^ set(arrays))
    wrong += [
        f"{key} {np.shape(arrays[key])} instead of {value.shape}"
        for key, value in expected.items()
        if key in arrays and np.shape(arrays[key]) != value.shape
    ]
    if wrong:
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise UserError(f"{where}: another run's checkpoint, these arrays differ: {', '.join(wrong[:4])}{more}")
    leaves = [np.asarray(arrays[key]).astype(value.dtype, copy=False) for key, value in expected.items()]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def clip_fingerprint(frozen: nnx.State) -> str:
    """Eight hex digits of the frozen weights: two CLIPs of one architecture are told apart by it."""
    digest = 0
    for leaf in jax.tree.leaves(frozen):
        digest = zlib.crc32(np.ascontiguousarray(jax.device_get(leaf)).tobytes(), digest)
    return f"{digest:08x}"


def names_fingerprint(names: tuple[str, ...]) -> str:
    """Eight hex digits of class names in their order."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]


def _metric(metrics: Mapping[str, float]) -> float:
    return metrics["metric"]
