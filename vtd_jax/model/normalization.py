"""Pixels to the numbers a tower was trained on, on the device."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from vtd_jax.clip.preprocessing import OPENAI, Preprocessing

# mean and deviation of RGB, in units of 0..255
STATISTICS = {
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "clip": ((122.7709, 116.7460, 104.0937), (68.5005, 66.6322, 70.3232)),
}


def statistics(
    normalization: str, preprocessing: Preprocessing
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of RGB in 0..255; "clip" takes those of this CLIP's training."""
    if normalization != "clip" or preprocessing.is_openai:
        return STATISTICS[normalization]
    mean, std = (
        tuple(255 * x for x in values) for values in (preprocessing.mean, preprocessing.std)
    )
    return mean, std


def describe(normalization: str, preprocessing: Preprocessing) -> str:
    """The normalisation of frames, for tables and pages; OpenAI's statistics are left out."""
    usual = normalization != "clip" or preprocessing == OPENAI
    return normalization if usual else f"{normalization}, {preprocessing}"


def as_images(
    frames: Array, normalization: str, preprocessing: Preprocessing = OPENAI
) -> Float[Array, "n h w 3"]:
    """`(x - mean) / deviation` of uint8 RGB; floating frames are taken as already normalised.

    Args:
      frames: `[N, H, W, 3]`, uint8 0..255 or floating.
      normalization: "imagenet" (what the release does) or "clip" (what CLIP was trained with).
      preprocessing: the CLIP's own.
    """
    if jnp.issubdtype(frames.dtype, jnp.floating):
        return frames
    mean, deviation = (
        jnp.asarray(x, jnp.float32) for x in statistics(normalization, preprocessing)
    )
    return (frames.astype(jnp.float32) - mean) / deviation
