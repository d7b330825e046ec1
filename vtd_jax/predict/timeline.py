"""Hours of video: windows of frames that are encoded once, and the segments of every label."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32

from vtd_jax.errors import UserError
from vtd_jax.predict.programs import Told
from vtd_jax.predict.results import Segment, Timeline, finite
from vtd_jax.video import decode
from vtd_jax.video.clip import TimedFrame, frames_at
from vtd_jax.video.codec.wholeness import VideoInfo
from vtd_jax.video.sampling import test_indices

# best labels that every window keeps, so that a result does not grow with the number of labels
KEPT = 5
# pictures of the whole video, at most, and their side
PICTURES, PICTURE_SIDE = 120, 112
# windows that are classified together; of many labels fewer
_WINDOWS, _SCORES = 8, 2**22


@dataclasses.dataclass(frozen=True)
class Windows:
    """How a long video is cut.

    Attributes:
      frames: T, of a window.
      window: its seconds.
      stride: seconds to the next window; None is half a window.
      threshold: score from which a window shows a label that is not its best.
    """

    frames: int
    window: float
    stride: float | None
    threshold: float

    def __post_init__(self):
        if self.frames < 1:
            raise UserError(f"frames={self.frames}: expected 1 or more frames of a window")
        if not 0 < self.window < float("inf"):
            raise UserError(f"window={self.window}: expected seconds, above 0")
        if self.stride is not None and not 0 < self.stride <= self.window:
            raise UserError(
                f"stride={self.stride}: expected seconds, above 0, at most a window ({self.window})"
            )
        if not 0 < self.threshold <= 1:
            raise UserError(f"threshold={self.threshold}: expected a score above 0, at most 1")

    @property
    def step(self) -> float:
        """Seconds from frame to frame."""
        return self.window / self.frames

    @property
    def steps(self) -> int:
        """Frames from window to window, 1..T."""
        stride = self.window / 2 if self.stride is None else self.stride
        return min(self.frames, max(1, round(stride / self.step)))


class Segments:
    """Grows the segments of every label, window by window."""

    def __init__(self, labels: tuple[str, ...], threshold: float):
        self._labels, self._threshold = labels, threshold
        self._open: dict[int, list[Any]] = {}
        self._done: list[Segment] = []

    def add(
        self, start: float, end: float, middle: float, scores: Float32[np.ndarray, " k"]
    ) -> None:
        """The next window, which stands for start..end: it shows its best label and all from the
        threshold on.
        """
        best = int(scores.argmax())
        shown = {best, *np.flatnonzero(scores >= self._threshold).tolist()}
        for label in [label for label in self._open if label not in shown]:
            self._close(label)
        for label in shown:
            score = float(scores[label])
            run = self._open.setdefault(label, [start, end, [], 0.0, 0.0, False])
            run[1] = end
            run[2].append(score)
            if score > run[3]:
                run[3:5] = score, middle
            run[5] = run[5] or label == best

    def close(self) -> tuple[Segment, ...]:
        """All segments, by start and label."""
        for label in list(self._open):
            self._close(label)
        return tuple(sorted(self._done, key=lambda segment: (segment.start, segment.label)))

    def _close(self, label: int) -> None:
        start, end, scores, peak, peak_at, best = self._open.pop(label)
        mean = float(np.mean(scores))
        self._done.append(Segment(self._labels[label], start, end, mean, peak, peak_at, best))


class _Pictures:
    """Frames evenly spaced in time, never more than `PICTURES`: when there are, every second one
    goes.
    """

    def __init__(self):
        self.images: list[np.ndarray] = []
        self.seconds: list[float] = []
        self._every, self._seen = 1, 0

    def add(self, frame: TimedFrame) -> None:
        if self._seen % self._every == 0:
            side = min(PICTURE_SIDE, len(frame.image))
            self.images.append(cv2.resize(frame.image, (side, side), interpolation=cv2.INTER_AREA))
            self.seconds.append(frame.seconds)
            if len(self.images) > PICTURES:
                self.images, self.seconds, self._every = (
                    self.images[::2],
                    self.seconds[::2],
                    2 * self._every,
                )
        self._seen += 1


class _Cut:
    """Frames in, windows out: keeps the features that the next window needs, and no more."""

    def __init__(self, plan: Windows):
        self.plan, self.count, self.next = plan, 0, 0
        self._features, self._ids, self._first = [], [], 0

    def add(
        self, features: np.ndarray, ids: np.ndarray
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """More frames and their words; gives `(first frame, features [T, D], ids [T])` of what
        became whole.
        """
        self._features.extend(features)
        self._ids.extend(ids)
        self.count += len(features)
        while self.next + self.plan.frames <= self.count:
            yield self._window(self.next)
            self.next += self.plan.steps
        # the last T frames stay: the last window may be made of them
        drop = max(0, min(self.next, self.count - self.plan.frames) - self._first)
        del self._features[:drop], self._ids[:drop]
        self._first += drop

    def last(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """The window at the end, where the others do not reach it; of a short video its only one,
        frames repeating.
        """
        frames = self.plan.frames
        if self.count < frames:
            places = test_indices(self.count, frames)
            yield (
                0,
                np.stack([self._features[i] for i in places]),
                np.array([self._ids[i] for i in places]),
            )
        elif self.next - self.plan.steps + frames < self.count:
            yield self._window(self.count - frames)

    def _window(self, first: int) -> tuple[int, np.ndarray, np.ndarray]:
        part = slice(first - self._first, first - self._first + self.plan.frames)
        return first, np.stack(self._features[part]), np.array(self._ids[part])


def make_timeline(
    predictor: Any,
    video: str,
    labels: tuple[str, ...],
    words: Any,
    plan: Windows,
    told: Told | None = None,
) -> Timeline:
    """A timeline; see `Predictor.timeline`.

    Args:
      predictor: a `Predictor`.
      video: path of a file.
      labels: K texts.
      words: the `Vocabulary` that names the frames; None for the labels.
      plan: how it is cut.
      told: called with the seconds done and those there are.
    """
    reader = _Scores(predictor, labels, words, plan)
    pictures, chunk, frames = (
        _Pictures(),
        [],
        frames_at(video, plan.step, predictor.size, predictor.model.squash),
    )
    length = decode.length(video) if told else 0.0
    while True:
        try:
            frame = next(frames)
        except StopIteration as end:
            info = end.value
            break
        pictures.add(frame)
        chunk.append(frame.image)
        if len(chunk) == predictor.chunk:
            reader.add(np.stack(chunk))
            chunk = []
            if told:
                told(min(frame.seconds, length or frame.seconds), length)
    if chunk:
        reader.add(np.stack(chunk))
    return reader.close(video, info, pictures)


class _Scores:
    """Classifies windows as they become whole, a few together, and keeps what a timeline shows of
    them.
    """

    def __init__(self, predictor: Any, labels: tuple[str, ...], words: Any, plan: Windows):
        self.predictor, self.labels, self.plan = predictor, labels, plan
        self.codebook = predictor.encode_words(labels)
        self.words, self.named_by = words, predictor.naming(labels, words)
        self.batch = max(1, min(_WINDOWS, _SCORES // (plan.frames * len(labels))))
        self.cut, self.waiting = _Cut(plan), []
        self.firsts, self.rows, self.tokens = [], [], []
        self.total = np.zeros(len(labels), np.float64)
        self.segments, self.held = Segments(labels, plan.threshold), None

    def add(self, frames: np.ndarray) -> None:
        features = self.predictor.encode_frames(frames)
        ids = self.named_by.nearest(features, 1, self.predictor.model.config.assignment).ids[:, 0]
        for window in self.cut.add(features, ids):
            self._wait(window)

    def _wait(self, window) -> None:
        self.waiting.append(window)
        if len(self.waiting) == self.batch:
            self._classify()

    def _classify(self) -> None:
        real = len(self.waiting)
        if not real:
            return
        # always the same number, so that there is one program
        firsts, features, ids = zip(*(self.waiting + self.waiting[-1:] * (self.batch - real)))
        features, ids = np.stack(features), np.stack(ids)
        logits = finite(self.predictor.logits(features, self.codebook, self.words, ids), "a window")
        tokens = self.named_by.video_tokens(features, ids, self.predictor.model.config)
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        for row in range(real):
            self._keep(firsts[row], scores[row], self.named_by.words[tokens.ids[row, 0]])
        self.waiting = []

    def _keep(self, first: int, scores: np.ndarray, word: str) -> None:
        top = np.argsort(-scores, kind="stable")[:KEPT]
        self.firsts.append(first)
        self.rows.append((top, scores[top]))
        self.tokens.append(word)
        self.total += scores
        middle = (first + self.plan.frames / 2) * self.plan.step
        begin = 0.0
        # a window ends half-way to the next one, so it waits for that
        if self.held is not None:
            began, before, held = self.held
            begin = (before + middle) / 2
            self.segments.add(began, begin, before, held)
        self.held = begin, middle, scores

    def close(self, video: str, info: VideoInfo, pictures: _Pictures) -> Timeline:
        for window in self.cut.last():
            self._wait(window)
        self._classify()
        duration = info.duration
        begin, middle, scores = self.held
        self.segments.add(begin, duration, min(middle, duration), scores)
        middles = (np.array(self.firsts) + self.plan.frames / 2) * self.plan.step
        bounds = np.concatenate([[0.0], (middles[:-1] + middles[1:]) / 2, [duration]])
        return Timeline(
            video=video,
            labels=self.labels,
            duration=duration,
            window=self.plan.window,
            stride=self.plan.steps * self.plan.step,
            frames=self.plan.frames,
            threshold=self.plan.threshold,
            segments=self.segments.close(),
            starts=bounds[:-1],
            ends=bounds[1:],
            top=np.stack([top for top, _ in self.rows]).astype(np.int64),
            top_scores=np.stack([scores for _, scores in self.rows]),
            words=tuple(self.tokens),
            mean_scores=(self.total / len(self.rows)).astype(np.float32),
            pictures=np.stack(pictures.images),
            pictures_at=np.array(pictures.seconds),
            note=info.note,
        )
