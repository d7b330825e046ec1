"""The progress item of a checkpoint, and resuming from it."""

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, NotRequired, Protocol, TypedDict, runtime_checkable

import jax
import numpy as np
from msgspec import Meta

from vtd_jax.errors import UserError, setting
from vtd_jax.fingerprints import same
from vtd_jax.train.checkpoints.checkpoint import Checkpoints
from vtd_jax.train.checkpoints.integrity import Stored
from vtd_jax.train.checkpoints.stored_checkpoints import same_names
from vtd_jax.train.config import RunConfig
from vtd_jax.train.trainer import TrainState
from vtd_jax.trees import unflatten_arrays
from vtd_jax.untrusted.json_text import Count, convert
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
    """The fields of a checkpoint's progress that a run needs."""

    key: _RandomKey
    clip: str
    names: str
    batches: _Batches
    evaluated: bool
    best: _Best | None
    skipped: Count
    in_a_row: Count
    splits: NotRequired[dict[str, str]]


@runtime_checkable
class Resumable(Protocol):
    """Batches that continue where they were. Those of the pipeline are not imported here: they need
    an extra, and a model that was learnt is read without it.
    """

    def get_state(self) -> dict[str, Any]:
        """What `set_state` takes to continue at the next batch."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues at a batch."""
        ...


class Best(NamedTuple):
    """The highest metric so far, and the step that had it."""

    value: float
    step: int

    @classmethod
    def of(cls, best: "Best | None", metric: float | None, step: int) -> "Best | None":
        """The better of `best` and the metric of a later step; the later one if they are equal."""
        if metric is None or (best is not None and metric < best.value):
            return best
        return cls(metric, step)


class Progress(NamedTuple):
    """The progress of a run, without its arrays.

    Attributes:
      batches: the state of the input iterator.
      evaluated: whether this step was evaluated.
      best: None before the first evaluation.
      skipped, in_a_row: skipped updates of the whole run, and the last ones without a gap.
      splits: the fingerprint of every split's records.
    """

    batches: Mapping[str, Any]
    evaluated: bool = False
    best: Best | None = None
    skipped: int = 0
    in_a_row: int = 0
    splits: Mapping[str, str] = MappingProxyType({})


def to_json(progress: Progress, state: TrainState, identity: Mapping[str, Any]) -> dict[str, Any]:
    """The `progress` item of a checkpoint.

    Args:
      progress: of the run.
      state: its step and random key.
      identity: fingerprints that must be the same on resume, and other facts such as `learnt_on`.
    """
    best = None if progress.best is None else progress.best._asdict()
    key = {"impl": _prng_impl(), "data": np.asarray(state.key).tolist()}
    fields = progress._asdict() | {"best": best, "splits": dict(progress.splits)}
    return {"step": state.step, "key": key, **identity, **fields}


class Found(NamedTuple):
    """A checkpoint to resume from.

    Attributes:
      step: of the last intact checkpoint.
      stored: its contents.
      metric: None if it was not evaluated.
      damaged: what is wrong with later checkpoints, by step.
      rows: of metrics.csv up to this step, 0 if unknown.
    """

    step: int
    stored: Stored
    metric: float | None
    damaged: dict[int, str]
    rows: int = 0


def settings_fingerprint(config: RunConfig) -> str:
    """The fingerprint of all settings that must not change on resume."""
    # scores depend on epochs and views, but a run may resume with others
    once = dataclasses.replace(config.optimizer, epochs=1)
    view = dataclasses.replace(config.evaluate, temporal_views=1, spatial_views=1)
    return dataclasses.replace(config, optimizer=once, evaluate=view).fingerprint


def same_settings(noted: str, here: str) -> bool:
    """Compares a checkpoint's fingerprint of settings, which earlier versions cut to 12 digits."""
    return same(noted, here, least=12)


