"""Hostile run folders: what a good workdir, as `conftest.trained` makes it, is changed into. All in
place.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from hostile.corpus.records import change_json
from hostile.corpus.texts import JSON, replace_with
from hostile.fuzzing.targets_runs import claim_size, seal
from vtd_jax.train.checkpoints import integrity

# the only step of the workdir
STEP = 3


def _item(workdir: Path, item: str) -> Path:
    return workdir / "checkpoints" / str(STEP) / item


def _claim(item: str) -> Callable[[Path], None]:
    return lambda workdir: claim_size(_item(workdir, item))


def _file(name: str, content: bytes) -> Callable[[Path], None]:
    def change(workdir: Path) -> None:
        (workdir / name).write_bytes(content)

    return change


def _place(name: str, place: str) -> Callable[[Path], None]:
    return lambda workdir: replace_with(workdir / name, place) and None


def _config(**fields: object) -> Callable[[Path], None]:
    return lambda workdir: change_json(workdir / "config.json", lambda value: value.update(fields))


def _progress(**fields: object) -> Callable[[Path], None]:
    def change(stored: integrity.Stored) -> dict:
        return integrity.sealed(stored._replace(progress=stored.progress | fields)).progress

    return lambda workdir: seal(workdir, change, STEP)


def _metrics(text: str) -> Callable[[Path], None]:
    def change(workdir: Path) -> None:
        path = _item(workdir, "metrics")
        path.mkdir(exist_ok=True)
        (path / "metrics").write_text(text)

    return change


def _folder(name: str, copied: bool = False) -> Callable[[Path], None]:
    def change(workdir: Path) -> None:
        path = workdir / "checkpoints" / name
        if copied:
            shutil.copytree(workdir / "checkpoints" / str(STEP), path)
        else:
            path.mkdir()

    return change


# what `evaluate` meets
EVALUATED: dict[str, Callable[[Path], None]] = {
    "zarr_learnable": _claim("learnable"),
    "zarr_optimizer": _claim("optimizer"),
    "config_brackets": _file("config.json", JSON["brackets"]),
    "config_integer": _file("config.json", JSON["integer_5000"]),
    "config_text": _file("config.json", b'"x"'),
    "config_not_utf8": _file("config.json", JSON["not_utf8"]),
    "config_fifo": _place("config.json", "fifo"),
    "config_device": _place("config.json", "device"),
    "config_huge": _place("config.json", "huge"),
    "config_prompts": lambda workdir: change_json(
        workdir / "config.json", lambda value: value["model"].update(text_prompts=10**9)
    ),
    "config_seed": _config(seed=10**400),
    "progress_brackets": _file(f"checkpoints/{STEP}/progress/metadata", JSON["brackets"]),
    "training_list_brackets": _file("training_list.json", JSON["brackets"]),
    "training_list_number": _file("training_list.json", b"3"),
    "training_list_fifo": _place("training_list.json", "fifo"),
}
# what `train` meets that resumes
RESUMED: dict[str, Callable[[Path], None]] = {
    "metrics_csv_binary": _file("metrics.csv", bytes(range(256)) * 4),
    "metrics_csv_utf16": _file("metrics.csv", "step,epoch\n1,2\n".encode("utf-16")),
    "metrics_csv_long": _file("metrics.csv", b"step," + b"x" * 200_000 + b"\n"),
    "progress_number": _progress(batches=3),
    "progress_key": _progress(key={"impl": "threefry2x32", "data": ["x"]}),
    "progress_best": _progress(best={"value": "0.5"}),
    "progress_step": _progress(step=7),
    "metric_text": _metrics('{"metric": "0.5"}'),
    "metric_changed": _metrics('{"metric": 0.93}'),
    "folder_superscript": _folder("²"),
    "folder_arabic": _folder("٣"),
    "folder_007": _folder("007"),
    "folder_copied": _folder("70", copied=True),
}
# a name of a workdir that is nothing special
NAME = "per%cent hash#tag br[ack]et back\\slash que?stion  %2e%2e ü ²"
