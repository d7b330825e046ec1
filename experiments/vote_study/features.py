"""Features of all frames of rendered videos, as an evaluation would crop them."""

from concurrent.futures import Executor
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float32, Int32, UInt8

from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.scenes.sets import LISTS, Clip, SceneSet
from vtd_jax.video.scaling.fit import RELEASE
from vtd_jax.video.workers import starting

# clips that one job renders, and that are encoded at once
_CLIPS = 16


class Seen(NamedTuple):
    """The clips of a list.

    Attributes:
      features: `[N, L, D]`, raw, of all L frames of a clip.
      labels: `[N]`, class ids.
    """

    features: Float32[np.ndarray, "n l d"]
    labels: Int32[np.ndarray, " n"]


class Encoder:
    """The frozen image tower, compiled once for all videos of a length."""

    def __init__(self, model: VTDCLIP, pool: Executor):
        """
        Args:
          model: one without visual prompts, whose features training never changes.
          pool: renders the clips, see `vtd_jax.scenes.sets.rendering_pool`.
        """
        graphdef, state = nnx.split(model)
        encode = jax.jit(lambda state, frames: nnx.merge(graphdef, state).encode_frames(frames))
        self._encode, self._state, self._pool = encode, state, pool
        self._size = model.clip.config.image_resolution

    def encode(self, scene_set: SceneSet) -> dict[str, Seen]:
        """Renders and encodes all clips of a data set, by the names of its lists."""
        found = {}
        for name, listed in scene_set.lists().items():
            clips = [clip for clip, _ in listed.clips]
            parts = [clips[i : i + _CLIPS] for i in range(0, len(clips), _CLIPS)]
            with starting():
                jobs = [self._pool.submit(_render, scene_set, part, self._size) for part in parts]
            features = [np.asarray(self._encode(self._state, job.result())) for job in jobs]
            labels = np.array([label for _, label in listed.clips], np.int32)
            found[name] = Seen(np.concatenate(features), labels)
        assert found.keys() == LISTS.keys()
        return found


def _render(scene_set: SceneSet, clips: list[Clip], size: int) -> UInt8[np.ndarray, "n l r r 3"]:
    return np.stack([RELEASE.views(scene_set.render(clip)[0], size)[0] for clip in clips])
