"""Learnable prompts: the few vectors by which a frozen CLIP is adapted (paper section 3.4)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from vtd_jax.clip.model import CLIP
from vtd_jax.errors import UserError, setting

INIT_WORDS = "a photo of a"
# as in the release
_DEVIATION = 0.02


class Prompt(nnx.Param):
    """Prompt tokens `[depth, P, width]`: row 0 enters at the input, row i before layer i."""


def text_prompts(
    clip: CLIP, length: int, depth: int, key: Key[Array, ""]
) -> Float[Array, "depth p width"]:
    """Initial text prompts: N(0, 0.02²); up to 4 tokens start as the words "a photo of a", as far
    as the CLIP's tokenizer has tokens of them.
    """
    check_depth("text", depth, clip.config.text_layers)
    shape = (max(depth, 1), length, clip.config.text_width)
    prompts = _DEVIATION * jax.random.normal(key, shape)
    # one whose tokenizer is not there yet cannot encode class names either
    if length <= 4 and (clip.config.design.tokenizer == "clip" or clip.tokenizer):
        # imported late: a benchmark on a bare machine has no tokenizer
        from vtd_jax.clip import tokenizer

        words = (clip.tokenizer or tokenizer).encode([INIT_WORDS])[0][:length]
        prompts = prompts.at[0, : len(words)].set(clip.text.token_embedding[...][jnp.array(words)])
    return prompts


def visual_prompts(
    clip: CLIP, length: int, depth: int, key: Key[Array, ""]
) -> Float[Array, "depth p width"]:
    """Initial visual prompts: N(0, 0.02²)."""
    layers = clip.config.vision_layers
    if isinstance(layers, tuple):
        raise UserError(
            f"model.visual_prompts={length}: a {clip.config.architecture} takes no visual prompts; "
            f"set {setting('model.visual_prompts', 0)} and {setting('model.visual_depth', 0)}, or "
            "choose a ViT"
        )
    check_depth("visual", depth, layers)
    return _DEVIATION * jax.random.normal(key, (depth, length, clip.config.vision_width))


def check_depth(tower: str, depth: int, layers: int) -> None:
    """Raises a `UserError` for prompts of layers that the tower does not have."""
    if depth > layers:
        raise UserError(
            f"model.{tower}_depth={depth}: this CLIP has {layers} {tower} layers; set "
            f"{setting(f'model.{tower}_depth', layers)} or less"
        )
