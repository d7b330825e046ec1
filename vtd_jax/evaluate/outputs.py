"""Files of an evaluation: tables, accuracies of each class, scores of each video."""

import dataclasses
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import jax
import numpy as np

import vtd_jax
from vtd_jax.backend import describe_devices
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.errors import UserError, function
from vtd_jax.evaluate.checkout import commit
from vtd_jax.evaluate.facts import UNKNOWN, Facts, facts_of
from vtd_jax.evaluate.metrics import SplitResult
from vtd_jax.evaluate.published import learnt_otherwise
from vtd_jax.evaluate.scores import SUFFIX, check_finite, digest, read_scores, save_scores
from vtd_jax.evaluate.statistics import confusion_pairs
from vtd_jax.evaluate.tables import Table, split_table
from vtd_jax.files import write_text
from vtd_jax.fingerprints import same
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.normalization import describe as describe_normalization
from vtd_jax.model.preprocess import scaling
from vtd_jax.outputs import csv_text
from vtd_jax.terminal import counted
from vtd_jax.train.config import RunConfig
from vtd_jax.untrusted.json_text import read_json
from vtd_jax.video.copies.known import NamedCopy
from vtd_jax.video.scaling.fit import Fit
from vtd_jax.video.stored_lists import StoredList

# field of a table with the fingerprint of its scores
_SCORES = "scores"
# description of `ModelConfig.ties`
_TIES = {
    "frames": (
        "frames: of the classes within 1e-5 of the most votes the one of more frames, then the "
        "lower one"
    ),
    "release": "release: the last bit of the votes, another one on another machine",
}
# description of `ModelConfig.votes`
_VOTES = {
    "confidence": "confidence: a frame's vote is its confidence in its class, as released",
    "frames": "frames: a frame's vote is one; of as many the class with more confidence in them",
}
_UNIFORM = "uniform, every frame weighs 1/T"
_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def results_table(
    config: RunConfig,
    clip: CLIPConfig,
    results: Mapping[str, SplitResult],
    learnt: str,
    lists: Mapping[str, StoredList] | None = None,
    training: Mapping[str, str] | None = None,
    step: int | None = None,
    copies: Mapping[str, NamedCopy] | None = None,
) -> Table:
    """The table of a run's evaluation.

    Args:
      config, clip: the run and its CLIP.
      results: split -> its result.
      learnt: description of the checkpoint.
      lists: split -> its list; the table shows its origin and the number of missing videos.
      training: `origin` of the training list and its description, `told`.
      step: of the run's checkpoint; None for another file.
      copies: split -> the copy of its data.

    Raises:
      UserError: a score is NaN or infinite.
    """
    check_finite(results)
    lists, training = lists or {}, training or {}
    described = {split: stored.summary for split, stored in lists.items()}
    data = {split: named.describe() for split, named in (copies or {}).items()}
    lines = about(config, clip, learnt, described, training.get("told", ""), data)
    own = ", learnt on own split" if training.get("origin") == "own split" else ""
    origins = {
        split: stored.origin + (own if stored.origin != "own split" else "")
        for split, stored in lists.items()
    }
    lacking = {split: len(stored.left_out) for split, stored in lists.items()}
    where = f"{config.name} {config.data.data_dir}"
    otherwise = learnt_otherwise(config.protocol, where, config.shots) if config.data.train else ""
    title = f"{config.name}: top-1 in percent" + (f" ({otherwise})" if otherwise else "")
    table = split_table(title, config.protocol, results, lines, origins, lacking)
    facts = Facts(
        step=step,
        views=(config.evaluate.temporal_views, config.evaluate.spatial_views),
        training=training.get("origin", UNKNOWN) if config.data.train else "",
        lists={
            split: lists[split].origin if split in lists else UNKNOWN
            for split in {**config.data.evaluate, **lists}
        },
    )
    data = {split: dataclasses.asdict(named.copy) for split, named in (copies or {}).items()}
    return dataclasses.replace(table, facts={**facts, "data": data} if data else facts)


