"""VTD-CLIP against every other row of a table, on the same videos: differences and paired tests."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.reproduce import by_frames
from experiments.reproduce.plan import Plan, Row
from experiments.reproduce.results import TITLES, Found
from vtd_jax.evaluate.comparison import comparison_table
from vtd_jax.evaluate.statistics import same_videos
from vtd_jax.evaluate.tables import INTERVAL, Table

_OURS = "VTD-CLIP"
_ZERO = "0"
# columns of `comparison_table` -> here
_COLUMNS = {
    "split": "split",
    "videos": "videos",
    "A": "other",
    "B": _OURS,
    "B − A": f"{_OURS} − other",
    INTERVAL: INTERVAL,
    "only A right": "only other right",
    "only B right": f"only {_OURS} right",
    "p": "p",
}
_FIRST = ("data set", "other method", "learnt on", "shots")


def stem(table: str) -> str:
    """Of the files of a table's comparisons."""
    return f"{table}_paired"


def make_table(plan: Plan, workdir: Path) -> Table | None:
    """The comparisons of a table that has other methods by their own checkpoints, or our variant;
    None for any other.

    A row of 16-shot lists is compared on the lists that both have. Rows that learnt on other
    videos are compared as well where VTD-CLIP has no row of the same, and rows of CLIP as it is.
    """
    if not any(row.rival or row.method == by_frames.TITLE for row in plan.rows):
        return None
    found, rows, about = Found(workdir), [], {}
    for ours in plan.rows:
        if ours.method != _OURS or ours.rival:
            continue
        for other in plan.rows:
            if other.dataset == ours.dataset and _comparable(plan, ours, other):
                rows += _compare(found, ours, other, about)
    if not rows:
        return None
    columns = (*_FIRST, *_COLUMNS.values())
    columns = tuple(c for c in columns if any(row.get(c) not in (None, "") for row in rows))
    title = f"{TITLES[plan.table]}: {_OURS} against others on the same videos, top-1 in percent"
    return Table(title, columns, tuple(rows), about)


def _comparable(plan: Plan, ours: Row, other: Row) -> bool:
    if other.method == _OURS and not other.rival:
        return False
    if other.method == by_frames.TITLE:
        return ours.learnt_on == other.learnt_on
    if not other.rival:
        return other.learnt_on == "nothing"
    same = [
        row.learnt_on
        for row in plan.rows
        if row.method == _OURS and row.dataset == ours.dataset and row.learnt_on == other.learnt_on
    ]
    return ours.learnt_on == other.learnt_on or not same


def _compare(found: Found, ours: Row, other: Row, about: dict[str, Any]) -> list[dict[str, Any]]:
    rows, a_cells, b_cells = [], found.done(other), found.done(ours)
    for column, b in b_cells.items():
        a = a_cells.get(column, a_cells.get(_ZERO, []))
        a, b = _aligned(a, b, other.rival)
        if not a or not b:
            continue
        sides = found.results(a), found.results(b)
        runs = [*sides[0], *sides[1]]
        if {frozenset(run) for run in runs} != {same_videos(runs)}:
            about.setdefault("not compared", []).append(f"{', '.join((*a, *b))}: other videos")
            continue
        table = comparison_table(*sides)
        for row in table.rows:
            rows.append(
                {"data set": ours.dataset, "other method": other.method}
                | {"learnt on": ours.learnt_on, "shots": column}
                | {_COLUMNS[key]: value for key, value in row.items()}
            )
        # of one run each McNemar's test, of several the randomisation test
        about.setdefault(INTERVAL, f"of {_OURS} − other, percentile bootstrap over videos")
        about.setdefault("p", [])
        about["p"] += [table.about["p"]] if table.about["p"] not in about["p"] else []
    return rows


def _aligned(a: Sequence[str], b: Sequence[str], rival: str) -> tuple[list[str], list[str]]:
    """Runs of both that learnt on the same lists; all of both where names do not say it."""
    pairs = [(x, y) for y in b for x in a if x != y and by_frames.faithful_name(x) == y]
    if rival:
        pairs = [
            (x, y) for y in b for x in a if x == f"{re.sub(r'_seed[0-9]+(?=_|$)', '', y)}_{rival}"
        ]
    if not pairs:
        return list(a), list(b)
    return list(dict.fromkeys(x for x, _ in pairs)), [y for _, y in pairs]
