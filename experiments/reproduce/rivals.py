"""Rows of other methods by their own checkpoints, which lie in one folder under fixed names."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.configs import few_shot
from experiments.reproduce import by_frames
from experiments.reproduce.plan import OURS, Planner, Row, Run
from experiments.reproduce.sources import SCENES
from vtd_jax.errors import UserError
from vtd_jax.rivals.kinds import COMPUTED, RIVALS, Rival, rival
from vtd_jax.rivals.runs import rival_run
from vtd_jax.train.config import RunConfig

_KNOWN = (*OURS, by_frames.METHOD)
_SHOTS = ("2", "4", "8", "16")
# (protocol, data set, arguments) -> config
Configs = Callable[[str, str, str], Any]


def check_methods(methods: Sequence[str], folder: Path | None) -> None:
    """Refuses methods that are not known or not computed here, and rivals without checkpoints.

    Raises:
      UserError: any of these.
    """
    flag, known = f"--methods={','.join(methods)}", {one.name for one in RIVALS}
    if not methods:
        raise UserError(f"{flag}: none, expected some of {', '.join((*_KNOWN, *COMPUTED))}")
    if by_frames.METHOD in methods and "vtd" not in methods:
        raise UserError(f"{flag}: {by_frames.METHOD} stands beside vtd; add it")
    for name in methods:
        if name not in _KNOWN and name not in known:
            raise UserError(
                f"{flag}: no method {name!r}, expected some of {', '.join((*_KNOWN, *COMPUTED))}"
            )
        if name not in _KNOWN:
            rival(name, f"--methods={name}")
    others = [name for name in methods if name not in _KNOWN]
    if others and folder is None:
        raise UserError(
            f"{flag}: {', '.join(others)} come from their authors' checkpoints; say where these "
            f"are, --rivals=DIR with DIR/{others[0]}/…"
        )
    if folder is not None and not others:
        raise UserError(
            f"--rivals={folder}: read by no row; add one to --methods, as {','.join(OURS)},"
            f"{COMPUTED[0]}"
        )
    if folder is not None and not folder.is_dir():
        raise UserError(f"--rivals={folder}: no such folder")


def checkpoint(folder: Path, name: str, table: str, dataset: str, which: str = "") -> Path:
    """Where a rival's checkpoint of a table is expected.

    Args:
      folder: of all rivals' checkpoints.
      name: of the rival.
      table: base_to_novel, few_shot, zero_shot or fully_supervised. What the last two evaluate is
        tuned on Kinetics-400, so they have one file each.
      dataset: that it was tuned on, in the other two.
      which: of its files: "s1" to "s3", the 16-shot list, or "2" to "16", the shots.
    """
    return folder / name / (f"{table}_{dataset}_{which}.pth" if which else f"{table}.pth")


def add_rows(planner: Planner, table: str, dataset: str, configs: Configs) -> None:
    """Plans a table's rows of the rivals that the settings name."""
    for name in planner.settings.methods:
        if name not in _KNOWN:
            found = rival(name, f"--methods={name}")
            own = table in ("base_to_novel", "few_shot")
            if table in found.evaluated and not (own and dataset not in (*found.datasets, SCENES)):
                planner.row(_row(planner, found, table, dataset, configs))


def _row(planner: Planner, found: Rival, table: str, dataset: str, configs: Configs) -> Row:
    def plan(arguments: str = "", which: str = "") -> tuple[str, ...]:
        config = RunConfig.from_dict(configs(table, dataset, arguments).to_dict())
        return _run(planner, found, table, dataset, config, which)

    if table == "few_shot":
        # on the same validation lists as ours
        three = planner.settings.few_shot_val == "mean" and dataset in few_shot.THREE
        lists = ",val=3" if three else ""
        cells = {shots: plan(f"shots={shots}{lists}", shots) for shots in _SHOTS}
        learnt_on = "shots"
    elif table == "base_to_novel":
        names = [plan(f"shots=16,split={s}", f"s{s}") for s in planner.settings.splits]
        cells, learnt_on = {"": tuple(name for one in names for name in one)}, "16 shots"
    else:
        elsewhere = "all classes of scenes but these" if dataset == SCENES else "Kinetics-400"
        cells = {"": plan()}
        learnt_on = elsewhere if table == "zero_shot" else "all videos"
    return Row(dataset, f"{found.title} (its checkpoint)", learnt_on, cells, rival=found.name)


def _run(
    planner: Planner, found: Rival, table: str, dataset: str, config: RunConfig, which: str
) -> tuple[str, ...]:
    """Plans one evaluation; () where its file or its lists are missing, which is noted."""
    folder = planner.settings.rivals
    assert folder is not None
    name = f"{config.name}_{found.name}"
    path = checkpoint(folder, found.name, table, dataset, which)
    if not path.is_file():
        where = f"published at {found.published}"
        if dataset == SCENES:
            where = "its authors publish none for rendered scenes"
        planner.lacks(name, f"no file {path}, a checkpoint of {found.title} ({where})")
        return ()
    # model and scaling are the file's, whatever the CLIP and `--set` say
    bare = dataclasses.replace(
        config.model, text_prompts=0, text_depth=0, visual_prompts=0, visual_depth=0, fusion=False
    )
    data = dataclasses.replace(config.data, train="")
    config = dataclasses.replace(config, name=name, model=bare, data=data)
    adapted = rival_run(planner.adapt(dataset, config), path, found.name)
    run = Run(name, dataset, adapted, str(path), found.name)
    if not planner.can_be_made(run):
        return ()
    planner.runs.setdefault(name, run)
    return (name,)


def own_protocols(rows: Sequence[Row], table: str, about: dict[str, tuple[int, int, int]]) -> str:
    """What rivals' authors evaluate with, beside what was used here; "" without rivals.

    Args:
      rows: of the table.
      table: its name.
      about: rival -> frames, temporal and spatial views that were used here.
    """
    lines = []
    for name in dict.fromkeys(row.rival for row in rows if row.rival in about):
        found = rival(name, name)
        if table in found.evaluated:
            own, here = found.evaluated[table], about[name]
            told = "as here" if own == here else f"here {_told(here)}"
            lines.append(f"{found.title} by its authors {_told(own)}, {told}")
    return "; ".join(lines)


def _told(evaluated: tuple[int, int, int]) -> str:
    frames, temporal, spatial = evaluated
    return f"{frames} frames, {temporal} × {spatial} views"
