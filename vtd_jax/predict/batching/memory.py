"""How many frames a device encodes at once: as many as its memory has room for."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from vtd_jax.model.vtd_clip import VTDCLIP

# of a device without memory of its own, as a CPU: they fill it, and fit into any memory
CHUNK = 32
# more make no accelerator faster (docs/chips.md)
_MOST = 256
# of the free memory, for a program's own arrays; the rest is for inputs, scores and gaps
_SHARE = 0.5


def frames_a_device(devices: Sequence[Any], model: VTDCLIP) -> int:
    """Frames that every device encodes at once, a power of two.

    Args:
      devices: JAX's, of one kind, that hold the model already.
      model: of which a device has all weights.
    """
    free = [left for device in devices if (left := _free(device)) is not None]
    if not free:
        return CHUNK
    room = int(_SHARE * min(free)) // frame_bytes(model)
    return min(_MOST, 1 << max(0, room.bit_length() - 1))


def _free(device: Any) -> int | None:
    """Bytes that a device has left; None where it does not say."""
    stats = device.memory_stats() or {}
    if "bytes_limit" not in stats:
        return None
    return max(0, stats["bytes_limit"] - stats.get("bytes_in_use", 0))


def frame_bytes(model: VTDCLIP) -> int:
    """An upper bound of the memory that encoding a frame takes, beside the weights.

    A transformer's layer holds the tokens, their projections and their hidden channels, and the
    scores of its attention; a ResNet's first stage holds a few maps of half the frame's side.
    """
    config = model.clip.config
    itemsize = 2 if model.clip.text.dtype == jnp.bfloat16 else 4
    # as uint8, scaled, and cut into patches
    pixels = 3 * config.image_resolution**2 * 3 * 4
    if config.is_resnet:
        return pixels + 8 * (config.image_resolution // 2) ** 2 * config.vision_width * itemsize
    tokens = config.grid**2 + 1 + model.config.visual_prompts
    hidden = config.vision_mlp_width or 4 * config.vision_width
    scores = config.vision_width // config.vision_head_width * tokens**2
    return pixels + itemsize * (tokens * (6 * config.vision_width + hidden) + scores)
