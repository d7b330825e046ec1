"""Frames of several videos in batches of one shape, so that short videos fill the devices too."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from vtd_jax.predict.device_model import DeviceModel
from vtd_jax.predict.job import Encoded, Failure
from vtd_jax.video.clip import Clip

# batches on their way at most: one is computed while the next one waits on the device
_AHEAD = 2
# unreadable videos in a row of results that wait for frames of one before them: then its batch is
# computed as it is, since no more frames may come
MOST_FAILURES = 256


@dataclass
class _Waiting:
    """A video whose frames are not all encoded."""

    clip: Clip
    features: list[Float32[np.ndarray, "n d"]]
    missing: int


class _Batch:
    """Frames of videos in a row, up to a number.

    Attributes:
      parts: the videos, and how many frames each has here.
      images: of these frames, a block a video.
      count: frames.
    """

    def __init__(self):
        self.parts: list[tuple[_Waiting, int]] = []
        self.images: list[UInt8[np.ndarray, "n r r 3"]] = []
        self.count = 0

    def add(self, video: _Waiting, images: UInt8[np.ndarray, "n r r 3"]) -> None:
        self.parts.append((video, len(images)))
        self.images.append(images)
        self.count += len(images)

    def share(self, features: Float32[np.ndarray, "n d"]) -> None:
        """Hands out the features of the frames."""
        start = 0
        for video, count in self.parts:
            video.features.append(features[start : start + count])
            video.missing -= count
            start += count


class Packer:
    """Encodes videos in batches of one number of frames; results come in order.

    A batch is started before the one before it is awaited, so that decoding, transfers and
    computing overlap. If all frames fit into less than a batch, they are encoded as a single video
    is, in a smaller shape. Results that wait are few, whatever is read: their frames fill batches,
    and of videos without frames at most `MOST_FAILURES` wait.
    """

    def __init__(self, on_devices: DeviceModel, batch_frames: int):
        self._on_devices, self._size = on_devices, batch_frames
        self._waiting: deque[_Waiting | Failure] = deque()
        self._running: deque[tuple[_Batch, Any]] = deque()
        self._open, self._started, self._failures = _Batch(), False, 0

    def encode(self, read: Iterator[Clip | Failure]) -> Iterator[Encoded | Failure]:
        """Encodes videos as they are read.

        What `read` raises is raised after the results of all videos before it.
        """
        raised = None
        while raised is None:
            try:
                one = next(read)
            except StopIteration:
                break
            except Exception as error:
                raised = error
            else:
                self._add(one)
                while self._running and self._running[0][1].is_ready():
                    self._await()
                yield from self._finished()
        self._finish()
        yield from self._finished()
        if raised is not None:
            raise raised

    def _add(self, one: Clip | Failure) -> None:
        if not isinstance(one, Clip):
            self._waiting.append(one)
            self._failures += 1
            if self._failures >= MOST_FAILURES:
                self._flush()
            return
        video, start = _Waiting(one, [], len(one.frames)), 0
        self._waiting.append(video)
        while start < len(one.frames):
            images = one.frames[start : start + self._size - self._open.count]
            self._open.add(video, images)
            start += len(images)
            if self._open.count == self._size:
                self._start()

    def _start(self) -> None:
        """Starts the open batch, and awaits an earlier one if too many are on their way."""
        batch, self._open, self._started = self._open, _Batch(), True
        images = np.concatenate(batch.images)
        self._running.append((batch, self._on_devices.start(images, self._size)))
        batch.images = []
        while len(self._running) > _AHEAD - 1:
            self._await()

    def _await(self) -> None:
        batch, features = self._running.popleft()
        batch.share(np.asarray(features)[: batch.count])

    def _flush(self) -> None:
        """Encodes all frames so far, in the shape of full batches."""
        if self._open.count:
            self._start()
        while self._running:
            self._await()

    def _finish(self) -> None:
        """Encodes what is left."""
        if self._open.count and not self._started:
            images = np.concatenate(self._open.images)
            self._open.share(self._on_devices.encode_frames(images))
            self._open = _Batch()
        self._flush()

    def _finished(self) -> Iterator[Encoded | Failure]:
        while self._waiting:
            one = self._waiting[0]
            if isinstance(one, _Waiting):
                if one.missing:
                    return
                one = Encoded(one.clip, np.concatenate(one.features))
            else:
                self._failures -= 1
            self._waiting.popleft()
            yield one
