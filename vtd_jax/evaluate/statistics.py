"""How sure an accuracy is: calibration, confusions, bootstrap intervals, paired tests; NumPy and
SciPy only.

Intervals and tests are about the videos: what would come out with other videos of the same kind,
for these very models.
What another training seed would change, they do not know; the spread over seeds tells that. A video
that is in several splits counts as a different one in each.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import bdtr

from vtd_jax.evaluate.metrics import SplitResult, harmonic_mean
from vtd_jax.evaluate.resampling import Hits, exchange, percentiles, resample

LEVEL, DRAWS, SWAPS, BINS = 0.95, 2000, 10_000, 15
# split -> accuracies (numbers, or arrays with one entry a draw) -> the number of interest, or one a
# draw
Statistic = Callable[[Mapping[str, Any]], Any]


class Calibration(NamedTuple):
    """`error` in 0..1, and of every bin: videos, their mean confidence and accuracy (nan where
    there are none).
    """

    error: float
    counts: Int[np.ndarray, " bins"]
    confidence: Float[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]


class Confusion(NamedTuple):
    """`count` videos of class `true` were taken for `predicted`, a `share` (0..1) of all videos of
    `true`.
    """

    true: str
    predicted: str
    count: int
    share: float


class Paired(NamedTuple):
    """Two runs, A and B, on the same videos of one split.

    Attributes:
      videos, both, only_a, only_b: how many videos there are, are right in both, in A only, in B
        only.
      difference: accuracy of B less that of A, -1..1; its bootstrap interval is `low` to `high`.
      p: two-sided, of McNemar's exact test.
    """

    videos: int
    both: int
    only_a: int
    only_b: int
    difference: float
    low: float
    high: float
    p: float


class Difference(NamedTuple):
    """A statistic of A, of B, B less A with its bootstrap interval `low` to `high`, and p of the
    randomisation test.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float | None


