"""What a study found: the rules side by side, row by row, with a paired test over seeds."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.vote_study.conditions import CONDITIONS, RELEASED, RULES
from experiments.vote_study.runs import FIGURES, Run
from vtd_jax.errors import UserError
from vtd_jax.evaluate.tables import Table

# seeds beyond which the exact test would take long
MOST_SEEDS = 20
_ALL = "mean of all rows"


def sign_flips(differences: Sequence[float]) -> float:
    """The two-sided p-value of paired differences: the share of all ways to exchange the sides of
    pairs whose mean is as far from 0. Exact; with n pairs at least 2 / 2ⁿ.

    Raises:
      UserError: more than `MOST_SEEDS` differences.
    """
    if len(differences) > MOST_SEEDS:
        raise UserError(f"{len(differences)} seeds: expected at most {MOST_SEEDS}")
    values = np.asarray(differences, np.float64)
    signs = np.array(list(itertools.product((1, -1), repeat=len(values))))
    # halves of a unit in the last place are no difference
    return float((abs(signs @ values) >= abs(values.sum()) - 1e-12).mean())


def by_row(runs: Sequence[Run], figure: str) -> dict[str, dict[str, np.ndarray]]:
    """Condition -> rule, learnt and evaluated with -> a figure of every seed, in the order of the
    seeds that all rules of the condition have.
    """
    found: dict[str, dict[str, dict[int, float]]] = {}
    for run in (run for run in runs if run["rule"] == run["evaluated"]):
        of_rule = found.setdefault(run["condition"], {}).setdefault(run["rule"], {})
        of_rule[run["seed"]] = run[figure]
    rows = {}
    for condition in [one.name for one in CONDITIONS if one.name in found]:
        seeds = sorted(set.intersection(*(set(each) for each in found[condition].values())))
        rules = [rule for rule in RULES if rule in found[condition]]
        rows[condition] = {
            rule: np.array([found[condition][rule][seed] for seed in seeds]) for rule in rules
        }
    return rows


def study_table(runs: Sequence[Run], made: Mapping[str, str]) -> Table:
    """HM of every row: as released, and what the other rules add to it."""
    rows, table = by_row(runs, "HM"), []
    if not rows or any(RELEASED not in rules for rules in rows.values()):
        raise UserError(f"no runs {RELEASED} to compare with")
    others = [
        rule for rule in RULES if rule != RELEASED and all(rule in of for of in rows.values())
    ]
    for condition, of_rule in rows.items():
        released = 100 * of_rule[RELEASED]
        row: dict[str, Any] = {"scenes": condition, RELEASED: _spread(released)}
        for rule in others:
            row[rule] = f"{(100 * of_rule[rule] - released).mean():+.1f}"
        table.append(row)
    table.append(_mean_row(rows, others))
    return Table(
        "Rules of the vote on rendered scenes: HM of base and novel, and what another rule adds",
        ("scenes", RELEASED, *others),
        tuple(table),
        about(rows, others) | dict(made),
        whole=("scenes",),
    )


def about(rows: Mapping[str, Mapping[str, np.ndarray]], others: Sequence[str]) -> dict[str, str]:
    """A line for every rule: mean, test over seeds, worst row, how many single runs lose."""
    lines = {}
    for rule in others:
        seeds, worst, row = summary(rows, rule)
        better = sum(one > 0 for one in seeds)
        lines[rule] = (
            f"{100 * np.mean(seeds):+.2f} HM in the mean of rows, better on {better} of "
            f"{len(seeds)} seeds, p = {sign_flips(seeds):.2g} (exact paired test over seeds)"
        )
        if len(seeds) > 1:
            lines[rule] += (
                f"; worst row, {row}: {worst:+.2f} standard deviations of {RELEASED} over seeds"
            )
        gains = np.concatenate([of[rule] - of[RELEASED] for of in rows.values()])
        lines[rule] += f"; lower in {(gains < 0).sum()} of {len(gains)} single runs"
    count = len(next(iter(rows.values()))[RELEASED])
    lines["seeds"] = f"{count}, which fix classes, clips and training; ± is over them"
    return lines


def summary(
    rows: Mapping[str, Mapping[str, np.ndarray]], rule: str
) -> tuple[list[float], float, str]:
    """How a rule compares with the release.

    Returns:
      The mean over rows of its difference on every seed that all rows have; its least difference on
      a row, in standard deviations of the released HM over seeds; and that row.
    """
    differences = {name: of[rule] - of[RELEASED] for name, of in rows.items()}
    if len({len(each) for each in differences.values()}) > 1:
        raise UserError("rows have different seeds: run the rest of them first")
    scaled = {}
    for name, each in differences.items():
        deviation = rows[name][RELEASED].std(ddof=1) if len(each) > 1 else np.nan
        scaled[name] = float(each.mean() / deviation) if deviation else float("nan")
    row = min(scaled, key=lambda name: (scaled[name], name))
    return np.mean(list(differences.values()), axis=0).tolist(), scaled[row], row


def tokens_table(runs: Sequence[Run]) -> Table:
    """The video token of every rule, and what learning with it leads to; in the mean of all rows.

    Rows are rules; with an arrow the one to learn with and another one to evaluate with.
    """
    table = []
    for learnt, evaluated in itertools.product(RULES, RULES):
        some = [run for run in runs if (run["rule"], run["evaluated"]) == (learnt, evaluated)]
        if not some:
            continue
        mean = {name: float(np.mean([run[name] for run in some])) for name in FIGURES}
        right, named = (mean["base"] + mean["novel"]) / 2, mean["token_right"]
        table.append(
            {
                "rule": learnt if learnt == evaluated else f"{learnt} → {evaluated}",
                "HM": mean["HM"],
                "token is the class": named,
                "right if it is": mean["both_right"] / named if named else None,
                "right if not": (right - mean["both_right"]) / (1 - named) if named < 1 else None,
                "token named one frame": mean["token_of_one"],
                "votes tie": mean["tied"],
            }
        )
    return Table("Video tokens, mean of all rows and seeds", tuple(table[0]), tuple(table))


def _mean_row(rows: Mapping[str, Mapping[str, np.ndarray]], others: Sequence[str]) -> dict:
    released = [100 * of[RELEASED].mean() for of in rows.values()]
    row: dict[str, Any] = {"scenes": _ALL, RELEASED: f"{np.mean(released):.1f}"}
    for rule in others:
        gains = [100 * (of[rule] - of[RELEASED]).mean() for of in rows.values()]
        row[rule] = f"{np.mean(gains):+.1f}"
    return row


def _spread(values: np.ndarray) -> str:
    spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread}"