def find(
    checkpoints: Checkpoints, identity: Mapping[str, str], legacy_clip: Callable[[], str]
) -> Found | None:
    """The last intact checkpoint, or None if there are no checkpoints; changes nothing.

    Args:
      checkpoints: of the run.
      identity: as for `to_json`; other fields may differ. Checkpoints with other settings are used
        only if none has these settings.
      legacy_clip: computes the fingerprint of CLIP's weights as earlier versions did.

    Raises:
      UserError: none is intact, or all are of another CLIP or of other class names.
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
        # settings were overridden, with no checkpoint since: the other fields decide
        others = {key: here for key, here in identity.items() if key != "settings"}
        return find(checkpoints, others, legacy_clip)
    stored = checkpoints.stored(step)
    convert(stored.progress, f"{checkpoints.folder / str(step)}: progress", _Written)
    # `on_first` pickles it, which a mapping proxy does not allow
    stored = stored._replace(noted=dict(stored.noted))
    return Found(step, stored, checkpoints.metric(step), wrong, checkpoints.rows(step))


def _other(
    progress: Mapping[str, Any], identity: Mapping[str, str], legacy_clip: Callable[[], str]
) -> str:
    """Why a checkpoint is another run's; "" if it is this run's."""
    is_same = {
        "clip": functools.partial(same, legacy=legacy_clip),
        "names": same_names,
        "settings": same_settings,
    }
    for key, here in identity.items():
        # checkpoints of earlier versions lack some
        if key in progress and not is_same.get(key, operator.eq)(progress[key], here):
            kind = "" if key == "clip_settings" else "fingerprint "
            differ = f"the {_IDENTITY[key]} differ ({kind}{progress[key]}; here {here})"
            return f"another run's checkpoint, {differ}"
    return ""


def restore(
    found: Found,
    start: TrainState,
    batches: Resumable,
    splits: Mapping[str, Records],
    where: str,
    override: bool,
) -> TrainState:
    """The state in a checkpoint.

    Args:
      found: the checkpoint.
      start: the run's state at step 0, for names and shapes.
      batches: set to the batch after the checkpoint.
      splits: the records that are evaluated.
      where: the checkpoint's folder, for messages.
      override: settings may have changed: the data continue at the same batch number, with the
        random key of this config.

    Raises:
      UserError: it is of other settings or other records.
    """
    stored, saved = found.stored, found.stored.progress
    state = TrainState(
        found.step,
        unflatten_arrays(start.learnable, stored.learnable, f"{where}: learnable"),
        unflatten_arrays(start.opt_state, stored.optimizer, f"{where}: optimizer"),
        start.key if override else _key(saved["key"], len(start.key), where),
    )
    if override:
        batches.set_state(batches.get_state() | {"batch": saved["batches"]["batch"]})
    else:
        _set_batches(batches, saved["batches"])
        _check_splits(saved.get("splits", {}), splits, where)
    return state


def fingerprints(splits: Mapping[str, Records]) -> dict[str, str]:
    """The fingerprint of every split's records."""
    return {split: records.info["fingerprint"] for split, records in splits.items()}


def _check_splits(stored: Mapping[str, str], splits: Mapping[str, Records], where: str) -> None:
    """Checks that the records to evaluate are the same; earlier versions stored no fingerprints."""
    for split, here in fingerprints(splits).items():
        before = stored.get(split, here)
        if not same(before, here):
            raise UserError(
                f"{where}: data.evaluate.{split}: the records of {splits[split].name} were "
                f"replaced (fingerprint was {before[:12]}, is {here[:12]}), so accuracies before "
                f"and after cannot be compared; {setting('override')} resumes with the new ones"
            )


def _set_batches(batches: Resumable, state: dict) -> None:
    try:
        batches.set_state(state)
    except UserError as error:
        raise UserError(f"{error}; {setting('override')} resumes with the new ones") from None


def _key(stored: Mapping[str, Any], size: int, where: str) -> np.ndarray:
    if stored["impl"] != _prng_impl():
        raise UserError(
            f"jax_default_prng_impl: {_prng_impl()}, but the run drew its random numbers with "
            f"{stored['impl']}; set JAX_DEFAULT_PRNG_IMPL={stored['impl']} to resume"
        )
    if len(stored["data"]) != size:
        raise UserError(f"{where}: a random key of {len(stored['data'])} numbers, expected {size}")
    return np.asarray(stored["data"], np.uint32)


def _prng_impl() -> str:
    return str(jax.config.jax_default_prng_impl)
