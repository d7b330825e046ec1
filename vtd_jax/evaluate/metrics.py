"""Accuracies of a split, from scores; NumPy and SciPy only."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from vtd_jax.finite import finite_rows


@dataclasses.dataclass(frozen=True, eq=False)
class SplitResult:
    """Scores of a split's videos, each counted once.

    Attributes:
      class_names: the K names of the codebook.
      scores: float32 `[N, K]`, higher is likelier; one row a video, in the order of the records.
      labels: int32 `[N]`, in 0..K-1.
      videos: N file names, relative to the folder that the records were built from; empty if
        unknown.
      tied: whether several classes had the most votes up to rounding, in any view
        (`vtd_jax.model.ties`); None without a video token, or for older scores.
    """

    class_names: tuple[str, ...]
    scores: Float[np.ndarray, "n k"]
    labels: Int[np.ndarray, " n"]
    videos: tuple[str, ...] = ()
    tied: Bool[np.ndarray, " n"] | None = None

    @property
    def ties(self) -> float | None:
        """Share of videos, 0..1, with tied votes; None if unknown."""
        return None if self.tied is None else float(self.tied.mean())

    @property
    def count(self) -> int:
        """Number of videos."""
        return len(self.labels)

    @property
    def predictions(self) -> Int[np.ndarray, " n"]:
        """The class with the highest score; the first one of equal ones."""
        return self.scores.argmax(-1)

    @property
    def hits(self) -> Bool[np.ndarray, " n"]:
        """Whether a video is classified correctly; False if one of its scores is not finite."""
        return (self.predictions == self.labels) & finite_rows(self.scores)

    @property
    def top1(self) -> float:
        """Share of videos, 0..1, that are classified correctly."""
        return top_k(self.scores, self.labels, 1)

    @property
    def top5(self) -> float | None:
        """Share of videos, 0..1, whose class is among the best five; None up to five classes."""
        return top_k(self.scores, self.labels, 5) if len(self.class_names) > 5 else None

    @property
    def per_class(self) -> Float[np.ndarray, " k"]:
        """Top-1 of each class, nan for a class without videos."""
        hits = np.bincount(self.labels, self.hits, len(self.class_names))
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        return np.divide(hits, counts, out=np.full(len(counts), np.nan), where=counts > 0)


def top_k(scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"], k: int) -> float:
    """Share of rows, 0..1, whose label is among the `k` highest scores.

    The lower class id wins among equal scores. A row with a score that is not finite is wrong.
    """
    # stable: the lower class id first
    order = np.argsort(-scores, axis=-1, kind="stable")[:, :k]
    hits = (order == labels[:, None]).any(-1) & finite_rows(scores)
    return float(hits.mean())


def harmonic_mean(values: Sequence[float | np.ndarray]) -> Any:
    """Harmonic mean of accuracies, 0 if one of them is 0 (HM of base-to-novel tables).

    The mean of arrays is elementwise.
    """
    # imported here: it takes half a second, and runs need it only at their end
    from scipy.stats import hmean

    mean = hmean(np.asarray(values, np.float64), axis=0)
    return mean if mean.ndim else float(mean)
