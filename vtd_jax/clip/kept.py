"""How much memory the backward pass through the towers keeps, to choose what it recomputes."""

import jax.numpy as jnp

from vtd_jax.clip.config import CLIPConfig

# float32 numbers a token that LayerNorm keeps, padded to the lanes of a register by some compilers
_STATISTICS = 8
# texts and their tokens behind the prompts, where class names are not known yet
TEXTS, TOKENS = 1000, 24


def bytes_kept_of_frames(
    config: CLIPConfig, dtype: str, frames: int, prompts: int, remat: str
) -> int:
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
    layers, tokens = config.vision_layers, config.design.class_token + config.grid**2 + prompts
    assert isinstance(layers, int)
    a_token = _bytes_of_token(
        config.vision_width, config.vision_mlp_width, config.vision_head_width, tokens, dtype, remat
    )
    return frames * tokens * layers * a_token


def bytes_kept_of_texts(
    config: CLIPConfig, dtype: str, texts: int, prompts: int, remat: str
) -> int:
    """The same of the text tower.

    Args:
      config: of the CLIP.
      dtype: of the towers.
      texts: that pass the tower at once, of `TOKENS` tokens each behind the prompts; of all the
        tower's positions where it is not causal.
      prompts: text prompt tokens a layer; without any, no gradient goes through the tower.
      remat: as above.
    """
    if not prompts:
        return 0
    width = config.text_width
    own = TOKENS if config.design.causal else max(config.context_length - prompts, 1)
    a_token = _bytes_of_token(
        width, config.text_mlp_width, config.text_head_width, own + prompts, dtype, remat
    )
    return texts * own * config.text_layers * a_token


def _bytes_of_token(
    width: int, mlp_width: int | None, head_width: int, keys: int, dtype: str, remat: str
) -> int:
    """Bytes kept of one token in one block."""
    itemsize = jnp.dtype(dtype).itemsize
    # the input of the block
    found = width * itemsize
    if remat != "block":
        # q, k, v, the sum after attention, and what the activation takes
        found += (4 * width + (mlp_width or 4 * width)) * itemsize + 4 * _STATISTICS
    if remat == "none":
        # powers of all heads, their result, and what each LayerNorm gives
        found += (width // head_width * keys + 3 * width) * itemsize
    return found
