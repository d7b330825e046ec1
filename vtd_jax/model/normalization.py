"""Pixels to the numbers a tower was trained on, on the device."""

import jax.numpy as jnp
from jaxtyping import Array, Float

# mean and deviation of RGB, in units of 0..255
STATISTICS = {
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "clip": ((122.7709, 116.7460, 104.0937), (68.5005, 66.6322, 70.3232)),
}


def as_images(frames: Array, normalization: str) -> Float[Array, "n h w 3"]:
    """`(x - mean) / deviation` of uint8 RGB; floating frames are taken as already normalised.

    Args:
      frames: `[N, H, W, 3]`, uint8 0..255 or floating.
      normalization: "imagenet" (what the release does) or "clip" (what CLIP was trained with).
    """
    if jnp.issubdtype(frames.dtype, jnp.floating):
        return frames
    mean, deviation = (jnp.asarray(x, jnp.float32) for x in STATISTICS[normalization])
    return (frames.astype(jnp.float32) - mean) / deviation
