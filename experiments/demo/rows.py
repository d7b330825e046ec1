"""The demo's rows: their settings, training, and table over seeds."""

import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.configs import scenes
from vtd_jax.console.status import Line
from vtd_jax.evaluate.metrics import harmonic_mean
from vtd_jax.evaluate.tables import Table
from vtd_jax.evaluate.views import evaluate
from vtd_jax.files import log_file
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.scenes.sets import SceneSet
from vtd_jax.train import from_config
from vtd_jax.train.config import RunConfig
from vtd_jax.train.loop import train
from vtd_jax.train.workdir import prepare_workdir


@dataclasses.dataclass(frozen=True)
class Row:
    """A variant: its name, model fields that differ from the config, whether it is trained."""

    name: str
    model: Mapping[str, Any]
    trained: bool


_PROMPTS = ("text_prompts", "text_depth", "visual_prompts", "visual_depth")
_ZERO_SHOT = dict.fromkeys(_PROMPTS, 0) | {"fusion": False}
ROWS = (
    Row("zero-shot CLIP, mean of features", _ZERO_SHOT | {"pooling": "mean"}, False),
    Row("zero-shot CLIP, mean of softmax scores", _ZERO_SHOT | {"pooling": "softmax_mean"}, False),
    Row("zero-shot CLIP, confidence", _ZERO_SHOT | {"pooling": "confidence"}, False),
    Row("prompts, mean of features", {"fusion": False, "pooling": "mean"}, True),
    Row("prompts, mean of softmax scores", {"fusion": False, "pooling": "softmax_mean"}, True),
    Row("prompts, confidence", {"fusion": False, "pooling": "confidence"}, True),
    Row("VTD-CLIP: prompts, confidence, fusion", {}, True),
)


def run_config(row: Row, seed: int, data_dir: Path, changes: Mapping[str, Any]) -> RunConfig:
    """The config of scenes with this row's model; `changes` are full field names and values."""
    fields = {f"model.{name}": value for name, value in row.model.items()}
    fields |= {"name": row.name, "seed": seed, "data.data_dir": str(data_dir)}
    return RunConfig.from_dict(scenes.get_config().to_dict()).with_changes(fields | dict(changes))


def run_row(row: Row, config: RunConfig, workdir: Path) -> tuple[VTDCLIP, dict[str, float], float]:
    """Trains where the row is trained, then evaluates.

    Returns:
      (model, top-1 of "base" and "novel" and their harmonic mean "HM", seconds).
    """
    start, splits = time.perf_counter(), from_config.open_splits(config)
    model = from_config.build_model(config)
    if row.trained:
        prepare_workdir(workdir, config, resume=False)
        with log_file(workdir / "train.log", "wb") as log, contextlib.redirect_stdout(log):
            model = train(config, model, from_config.open_training(config), workdir).model
    with Line(f"{row.name}: evaluating"):
        results = evaluate(
            model,
            splits,
            frames=config.data.frames,
            batch_size=config.evaluate.batch_size,
            workers=config.data.workers,
        )
    accuracy = {split: result.top1 for split, result in results.items()}
    accuracy["HM"] = harmonic_mean(list(accuracy.values()))
    return model, accuracy, time.perf_counter() - start


def demo_table(
    found: Mapping[str, Sequence[Mapping[str, float]]], about: Mapping[str, Any]
) -> Table:
    """Mean and deviation over seeds of every row; `found` has one mapping a seed, top-1 in 0..1."""
    rows = []
    for name, seeds in found.items():
        row: dict[str, Any] = {"method": name}
        for column in ("base", "novel", "HM"):
            values = 100 * np.array([seed[column] for seed in seeds])
            spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
            row[column] = f"{values.mean():.1f}{spread}"
        rows.append(row)
    return Table(
        "Scenes, base to novel: top-1 in percent",
        ("method", "base", "novel", "HM"),
        tuple(rows),
        about,
    )


def describe(
    scene_set: SceneSet, config: RunConfig, seeds: Sequence[int], seconds: float
) -> dict[str, Any]:
    """The notes below the table."""
    half, share = scene_set.classes // 2, f"{100 * scene_set.irrelevant:g} %"
    train, val = f"{scene_set.train} a base class", f"{scene_set.val} a class"
    return {
        "classes": f"{half} base, {half} novel, drawn for every seed from 256 combinations",
        "clips": f"{train} to learn on, {val} to evaluate on",
        "frames": f"{config.data.frames} of {scene_set.length}",
        "irrelevant frames": f"{share} of every clip, kind {scene_set.kind}",
        "seeds": f"{', '.join(map(str, seeds))}; ± is the standard deviation over them",
        "training": (
            f"{config.optimizer.epochs} epochs, lr {config.optimizer.lr}, "
            f"{config.model.text_prompts} text and {config.model.visual_prompts} visual prompts, "
            f"fusion starts at {config.model.fusion_init}"
        ),
        "CLIP": (
            "the tiny one of this repository, which saw every combination of the novel classes "
            "in pretraining"
        ),
        "seconds": round(seconds),
    }
