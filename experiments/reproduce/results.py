"""Tables of a plan from the scores of its runs, with published numbers; needs no device."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from experiments.reproduce.execute import is_finished, run_folder
from experiments.reproduce.plan import Plan, Row
from experiments.reproduce.rivals import own_protocols
from vtd_jax.errors import UserError
from vtd_jax.evaluate.facts import Facts, facts_of
from vtd_jax.evaluate.metrics import SplitResult
from vtd_jax.evaluate.outputs import read_table
from vtd_jax.evaluate.published import (
    AUTHORS,
    COLUMNS,
    FEW_SHOT_LISTS,
    OTHERS,
    UNVERIFIED,
    published,
)
from vtd_jax.evaluate.scores import SUFFIX, read_scores
from vtd_jax.evaluate.summary import Summary, compare, distinct_values, summarize
from vtd_jax.evaluate.tables import INTERVAL, Plain, Table
from vtd_jax.terminal import counted
from vtd_jax.untrusted.json_text import convert
from vtd_jax.untrusted.limits import PLAN_TEXT

OURS = "this run"
TITLES = {
    "base_to_novel": "Base-to-novel",
    "few_shot": "Few-shot, by videos a class",
    "zero_shot": "Zero-shot",
    "fully_supervised": "Fully supervised",
    "ablations": "Ablations, base-to-novel on 16 videos a class",
    "irrelevant": "HM on clips of which so many percent of the frames are irrelevant",
}
# tables whose columns are shots or shares -> the metrics that their cells may have
_METRICS = {"few_shot": ("top-1", "mean"), "irrelevant": ("HM",)}
# columns at the right of every table
_LAST = (
    INTERVAL, "ECE", "− full", "− full, 95 % CI", "p", "runs", "frames", "views", "norm.",
    "preprocess", "evaluated on", "lists", "source", "read in", "status",
)  # fmt: skip


# what is read from the `about` of a run's table
_About = TypedDict(
    "_About",
    {
        "lists": dict[str, str],
        "training list": NotRequired[str],
        "versions": dict[str, str],
        "data": NotRequired[dict[str, str]],
    },
)


class Found:
    """Scores, `about` and facts of the finished runs in a workdir."""

    def __init__(self, workdir: Path):
        self.workdir = workdir
        self._read: dict[str, tuple[Mapping[str, SplitResult], Mapping[str, Any], Facts]] = {}

    def has(self, name: str) -> bool:
        """Whether a run is finished."""
        return is_finished(run_folder(self.workdir, name))

    def results(self, names: Sequence[str]) -> list[Mapping[str, SplitResult]]:
        """Scores of finished runs, split by split.

        Raises:
          UserError: they cannot be read, or are of other splits.
        """
        found = [self._of(name)[0] for name in names]
        for name, results in zip(names, found):
            if set(results) != set(found[0]):
                folder = run_folder(self.workdir, name)
                raise UserError(
                    f"{folder}: scores of the splits {', '.join(results)}, those of {names[0]} "
                    f"are of {', '.join(found[0])}; remove the folder of the wrong one, and run "
                    "this table again"
                )
        return found

    def about(self, names: Sequence[str]) -> list[Mapping[str, Any]]:
        """`about` of the tables of finished runs."""
        return [self._of(name)[1] for name in names]

    def facts(self, names: Sequence[str]) -> list[Facts]:
        """Facts of the tables of finished runs."""
        return [self._of(name)[2] for name in names]

    def _of(self, name: str) -> tuple[Mapping[str, SplitResult], Mapping[str, Any], Facts]:
        if name not in self._read:
            folder = run_folder(self.workdir, name)
            remedy = f"remove {folder} to make the run again"
            try:
                results = read_scores(folder / f"results{SUFFIX}")
                saved = read_table(folder / "results.json", results)
                about = saved["about"]
                convert(about, f"{folder / 'results.json'}: about", _About)
            except UserError as error:
                raise UserError(f"{error}, or {remedy}") from None
            self._read[name] = results, about, facts_of(saved)
        return self._read[name]

    def done(self, row: Row) -> dict[str, list[str]]:
        """The finished runs of a row, by column."""
        cells = {
            column: [name for name in names if self.has(name)]
            for column, names in row.cells.items()
        }
        return {column: names for column, names in cells.items() if names}


def make_table(plan: Plan, workdir: Path, notes: Mapping[str, Any]) -> Table:
    """Rows of ours that have finished runs, and the published ones of the same data sets.

    Raises:
      UserError: no run is finished.
    """
    found = Found(workdir)
    rows = [_row(plan.table, row, found) for row in plan.rows if found.done(row)]
    if not rows:
        raise UserError(
            f"{workdir}/runs: no finished run of table {plan.table}; run it without --tables_only"
        )
    if plan.table == "ablations":
        _compare(plan, found, rows)
    done = [found.done(row) for row in plan.rows]
    names = list(dict.fromkeys(name for cells in done for some in cells.values() for name in some))
    out = []
    for dataset in dict.fromkeys(row["data set"] for row in rows):
        out += [row for row in rows if row["data set"] == dataset]
        out += _published_rows(plan.table, dataset)
    columns = list(dict.fromkeys(column for row in out for column in row))
    columns = sorted(columns, key=lambda c: _LAST.index(c) if c in _LAST else -1)
    about = _about(plan, found, names, notes)
    left = sum(
        sum(map(len, cells.values())) < sum(map(len, row.cells.values()))
        for cells, row in zip(done, plan.rows)
    )
    if left:
        about["not finished"] = (
            f"{counted(left, 'row')} without some of the runs; the same command makes them"
        )
    return Table(f"{TITLES[plan.table]}: top-1 in percent", tuple(columns), tuple(out), about)


def _row(table: str, row: Row, found: Found) -> dict[str, Any]:
    done = found.done(row)
    cells: dict[str, Any] = {"data set": row.dataset}
    if row.ablation:
        cells["group"] = row.ablation.group
    learnt_on = (
        row.learnt_on if len(row.learnt_on) <= PLAN_TEXT else f"…{row.learnt_on[1 - PLAN_TEXT :]}"
    )
    cells |= {"method": row.method, "learnt on": learnt_on}
    summaries = {column: summarize(found.results(names)) for column, names in done.items()}
    for column, summary in summaries.items():
        if table in _METRICS and summary.headline not in _METRICS[table]:
            folder = run_folder(found.workdir, done[column][0])
            raise UserError(
                f"{folder}: scores of other splits than table {table} has; remove it to make the "
                "run again"
            )
        if table in _METRICS:
            cells[column] = summary.values[summary.headline]
        else:
            cells |= dict(summary.values)
            cells |= {INTERVAL: summary.interval, "ECE": summary.calibration}
    names = [name for names in done.values() for name in names]
    counts = sorted({summary.runs for summary in summaries.values()})
    marks = _marks(found.about(names), found.facts(names))
    if table == "few_shot":
        lists = dict.fromkeys(text for one in found.about(names) for text in one["lists"].values())
        cells["evaluated on"] = ", ".join(dict.fromkeys(t.partition(" (")[0] for t in lists))
    return cells | {"runs": "–".join(map(str, counts))} | marks | {"source": OURS}


def _marks(about: Sequence[Mapping[str, Any]], facts: Sequence[Facts]) -> dict[str, str]:
    """Columns that qualify a number of ours: frames, views, what frames went through, origin of
    lists.
    """
    origins = dict.fromkeys(
        origin for one in facts for origin in (one["training"], *one["lists"].values()) if origin
    )
    views = dict.fromkeys(
        "unknown" if one["views"] is None else "{} × {}".format(*one["views"]) for one in facts
    )
    return {
        "frames": distinct_values(about, "frames"),
        "views": ", ".join(views),
        "norm.": distinct_values(about, "normalisation"),
        # tables of earlier versions do not say it, and knew the release's way only
        "preprocess": ", ".join(
            dict.fromkeys(str(one.get("preprocess", "release")).partition(":")[0] for one in about)
        ),
        "lists": ", ".join(origins),
    }


def _lists(about: Mapping[str, Any]) -> list[str]:
    learnt = [about["training list"]] if "training list" in about else []
    return [*learnt, *about["lists"].values()]


def _published_rows(table: str, dataset: str) -> list[dict[str, Any]]:
    rows = []
    for one in published(table, dataset) if table in COLUMNS else ():
        values = {
            column: None if value is None else value / 100 for column, value in one.values.items()
        }
        if table == "zero_shot":
            # published as the mean of three splits
            values = {"mean": values["top-1"]}
        source = f"{one.source}; {one.note}" if one.note else one.source
        about = {"data set": dataset, "method": one.method, "learnt on": one.learnt_on}
        origin = {"source": source, "read in": one.read_in, "status": one.status}
        rows.append(about | values | origin)
    return rows


def _compare(plan: Plan, found: Found, rows: list[dict[str, Any]]) -> None:
    """Adds each ablation's difference to the full method, on the lists that both learnt on."""
    full = {row.dataset: row.cells[""] for row in plan.rows if not row.ablation.changes}
    ours = [row for row in plan.rows if found.done(row)]
    for row, cells in zip(ours, rows, strict=True):
        # in the order of the lists
        pairs = list(zip(full.get(row.dataset, ()), row.cells[""]))
        pairs = [names for names in pairs if row.ablation.changes and all(map(found.has, names))]
        if pairs and (pair := compare(*(found.results(side) for side in zip(*pairs)))) is not None:
            cells |= {"− full": pair.difference, "− full, 95 % CI": (pair.low, pair.high)}
            cells |= {} if pair.p is None else {"p": Plain(pair.p)}