def about(
    config: RunConfig,
    clip: CLIPConfig,
    learnt: str,
    lists: Mapping[str, str] | None = None,
    training: str = "",
    data: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Everything needed to reproduce a number; `lists` and `training` describe lists, `data` the
    copies of splits.
    """
    evaluate, model = config.evaluate, config.model
    lines = {
        "protocol": config.protocol,
        "learnt": learnt,
        "training videos": f"{config.shots} a class" if config.shots else "all of the list",
        "training list": training or config.data.train,
        "lists": dict(config.data.evaluate) | dict(lists or {}),
        **({"data": dict(data)} if data else {}),
        "CLIP": f"{clip.architecture}, {config.clip.dtype}",
        "frames": config.data.frames,
        "views": f"{evaluate.temporal_views} temporal × {evaluate.spatial_views} spatial",
        "normalisation": describe_normalization(model.normalization, clip.preprocessing),
        "preprocess": fit_of(config, clip).describe(clip.image_resolution),
        "class names": _names(model),
        **({"confidence": _UNIFORM} if model.confidence == "uniform" else {}),
        "assignment": model.assignment,
        **_about_votes(model),
        "pooling": model.pooling,
        "fusion": model.fusion,
        "seed": config.seed,
        "config": config.fingerprint,
        "commit": commit() or "unknown",
        "versions": {"vtd_jax": vtd_jax.__version__, "python": platform.python_version()}
        | {name: metadata.version(name) for name in _PACKAGES},
        "device": describe_devices(jax.local_devices()[:1]),
    }
    if not config.data.train:
        del lines["training videos"], lines["training list"]
    return lines


def _about_votes(model: ModelConfig) -> dict[str, str]:
    if not model.fusion:
        return {}
    # where frames are counted, ties follow the same order
    ties = {} if model.votes == "frames" else {"ties": _TIES[model.ties]}
    return {"votes": _VOTES[model.votes]} | ties


def fit_of(config: RunConfig, clip: CLIPConfig) -> Fit:
    """How a run's frames are scaled and cropped."""
    way = scaling(config.data.preprocess, config.model.normalization, clip.preprocessing)
    return Fit(**way)


def _names(model: ModelConfig) -> str:
    if model.templates:
        return f"{counted(len(model.templates), 'template')}, e.g. {model.templates[0]!r}"
    return f"behind {counted(model.text_prompts, 'learnt token')}" if model.text_prompts else "bare"


def save_report(
    folder: Path, stem: str, table: Table, results: Mapping[str, SplitResult]
) -> list[Path]:
    """Writes `stem.md`, `.csv`, `.json`, `stem_per_class.csv`, `stem_confusions.csv` and, last,
    `stem_scores.npz`, each whole or not at all. The `.json` has the fingerprint of the scores.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = table.save(folder, stem, {_SCORES: digest(results)})
    written.append(write_text(folder / f"{stem}_per_class.csv", _per_class(results)))
    written.append(write_text(folder / f"{stem}_confusions.csv", _confusions(results)))
    return [*written, save_scores(folder / f"{stem}{SUFFIX}", results)]


# fields of a row that are read; other tables have other columns
_Row = TypedDict(
    "_Row",
    {
        "split": NotRequired[str | None],
        "list": NotRequired[str | None],
        "left out": NotRequired[int | None],
    },
)


class Saved(TypedDict):
    """Content of a table's `.json`. Older files have neither `scores`, a fingerprint, nor facts."""

    title: str
    rows: list[_Row]
    about: dict[str, Any]
    scores: NotRequired[str]
    facts: NotRequired[Facts]


def read_table(path: Path, results: Mapping[str, SplitResult] | None = None) -> Saved:
    """Reads the `.json` of a table that `save_report` wrote.

    Args:
      path: of the file.
      results: the scores beside it, to be compared; None for no comparison.

    Raises:
      UserError: the file is missing, damaged, another kind of file, or of other scores.
    """
    saved = read_json(
        path, Saved, what="table", remedy=f"evaluate again with {function('evaluate')}"
    )
    if results is not None and _SCORES in saved and not same(saved[_SCORES], digest(results)):
        raise UserError(
            f"{path}: of another evaluation than the scores beside it; evaluate again with "
            f"{function('evaluate')}"
        )
    return saved


def table_step(path: Path, scores: Path) -> int | None:
    """The step of a table's checkpoint; None unless the table is of these scores."""
    try:
        saved = read_table(path)
        is_of = same(saved[_SCORES], digest(read_scores(scores)))
        return facts_of(saved)["step"] if is_of else None
    except (UserError, KeyError):
        return None


def _per_class(results: Mapping[str, SplitResult]) -> str:
    rows: list[tuple[Any, ...]] = [("split", "class", "videos", "top-1")]
    for split, result in results.items():
        counts = np.bincount(result.labels, minlength=len(result.class_names))
        for name, count, accuracy in zip(result.class_names, counts, result.per_class):
            rows.append((split, name, int(count), float(accuracy) if count else ""))
    return csv_text(rows)


def _confusions(results: Mapping[str, SplitResult]) -> str:
    pairs = (
        (split, *pair) for split, result in results.items() for pair in confusion_pairs(result)
    )
    return csv_text([("split", "true", "predicted", "videos", "share"), *pairs])
