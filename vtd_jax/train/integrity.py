"""Whether a checkpoint is what was written: a digest over everything in it, and reading that checks it."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore

# the items of a checkpoint; "metrics" is orbax's own and may be missing
LEARNABLE, OPTIMIZER, PROGRESS, METRICS = "learnable", "optimizer", "progress", "metrics"
_DIGEST = "digest"


class Damaged(Exception):
    """A checkpoint that lacks something, cannot be read, or is not what was written; the message says which."""


class Stored(NamedTuple):
    """What a checkpoint holds: flat arrays by dotted path, and the JSON beside them."""

    learnable: dict[str, np.ndarray]
    optimizer: dict[str, np.ndarray]
    progress: dict[str, Any]


def digest(stored: Stored) -> str:
    """SHA-256, in hex, over names, dtypes, shapes and bytes of all arrays and over the JSON, whatever their order."""
    found = hashlib.sha256()
    for item in (stored.learnable, stored.optimizer):
        for name in sorted(item):
            array = np.ascontiguousarray(item[name])
            # ascontiguousarray makes a scalar a row: the shape is told as it was
            found.update(f"{name} {array.dtype} {np.shape(item[name])}\n".encode())
            found.update(array.view(np.uint8).data)
        found.update(b"\n")
    told = {key: value for key, value in stored.progress.items() if key != _DIGEST}
    found.update(json.dumps(told, sort_keys=True).encode())
    return found.hexdigest()


def sealed(stored: Stored) -> Stored:
    """The same with its digest in the progress."""
    # as JSON has it: what is read back has lists where there were tuples
    progress = json.loads(json.dumps(stored.progress))
    stored = stored._replace(progress=progress)
    return stored._replace(progress=progress | {_DIGEST: digest(stored)})


def read(folder: Path) -> Stored:
    """Everything in a checkpoint's folder, checked; the progress comes without the digest.

    Raises:
      Damaged: something is missing, unreadable or changed.
    """
    for item in (LEARNABLE, OPTIMIZER, PROGRESS):
        if not (folder / item).is_dir():
            raise Damaged(f"{item} is missing")
    for item in (LEARNABLE, OPTIMIZER):
        _reads(folder, item)
    learnable, optimizer = (_restore(folder, item, ocp.StandardCheckpointHandler) for item in (LEARNABLE, OPTIMIZER))
    progress = _restore(folder, PROGRESS, ocp.JsonCheckpointHandler)
    if not isinstance(progress, dict) or _DIGEST not in progress:
        raise Damaged("progress has no digest")
    stored = Stored(learnable, optimizer, progress)
    if digest(stored) != progress[_DIGEST]:
        raise Damaged("its contents are not those that were written (the digest differs)")
    read_metric(folder)
    return stored._replace(progress={key: value for key, value in progress.items() if key != _DIGEST})


def is_whole(folder: Path) -> bool:
    """Whether `read` finds nothing wrong with a checkpoint."""
    try:
        read(folder)
    except Damaged:
        return False
    return True


def read_metric(folder: Path) -> float | None:
    """What "best" goes by; None for a checkpoint that was not evaluated.

    Raises:
      Damaged: the file is unreadable.
    """
    file = folder / METRICS / METRICS
    try:
        return float(json.loads(file.read_text())["metric"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{METRICS} cannot be read ({type(error).__name__}: {error})") from error


def _reads(folder: Path, item: str) -> None:
    """Reads every array, one after another: orbax reads them together, and prints a screen where several fail."""
    base = (folder / item).resolve()
    store = {"driver": "ocdbt", "base": f"file://{base}/"}
    try:
        keys = [key.decode() for key in tensorstore.KvStore.open(store).result().list().result()]
        for name in [key.removesuffix("/.zarray") for key in keys if key.endswith("/.zarray")]:
            tensorstore.open({"driver": "zarr", "kvstore": store | {"path": f"{name}/"}}).result().read().result()
    except Exception as error:  # tensorstore raises whatever a damaged file provokes
        raise _unreadable(item, error) from error
    if not keys:
        raise Damaged(f"{item} holds no arrays")


def _restore(folder: Path, item: str, handler: type) -> Any:
    # each process reads by itself, and waits for no other
    here = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(here, {here}, barrier_sync_key_prefix=f"read{here}")
    try:
        reader = ocp.Checkpointer(handler(multiprocessing_options=alone), multiprocessing_options=alone)
        return reader.restore((folder / item).resolve())
    except Exception as error:  # and so does orbax
        raise _unreadable(item, error) from error


def _unreadable(item: str, error: Exception) -> Damaged:
    return Damaged(f"{item} cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:200]})")
