"""Segments of a video that show a label, built window by window."""

import dataclasses

import numpy as np
from jaxtyping import Float32

from vtd_jax.predict.results import Segment


@dataclasses.dataclass
class _Stretch:
    """A segment that may still grow; see `Segment`."""

    start: float
    end: float
    scores: list[float] = dataclasses.field(default_factory=list)
    peak: float = 0.0
    peak_at: float = 0.0
    best: bool = False

    def grow(self, end: float, middle: float, score: float, best: bool) -> None:
        """Adds the next window."""
        self.end = end
        self.scores.append(score)
        if score > self.peak:
            self.peak, self.peak_at = score, middle
        self.best = self.best or best

    def segment(self, label: str) -> Segment:
        """The finished stretch."""
        mean = float(np.mean(self.scores))
        return Segment(label, self.start, self.end, mean, self.peak, self.peak_at, self.best)


class Segments:
    """Grows the segments of every label, window by window."""

    def __init__(self, labels: tuple[str, ...], threshold: float):
        self._labels, self._threshold = labels, threshold
        self._open: dict[int, _Stretch] = {}
        self._done: list[Segment] = []

    def add(
        self, start: float, end: float, middle: float, scores: Float32[np.ndarray, " k"]
    ) -> None:
        """Adds the next window. It shows its best label, and all labels above the threshold.

        Args:
          start, end: seconds that the window stands for.
          middle: of the window, seconds.
          scores: of all labels, 0..1.
        """
        best = int(scores.argmax())
        shown = {best, *np.flatnonzero(scores >= self._threshold).tolist()}
        for label in self._open.keys() - shown:
            self._finish(label)
        for label in shown:
            stretch = self._open.setdefault(label, _Stretch(start, end))
            stretch.grow(end, middle, float(scores[label]), label == best)

    def close(self) -> tuple[Segment, ...]:
        """Ends all segments and returns them by start and label."""
        for label in list(self._open):
            self._finish(label)
        return tuple(sorted(self._done, key=lambda segment: (segment.start, segment.label)))

    def _finish(self, label: int) -> None:
        self._done.append(self._open.pop(label).segment(self._labels[label]))
