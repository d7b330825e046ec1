"""Learnable prompts: the few vectors by which a frozen CLIP is adapted (paper section 3.4)."""

from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int32, Key

from vtd_jax.clip.model import CLIP
from vtd_jax.errors import UserError

INIT_WORDS = "a photo of a"
_DEVIATION = 0.02


class Prompt(nnx.Param):
    """Learnable prompt tokens `[depth, P, width]`: row 0 enters at the input, row i before layer i."""


def text_prompts(
    clip: CLIP, length: int, depth: int, key: Key[Array, ""]
) -> Float[Array, "depth p width"]:
    """Initial text prompts: N(0, 0.02²); a context of up to 4 tokens starts as the words "a photo
    of a".
    """
    check_depth("text", depth, clip.config.text_layers)
    shape = (max(depth, 1), length, clip.config.text_width)
    prompts = _DEVIATION * jax.random.normal(key, shape)
    if length <= 4:
        # imported where it is needed: a benchmark on a bare machine has no tokenizer
        from vtd_jax.clip.tokenizer import tokenize

        words = tokenize([INIT_WORDS])[0, 1 : 1 + length]
        prompts = prompts.at[0].set(clip.text.token_embedding[...][words])
    return prompts


def visual_prompts(
    clip: CLIP, length: int, depth: int, key: Key[Array, ""]
) -> Float[Array, "depth p width"]:
    """Initial visual prompts: N(0, 0.02²)."""
    if clip.config.is_resnet:
        raise UserError(
            f"model.visual_prompts={length}: a {clip.config.architecture} takes no visual prompts; "
            "set model.visual_prompts=0 and model.visual_depth=0, or choose a ViT"
        )
    check_depth("visual", depth, clip.config.vision_layers)
    return _DEVIATION * jax.random.normal(key, (depth, length, clip.config.vision_width))


def check_depth(tower: str, depth: int, layers: int) -> None:
    """Refuses prompts for layers that the tower does not have."""
    if depth > layers:
        raise UserError(
            f"model.{tower}_depth={depth}: this CLIP has {layers} {tower} layers; set {layers} or "
            "less"
        )


def class_tokens(names: Sequence[str], prompt_length: int) -> Int32[np.ndarray, "k 77"]:
    """Token ids of every class.

    Args:
      names: class names, as the codebook's entries.
      prompt_length: P_t. 0: bare names, underscores kept (zero-shot mode). Otherwise underscores
        become spaces and the name follows P_t stand-in words, whose embeddings the prompts replace,
        and is followed by a full stop. As in the release the stand-ins are "a photo of a" up to 4
        tokens, of which the first P_t are replaced, else "X X … X".
    """
    from vtd_jax.clip.tokenizer import tokenize

    if not prompt_length:
        return tokenize(names)
    stand_in = INIT_WORDS if prompt_length <= 4 else " ".join(["X"] * prompt_length)
    return tokenize([f"{stand_in} {name.replace('_', ' ')}." for name in names])


def trim(tokens: Int32[np.ndarray, "... l"]) -> Int32[np.ndarray, "... n"]:
    """Drops the positions after the longest text: the causal mask keeps them from any result."""
    return np.ascontiguousarray(tokens[..., : int(tokens.argmax(axis=-1).max()) + 1])
