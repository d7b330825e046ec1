"""Timelines of long videos: windows of frames, each frame encoded once, and their scores."""

import dataclasses
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Int32, UInt8

from vtd_jax.fields import check_number, check_whole
from vtd_jax.predict.device_model import DeviceModel
from vtd_jax.predict.job import Job
from vtd_jax.predict.programs import OnProgress
from vtd_jax.predict.results import Timeline
from vtd_jax.predict.scoring import finite
from vtd_jax.predict.segments import Segments
from vtd_jax.video import decode
from vtd_jax.video.clip import TimedFrame, frames_at, naming_copy
from vtd_jax.video.codec.wholeness import VideoInfo
from vtd_jax.video.lists.addresses import named
from vtd_jax.video.sampling import test_indices

# best labels kept of every window, so that a result does not grow with the number of labels
KEPT = 5
# most pictures of a video, and their side
PICTURES, PICTURE_SIDE = 120, 112
# windows classified at once, and most confidences of them: fewer windows with many labels
_WINDOWS, _SCORES = 8, 2**22


@dataclasses.dataclass(frozen=True)
class Windows:
    """How a long video is cut into windows.

    Attributes:
      frames: T, of a window.
      window: seconds of a window.
      stride: seconds to the next window; None for half a window.
      threshold: score from which a window shows a label that is not its best.
    """

    frames: int
    window: float
    stride: float | None
    threshold: float

    def __post_init__(self):
        window = check_number("window", self.window, "seconds, above 0")
        most = f"seconds, above 0, at most a window ({self.window})"
        checked = {
            "frames": check_whole("frames", self.frames, "1 or more frames of a window"),
            "window": window,
            "threshold": check_number(
                "threshold", self.threshold, "a score above 0, at most 1", most=1.0
            ),
        }
        if self.stride is not None:
            checked["stride"] = check_number("stride", self.stride, most, most=window)
        for name, value in checked.items():
            # the dataclass is frozen
            object.__setattr__(self, name, value)

    @property
    def step(self) -> float:
        """Seconds from frame to frame."""
        return self.window / self.frames

    @property
    def steps(self) -> int:
        """Frames from window to window, 1..T."""
        stride = self.window / 2 if self.stride is None else self.stride
        return min(self.frames, max(1, round(stride / self.step)))


class Pictures:
    """At most `PICTURES` frames, evenly spaced: of more, every second one is dropped.

    Attributes:
      images: small, uint8 RGB `[r, r, 3]`.
      seconds: their times.
    """

    def __init__(self):
        self.images: list[np.ndarray] = []
        self.seconds: list[float] = []
        self._every, self._seen = 1, 0

    def add(self, seconds: float, image: UInt8[np.ndarray, "r r 3"]) -> None:
        """Takes the next frame."""
        if self._seen % self._every == 0:
            side = min(PICTURE_SIDE, len(image))
            self.images.append(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA))
            self.seconds.append(seconds)
            if len(self.images) > PICTURES:
                self.images, self.seconds = self.images[::2], self.seconds[::2]
                self._every *= 2
        self._seen += 1


class Window(NamedTuple):
    """A window of encoded frames.

    Attributes:
      first: index of its first frame.
      features: raw.
      ids: the word of every frame.
    """

    first: int
    features: Float32[np.ndarray, "t d"]
    ids: Int32[np.ndarray, " t"]


class WindowCutter:
    """Cuts a stream of frames into windows. Keeps only the features that are still needed."""

    def __init__(self, plan: Windows):
        self._plan, self._count, self._next = plan, 0, 0
        # features and words of the frames from `_first` on
        self._features: list[np.ndarray] = []
        self._ids: list[int] = []
        self._first = 0

    @property
    def held(self) -> int:
        """Frames whose features are kept."""
        return len(self._features)

    def add(
        self, features: Float32[np.ndarray, "n d"], ids: Int32[np.ndarray, " n"]
    ) -> Iterator[Window]:
        """Takes more frames and their words; yields the windows that are complete now."""
        self._features.extend(features)
        self._ids.extend(ids)
        self._count += len(features)
        while self._next + self._plan.frames <= self._count:
            yield self._window(self._next)
            self._next += self._plan.steps
        # keep the last T frames for `last`
        drop = max(0, min(self._next, self._count - self._plan.frames) - self._first)
        del self._features[:drop], self._ids[:drop]
        self._first += drop

    def last(self) -> Iterator[Window]:
        """Yields a window at the end of the video if the others do not reach it.

        A video shorter than a window has only this one, with repeated frames.
        """
        frames = self._plan.frames
        if self._count < frames:
            places = test_indices(self._count, frames)
            features = np.stack([self._features[i] for i in places])
            yield Window(0, features, np.array([self._ids[i] for i in places]))
        elif self._next - self._plan.steps + frames < self._count:
            yield self._window(self._count - frames)

    def _window(self, first: int) -> Window:
        part = slice(first - self._first, first - self._first + self._plan.frames)
        return Window(first, np.stack(self._features[part]), np.array(self._ids[part]))


class Row(NamedTuple):
    """A classified window.

    Attributes:
      middle: seconds.
      scores: of all labels, 0..1.
      word: the one with the most votes.
    """

    middle: float
    scores: Float32[np.ndarray, " k"]
    word: str


