"""What every frame adds to every logit: the sums of `fusion.py`, taken apart."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vtd_jax.model.discretize import cosine

_EXACT = jax.lax.Precision.HIGHEST


class Attribution(NamedTuple):
    """Where a video's logits come from.

    Attributes:
      weight: `[B, T, K]`, share of a fused frame in a class; sums to 1 over frames.
      contribution: `[B, T, K]`; sums over frames to the logits, with pooling "softmax_mean" to the
        class probabilities, whose logarithm the logits are.
    """

    weight: Float[Array, "b t k"]
    contribution: Float[Array, "b t k"]


def attribute(
    fused: Float[Array, "b t d"],
    codebook: Float[Array, "k d"],
    weights: Float[Array, "b t k"],
    scale: Float[Array, ""],
    pooling: str,
) -> Attribution:
    """Takes `VTDCLIP.score`'s logits apart by frame.

    Args:
      fused: fused frames.
      codebook: raw codes of the classes.
      weights: confidence.
      scale: `exp(logit_scale)`.
      pooling: "confidence", "mean" or "softmax_mean", as in `ModelConfig`.
    """
    if pooling == "confidence":
        share = weights / weights.sum(axis=1, keepdims=True)
        return Attribution(share, scale * share * cosine(fused, codebook))
    even = jnp.full(weights.shape, 1 / fused.shape[1], jnp.float32)
    if pooling == "softmax_mean":
        return Attribution(even, even * jax.nn.softmax(scale * cosine(fused, codebook), axis=-1))
    # cos(mean of frames, code) is a sum over frames of their products with the code, over the
    # length of the mean
    unit = codebook / jnp.linalg.norm(codebook, axis=-1, keepdims=True)
    length = jnp.linalg.norm(fused.mean(axis=1, keepdims=True), axis=-1, keepdims=True)
    products = jnp.einsum("btd,kd->btk", fused, unit, precision=_EXACT)
    return Attribution(even, scale * even * products / length)
