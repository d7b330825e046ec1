"""Run folders of others: checkpoints, metrics, settings."""

import functools
import json
import shutil
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import tensorstore

from experiments.common.evaluation import has_table
from hostile.fuzzing.mutations import mutate_bytes, mutate_json, mutate_lines, mutate_value
from hostile.fuzzing.target import Target
from support import small_run
from vtd_jax.parallel.preemption import Preempted, Preemption
from vtd_jax.train import from_config as parts
from vtd_jax.train import loop
from vtd_jax.train.checkpoints import integrity
from vtd_jax.train.checkpoints.checkpoint import Checkpoints
from vtd_jax.train.workdir import (
    prepare_workdir,
    read_config,
    read_training_list,
    save_training_list,
)

LAST = 6


class _AtOnce(Preemption):
    """A notice before the first step: a run reads all that it resumes from, and stops."""

    def asked(self, step: int) -> bool:
        return True


@functools.cache
def _records() -> tuple[Any, Any, Any]:
    """The run's settings, model and records, outside what is fuzzed."""
    folder = Path(tempfile.mkdtemp(prefix="vtd_jax_hostile_records_"))
    run = small_run.run_config(small_run.build(folder), evaluate__every_epochs=1)
    return run, parts.build_model(run), parts.open_training(run)


def _evaluate(model: Any, last: bool, check: Any) -> dict[str, float]:
    return {"base_top1": 0.5}


@functools.cache
def _trained() -> Path:
    run, model, records = _records()
    workdir = Path(tempfile.mkdtemp(prefix="vtd_jax_hostile_run_"))
    prepare_workdir(workdir, run, resume=False)
    loop.train(run, model, records, workdir, evaluate=_evaluate)
    save_training_list(workdir, records.stored)
    (workdir / "results.json").write_text(
        json.dumps({"about": {"learnt": "step 6"}, "rows": [], "title": ""})
    )
    return workdir


def write_run(folder: Path) -> None:
    """`run/`, a workdir with a checkpoint of step 6; its records and CLIP are elsewhere."""
    shutil.copytree(_trained(), folder / "run")
    # every reading reads all checkpoints
    shutil.rmtree(folder / "run" / "checkpoints" / "3")


def read_checkpoints(folder: Path) -> None:
    """What `evaluate` and `predict` read of a workdir."""
    workdir = folder / "run"
    read_config(workdir)
    read_training_list(workdir)
    has_table(workdir, LAST)
    checkpoints = Checkpoints(workdir)
    checkpoints.choose("best")
    checkpoints.last_intact()


def resume(folder: Path) -> None:
    """What `train` reads of a workdir; nothing is trained."""
    run, model, records = _records()
    prepare_workdir(folder / "run", run, resume=True)
    loop.train(
        run, model, records, folder / "run", evaluate=_evaluate, resume=True, preemption=_AtOnce()
    )


def _change_files(rng: Random, folder: Path) -> None:
    """Bytes of what no one writes by hand, and numbers in the databases."""
    checkpoints = folder / "run" / "checkpoints"
    if rng.random() < 0.3:
        item = checkpoints / str(LAST) / rng.choice((integrity.LEARNABLE, integrity.OPTIMIZER))
        change_zarr(item, lambda number, text: mutate_json(rng, text) if number == 0 else text)
        return
    path = rng.choice(sorted(path for path in checkpoints.rglob("*") if path.is_file()))
    change = mutate_json if path.read_bytes().startswith((b"{", b"[")) else mutate_bytes
    path.write_bytes(change(rng, path.read_bytes()))


def _change_texts(rng: Random, folder: Path) -> None:
    """What anybody can write by hand, the digest of a checkpoint set right."""
    workdir = folder / "run"
    if rng.random() < 0.6:
        seal(workdir, lambda stored: _changed(rng, stored))
        return
    path = rng.choice(sorted(path for path in workdir.iterdir() if path.is_file()))
    change = mutate_json if path.suffix == ".json" else mutate_lines
    path.write_bytes(change(rng, path.read_bytes()))


def seal(workdir: Path, change: Any, step: int = LAST) -> None:
    """Changes the JSON of a checkpoint and sets its digest right, as anybody can."""
    folder = workdir / "checkpoints" / str(step)
    progress = change(integrity.sealed(integrity.read(folder)))
    (folder / integrity.PROGRESS / "metadata").write_text(json.dumps(progress))


def _changed(rng: Random, stored: integrity.Stored) -> Any:
    progress = mutate_value(
        rng, {key: value for key, value in stored.progress.items() if key != "digest"}
    )
    if not isinstance(progress, dict):
        return progress
    try:
        return integrity.sealed(stored._replace(progress=progress)).progress
    except (TypeError, ValueError, RecursionError):
        return progress


def change_zarr(item: Path, change: Any) -> None:
    """Changes the `.zarray` of an item's arrays inside its database; `change(number, bytes)` gives
    the text.
    """
    store = tensorstore.KvStore.open(
        {"driver": "ocdbt", "base": {"driver": "file", "path": f"{item}/"}}
    ).result()
    keys = sorted(key for key in store.list().result() if key.endswith(b"/.zarray"))
    for number, key in enumerate(keys):
        store.write(key, change(number, store.read(key).result().value)).result()


def claim_size(item: Path, elements: int = 10**12) -> None:
    """Makes the first array of an item claim so many elements."""

    def grown(number: int, text: bytes) -> bytes:
        fields = json.loads(text)
        shape = [elements, *fields["shape"][1:]] if fields["shape"] else [elements]
        chunks = [elements, *fields["chunks"][1:]] if fields["chunks"] else [elements]
        return (
            json.dumps(fields | {"shape": shape, "chunks": chunks}).encode()
            if number == 0
            else text
        )

    change_zarr(item, grown)


TARGETS = {
    "run_files": Target(write_run, read_checkpoints, mutate=_change_files),
    "run_texts": Target(write_run, resume, mutate=_change_texts, documented=(Preempted,)),
}