def _about(
    plan: Plan, found: Found, names: Sequence[str], notes: Mapping[str, Any]
) -> dict[str, Any]:
    """The notes below a table: what our rows share, or differ in."""
    about = found.about(names)
    lists = dict.fromkeys(line for one in about for line in _lists(one))
    data = dict.fromkeys(
        f"{one['lists'].get(split, split)}: {line}"
        for one in about
        for split, line in one.get("data", {}).items()
    )
    notes_below: dict[str, Any] = {
        "ours": f"rows with source {OURS!r}; all others as published",
        "±": "standard deviation over the runs of a row (training seeds, or lists of 16 shots)",
        INTERVAL: "bootstrap over videos of HM, the mean or top-1, of all runs of a row",
    }
    if plan.table == "ablations":
        notes_below["p"] = "paired randomisation test of the difference, on the same videos"
    if plan.differs:
        notes_below["differs from the configs"] = "; ".join(plan.differs)
    if plan.missing:
        notes_below["not made"] = "; ".join(plan.missing)
    notes_below |= dict(notes)
    if plan.table == "base_to_novel":
        notes_below["compare"] = (
            "published numbers with our rows of 16 shots (means over 3 lists), not with all base "
            "videos"
        )
    if any(published(plan.table, row.dataset) for row in plan.rows if plan.table in COLUMNS):
        notes_below["status"] = (
            f"{AUTHORS}: printed by those who made the method; {OTHERS}: printed by others, who "
            f"ran or cite it; {UNVERIFIED}: not found in print; digits were read where the row says"
        )
        if plan.table == "few_shot":
            notes_below["evaluated on"] = FEW_SHOT_LISTS
    if own := own_protocols(plan.rows, plan.table, _evaluated(plan, found)):
        notes_below["other methods"] = own
    for key in ("CLIP", "protocol", "assignment", "ties", "votes", "commit", "versions", "device"):
        notes_below[key] = distinct_values(about, key) if key != "versions" else _versions(about)
    return notes_below | {
        "lists": "; ".join(lists),
        **({"data": "; ".join(data)} if data else {}),
        "settings": f"{counted(len(names), 'run')}, each with its config.json and results.md",
    }


