"""How much memory the backward pass through the image tower keeps, to choose what it recomputes."""

import jax.numpy as jnp

from vtd_jax.clip.config import CLIPConfig

# float32 numbers a token that LayerNorm keeps, padded to the lanes of a register by some compilers
_STATISTICS = 8


def kept_bytes(config: CLIPConfig, dtype: str, frames: int, prompts: int, remat: str) -> int:
    """Bytes that the blocks of the image tower keep from the forward pass to the backward pass.

    Args:
      config: of the CLIP; a ResNet has no prompts, and keeps nothing.
      dtype: of the towers, "float32" or "bfloat16".
      frames: that pass the tower at once.
      prompts: visual prompt tokens a layer; without any, no gradient goes through the tower.
      remat: "none", "dots" or "block", see `Compute`; for "none" attention by XLA is assumed.
    """
    if config.is_resnet or not prompts:
        return 0
    width, layers = config.vision_width, config.vision_layers
    assert isinstance(layers, int)
    itemsize, tokens = jnp.dtype(dtype).itemsize, 1 + config.grid**2 + prompts
    # the input of the block
    numbers = width * itemsize
    if remat != "block":
        # q, k, v, the sum after attention, and what the activation takes
        numbers += (4 * width + (config.vision_mlp_width or 4 * width)) * itemsize + 4 * _STATISTICS
    if remat == "none":
        # powers of all heads, their result, and what each LayerNorm gives
        numbers += (width // config.vision_head_width * tokens + 3 * width) * itemsize
    return frames * tokens * layers * numbers
