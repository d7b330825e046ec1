"""A model and its compiled programs on the devices that it predicts with."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float32, Int32, UInt8

from vtd_jax.errors import UserError
from vtd_jax.fields import check_listed
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.predict.batching.memory import CHUNK, frames_a_device
from vtd_jax.predict.programs import Parts, Vocabulary, compiled
from vtd_jax.printable import brief
from vtd_jax.video.scaling.fit import Fit


class DeviceModel:
    """A model and its compiled programs on some devices.

    Attributes:
      model: the VTD-CLIP.
      chunk: frames encoded at once, over all devices.
      logit_bias: of a SigLIP in which nothing is learnt; else None.
    """

    def __init__(self, model: VTDCLIP, devices: Sequence[jax.Device] | None = None):
        """
        Args:
          model: read only.
          devices: to encode frames on; None for all local ones.
        """
        self.model = model
        devices = tuple(jax.local_devices() if devices is None else check_devices(devices))
        self.chunk = CHUNK * len(devices)
        self._mesh = Mesh(np.array(devices), ("frames",))
        graphdef, state = nnx.split(model.rounded())
        self._programs = compiled(graphdef)
        self._state = self.replicate(state)
        self.logit_bias = _logit_bias(model)

    @property
    def size(self) -> int:
        """Side of the frames that the model sees, pixels."""
        return self.model.clip.config.image_resolution

    @property
    def fit(self) -> Fit:
        """How its frames are scaled and cropped."""
        return Fit(**self.model.scaling)

    def replicate(self, tree: nnx.State | Float32[np.ndarray, "k d"]) -> nnx.State | Array:
        """Arrays on all devices, as programs take them."""
        return jax.device_put(tree, NamedSharding(self._mesh, PartitionSpec()))

    def batch_frames(self, asked: int | None) -> int:
        """Frames of a batch over all devices, each of which gets an equal share.

        Args:
          asked: rounded up to a multiple of the devices; None for what the devices have room for.
        """
        devices = list(self._mesh.devices)
        if asked is None:
            return len(devices) * frames_a_device(devices, self.model)
        return -(-asked // len(devices)) * len(devices)

    def start(self, frames: UInt8[np.ndarray, "n r r 3"], rows: int) -> Float32[Array, "m d"]:
        """Starts to encode N frames, and does not wait for it.

        Args:
          frames: of this model's size, at least one.
          rows: of the compiled program, N or more, a multiple of the devices.

        Returns:
          The raw features, in the first N rows.
        """
        padded = np.concatenate([frames, np.repeat(frames[-1:], rows - len(frames), axis=0)])
        placed = jax.device_put(padded, NamedSharding(self._mesh, PartitionSpec("frames")))
        return self._programs.encode(self._state, placed)

    def encode_frames(self, frames: UInt8[np.ndarray, "n r r 3"]) -> Float32[np.ndarray, "n d"]:
        """Raw features of N frames of this model's size, a chunk at a time over all devices."""
        count, features = len(self._mesh.devices), []
        for start in range(0, len(frames), self.chunk):
            part = frames[start : start + self.chunk]
            # powers of two: few programs, and a single short video is not padded to a whole chunk
            rows = max(count, 1 << (len(part) - 1).bit_length())
            # every device gets an equal share
            rows = -(-rows // count) * count
            features.append(np.asarray(self.start(part, rows))[: len(part)])
        return np.concatenate(features)

    def logits(
        self,
        features: Float32[np.ndarray, "b t d"],
        codebook: Float32[Array, "k d"],
        vocabulary: Vocabulary,
        ids: Int32[np.ndarray, "b t"] | None = None,
    ) -> Float32[np.ndarray, "b k"]:
        """Logits of B encoded videos; see `start_logits`."""
        return np.asarray(self.start_logits(features, codebook, vocabulary, ids))

    def start_logits(
        self,
        features: Float32[np.ndarray, "b t d"],
        codebook: Float32[Array, "k d"],
        vocabulary: Vocabulary,
        ids: Int32[np.ndarray, "b t"] | None = None,
    ) -> Float32[Array, "b k"]:
        """Starts to compute the logits of B encoded videos, and does not wait for them.

        Args:
          features: raw.
          codebook: of the labels.
          vocabulary: the words that name the frames.
          ids: the word of every frame, if known.
        """
        if vocabulary.is_labels or self.model.fusion is None:
            return self._programs.classify(self._state, features, codebook)
        config = self.model.config
        if ids is None:
            flat = features.reshape(-1, features.shape[-1])
            ids = vocabulary.nearest(flat, 1, config.assignment).ids.reshape(features.shape[:2])
        tokens = vocabulary.video_tokens(features, ids, config)
        return self._programs.score(self._state, features, codebook, tokens.codes)

    def explain(
        self,
        features: Float32[np.ndarray, "t d"],
        codebook: Float32[Array, "k d"],
        tokens: Float32[np.ndarray, "1 n d"],
    ) -> Parts:
        """What the logits of one encoded video are made of.

        Args:
          features: raw.
          codebook: of the labels.
          tokens: raw video tokens.

        Returns:
          NumPy arrays without the axis of videos.
        """
        parts = self._programs.explain(self._state, features[None], codebook, tokens)
        return Parts(*(np.asarray(part)[0] for part in parts))


def check_devices(devices: Any) -> list[jax.Device]:
    """The devices as a list; a `UserError` unless they are one or more of JAX's, each once."""
    expected = "a list of JAX's devices, each once, e.g. jax.devices()[:1]"
    found = check_listed("devices", devices, expected)
    if (
        not found
        or not all(isinstance(one, jax.Device) for one in found)
        or len(set(found)) < len(found)
    ):
        raise UserError(f"devices: {brief(devices)}, expected {expected}")
    return found


def _logit_bias(model: VTDCLIP) -> float | None:
    """The CLIP's own bias, where logits are its own: a tuned model learnt by a softmax."""
    clip, config = model.clip, model.config
    tuned = (model.text_prompts, model.visual_prompts, model.fusion) != (None, None, None)
    if clip.logit_bias is None or tuned or config.pooling == "softmax_mean":
        return None
    same = np.array_equal(model.logit_scale[...], clip.logit_scale[...])
    return float(clip.logit_bias[...]) if same else None
