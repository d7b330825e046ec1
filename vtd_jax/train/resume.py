"""What a checkpoint says beside its arrays, and going on from one."""

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, NotRequired, TypedDict

import jax
import numpy as np
from msgspec import Meta

from vtd_jax.errors import UserError, setting
from vtd_jax.fingerprints import same
from vtd_jax.train.batches import StoredBatches
from vtd_jax.train.checkpoints.checkpoint import Checkpoints
from vtd_jax.train.checkpoints.stored_checkpoints import same_names
from vtd_jax.train.config import RunConfig
from vtd_jax.train.trainer import TrainState
from vtd_jax.trees import unflatten_arrays
from vtd_jax.untrusted.json_text import Count, convert
from vtd_jax.video.pipeline import BatchIterator
from vtd_jax.video.records import Records

_IDENTITY = {
    "clip": "CLIP weights",
    "names": "class names",
    "clip_settings": "CLIP settings",
    "settings": "settings of the run",
}


class _Best(TypedDict):
    value: float
    step: Count


class _Batches(TypedDict):
    batch: Count
    data: dict[str, Any]


class _RandomKey(TypedDict):
    impl: str
    data: Annotated[list[Annotated[int, Meta(ge=0, le=2**32 - 1)]], Meta(max_length=16)]


class _Written(TypedDict):
    """What a run needs of a checkpoint's progress."""

    key: _RandomKey
    clip: str
    names: str
    batches: _Batches
    evaluated: bool
    best: _Best | None
    skipped: Count
    in_a_row: Count
    splits: NotRequired[dict[str, str]]


class Best(NamedTuple):
    """The highest metric so far, and the step that had it."""

    value: float
    step: int

    @classmethod
    def of(cls, best: "Best | None", metric: float | None, step: int) -> "Best | None":
        """The better one of `best` and the metric of a later step; of equals the later one."""
        if metric is None or (best is not None and metric < best.value):
            return best
        return cls(metric, step)


class Progress(NamedTuple):
    """How far a run is, beside its arrays.

    Attributes:
      batches: the input iterator's state.
      evaluated: whether this step was evaluated.
      best: None before the first evaluation.
      skipped, in_a_row: skipped updates, of the whole run and at its end.
      splits: fingerprint of the records of every split that is evaluated.
    """

    batches: Mapping[str, Any]
    evaluated: bool = False
    best: Best | None = None
    skipped: int = 0
    in_a_row: int = 0
    splits: Mapping[str, str] = MappingProxyType({})


def to_json(progress: Progress, state: TrainState, identity: Mapping[str, Any]) -> dict[str, Any]:
    """The `progress` item of a checkpoint; `identity` has fingerprints of what must be the same
    when it goes on.

    It may have more beside them, such as what was learnt on.
    """
    best = None if progress.best is None else progress.best._asdict()
    key = {"impl": str(jax.config.jax_default_prng_impl), "data": np.asarray(state.key).tolist()}
    told = progress._asdict() | {"best": best, "splits": dict(progress.splits)}
    return {"step": state.step, "key": key, **identity, **told}


class Found(NamedTuple):
    """A checkpoint to go on from, as it was read.

    Attributes:
      step: of the last whole checkpoint.
      learnable, optimizer: its arrays by name.
      progress: its JSON part.
      metric: what it was found to be worth; None where it was not evaluated.
      damaged: what is wrong with later ones, by step.
      rows: of metrics.csv up to this step, as far as the checkpoint says.
    """

    step: int
    learnable: dict[str, np.ndarray]
    optimizer: dict[str, np.ndarray]
    progress: dict[str, Any]
    metric: float | None
    damaged: dict[int, str]
    rows: int = 0


def settings_fingerprint(config: RunConfig) -> str:
    """The fingerprint of all settings that a continuation may not change."""
    once = dataclasses.replace(config.optimizer, epochs=1)
    view = dataclasses.replace(config.evaluate, temporal_views=1, spatial_views=1)
    return dataclasses.replace(config, optimizer=once, evaluate=view).fingerprint


def same_settings(noted: str, here: str) -> bool:
    """Whether a checkpoint's fingerprint of settings, which earlier versions cut to twelve digits,
    is this one.
    """
    return same(noted, here, least=12)


