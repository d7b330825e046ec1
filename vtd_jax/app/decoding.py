"""Decoding for the page, in a process of its own: what crashes it costs one video."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from vtd_jax.video import decode
from vtd_jax.video.clip import Clip, TimedFrame, frames_at, read_clip
from vtd_jax.video.codec.wholeness import VideoError, VideoInfo
from vtd_jax.video.scaling.fit import Fit


class ClipWanted(NamedTuple):
    """T frames of a video.

    Attributes:
      path: of the file.
      frames: T.
      size: side of a frame, pixels.
      fits: how frames are scaled, one way for each model.
    """

    path: str
    frames: int
    size: int
    fits: tuple[Fit, ...]

    def __str__(self) -> str:
        return self.path


class MomentsWanted(NamedTuple):
    """Frames of a long video, one every `step` seconds; the fields are as of `ClipWanted`."""

    path: str
    step: float
    size: int
    fits: tuple[Fit, ...]

    def __str__(self) -> str:
        return self.path


class More(NamedTuple):
    """The next frames of the long video that was asked for last.

    Attributes:
      path: of its file, for messages.
      count: frames.
    """

    path: str
    count: int

    def __str__(self) -> str:
        return self.path


class Some(NamedTuple):
    """Frames of a long video.

    Attributes:
      frames: in order, each `[fits · R, R, 3]`.
      seconds: their times.
      length: of the video as its container states it, seconds; 0 if unknown.
      info: after the last frame; None before.
    """

    frames: UInt8[np.ndarray, "n h w 3"]
    seconds: list[float]
    length: float
    info: VideoInfo | None


@dataclass(frozen=True)
class Fits(Fit):
    """Several ways at once, one below the other, so that a video is decoded once.

    Attributes:
      ways: of scaling.
    """

    ways: tuple[Fit, ...] = ()

    def views(self, frames: Any, size: int, views: int = 1) -> UInt8[np.ndarray, "v t h w 3"]:
        """Crops of all ways, `[views, T, ways · R, R, 3]`."""
        return np.concatenate([way.views(frames, size, views) for way in self.ways], axis=2)


class Decoder:
    """What the process does: reads clips, and long videos part by part."""

    def __init__(self):
        self._frames: Iterator[TimedFrame] | None = None
        self._length = 0.0

    def __call__(self, wanted: ClipWanted | MomentsWanted | More) -> Clip | Some | None:
        """Reads what is wanted; `MomentsWanted` opens the video, `More` reads on.

        Raises:
          VideoError: not a whole video; or `More` of one that another process has opened.
        """
        if isinstance(wanted, ClipWanted):
            fits = Fits(ways=wanted.fits)
            return read_clip(wanted.path, wanted.frames, wanted.size, fit=fits)
        if isinstance(wanted, MomentsWanted):
            self._length = decode.length(wanted.path)
            fits = Fits(ways=wanted.fits)
            self._frames = frames_at(wanted.path, wanted.step, wanted.size, fits)
            return None
        images, seconds, info = [], [], None
        if self._frames is None:
            # it died between two parts, and this is its successor
            raise VideoError(f"{wanted.path}: the process that decoded it died")
        while len(images) < wanted.count:
            try:
                frame = next(self._frames)
            except StopIteration as end:
                info, self._frames = end.value, None
                break
            images.append(frame.image)
            seconds.append(frame.seconds)
        stacked = np.stack(images) if images else np.zeros((0, 1, 1, 3), np.uint8)
        return Some(stacked, seconds, self._length, info)
