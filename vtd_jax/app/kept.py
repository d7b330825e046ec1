"""Encoded videos in memory: bounded, the least recently used one goes and is encoded again."""

import threading
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from vtd_jax.app.answers import Moments
from vtd_jax.predict.job import Encoded
from vtd_jax.untrusted.limits import APP_KEPT_BYTES


class Key(NamedTuple):
    """What is encoded.

    Attributes:
      video: `Video.content`.
      model: which one, 0 or 1 (the zero-shot one beside a tuned one).
      frames: T of a clip; 0 for a timeline.
      step: seconds from frame to frame of a timeline; 0 for a clip.
    """

    video: str
    model: int
    frames: int
    step: float = 0.0


class Kept:
    """Encoded clips and timelines. Methods may be called from any thread."""

    def __init__(self, most: int = APP_KEPT_BYTES):
        """
        Args:
          most: bytes of all of them; the newest one stays, however large.
        """
        self._most, self._bytes = most, 0
        self._all: OrderedDict[Key, Encoded | Moments] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> Any:
        """The `Encoded` clip or the `Moments`; None if it is not kept."""
        with self._lock:
            found = self._all.get(key)
            if found is not None:
                self._all.move_to_end(key)
        return found

    def put(self, key: Key, one: Encoded | Moments) -> None:
        """Keeps one more."""
        with self._lock:
            if (before := self._all.pop(key, None)) is not None:
                self._bytes -= _bytes(before)
            self._all[key] = one
            self._bytes += _bytes(one)
            while self._bytes > self._most and len(self._all) > 1:
                self._bytes -= _bytes(self._all.popitem(last=False)[1])

    def drop(self, video: str) -> None:
        """Forgets a video that is gone."""
        with self._lock:
            for key in [key for key in self._all if key.video == video]:
                self._bytes -= _bytes(self._all.pop(key))

    def rows(self, video: str, model: int) -> dict[int, Float32[np.ndarray, " d"]]:
        """Features by the index of their frame, of all clips of a video."""
        with self._lock:
            clips = [one for key, one in self._all.items() if key[:2] == (video, model)]
        return {
            int(index): row
            for one in clips
            if isinstance(one, Encoded)
            for index, row in zip(one.clip.indices, one.features, strict=True)
        }


def _bytes(one: Encoded | Moments) -> int:
    if isinstance(one, Encoded):
        return one.features.nbytes + one.clip.frames.nbytes
    return one.features.nbytes + sum(image.nbytes for image in one.pictures.images)
