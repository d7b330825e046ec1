"""The plan of a table as a file in its workdir, for `--tables_only`."""

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from msgspec import Meta

from experiments.reproduce.ablations import Ablation
from experiments.reproduce.plan import Plan, Row
from vtd_jax.errors import UserError
from vtd_jax.files import write_text
from vtd_jax.rivals.kinds import COMPUTED
from vtd_jax.untrusted.json_text import read_json
from vtd_jax.untrusted.limits import (
    NAME_CHARACTERS,
    PLAN_COLUMNS,
    PLAN_DATASETS,
    PLAN_LINES,
    PLAN_NAME_BYTES,
    PLAN_NOTES,
    PLAN_ROWS,
    PLAN_RUNS,
    PLAN_TEXT,
    SMALL_JSON_BYTES,
)

# names of runs and data sets become names of files
_NAME = re.compile(r"(?!\.\.?\Z)[^/\\\x00-\x1f]+")

_Text = Annotated[str, Meta(max_length=PLAN_TEXT)]
_Lines = Annotated[list[str], Meta(max_length=PLAN_LINES)]
_Rival = Annotated[str, Meta(pattern=rf"\A({'|'.join(COMPUTED)})?\Z")]
_Column = Annotated[str, Meta(pattern=r"\A(\d{1,9}(\.\d{1,9})?)?\Z")]


class _KeptAblation(TypedDict):
    group: _Text
    name: _Text
    slug: _Text
    changes: dict[str, Any]


class _KeptRow(TypedDict):
    dataset: str
    method: _Text
    # the path of --source, where that is given
    learnt_on: Annotated[str, Meta(max_length=NAME_CHARACTERS)]
    cells: Annotated[dict[_Column, list[str]], Meta(max_length=PLAN_COLUMNS)]
    ablation: _KeptAblation | None
    # earlier versions had none
    rival: NotRequired[_Rival]


class _Kept(TypedDict):
    table: str
    rows: Annotated[list[_KeptRow], Meta(max_length=PLAN_ROWS)]
    missing: _Lines
    differs: _Lines
    notes: Annotated[dict[str, Any], Meta(max_length=PLAN_NOTES)]


def save_plan(path: Path, plan: Plan, notes: Mapping[str, Any]) -> None:
    """Writes what a table needs besides its runs: rows, missing parts, differences, notes."""
    rows = [
        dataclasses.asdict(row) | {"ablation": row.ablation and row.ablation._asdict()}
        for row in plan.rows
    ]
    lines = {"missing": plan.missing, "differs": plan.differs, "notes": dict(notes)}
    kept = {"table": plan.table, "rows": rows} | lines
    write_text(path, json.dumps(kept, indent=2) + "\n")


def load_plan(path: Path) -> tuple[Plan, dict[str, Any]]:
    """A plan without its runs' settings, and its notes, as `save_plan` kept them.

    Raises:
      UserError: no such file, or a damaged one.
    """
    remedy = "run this table again, without --tables_only"
    if not os.path.lexists(path):
        raise UserError(f"{path}: no such file; run this table first, without --tables_only")
    kept = read_json(path, _Kept, what="plan", most=SMALL_JSON_BYTES, remedy=remedy)
    _check_names(kept, str(path), remedy)
    rows = []
    for row in kept["rows"]:
        cells = {column: tuple(names) for column, names in row["cells"].items()}
        ablation = row["ablation"] and Ablation(**row["ablation"])
        rows.append(Row(**row | {"cells": cells, "ablation": ablation}))
        if kept["table"] == "ablations" and (rows[-1].ablation is None or list(cells) != [""]):
            raise UserError(f"{path}: rows[{len(rows) - 1}]: no ablation; {remedy}")
    missing, differs = tuple(kept["missing"]), tuple(kept["differs"])
    return Plan(kept["table"], tuple(rows), (), missing, differs), kept["notes"]


def _check_names(kept: _Kept, where: str, remedy: str) -> None:
    """Refuses names of runs and data sets that no file can have, and too many of them."""
    runs = [name for row in kept["rows"] for names in row["cells"].values() for name in names]
    datasets = {row["dataset"] for row in kept["rows"]}
    columns = {column for row in kept["rows"] for column in row["cells"]}
    for count, most, what in (
        (len(runs), PLAN_RUNS, "runs in its cells"),
        (len(datasets), PLAN_DATASETS, "data sets"),
        (len(columns), PLAN_COLUMNS, "columns"),
    ):
        if count > most:
            raise UserError(f"{where}: rows: {count:,} {what}, expected at most {most:,}; {remedy}")
    for name in sorted({*runs, *datasets}):
        if not _NAME.fullmatch(name):
            raise UserError(
                f"{where}: rows: {name!r} names a run or data set, but no file can have it; "
                f"{remedy}"
            )
        if (size := len(name.encode())) > PLAN_NAME_BYTES:
            raise UserError(
                f"{where}: rows: the name {name!r} has {size} bytes, expected at most "
                f"{PLAN_NAME_BYTES}; {remedy}"
            )
