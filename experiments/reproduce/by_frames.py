"""Rows of our variant, votes by frames, beside those of the faithful VTD-CLIP."""

import dataclasses
import re
from collections.abc import Sequence

from experiments.reproduce.plan import Planner, Row, Run
from vtd_jax.errors import UserError

METHOD, FAITHFUL = "vtd_frames", "VTD-CLIP"
TITLE = "VTD-CLIP, votes by frames (ours)"
# in the names of its runs, as in the ablations, which share them
SUFFIX = "votes_frames"


def add_rows(planner: Planner, rows: Sequence[Row]) -> None:
    """Plans every row of VTD-CLIP once more, learnt and evaluated with `model.votes=frames`.

    What was learnt elsewhere is left out: it did not learn with these votes.

    Args:
      planner: of the table.
      rows: those of a data set.
    """
    for row in rows:
        if row.method == FAITHFUL and row.ablation is None:
            cells = {
                column: tuple(copy for name in names if (copy := _copy(planner, name)))
                for column, names in row.cells.items()
            }
            planner.row(dataclasses.replace(row, method=TITLE, cells=cells))


def faithful_name(name: str) -> str:
    """The run that differs from one of these rows in its votes only."""
    return re.sub(rf"_{SUFFIX}(?=(_seed\d+)?$)", "", name)


def _copy(planner: Planner, name: str) -> str:
    """Plans a run with votes by frames; "" for what was learnt elsewhere, which is noted."""
    run, copy = planner.runs[name], re.sub(r"(_seed\d+)?$", rf"_{SUFFIX}\1", name, count=1)
    if run.config.model.votes == "frames":
        raise UserError(
            f"--methods={METHOD} with --set=model.votes='frames': leave one of them out, the rows "
            "would be the same"
        )
    source = ""
    if run.source:
        if run.source not in planner.runs:
            planner.lacks(copy, f"{run.source} did not learn with votes by frames")
            return ""
        source = _copy(planner, run.source)
    config = run.config.with_changes({"name": copy, "model.votes": "frames"})
    planner.runs.setdefault(copy, Run(copy, run.dataset, config, source))
    return copy
