"""What a checkpoint says beside its arrays, and going on from one."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from vtd_jax.errors import UserError
from vtd_jax.train.checkpoint import Checkpoints
from vtd_jax.train.state import TrainState
from vtd_jax.video.pipeline import BatchIterator

_IDENTITY = {"clip": "CLIP weights", "names": "class names"}


class Best(NamedTuple):
    """The highest metric so far, and the step that had it."""

    value: float
    step: int


class Progress(NamedTuple):
    """How far a run is, beside its arrays.

    Attributes:
      batches: the input iterator's state.
      evaluated: whether this step was evaluated.
      best: None before the first evaluation.
      skipped, in_a_row: skipped updates, of the whole run and at its end.
    """

    batches: Mapping[str, Any]
    evaluated: bool = False
    best: Best | None = None
    skipped: int = 0
    in_a_row: int = 0


def to_json(progress: Progress, state: TrainState, identity: Mapping[str, str]) -> dict[str, Any]:
    """The `progress` item of a checkpoint; `identity` has fingerprints of what must be the same when it goes on."""
    best = None if progress.best is None else progress.best._asdict()
    key = {"impl": str(jax.config.jax_default_prng_impl), "data": np.asarray(state.key).tolist()}
    return {"step": state.step, "key": key, **identity, **progress._asdict(), "best": best}


def restore(
    checkpoints: Checkpoints, start: TrainState, batches: BatchIterator, identity: Mapping[str, str], override: bool
) -> tuple[TrainState, Progress]:
    """The state of the last whole checkpoint; later ones, which are damaged, are moved out of the way and told.

    Args:
      checkpoints: of the run, at least one.
      start: the run's state at step 0, for names and shapes.
      batches: set to what follows the last batch that the checkpoint saw.
      identity: as given to `to_json`.
      override: settings may have changed: the data go on at the same batch number, the key is this config's.

    Raises:
      UserError: none is whole, or it is of another CLIP, of other names or settings; nothing is moved then.
    """
    step, wrong = checkpoints.last_whole()
    there = checkpoints.progress(step)
    for key, told in _IDENTITY.items():
        if there[key] != identity[key]:
            raise UserError(
                f"{checkpoints.folder / str(step)}: another run's checkpoint, the {told} differ "
                f"(fingerprint {there[key]}, here {identity[key]})"
            )
    learnable = checkpoints.learnable(step, start.learnable)
    state = TrainState(
        step, learnable, checkpoints.optimizer(step, start.opt_state), start.key if override else _key(there["key"])
    )
    if override:
        batches.set_state(batches.get_state() | {"batch": there["batches"]["batch"]})
    else:
        _set_batches(batches, there["batches"])
    checkpoints.set_aside(wrong, step)
    best = Best(**there["best"]) if there["best"] else None
    return state, Progress(there["batches"], there["evaluated"], best, there["skipped"], there["in_a_row"])


def _set_batches(batches: BatchIterator, state: dict) -> None:
    try:
        batches.set_state(state)
    except UserError as error:
        raise UserError(f"{error}; --override_config goes on with the new ones") from None


def _key(stored: Mapping[str, Any]) -> np.ndarray:
    here = str(jax.config.jax_default_prng_impl)
    if stored["impl"] != here:
        raise UserError(
            f"jax_default_prng_impl: {here}, but the run drew its random numbers with {stored['impl']}; "
            f"set JAX_DEFAULT_PRNG_IMPL={stored['impl']} to go on"
        )
    return np.asarray(stored["data"], np.uint32)
