"""Accuracies of a split, from scores; NumPy and SciPy only."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from vtd_jax.finite import finite_rows


@dataclasses.dataclass(frozen=True, eq=False)
class SplitResult:
    """What a split's videos scored, each counted once.

    Attributes:
      class_names: the K names whose codebook was used.
      scores: float32 `[N, K]`, higher is likelier; one row a video, in the records' order.
      labels: int32 `[N]`, in 0..K-1.
      videos: N file names, below the folder that the records were built from; empty where they are
        not known.
      tied: whether several classes had the most votes to rounding, in any view
        (`vtd_jax.model.ties`); None where no video token took part, or in scores of before this was
        noted.
    """

    class_names: tuple[str, ...]
    scores: Float[np.ndarray, "n k"]
    labels: Int[np.ndarray, " n"]
    videos: tuple[str, ...] = ()
    tied: Bool[np.ndarray, " n"] | None = None

    @property
    def ties(self) -> float | None:
        """Share of videos, 0..1, with a tie of votes; None where that is not known."""
        return None if self.tied is None else float(self.tied.mean())

    @property
    def count(self) -> int:
        """How many videos were scored."""
        return len(self.labels)

    @property
    def predictions(self) -> Int[np.ndarray, " n"]:
        """The class with the highest score; the first one of equals."""
        return self.scores.argmax(-1)

    @property
    def hits(self) -> Bool[np.ndarray, " n"]:
        """Whether a video's highest score is its class's; never where a score is not a number."""
        return (self.predictions == self.labels) & finite_rows(self.scores)

    @property
    def top1(self) -> float:
        """Share of videos, 0..1, whose highest score is their class's."""
        return top_k(self.scores, self.labels, 1)

    @property
    def top5(self) -> float | None:
        """Share of videos, 0..1, whose class is among the five highest; None where there are five
        classes or fewer.
        """
        return top_k(self.scores, self.labels, 5) if len(self.class_names) > 5 else None

    @property
    def per_class(self) -> Float[np.ndarray, " k"]:
        """Top-1 of each class's videos, nan for a class without any."""
        hits = np.bincount(self.labels, self.hits, len(self.class_names))
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        return np.divide(hits, counts, out=np.full(len(counts), np.nan), where=counts > 0)


def top_k(scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"], k: int) -> float:
    """Share of rows, 0..1, whose label is among the `k` highest scores; of equal scores the lower
    class id wins.

    A row with a score that is not a number counts as wrong.
    """
    order = np.argsort(-scores, axis=-1, kind="stable")[:, :k]
    hits = (order == labels[:, None]).any(-1) & finite_rows(scores)
    return float(hits.mean())


def harmonic_mean(values: Sequence[float | np.ndarray]) -> Any:
    """Harmonic mean of accuracies, 0 where one of them is 0 (the HM of base-to-novel tables).

    Arrays of one shape are averaged element by element and give an array, numbers give a number.
    """
    # imported here: it takes half a second, and no run needs it before its last line
    from scipy.stats import hmean

    found = hmean(np.asarray(values, np.float64), axis=0)
    return found if found.ndim else float(found)
