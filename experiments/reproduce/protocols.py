"""The rows of every table: which configs each protocol runs on which data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.configs import base_to_novel, few_shot, fully_supervised, scenes, zero_shot
from experiments.reproduce import ablations, by_frames, rivals
from experiments.reproduce.plan import Plan, Planner, Row
from experiments.reproduce.sources import SCENES, SHARES
from vtd_jax.errors import UserError
from vtd_jax.model.saved.tuned import SUFFIX, read_tuned
from vtd_jax.train.config import RunConfig
from vtd_jax.train.learnt import exported_config
from vtd_jax.train.workdir import read_config

DATASETS = {
    "base_to_novel": ("hmdb51", "ucf101", "ssv2", "kinetics400"),
    "few_shot": ("hmdb51", "ucf101", "ssv2"),
    "zero_shot": ("hmdb51", "ucf101", "kinetics600"),
    "fully_supervised": ("kinetics400",),
    "ablations": ("hmdb51", "ucf101", "ssv2", "kinetics400"),
    "irrelevant": (),
}
SHOTS = (2, 4, 8, 16)
# argument of the scenes' zero-shot config: evaluate the list of the one-list protocols
_ONE_LIST = "lists=val"
SIXTEEN, EVERY = "16 shots", "all base videos"
# vanilla CLIP: suffix of the run -> method in the table, templates, pooling
VANILLA = {
    "mean": ("CLIP, class names", "", "mean"),
    "actionclip16_mean": ("CLIP, ActionCLIP's 16 templates", "actionclip16", "mean"),
    "video_of_a_person_mean": (
        'CLIP, "a video of a person …" templates',
        "video_of_a_person",
        "mean",
    ),
    "confidence": ("CLIP, class names, confidence instead of mean", "", "confidence"),
}


def make_plan(table: str, planner: Planner, datasets: Sequence[str]) -> Plan:
    """The plan of a table over data sets, in their order."""
    for dataset in datasets:
        planner.dataset, before = dataset, len(planner.rows)
        _TABLES[table](planner, dataset)
        if by_frames.METHOD in planner.settings.methods:
            by_frames.add_rows(planner, planner.rows[before:])
        rivals.add_rows(planner, table, dataset, _config)
    return planner.plan(table)


def _config(protocol: str, dataset: str, arguments: str = "") -> Any:
    """The config of a protocol's file, or of the scenes' file."""
    rest = f",{arguments}" if arguments else ""
    if dataset == SCENES:
        return scenes.get_config(protocol + rest)
    files = {
        "base_to_novel": base_to_novel, "few_shot": few_shot, "zero_shot": zero_shot,
        "fully_supervised": fully_supervised,
    }  # fmt: skip
    return files[protocol].get_config(dataset + rest)


def _vanilla(
    planner: Planner,
    dataset: str,
    column: str,
    stem: str,
    arguments: str,
    changes: Mapping[str, Any] | None = None,
) -> None:
    """The rows of vanilla CLIP; `stem` keeps the names of their runs apart from other tables'."""
    for suffix, (method, templates, pooling) in VANILLA.items():
        with_templates = ",".join(
            filter(None, (arguments, f"templates={templates}" if templates else ""))
        )
        run = RunConfig.from_dict(_config("zero_shot", dataset, with_templates).to_dict())
        name = "_".join(filter(None, ("zero_shot", dataset, stem, suffix)))
        run = run.with_changes({"name": name, "model.pooling": pooling, **(changes or {})})
        planner.row(Row(dataset, method, "nothing", {column: planner.add(dataset, [run])}))


def _base_to_novel(planner: Planner, dataset: str) -> None:
    _vanilla(planner, dataset, "", "halves", "lists=base_to_novel")
    planner.row(Row(dataset, "VTD-CLIP", SIXTEEN, {"": _sixteen(planner, dataset)}))
    every = planner.add(dataset, [_config("base_to_novel", dataset, "shots=all")])
    planner.row(Row(dataset, "VTD-CLIP", EVERY, {"": every}))


def _sixteen(planner: Planner, dataset: str, changes=None, suffix: str = "") -> tuple[str, ...]:
    runs = [
        _reference(dataset, split).with_changes(changes or {}) for split in planner.settings.splits
    ]
    return planner.add(dataset, runs, suffix)


def _reference(dataset: str, split: int) -> RunConfig:
    return RunConfig.from_dict(
        _config("base_to_novel", dataset, f"shots=16,split={split}").to_dict()
    )


def _few_shot(planner: Planner, dataset: str) -> None:
    configs = {str(shots): _config("few_shot", dataset, f"shots={shots}") for shots in SHOTS}
    three = few_shot.THREE.get(dataset) if planner.settings.few_shot_val == "mean" else None
    split = {"data.evaluate": three or dict(configs["16"].data.evaluate)}
    stem = "val3" if three else "val"
    _vanilla(planner, dataset, "0", stem, _ONE_LIST if dataset == SCENES else "", split)
    if dataset == SCENES:
        # without the method's parts, for the plot
        off = {"model.fusion": False, "model.pooling": "mean"}
        runs = {
            k: RunConfig.from_dict(config.to_dict()).with_changes(off)
            for k, config in configs.items()
        }
        cells = {k: planner.add(dataset, [run], "codebook_off") for k, run in runs.items()}
        planner.row(Row(dataset, "prompts, mean of features", "shots", cells))
    cells = {k: planner.add(dataset, [config]) for k, config in configs.items()}
    if three:
        # what was learnt for split 1 is evaluated once more, and not learnt again
        cells = {k: _lent(planner, dataset, names, split, "val3") for k, names in cells.items()}
    planner.row(Row(dataset, "VTD-CLIP", "shots", cells))


