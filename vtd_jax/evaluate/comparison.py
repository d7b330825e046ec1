"""Tables from saved scores: of one run, and of two runs on the same videos."""

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
from vtd_jax.printable import brief
from vtd_jax.terminal import counted

SIDE = ("A", "B")
# classes and pairs listed below a table
_TOP = 5
COLUMNS = ("split", "videos", *SIDE, "B − A", INTERVAL, "only A right", "only B right", "p")
# keys of `about` that describe how a run was made, and those that may differ between equal runs
MADE = ("learnt", "seed", "config", "commit")
_PLACES = (*MADE, "versions", "device", "data")


def comparison_table(
    a: Sequence[Mapping[str, SplitResult]],
    b: Sequence[Mapping[str, SplitResult]],
    about: Mapping[str, Any] | None = None,
) -> Table:
    """Compares two runs, or the seeds of two, on the same videos: one row a split, then HM or mean.

    Args:
      a, b: results of each run of a side, as from `scores.match`: the same splits, videos and order
        in all. Several runs of a side are seeds: their means are compared, without counts of videos
        that only one is right in.
      about: first lines below the table.
    """
    hits = [[run_hits(run) for run in side] for side in (a, b)]
    rows = []
    for split in a[0]:
        row = {"split": split, "videos": a[0][split].count}
        one, two = ([{split: run[split]} for run in side] for side in hits)
        row |= _row(paired_difference(one, two, lambda accuracy, split=split: accuracy[split]))
        if len(a) == len(b) == 1:
            pair = paired_test(hits[0][0][split], hits[1][0][split])
            row |= {"only A right": pair.only_a, "only B right": pair.only_b, "p": Plain(pair.p)}
        rows.append(row)
    exact = "McNemar's exact test for a split, " if len(a) == len(b) == 1 else ""
    if (whole := overall(a[0])) is not None:
        rows.append({"split": whole[0]} | _row(paired_difference(hits[0], hits[1], whole[1])))
    # HM and mean have no exact test
    chance = f"paired randomisation test ({SWAPS} exchanges)"
    chance = chance if not exact or len(rows) > len(a[0]) else ""
    p = f"two-sided: {exact}{chance}".removesuffix(", ")
    notes = {
        INTERVAL: f"of B − A, percentile bootstrap over videos ({DRAWS} draws)",
        "p": p if len(a) == len(b) else "none: the sides have other numbers of seeds",
    }
    notes |= _moved(a, b)
    columns = tuple(name for name in COLUMNS if any(row.get(name) is not None for row in rows))
    return Table("A against B: top-1 in percent", columns, tuple(rows), dict(about or {}) | notes)


def own_table(
    title: str,
    results: Mapping[str, SplitResult],
    saved: Mapping[str, Any] | None = None,
) -> Table:
    """A run's table from its scores, with best and worst classes and most confused pairs below it.

    Args:
      title: one line.
      results: split -> result.
      saved: content of the run's `results.json`; its origins of lists and `about` are kept.
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
        for kind, classes in (("best", ranked[:_TOP]), ("worst", ranked[::-1][:_TOP])):
            about[f"{split}, {kind} classes"] = [
                f"{name} {100 * value:.1f}" for value, name in classes
            ]
        pairs = confusion_pairs(result, _TOP)
        about[f"{split}, most confused"] = [
            f"{pair.true} as {pair.predicted} {pair.count} ({100 * pair.share:.1f} %)"
            for pair in pairs
        ] or "none"
    origins = {split: row["list"] for split, row in rows.items() if row.get("list")}
    left_out = {split: row["left out"] for split, row in rows.items() if row.get("left out")}
    return split_table(title, protocol, results, about, origins, left_out)


def describe_runs(sides: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Lines about the runs of a comparison: how each was made, and which settings differ.

    Args:
      sides: of A and B: name of a run -> the `about` of its table, empty if unknown. Settings of
        the first run of each side are compared.
    """
    lines: dict[str, Any] = {}
    for side, runs in zip(SIDE, sides):
        made = {
            name: ", ".join(f"{key} {about[key]}" for key in MADE if key in about)
            or "how it was made is not known"
            for name, about in runs.items()
        }
        lines[side] = [f"{name} ({text})" for name, text in made.items()]
    if ways := preprocess_differs(sides):
        lines["preprocess differs"] = ways
    one, two = (next(iter(runs.values())) for runs in sides)
    if one and two:
        known = {**one, **two}
        if not ("preprocess" in one and "preprocess" in two) and _way(one) == _way(two):
            # a table of an earlier version has no such line
            known.pop("preprocess", None)
        keys = [key for key in known if key not in _PLACES and one.get(key) != two.get(key)]
        differ = [f"{key}: {_word(one, key)} / {_word(two, key)}" for key in keys]
        if not differ and one.get("config") != two.get("config"):
            # `about` has no settings of the optimizer
            made = f"config {one.get('config')} / {two.get('config')}"
            differ = [f"those of training, see the config.json of the runs ({made})"]
        lines["settings that differ"] = differ or "none"
    return lines


def preprocess_differs(sides: Sequence[Mapping[str, Mapping[str, Any]]]) -> str:
    """How frames of each side were scaled, if not all runs scaled theirs in one way; else "".

    Args:
      sides: as for `describe_runs`.
    """
    ways = [list(dict.fromkeys(_way(about) for about in runs.values() if about)) for runs in sides]
    if len({way for side in ways for way in side}) < 2:
        return ""
    said = "; ".join(
        f"{side} {' and '.join(way) or 'unknown'}" for side, way in zip(SIDE, ways, strict=True)
    )
    return f"{said}: other pixels, so that not all of B − A is the models'"


def _way(about: Mapping[str, Any]) -> str:
    """The way without its details; tables of earlier versions are of the release's."""
    way = str(about.get("preprocess", "release")).partition(":")[0]
    return way if way in ("clip", "release") else brief(way)


def _word(about: Mapping[str, Any], key: str) -> str:
    value = about.get(key, "–")
    return ", ".join(map(str, value.values())) if isinstance(value, Mapping) else str(value)


def _row(found: Difference) -> dict[str, Any]:
    row = {"A": found.a, "B": found.b, "B − A": found.difference, INTERVAL: (found.low, found.high)}
    return row if found.p is None else row | {"p": Plain(found.p)}


def _moved(
    a: Sequence[Mapping[str, SplitResult]], b: Sequence[Mapping[str, SplitResult]]
) -> dict[str, Any]:
    """The classes of every split whose top-1 rose and fell most from A to B."""
    found = {}
    for split, result in a[0].items():
        one, two = (np.mean([run[split].per_class for run in side], 0) for side in (a, b))
        counts = np.bincount(result.labels, minlength=len(result.class_names))
        # nan: a class without videos
        change = np.nan_to_num(two - one)
        for kind, gain in (("gained", change), ("lost", -change)):
            order = np.argsort(-gain, kind="stable")[:_TOP]
            found[f"{split}, {kind} most"] = [
                f"{result.class_names[k]} {100 * change[k]:+.1f} "
                f"({counted(int(counts[k]), 'video')})"
                for k in order
                if gain[k] > 0
            ] or "none"
    return found
