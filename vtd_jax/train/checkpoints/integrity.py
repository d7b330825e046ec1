"""Whether a checkpoint is what was written: a digest over everything in it, and reading that checks
it.

The digest is in the checkpoint's own JSON, not in a manifest beside it: orbax renames the two as
one folder.
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
    """A checkpoint that lacks something, cannot be read, or is not what was written; the message
    says which.
    """


class Noted(TypedDict, total=False):
    """What belongs to a checkpoint and differs between runs that come to the same, as one that was
    interrupted.

    Attributes:
      metric: what "best" goes by, higher is better; None where it was not evaluated.
      rows: of metrics.csv up to this step.
    """

    metric: float | None
    rows: Count


class Stored(NamedTuple):
    """What a checkpoint holds.

    Attributes:
      learnable, optimizer: flat arrays by dotted path.
      progress: the JSON beside them.
      noted: as `Noted`; sealed with them, and no part of what runs are compared by.
    """

    learnable: dict[str, np.ndarray]
    optimizer: dict[str, np.ndarray]
    progress: dict[str, Any]
    noted: Mapping[str, Any] = MappingProxyType({})


class _Metric(TypedDict):
    metric: float


class _Progress(TypedDict, total=False):
    """Types of what is read here; who resumes from a checkpoint looks at the rest."""

    step: Count
    digest: str
    noted: Noted


def step_of(name: str) -> int | None:
    """The step that a checkpoint's folder is of, by its name; None for a name that this package
    does not write.
    """
    return int(name) if _STEP.fullmatch(name) else None


def steps_in(folder: Path) -> list[int]:
    """Steps with a folder; anything else that lies there, or has a name that we do not write, is
    none.
    """
    # a checkpoint gets its number as its name when it is whole
    paths = list(folder.iterdir()) if folder.is_dir() else []
    return sorted(
        step for path in paths if (step := step_of(path.name)) is not None and path.is_dir()
    )


def digest(stored: Stored) -> str:
    """The fingerprint of names, dtypes, shapes and bytes of all arrays and of the JSON, whatever
    their order.

    What was `noted` is left out: runs that come to the same have the same digest.
    """
    return _digest(
        stored,
        {key: value for key, value in stored.progress.items() if key not in (_DIGEST, _NOTED)},
    )


def sealed(stored: Stored) -> Stored:
    """The same with progress as it is written: with what was noted, and a digest over all."""
    told = {key: value for key, value in stored.progress.items() if key not in (_DIGEST, _NOTED)}
    told |= {_NOTED: dict(stored.noted)} if stored.noted else {}
    # as JSON has it: what is read back has lists where there were tuples
    progress = parse_json(json.dumps(told), PROGRESS)
    return stored._replace(progress=progress | {_DIGEST: _digest(stored, progress)})


def read(folder: Path) -> Stored:
    """Everything in a checkpoint's folder, checked; the progress comes without the digest.

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
    told = {key: value for key, value in progress.items() if key != _DIGEST}
    if not same(progress[_DIGEST], _digest(stored, told)):
        raise Damaged("its contents are not those that were written (the digest differs)")
    del progress[_DIGEST]
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
    """What "best" goes by; None for a checkpoint that was not evaluated. Reads no arrays, and
    checks no digest.

    Raises:
      Damaged: it is unreadable.
    """
    return (
        _metric(folder, _read_progress(folder).get(_NOTED, {}))
        if (folder / PROGRESS).is_dir()
        else None
    )


def write_progress(folder: Path, stored: Stored) -> None:
    """Writes the progress of a checkpoint anew, for what was noted later, and the metric beside it."""
    write_text(folder / PROGRESS / _JSON, json.dumps(sealed(stored).progress))
    # orbax's own, which may be missing and may not differ: it comes second
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
        raise Damaged(f"it is the checkpoint of step {progress.get('step')}, under another number")
    return progress


def _metric(folder: Path, noted: Mapping[str, Any]) -> float | None:
    """The metric that was sealed; orbax's own file must not say another one, and is all that older
    checkpoints have.
    """
    file = folder / METRICS / METRICS
    try:
        beside = (
            read_json(file, _Metric, most=SMALL_JSON_BYTES)["metric"] if file.exists() else None
        )
    except (OSError, UserError) as error:
        raise _unreadable(METRICS, error) from error
    if "metric" not in noted:
        return beside
    if beside not in (None, noted["metric"]):
        raise Damaged(f"{METRICS} says {beside}, and {noted['metric']} was written")
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
