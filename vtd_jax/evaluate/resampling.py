"""Accuracies of resampled videos, and after exchanging the hits of two runs.

SciPy's `bootstrap` and `permutation_test` take 35 to 460 times as long for 10 000 resamples of
1 500 to 20 000 videos, and they draw otherwise, which would change every reported interval.
"""

import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

# split -> bool `[N]`, whether each video is classified correctly
Hits = Mapping[str, np.ndarray]


def _generator(seed: int, split: str, run: int = 0) -> np.random.Generator:
    # not hash(), which differs between processes
    return np.random.default_rng([seed, zlib.crc32(split.encode()), run])


def _patterns(hits: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The distinct columns of `[runs, N]` hits: float64 `[P, runs]`, and how many videos have each,
    `[P]`.
    """
    columns, counts = np.unique(np.stack(hits, -1), axis=0, return_counts=True)
    return columns.astype(np.float64), counts


def _parts(table: np.ndarray, patterns: int) -> Iterator[np.ndarray]:
    """A few rows at a time: with many runs there are up to as many patterns as videos."""
    # 128 MiB of float64
    step = max(1, 2**24 // max(1, patterns))
    return (table[start : start + step] for start in range(0, len(table), step))


def resample(
    runs: Sequence[Hits], joint: Collection[str] | None, draws: int, seed: int
) -> list[dict[str, Any]]:
    """Accuracies of resampled videos: of each run, split -> float64 `[draws]`.

    Videos with the same hits in all runs are exchangeable, so the number of draws of each such
    pattern is multinomial. This is the bootstrap itself, without drawing single videos.
    """
    out: list[dict[str, Any]] = [{} for _ in runs]
    for split in runs[0]:
        hits = [run[split] for run in runs]
        is_joint = len({len(each) for each in hits}) == 1 if joint is None else split in joint
        for place, group in enumerate([hits] if is_joint else [[each] for each in hits]):
            patterns, counts = _patterns(group)
            total, generator = int(counts.sum()), _generator(seed, split, place)
            accuracy = np.empty((draws, len(group)))
            for rows in _parts(accuracy, len(counts)):
                rows[:] = generator.multinomial(total, counts / total, len(rows)) @ patterns / total
            for index, values in enumerate(accuracy.T, start=place):
                out[index][split] = values
    return out


def exchange(a: Sequence[Hits], b: Sequence[Hits], swaps: int, seed: int) -> list[dict[str, Any]]:
    """Accuracies after randomly exchanging hits of A and B on each video: runs of A, then of B."""
    out: list[dict[str, Any]] = [{} for _ in (*a, *b)]
    for split in a[0]:
        patterns, counts = _patterns([run[split] for run in (*a, *b)])
        one, two = patterns[:, : len(a)], patterns[:, len(a) :]
        # a binomial number of the videos of a pattern is exchanged; only where A and B differ does
        # it matter
        matter = (one != two).any(1)
        change, generator = (two - one)[matter], _generator(seed, split)
        moved = np.empty((swaps, len(a)))
        for rows in _parts(moved, len(change)):
            exchanged = generator.binomial(counts[matter], 0.5, (len(rows), len(change)))
            rows[:] = exchanged @ change / counts.sum()
        for place, (before, after) in enumerate(zip((counts @ one).T, (counts @ two).T)):
            out[place][split] = before / counts.sum() + moved[:, place]
            out[place + len(a)][split] = after / counts.sum() - moved[:, place]
    return out
