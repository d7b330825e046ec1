"""What a protocol reports of several runs: means, deviations and intervals of their scores."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vtd_jax.evaluate.metrics import SplitResult, harmonic_mean
from vtd_jax.evaluate.statistics import (
    Difference,
    Statistic,
    calibration_error,
    interval,
    overall,
    paired_difference,
    run_hits,
    same_videos,
)
from vtd_jax.evaluate.tables import Spread

# split -> result, of one run
Results = Mapping[str, SplitResult]


@dataclasses.dataclass(frozen=True)
class Summary:
    """Several runs of one row.

    Attributes:
      values: metric -> mean over the runs, 0..1; a `Spread` of several.
      headline: main metric of the protocol: HM, mean, or top-1.
      interval: bootstrap interval of the headline over videos, of all runs.
      calibration: expected calibration error, mean over runs and splits; None if scores are not
        probabilities.
      runs: number of runs.
    """

    values: Mapping[str, float]
    headline: str
    interval: tuple[float, float]
    calibration: float | None
    runs: int


def accuracies(results: Results) -> dict[str, float]:
    """Metrics of one run: base, novel and HM; or each split and the mean; or top-1 and top-5."""
    if {"base", "novel"} <= set(results):
        base, novel = results["base"].top1, results["novel"].top1
        return {"base": base, "novel": novel, "HM": harmonic_mean([base, novel])}
    if len(results) > 1:
        found = {split: result.top1 for split, result in results.items()}
        return found | {"mean": float(np.mean(list(found.values())))}
    (result,) = results.values()
    return {"top-1": result.top1} | ({} if result.top5 is None else {"top-5": result.top5})


def _statistic(results: Results) -> tuple[str, Statistic]:
    (first, *_), found = results, overall(results)
    return found or ("top-1", lambda accuracy: accuracy[first])


def summarize(runs: Sequence[Results]) -> Summary:
    """Means over one or more runs, seeds of one setting, with the same splits."""
    each = [accuracies(results) for results in runs]
    name, statistic = _statistic(runs[0])
    errors = [
        calibration_error(one.scores, one.labels) for results in runs for one in results.values()
    ]
    return Summary(
        {metric: spread([one[metric] for one in each]) for metric in each[0]},
        name,
        interval([run_hits(results) for results in runs], statistic, joint=same_videos(runs)),
        float(np.mean(errors)) if np.isfinite(errors).all() else None,
        len(runs),
    )


def spread(values: Sequence[float]) -> float:
    """The mean of fractions; a `Spread` (deviation with n - 1) of several."""
    mean = float(np.mean(values))
    return Spread(mean, float(np.std(values, ddof=1))) if len(values) > 1 else mean


def compare(a: Sequence[Results], b: Sequence[Results]) -> Difference | None:
    """Compares B with A by their headline; None if they were not scored on the same videos."""
    if any(set(one) != set(a[0]) for one in (*a, *b)) or same_videos([*a, *b]) != frozenset(a[0]):
        return None
    return paired_difference(
        [run_hits(one) for one in a], [run_hits(one) for one in b], _statistic(a[0])[1]
    )


def distinct_values(about: Sequence[Mapping[str, Any]], *keys: str) -> str:
    """The distinct values of runs' `about` under nested keys, as text."""
    found: dict[str, None] = {}
    for one in about:
        value: Any = one
        for key in keys:
            value = value.get(key, "unknown") if isinstance(value, Mapping) else "unknown"
        found[str(value)] = None
    return ", ".join(found)