def _evaluated(plan: Plan, found: Found) -> dict[str, tuple[int, int, int]]:
    """Rival -> frames, temporal and spatial views of its finished runs."""
    used = {}
    for row in plan.rows:
        names = [name for some in found.done(row).values() for name in some]
        if row.rival and names:
            (about, *_), (facts, *_) = found.about(names), found.facts(names)
            frames, views = about.get("frames"), facts["views"]
            if isinstance(frames, int) and views is not None:
                used[row.rival] = (frames, *views)
    return used


def _versions(about: Sequence[Mapping[str, Any]]) -> str:
    keys = dict.fromkeys(key for one in about for key in one["versions"])
    return ", ".join(f"{key} {distinct_values(about, 'versions', key)}" for key in keys)


def points(plan: Plan, workdir: Path) -> dict[str, list[tuple[float, float, float]]]:
    """Method -> (column, mean, deviation) in percent, of tables whose columns are numbers."""
    found, series = Found(workdir), {}
    for row in plan.rows:
        done = found.done(row)
        means = {
            float(c): spread_of(summarize(found.results(names))) for c, names in done.items() if c
        }
        if means:
            series[row.method] = [(x, *means[x]) for x in sorted(means)]
    return series


def spread_of(summary: Summary) -> tuple[float, float]:
    """Mean and deviation (0 for one run) in percent of the main metric."""
    value = summary.values[summary.headline]
    return 100 * float(value), 100 * getattr(value, "deviation", 0.0)


def bars(
    plan: Plan, workdir: Path
) -> tuple[list[tuple[str, float, float]], list[str], float | None]:
    """Ablations in percent: (name, mean, deviation) and group of every row; the full mean."""
    found, rows, groups, reference = Found(workdir), [], [], None
    for row in plan.rows:
        names = found.done(row).get("")
        if names:
            mean, deviation = spread_of(summarize(found.results(names)))
            rows.append((row.method, mean, deviation))
            groups.append(row.ablation.group)
            reference = reference if row.ablation.changes else mean
    return rows, groups, reference
