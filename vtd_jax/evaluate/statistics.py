"""Calibration, confusions, bootstrap intervals and paired tests; NumPy and SciPy only.

Intervals and tests are about videos: what these models would score on other videos of the same
kind. The effect of the training seed is not in them; the spread over seeds shows it. A video in
several splits counts as a different one in each.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from vtd_jax.evaluate.metrics import SplitResult, harmonic_mean
from vtd_jax.evaluate.resampling import Hits, exchange, resample
from vtd_jax.finite import finite_rows

LEVEL, DRAWS, SWAPS, BINS = 0.95, 2000, 10_000, 15
# accuracies by split (numbers, or arrays with one entry a draw) -> their mean, HM, …
Statistic = Callable[[Mapping[str, Any]], Any]


class Confusion(NamedTuple):
    """`count` videos of class `true`, a `share` (0..1) of them, were classified as `predicted`."""

    true: str
    predicted: str
    count: int
    share: float


class Paired(NamedTuple):
    """Numbers of videos that only A, or only B, has right; two-sided p of McNemar's test."""

    only_a: int
    only_b: int
    p: float


class Difference(NamedTuple):
    """A statistic of A and B, their difference B - A, its bootstrap interval `low` to `high`, and p
    of the randomisation test.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float | None


def probabilities(scores: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """Float64 probabilities: each row, a sum over views of softmax(logits), divided by its sum.

    A row that is not such a sum (a score below 0 or not finite, or only zeros) becomes nan.
    """
    wide = scores.astype(np.float64)
    total = wide.sum(-1, keepdims=True)
    good = np.isfinite(total) & (total > 0) & (wide >= 0).all(-1, keepdims=True)
    return np.divide(wide, total, out=np.full(wide.shape, np.nan), where=good)


def calibration_error(
    scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"], bins: int = BINS
) -> float:
    """Expected calibration error (ECE): distance of confidence and accuracy, averaged over videos.

    The confidence is the highest probability. Bins have equal width and include their upper edge:
    (0, 1/bins], ….

    Args:
      scores: as in `probabilities`.
      labels: class ids.
      bins: their number.

    Returns:
      The error, 0..1; nan if a row has no probabilities.

    References:
      Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.
    """
    found = probabilities(scores)
    confidence = found.max(-1)
    if not np.isfinite(confidence).all():
        return float("nan")
    hits = found.argmax(-1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    # a bin's |mean confidence - accuracy|, weighted by its share of the videos
    sums = [np.bincount(place, values, bins) for values in (confidence, hits)]
    return float(np.abs(sums[0] - sums[1]).sum() / len(labels))


def confusion_pairs(result: SplitResult, top: int | None = None) -> list[Confusion]:
    """Confused classes, most frequent first; lower class ids first among equal counts.

    Videos with a score that is not finite have no prediction and are left out.

    Args:
      result: of a split.
      top: number of pairs; None for all.
    """
    classes = len(result.class_names)
    wrong = ~result.hits & finite_rows(result.scores)
    taken = result.labels[wrong].astype(np.int64) * classes + result.predictions[wrong]
    pairs, counts = np.unique(taken, return_counts=True)
    sizes, names = np.bincount(result.labels, minlength=classes), result.class_names
    found = []
    for place in np.argsort(-counts, kind="stable")[:top]:
        true, predicted = divmod(int(pairs[place]), classes)
        count = int(counts[place])
        found.append(Confusion(names[true], names[predicted], count, count / int(sizes[true])))
    return found


def run_hits(results: Mapping[str, SplitResult]) -> dict[str, np.ndarray]:
    """Split -> bool `[N]`, whether each video is classified correctly."""
    return {split: result.hits for split, result in results.items()}


def same_videos(runs: Sequence[Mapping[str, SplitResult]]) -> frozenset[str]:
    """The splits with the same videos and labels, in the same order, in all runs."""
    first = runs[0]

    def same(one: SplitResult, two: SplitResult) -> bool:
        return one.videos == two.videos and np.array_equal(one.labels, two.labels)

    return frozenset(s for s in first if all(s in run and same(first[s], run[s]) for run in runs))


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    """The interval of the middle `LEVEL` of values."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def overall(splits: Collection[str]) -> tuple[str, Statistic] | None:
    """A protocol's summary of its splits: "HM" of base and novel, or "mean"; None for one split."""
    if {"base", "novel"} <= set(splits):
        return "HM", lambda accuracy: harmonic_mean([accuracy["base"], accuracy["novel"]])
    if len(splits) > 1:
        return "mean", lambda accuracy: sum(accuracy.values()) / len(accuracy)
    return None