def make_timeline(
    on_devices: DeviceModel,
    video: str | os.PathLike,
    job: Job,
    plan: Windows,
    on_progress: OnProgress | None = None,
) -> Timeline:
    """Makes a timeline; see `Predictor.timeline`.

    Args:
      on_devices: the model.
      video: path of a file.
      job: labels and vocabulary.
      plan: how the video is cut.
      on_progress: called with the seconds done and the length of the video, 0 if unknown.
    """
    reader = _Reader(on_devices, video, plan.step, on_progress)
    windows = _windows(on_devices, job, plan, reader.chunks())
    summary = Summary(job.labels, plan)
    for row in _rows(on_devices, job, plan, windows):
        summary.add(row)
    video = named(video)
    return summary.timeline(video, reader.info, reader.pictures)


class _Reader:
    """Reads a video's frames in chunks that are encoded at once.

    Attributes:
      pictures: of the frames so far.
      info: of the file; None before the end.
    """

    def __init__(
        self,
        on_devices: DeviceModel,
        video: str | os.PathLike,
        step: float,
        on_progress: OnProgress | None,
    ):
        self.pictures = Pictures()
        self.info: VideoInfo | None = None
        self._frames = frames_at(video, step, on_devices.size, on_devices.fit)
        self._size, self._on_progress = on_devices.chunk, on_progress
        self._length = 0.0
        if on_progress:
            with naming_copy(video) as name:
                self._length = decode.length(Path(video), name)

    def chunks(self) -> Iterator[np.ndarray]:
        """uint8 frames `[N, R, R, 3]`."""
        chunk: list[np.ndarray] = []
        for frame in self._all():
            self.pictures.add(frame.seconds, frame.image)
            chunk.append(frame.image)
            if len(chunk) == self._size:
                yield np.stack(chunk)
                chunk = []
                if self._on_progress:
                    # a header may state less than there is: then the length is unknown
                    length = self._length if frame.seconds < self._length else 0.0
                    self._on_progress(frame.seconds, length)
        if chunk:
            yield np.stack(chunk)

    def _all(self) -> Iterator[TimedFrame]:
        self.info = yield from self._frames


def _windows(
    on_devices: DeviceModel, job: Job, plan: Windows, chunks: Iterator[np.ndarray]
) -> Iterator[Window]:
    """Encodes frames, names them, and cuts them into windows."""
    cutter, metric = WindowCutter(plan), on_devices.model.config.assignment
    for chunk in chunks:
        features = on_devices.encode_frames(chunk)
        yield from cutter.add(features, job.vocabulary.nearest(features, 1, metric).ids[:, 0])
    yield from cutter.last()


def _rows(
    on_devices: DeviceModel, job: Job, plan: Windows, windows: Iterator[Window]
) -> Iterator[Row]:
    """Classifies windows, several at once."""
    size = max(1, min(_WINDOWS, _SCORES // (plan.frames * len(job.labels))))
    while batch := tuple(itertools.islice(windows, size)):
        # a constant number, so that one program is compiled
        padded = batch + batch[-1:] * (size - len(batch))
        features = np.stack([window.features for window in padded])
        ids = np.stack([window.ids for window in padded])
        logits = on_devices.logits(features, job.codebook, job.vocabulary, ids)
        finite(logits, "a window")
        tokens = job.vocabulary.video_tokens(features, ids, on_devices.model.config)
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        for place, window in enumerate(batch):
            middle = (window.first + plan.frames / 2) * plan.step
            yield Row(middle, scores[place], job.vocabulary.words[tokens.ids[place, 0]])


class Summary:
    """Collects what a timeline shows of the windows."""

    def __init__(self, labels: tuple[str, ...], plan: Windows):
        self._labels, self._plan = labels, plan
        self._segments = Segments(labels, plan.threshold)
        self._middles: list[float] = []
        self._top: list[np.ndarray] = []
        self._top_scores: list[np.ndarray] = []
        self._words: list[str] = []
        self._total = np.zeros(len(labels), np.float64)
        # the last window and its start; it ends half-way to the next one
        self._open: Row | None = None
        self._start = 0.0

    def add(self, row: Row) -> None:
        """Adds the next window."""
        top = np.argsort(-row.scores, kind="stable")[:KEPT]
        self._middles.append(row.middle)
        self._top.append(top)
        self._top_scores.append(row.scores[top])
        self._words.append(row.word)
        self._total += row.scores
        if self._open is not None:
            end = (self._open.middle + row.middle) / 2
            self._segments.add(self._start, end, self._open.middle, self._open.scores)
            self._start = end
        self._open = row

    def timeline(self, video: str, info: VideoInfo, pictures: Pictures) -> Timeline:
        """The timeline, after the last window."""
        duration, plan = info.duration, self._plan
        middle = min(self._open.middle, duration)
        self._segments.add(self._start, duration, middle, self._open.scores)
        middles = np.array(self._middles)
        bounds = np.concatenate([[0.0], (middles[:-1] + middles[1:]) / 2, [duration]])
        return Timeline(
            video=video,
            labels=self._labels,
            duration=duration,
            window=plan.window,
            stride=plan.steps * plan.step,
            frames=plan.frames,
            threshold=plan.threshold,
            segments=self._segments.close(),
            starts=bounds[:-1],
            ends=bounds[1:],
            top=np.stack(self._top).astype(np.int64),
            top_scores=np.stack(self._top_scores),
            words=tuple(self._words),
            mean_scores=(self._total / len(self._words)).astype(np.float32),
            pictures=np.stack(pictures.images),
            pictures_at=np.array(pictures.seconds),
            note=info.note,
        )
