"""Reads checkpoints and checks them against the digest of everything that was written.

The digest is in the checkpoint's own JSON: orbax renames arrays and JSON as one folder, which a
manifest beside it would not follow.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypedDict

import numpy as np

from vtd_jax.errors import UserError
from vtd_jax.files import write_text
from vtd_jax.fingerprints import fingerprint_all, same
from vtd_jax.train.checkpoints.stored_arrays import check_folder, read_arrays
from vtd_jax.untrusted.json_text import Count, convert, parse_json, read_json
from vtd_jax.untrusted.limits import CHECKPOINT_BYTES, SMALL_JSON_BYTES

# the items of a checkpoint; "metrics" is orbax's own and may be missing
LEARNABLE, OPTIMIZER, PROGRESS, METRICS = "learnable", "optimizer", "progress", "metrics"
# orbax's name of the file of an item that is JSON
_JSON = "metadata"
_DIGEST, _NOTED = "digest", "noted"
_STEP = re.compile(r"0|[1-9][0-9]{0,15}")


class Damaged(Exception):
    """A checkpoint is incomplete, unreadable or not what was written; the message says which."""


class Noted(TypedDict, total=False):
    """Facts that may differ between runs with equal results, such as one that was interrupted.

    Attributes:
      metric: decides which checkpoint is best, higher is better; None if it was not evaluated.
      rows: of metrics.csv up to this step.
    """

    metric: float | None
    rows: Count


class Stored(NamedTuple):
    """The contents of a checkpoint.

    Attributes:
      learnable, optimizer: flat arrays by dotted path.
      progress: the JSON beside them.
      noted: see `Noted`; written and sealed with them, but not part of `digest`.
    """

    learnable: dict[str, np.ndarray]
    optimizer: dict[str, np.ndarray]
    progress: dict[str, Any]
    noted: Mapping[str, Any] = MappingProxyType({})


class _Metric(TypedDict):
    metric: float


class _Progress(TypedDict, total=False):
    """The fields that are read here; `train.resume` checks the others."""

    step: Count
    digest: str
    noted: Noted


def step_of(name: str) -> int | None:
    """The step in the name of a checkpoint's folder; None for any other name."""
    return int(name) if _STEP.fullmatch(name) else None


def steps_in(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder, ascending."""
    # an unfinished checkpoint has another name: orbax renames it when it is complete
    paths = list(folder.iterdir()) if folder.is_dir() else []
    return sorted(
        step for path in paths if (step := step_of(path.name)) is not None and path.is_dir()
    )


def digest(stored: Stored) -> str:
    """The fingerprint of all arrays and of the JSON in any order, without `noted`.

    Runs with equal results have equal digests.
    """
    return _digest(stored, _bare_progress(stored))


def sealed(stored: Stored) -> Stored:
    """The same with progress as it is written: with `noted`, and a digest over everything."""
    progress = _bare_progress(stored)
    if stored.noted:
        progress[_NOTED] = dict(stored.noted)
    # through JSON, because reading it back gives lists where there were tuples
    progress = parse_json(json.dumps(progress), PROGRESS)
    return stored._replace(progress=progress | {_DIGEST: _digest(stored, progress)})


def _bare_progress(stored: Stored) -> dict[str, Any]:
    return {key: value for key, value in stored.progress.items() if key not in (_DIGEST, _NOTED)}


def read(folder: Path) -> Stored:
    """Everything in a checkpoint's folder, checked; `progress` without the digest.

    Raises:
      Damaged: something is missing, unreadable or changed, or it is the checkpoint of another step.
    """
    for item in (LEARNABLE, OPTIMIZER, PROGRESS):
        if not (folder / item).is_dir():
            raise Damaged(f"{item} is missing")
    progress = _read_progress(folder)
    arrays, room = {}, CHECKPOINT_BYTES
    for item in (LEARNABLE, OPTIMIZER):
        try:
            arrays[item] = read_arrays(folder / item, room)
        except Exception as error:  # TensorStore raises whatever a damaged file provokes
            raise _unreadable(item, error) from error
        room -= sum(array.nbytes for array in arrays[item].values())
    stored = Stored(arrays[LEARNABLE], arrays[OPTIMIZER], progress)
    written = progress.pop(_DIGEST)
    if not same(written, _digest(stored, progress)):
        raise Damaged("its contents are not those that were written (the digest differs)")
    noted = progress.pop(_NOTED, {})
    return stored._replace(noted=noted | {"metric": _metric(folder, noted)})


def is_whole(folder: Path) -> bool:
    """Whether `read` finds nothing wrong with a checkpoint."""
    try:
        read(folder)
    except Damaged:
        return False
    return True


def read_metric(folder: Path) -> float | None:
    """The metric of a checkpoint, or None; reads no arrays and checks no digest.

    Raises:
      Damaged: it is unreadable.
    """
    if not (folder / PROGRESS).is_dir():
        return None
    return _metric(folder, _read_progress(folder).get(_NOTED, {}))


def write_progress(folder: Path, stored: Stored) -> None:
    """Replaces the progress of a checkpoint, for a later `noted`, and orbax's metric beside it."""
    write_text(folder / PROGRESS / _JSON, json.dumps(sealed(stored).progress))
    # orbax's own file may be missing, but must not differ: it is written second
    metric = stored.noted.get("metric")
    if metric is not None:
        (folder / METRICS).mkdir(exist_ok=True)
        write_text(folder / METRICS / METRICS, json.dumps({"metric": metric}))


def _read_progress(folder: Path) -> dict[str, Any]:
    try:
        check_folder(folder / PROGRESS)
        progress = read_json(folder / PROGRESS / _JSON, dict[str, Any], most=SMALL_JSON_BYTES)
        convert(progress, _JSON, _Progress)
    except (OSError, UserError) as error:
        raise _unreadable(PROGRESS, error) from error
    if _DIGEST not in progress:
        raise Damaged(f"{PROGRESS} has no digest")
    step = step_of(folder.name)
    if step is not None and progress.get("step") != step:
        raise Damaged(f"it is the checkpoint of step {progress.get('step')}, under another name")
    return progress


def _metric(folder: Path, noted: Mapping[str, Any]) -> float | None:
    """The sealed metric, which orbax's own file must not contradict; older checkpoints have only
    that file.
    """
    file, of_orbax = folder / METRICS / METRICS, None
    try:
        if file.exists():
            of_orbax = read_json(file, _Metric, most=SMALL_JSON_BYTES)["metric"]
    except (OSError, UserError) as error:
        raise _unreadable(METRICS, error) from error
    if "metric" not in noted:
        return of_orbax
    if of_orbax not in (None, noted["metric"]):
        raise Damaged(f"{METRICS} says {of_orbax}, and {noted['metric']} was written")
    return noted["metric"]


def _digest(stored: Stored, progress: dict[str, Any]) -> str:
    def parts() -> Iterator[Any]:
        for item in (stored.learnable, stored.optimizer):
            for name in sorted(item):
                yield from (f"{name} ", item[name])
            yield "\n"
        yield progress

    return fingerprint_all(parts())


def _unreadable(item: str, error: Exception) -> Damaged:
    what = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return Damaged(f"{item} cannot be read ({' '.join(what.split())[:200]})")