def probabilities(scores: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """Scores as float64 probabilities: each row, a sum over views of softmax(logits), divided by
      its sum.

    A row that is no such sum (a score below 0 or not a number, nothing but zeros) becomes nan.
    """
    wide = scores.astype(np.float64)
    total = wide.sum(-1, keepdims=True)
    good = np.isfinite(total) & (total > 0) & (wide >= 0).all(-1, keepdims=True)
    return np.divide(wide, total, out=np.full(wide.shape, np.nan), where=good)


def calibration_error(
    scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"], bins: int = BINS
) -> Calibration:
    """Expected calibration error (ECE): how far confidence is from accuracy, averaged over videos.

    The confidence is the highest probability. Bins are of equal width and hold their upper edge:
      (0, 1/bins], ….

    Args:
      scores: as in `probabilities`.
      labels: class ids.
      bins: how many.

    Returns:
      The error, 0..1 (nan where a row has no probabilities), and the bins of a reliability diagram.

    References:
      Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.
    """
    found = probabilities(scores)
    confidence = found.max(-1)
    nothing = np.full(bins, np.nan)
    if not np.isfinite(confidence).all():
        return Calibration(float("nan"), np.zeros(bins, np.int64), nothing, nothing)
    hits = found.argmax(-1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    sums = [np.bincount(place, values, bins) for values in (confidence, hits)]
    means = [np.divide(total, counts, out=nothing.copy(), where=counts > 0) for total in sums]
    return Calibration(float(np.abs(sums[0] - sums[1]).sum() / len(labels)), counts, *means)


def confusion_pairs(result: SplitResult, top: int | None = None) -> list[Confusion]:
    """Which classes were taken for which, most frequent first; of equal counts the lower class ids
    come first.

    Videos with a score that is not a number are left out: they were taken for nothing.

    Args:
      result: of a split.
      top: how many pairs; None for all.
    """
    classes = len(result.class_names)
    wrong = ~result.hits & np.isfinite(result.scores).all(-1)
    pairs, counts = np.unique(result.labels[wrong].astype(np.int64) * classes + result.predictions[wrong],
                              return_counts=True)  # fmt: skip
    sizes, names = np.bincount(result.labels, minlength=classes), result.class_names
    found = []
    for place in np.argsort(-counts, kind="stable")[:top]:
        true, predicted = divmod(int(pairs[place]), classes)
        count = int(counts[place])
        found.append(Confusion(names[true], names[predicted], count, count / int(sizes[true])))
    return found


def run_hits(results: Mapping[str, SplitResult]) -> dict[str, np.ndarray]:
    """Split -> bool `[N]`, whether each video is right."""
    return {split: result.hits for split, result in results.items()}


def same_videos(runs: Sequence[Mapping[str, SplitResult]]) -> frozenset[str]:
    """The splits that have the same videos and labels, in the same order, in all runs."""
    first = runs[0]

    def same(one: SplitResult, two: SplitResult) -> bool:
        return one.videos == two.videos and np.array_equal(one.labels, two.labels)

    return frozenset(s for s in first if all(s in run and same(first[s], run[s]) for run in runs))


def overall(splits: Collection[str]) -> tuple[str, Statistic] | None:
    """What a protocol reports over its splits: "HM" of base and novel, or the "mean"; None for a
    single split.
    """
    if {"base", "novel"} <= set(splits):
        return "HM", lambda accuracy: harmonic_mean([accuracy["base"], accuracy["novel"]])
    return (
        ("mean", lambda accuracy: sum(accuracy.values()) / len(accuracy))
        if len(splits) > 1
        else None
    )


def interval(
    runs: Sequence[Hits],
    statistic: Statistic,
    *,
    joint: Collection[str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic's mean over runs (training seeds; or a single
    run).

    Videos are drawn with replacement, each split on its own. Where all videos are right, or none,
    it has no width.

    Args:
      runs: of each, split -> bool `[N]`, with the same splits.
      statistic: of one run: split -> float64 `[draws]` accuracies -> float64 `[draws]`.
      joint: splits whose videos are the same in all runs (`same_videos`), which are drawn for all
        runs together; None for the splits that have as many videos in all runs.
      draws: how many times the videos are drawn.
      seed: of the draws; a split's draws depend on nothing but it and the split's name and hits.
      level: share of the draws inside.

    References:
      Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    drawn = resample(runs, joint, draws, seed)
    return percentiles(np.mean([statistic(run) for run in drawn], 0), level)


def paired_test(
    a: Bool[np.ndarray, " n"],
    b: Bool[np.ndarray, " n"],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> Paired:
    """Compares hits of two runs on the same videos, in the same order.

    p is McNemar's exact one: were A and B equally good, each video that only one of them has right
    would be as likely A's as B's.

    References:
      McNemar, Psychometrika 12, 1947; Dietterich, Neural Computation 10, 1998.
    """
    both, only_a, only_b = (int(np.sum(these)) for these in (a & b, a & ~b, ~a & b))
    p = (
        min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))
        if only_a != only_b
        else 1.0
    )
    one, two = resample([{"": a}, {"": b}], None, draws, seed)
    low, high = percentiles(two[""] - one[""], level)
    return Paired(len(a), both, only_a, only_b, (only_b - only_a) / len(a), low, high, p)


def paired_difference(
    a: Sequence[Hits],
    b: Sequence[Hits],
    statistic: Statistic,
    *,
    draws: int = DRAWS,
    swaps: int = SWAPS,
    seed: int = 0,
    level: float = LEVEL,
) -> Difference:
    """Compares a statistic's mean over the runs of A and of B, all on the same videos in the same
    order.

    p is that of a paired randomisation test: were A and B equally good, exchanging their hits on a
    video would change nothing, so the difference is compared with those after exchanging at random.
    The runs of a side (its seeds) are exchanged together, video by video, so both sides need as
    many: with other numbers p is None.

    Args:
      a, b: of each run, split -> bool `[N]`; the same splits and N everywhere.
      statistic: as for `interval`; it also gets plain numbers.
      draws: of the bootstrap.
      swaps: of the randomisation test; the smallest p is 1 / (swaps + 1).
      seed, level: as for `interval`.

    References:
      Noreen, Computer-Intensive Methods for Testing Hypotheses, 1989.
    """
    runs = [*a, *b]

    def difference(accuracies: Sequence[Mapping[str, Any]]) -> Any:
        found = [statistic(run) for run in accuracies]
        return np.mean(found[len(a) :], 0) - np.mean(found[: len(a)], 0)

    plain = [{split: float(np.mean(hits)) for split, hits in run.items()} for run in runs]
    found = float(difference(plain))
    low, high = percentiles(difference(resample(runs, list(a[0]), draws, seed)), level)
    p = None
    if len(a) == len(b):
        chance = np.abs(difference(exchange(a, b, swaps, seed)))
        # equal differences may differ in their last bits
        p = float(1 + np.sum(chance >= abs(found) - 1e-12)) / (1 + swaps)
    means = [
        float(np.mean([statistic(run) for run in side]))
        for side in (plain[: len(a)], plain[len(a) :])
    ]
    return Difference(*means, found, low, high, p)