def find(
    checkpoints: Checkpoints, identity: Mapping[str, str], legacy_clip: Callable[[], str]
) -> Found | None:
    """The last whole checkpoint, or None where there are none at all; changes nothing.

    Args:
      checkpoints: of the run.
      identity: as given to `to_json`; what is not in it may differ. Of other settings are only
        checkpoints beside some of these settings.
      legacy_clip: computes the fingerprint of CLIP's weights as earlier versions noted it.

    Raises:
      UserError: none is whole, or all are another run's: of another CLIP or of other names.
    """
    if not checkpoints.steps:
        return None
    try:
        step, wrong = checkpoints.last_intact(
            lambda stored: _other(stored.progress, identity, legacy_clip)
        )
    except UserError:
        if "settings" not in identity:
            raise
        # settings that were changed with --override_config, and no checkpoint since: the others
        # decide
        others = {key: here for key, here in identity.items() if key != "settings"}
        return find(checkpoints, others, legacy_clip)
    there = checkpoints.stored(step)
    convert(there.progress, f"{checkpoints.folder / str(step)}: progress", _Written)
    return Found(
        step,
        there.learnable,
        there.optimizer,
        there.progress,
        checkpoints.metric(step),
        wrong,
        checkpoints.rows(step),
    )


def _other(
    there: Mapping[str, Any], identity: Mapping[str, str], legacy_clip: Callable[[], str]
) -> str:
    """Why a checkpoint is not of this run; "" where it is."""
    is_same = {
        "clip": functools.partial(same, legacy=legacy_clip),
        "names": same_names,
        "settings": same_settings,
    }
    for key, here in identity.items():
        # some came later: checkpoints of before them do not have them
        if key in there and not is_same.get(key, operator.eq)(there[key], here):
            mark = "" if key == "clip_settings" else "fingerprint "
            return (
                f"another run's checkpoint, the {_IDENTITY[key]} differ ({mark}{there[key]}; here "
                f"{here})"
            )
    return ""


def restore(
    found: Found,
    start: TrainState,
    batches: BatchIterator | StoredBatches,
    splits: Mapping[str, Records],
    where: str,
    override: bool,
) -> tuple[TrainState, Progress]:
    """The state that a checkpoint holds, and what is known beside it.

    Args:
      found: the checkpoint.
      start: the run's state at step 0, for names and shapes.
      batches: set to what follows the last batch that the checkpoint saw.
      splits: what is evaluated.
      where: the checkpoint's folder, for messages.
      override: settings may have changed: the data go on at the same batch number, the key is this
        config's.

    Raises:
      UserError: it is of other settings or other records.
    """
    there = found.progress
    state = TrainState(
        found.step,
        unflatten_arrays(start.learnable, found.learnable, f"{where}: learnable"),
        unflatten_arrays(start.opt_state, found.optimizer, f"{where}: optimizer"),
        start.key if override else _key(there["key"], start.key, where),
    )
    if override:
        batches.set_state(batches.get_state() | {"batch": there["batches"]["batch"]})
    else:
        _set_batches(batches, there["batches"])
        _check_splits(there.get("splits", {}), splits, where)
    best = Best(**there["best"]) if there["best"] else None
    return state, Progress(
        there["batches"], there["evaluated"], best, there["skipped"], there["in_a_row"]
    )


def fingerprints(splits: Mapping[str, Records]) -> dict[str, str]:
    """The fingerprint of the records of every split."""
    return {split: records.info["fingerprint"] for split, records in splits.items()}


def _check_splits(stored: Mapping[str, str], splits: Mapping[str, Records], where: str) -> None:
    """Refuses other records than were evaluated so far; checkpoints of earlier versions have no
    fingerprints.
    """
    for split, here in fingerprints(splits).items():
        there = stored.get(split, here)
        if not same(there, here):
            raise UserError(
                f"{where}: data.evaluate.{split}: the records of {splits[split].name} were "
                f"replaced (fingerprint was {there[:12]}, is {here[:12]}), so accuracies before "
                "and after cannot be compared; "
                f"{setting('override')} goes on with the new ones"
            )


def _set_batches(batches: BatchIterator | StoredBatches, state: dict) -> None:
    try:
        batches.set_state(state)
    except UserError as error:
        raise UserError(f"{error}; {setting('override')} goes on with the new ones") from None


def _key(stored: Mapping[str, Any], start: np.ndarray, where: str) -> np.ndarray:
    here = str(jax.config.jax_default_prng_impl)
    if stored["impl"] != here:
        raise UserError(
            f"jax_default_prng_impl: {here}, but the run drew its random numbers with "
            f"{stored['impl']}; set JAX_DEFAULT_PRNG_IMPL={stored['impl']} to go on"
        )
    if len(stored["data"]) != len(start):
        raise UserError(
            f"{where}: a random key of {len(stored['data'])} numbers, expected {len(start)}"
        )
    return np.asarray(stored["data"], np.uint32)