def interval(
    runs: Sequence[Hits],
    statistic: Statistic,
    *,
    joint: Collection[str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic's mean over runs, which are training seeds.

    Videos are drawn with replacement, each split on its own. The interval has no width if all
    videos are right, or none.

    Args:
      runs: of each, split -> bool `[N]`, with the same splits.
      statistic: of one run: split -> float64 `[draws]` accuracies -> float64 `[draws]`.
      joint: splits with the same videos in all runs (`same_videos`), which share their draws; None
        for all splits with the same number of videos in all runs.
      draws: number of draws.
      seed: of the draws; those of a split depend only on it and the split's name and hits.

    References:
      Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    drawn = resample(runs, joint, draws, seed)
    return _percentiles(np.mean([statistic(run) for run in drawn], 0))


def paired_test(a: Bool[np.ndarray, " n"], b: Bool[np.ndarray, " n"]) -> Paired:
    """Compares hits of two runs on the same videos, in the same order.

    p is that of McNemar's exact test: if A and B are equally good, a video that only one of them
    has right is A's or B's with equal probability.

    References:
      McNemar, Psychometrika 12, 1947; Dietterich, Neural Computation 10, 1998.
    """
    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(~a & b))
    # imported here: it takes half a second
    from scipy.stats import binomtest

    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a != only_b else 1.0
    return Paired(only_a, only_b, p)


def paired_difference(
    a: Sequence[Hits],
    b: Sequence[Hits],
    statistic: Statistic,
    *,
    draws: int = DRAWS,
    swaps: int = SWAPS,
    seed: int = 0,
) -> Difference:
    """Compares a statistic's mean over the runs of A and of B, on the same videos in one order.

    p is that of a paired randomisation test. If A and B are equally good, exchanging their hits on
    a video changes nothing, so the difference is compared with those after random exchanges. All
    runs (seeds) of a side are exchanged at once, video by video: p is None if A and B have not the
    same number of runs.

    Args:
      a, b: of each run, split -> bool `[N]`; the same splits and N in all.
      statistic: as for `interval`; it is also called with plain numbers.
      draws: of the bootstrap.
      swaps: of the randomisation test; the smallest p is 1 / (swaps + 1).
      seed: as for `interval`.

    References:
      Noreen, Computer-Intensive Methods for Testing Hypotheses, 1989.
    """
    runs = [*a, *b]

    def difference(accuracies: Sequence[Mapping[str, Any]]) -> Any:
        found = [statistic(run) for run in accuracies]
        return np.mean(found[len(a) :], 0) - np.mean(found[: len(a)], 0)

    plain = [{split: float(np.mean(hits)) for split, hits in run.items()} for run in runs]
    found = float(difference(plain))
    low, high = _percentiles(difference(resample(runs, list(a[0]), draws, seed)))
    p = None
    if len(a) == len(b):
        chance = np.abs(difference(exchange(a, b, swaps, seed)))
        # equal differences can differ in their last bits
        p = float(1 + np.sum(chance >= abs(found) - 1e-12)) / (1 + swaps)
    of_a, of_b = (
        float(np.mean([statistic(run) for run in side]))
        for side in (plain[: len(a)], plain[len(a) :])
    )
    return Difference(of_a, of_b, found, low, high, p)
