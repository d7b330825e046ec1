"""Tables from saved scores: a run's own again, and two runs side by side on the same videos."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vtd_jax.evaluate.metrics import SplitResult
from vtd_jax.evaluate.statistics import (
    DRAWS,
    SWAPS,
    Difference,
    confusion_pairs,
    overall,
    paired_difference,
    paired_test,
    run_hits,
)
from vtd_jax.evaluate.tables import INTERVAL, Plain, Table, split_table
from vtd_jax.terminal import counted

SIDE = ("A", "B")
COLUMNS = ("split", "videos", *SIDE, "B − A", INTERVAL, "only A right", "only B right", "p")
# lines of `about` that say how a run was made, and those that say where
MADE = ("learnt", "seed", "config", "commit")
_PLACES = (*MADE, "versions", "device")


def comparison_table(
    a: Sequence[Mapping[str, SplitResult]],
    b: Sequence[Mapping[str, SplitResult]],
    about: Mapping[str, Any] | None = None,
    top: int = 5,
) -> Table:
    """Two runs, or the seeds of two, on the same videos: one row a split, then HM or mean.

    Args:
      a, b: results of each run of a side, as `scores.match` returns them: the same splits, videos
        and order in all. Several runs of a side are seeds: their mean is compared, and no videos
        are counted as right in one only.
      about: told first below the table.
      top: how many classes that gained, and that lost most are told.
    """
    hits = [[run_hits(run) for run in side] for side in (a, b)]
    rows = []
    for split in a[0]:
        row = {"split": split, "videos": a[0][split].count}
        one_split = [[{split: run[split]} for run in side] for side in hits]
        found = paired_difference(*one_split, lambda accuracy, split=split: accuracy[split])
        row |= _row(found)
        if len(a) == len(b) == 1:
            pair = paired_test(hits[0][0][split], hits[1][0][split])
            row |= {"only A right": pair.only_a, "only B right": pair.only_b, "p": Plain(pair.p)}
        rows.append(row)
    exact = "McNemar's exact test for a split, " if len(a) == len(b) == 1 else ""
    if (whole := overall(a[0])) is not None:
        rows.append({"split": whole[0]} | _row(paired_difference(*hits, whole[1])))
    chance = (
        f"paired randomisation test ({SWAPS} exchanges)"
        if not exact or len(rows) > len(a[0])
        else ""
    )
    told = {
        INTERVAL: f"of B − A, percentile bootstrap over videos ({DRAWS} draws)",
        "p": f"two-sided: {exact}{chance}".removesuffix(", ")
        if len(a) == len(b)
        else "none: the sides have other numbers of seeds",
    }
    told |= _moved(a, b, top)
    columns = tuple(name for name in COLUMNS if any(row.get(name) is not None for row in rows))
    return Table("A against B: top-1 in percent", columns, tuple(rows), dict(about or {}) | told)


def own_table(
    title: str,
    results: Mapping[str, SplitResult],
    saved: Mapping[str, Any] | None = None,
    top: int = 5,
) -> Table:
    """A run's table again, from its scores, with its best and worst classes and most confused pairs
    told below it.

    Args:
      title: one line.
      results: split -> result.
      saved: what the run's `results.json` holds; its origins of lists and `about` are kept.
      top: how many classes and pairs are told.
    """
    saved = saved or {}
    rows = {row["split"]: row for row in saved.get("rows", ()) if row.get("split") in results}
    protocol = "base_to_novel" if {"base", "novel"} <= set(results) else "splits"
    about = dict(saved.get("about", {}))
    for split, result in results.items():
        there = [
            (value, name)
            for name, value in zip(result.class_names, result.per_class)
            if not np.isnan(value)
        ]
        ranked = sorted(there, key=lambda pair: -pair[0])
        for kind, classes in (("best", ranked[:top]), ("worst", ranked[::-1][:top])):
            about[f"{split}, {kind} classes"] = [
                f"{name} {100 * value:.1f}" for value, name in classes
            ]
        pairs = confusion_pairs(result, top)
        about[f"{split}, most confused"] = [
            f"{pair.true} as {pair.predicted} {pair.count} ({100 * pair.share:.1f} %)"
            for pair in pairs
        ] or "none"
    origins = {split: row["list"] for split, row in rows.items() if row.get("list")}
    left_out = {split: row["left out"] for split, row in rows.items() if row.get("left out")}
    return split_table(title, protocol, results, about, origins, left_out)


def describe_runs(sides: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Which runs a comparison is of, how each was made, and in which settings the first of each
    side differ.

    Args:
      sides: of A and B: what messages call a run -> the `about` of its table, empty where it is not
        known.
    """
    told: dict[str, Any] = {}
    for side, runs in zip(SIDE, sides):
        made = {
            name: ", ".join(f"{key} {about[key]}" for key in MADE if key in about)
            or "how it was made is not known"
            for name, about in runs.items()
        }
        told[side] = [f"{name} ({text})" for name, text in made.items()]
    one, two = (next(iter(runs.values())) for runs in sides)
    if one and two:
        keys = [
            key
            for key in dict.fromkeys((*one, *two))
            if key not in _PLACES and one.get(key) != two.get(key)
        ]
        differ = [f"{key}: {_word(one, key)} / {_word(two, key)}" for key in keys]
        if not differ and one.get("config") != two.get("config"):
            # a table lists what its numbers are of, not how long and how fast was learnt
            made = f"config {one.get('config')} / {two.get('config')}"
            differ = [f"those of training, see the config.json of the runs ({made})"]
        told["settings that differ"] = differ or "none"
    return told


def _word(about: Mapping[str, Any], key: str) -> str:
    value = about.get(key, "–")
    return ", ".join(map(str, value.values())) if isinstance(value, Mapping) else str(value)


def _row(found: Difference) -> dict[str, Any]:
    row = {"A": found.a, "B": found.b, "B − A": found.difference, INTERVAL: (found.low, found.high)}
    return row if found.p is None else row | {"p": Plain(found.p)}


def _moved(
    a: Sequence[Mapping[str, SplitResult]], b: Sequence[Mapping[str, SplitResult]], top: int
) -> dict[str, Any]:
    """Of every split, the classes whose top-1 rose and fell most from A to B, with their videos."""
    told = {}
    for split, result in a[0].items():
        one, two = (np.mean([run[split].per_class for run in side], 0) for side in (a, b))
        counts = np.bincount(result.labels, minlength=len(result.class_names))
        change = np.nan_to_num(two - one)
        for kind, order in (
            ("gained", np.argsort(-change, kind="stable")),
            ("lost", np.argsort(change, kind="stable")),
        ):
            moved = [
                place
                for place in order[:top]
                if (change[place] > 0 if kind == "gained" else change[place] < 0)
            ]
            told[f"{split}, {kind} most"] = [
                f"{result.class_names[place]} {100 * change[place]:+.1f} "
                f"({counted(counts[place], 'video')})"
                for place in moved
            ] or "none"
    return told