def _lent(
    planner: Planner, dataset: str, names: Sequence[str], changes: Mapping[str, Any], suffix: str
) -> tuple[str, ...]:
    """Evaluations of what runs of the plan learn, with some fields changed."""
    found = (
        planner.add(dataset, [planner.runs[name].config.with_changes(changes)], suffix, source=name)
        for name in names
    )
    return tuple(name for some in found for name in some)


def _zero_shot(planner: Planner, dataset: str) -> None:
    _vanilla(planner, dataset, "", "", "")
    source, lent_from = planner.settings.source, "kinetics400" if dataset != SCENES else SCENES
    if source == "none":
        return
    target = RunConfig.from_dict(_config("zero_shot", dataset).to_dict())
    if source != "auto":
        lent = read_source(source).on_other_videos(target, {})
        names = planner.add(dataset, [lent], f"from_{Path(source).stem}", source=source)
        planner.row(Row(dataset, "VTD-CLIP", source, {"": names}))
        return
    names = []
    for name in planner.add(lent_from, [_config("fully_supervised", lent_from)]):
        learnt = planner.runs[name].config
        lent = learnt.on_other_videos(target, {})
        names += planner.add(dataset, [lent], f"from_{name}", source=name)
    learnt_on = "all classes of scenes but these" if dataset == SCENES else "Kinetics-400"
    planner.row(Row(dataset, "VTD-CLIP", learnt_on, {"": tuple(names)}))


def read_source(source: str) -> RunConfig:
    """The settings of a trained run's workdir, or of an exported file."""
    return (
        exported_config(read_tuned(Path(source)), source)
        if source.endswith(SUFFIX)
        else read_config(Path(source))
    )


def _fully_supervised(planner: Planner, dataset: str) -> None:
    config = _config("fully_supervised", dataset)
    views = {
        "evaluate.temporal_views": config.evaluate.temporal_views,
        "evaluate.spatial_views": config.evaluate.spatial_views,
        "data.frames": config.data.frames,
    }
    _vanilla(planner, dataset, "", "views", _ONE_LIST if dataset == SCENES else "", views)
    planner.row(Row(dataset, "VTD-CLIP", "all videos", {"": planner.add(dataset, [config])}))


def _ablation_rows(planner: Planner, dataset: str) -> None:
    sizes = ablations.SCENES_SIZES if dataset == SCENES else ablations.RELEASE_SIZES
    seen: list[RunConfig] = []
    for one in ablations.ablations(_reference(dataset, 1), sizes):
        try:
            adapted = planner.adapt(dataset, _reference(dataset, 1).with_changes(one.changes))
        except UserError as error:
            # --set excludes this row only: what no row can have, the full method cannot either
            if one is ablations.FULL:
                raise
            planner.missing.append(f"{dataset}, {one.name}: {error}")
            continue
        if adapted in seen:
            # more layers than the CLIP has, or a field that --set overrides
            planner.missing.append(
                f"{dataset}, {one.name}: with this CLIP and --set the same as another row"
            )
            continue
        seen.append(adapted)
        names = _sixteen(planner, dataset, one.changes, "" if one is ablations.FULL else one.slug)
        planner.row(Row(dataset, one.name, SIXTEEN, {"": names}, one))


def _irrelevant(planner: Planner, dataset: str) -> None:
    """Scenes only: trained models on clips with every share of irrelevant frames."""
    off = ablations.ablations(_reference(SCENES, 1), ablations.SCENES_SIZES)[1]
    learnt = {
        "VTD-CLIP": _sixteen(planner, dataset),
        "prompts, mean of features": _sixteen(planner, dataset, off.changes, off.slug),
    }
    vanilla = _config("zero_shot", dataset, "lists=base_to_novel")
    vanilla.model.pooling, vanilla.data.frames = "mean", 10
    cells: dict[str, dict[str, tuple[str, ...]]] = {
        "CLIP, class names": {},
        **{method: {} for method in learnt},
    }
    for share in SHARES:
        noisy, column = f"{dataset} {share}", f"{round(100 * share)}"
        cells["CLIP, class names"][column] = planner.add(noisy, [vanilla], f"mean_noise{column}")
        for method, names in learnt.items():
            frames = {"data.frames": 10}
            cells[method][column] = _lent(planner, noisy, names, frames, f"noise{column}")
    for method, columns in cells.items():
        planner.row(
            Row(dataset, method, "nothing" if method.startswith("CLIP") else SIXTEEN, columns)
        )


_TABLES = {
    "base_to_novel": _base_to_novel,
    "few_shot": _few_shot,
    "zero_shot": _zero_shot,
    "fully_supervised": _fully_supervised,
    "ablations": _ablation_rows,
    "irrelevant": _irrelevant,
}
TABLES = tuple(_TABLES)
