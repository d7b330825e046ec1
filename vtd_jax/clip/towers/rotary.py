"""Rotary positions in two dimensions, as Meta's PE has them (Su et al. 2021; Bolya et al. 2025)."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

# of the slowest turn
_BASE = 10_000.0


class Rotation(NamedTuple):
    """How far each token turns. Pairs of channels turn: 0 and 1, 2 and 3, ….

    Attributes:
      cos, sin: `[N, c]` of a head's c channels, both channels of a pair the same.
    """

    cos: Float32[np.ndarray, "n c"]
    sin: Float32[np.ndarray, "n c"]

    def padded(self, tokens: int) -> "Rotation":
        """For rows of so many tokens: those behind the known ones, such as prompts, do not turn."""
        more = ((0, tokens - len(self.cos)), (0, 0))
        return Rotation(np.pad(self.cos, more, constant_values=1), np.pad(self.sin, more))


def grid_rotation(grid: int, head_width: int, class_token: bool) -> Rotation:
    """The rotation of a square grid of patches, row by row.

    The first half of a head's channels turns by the column, the second by the row. A class token
    comes first and does not turn; columns and rows then count from 1, else from 0.

    Args:
      grid: patches a side.
      head_width: c, a multiple of 4.
      class_token: whether there is one.
    """
    bands = _BASE ** -(np.arange(head_width // 4, dtype=np.float64) / (head_width // 4))
    rows, columns = np.divmod(np.arange(grid**2), grid)
    places = np.concatenate([columns, rows]).reshape(2, -1, 1) + float(class_token)
    angles = np.concatenate(list(places * bands), axis=1)
    if class_token:
        angles = np.pad(angles, ((1, 0), (0, 0)))
    angles = np.repeat(angles, 2, axis=1)
    return Rotation(np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32))


def turned(x: Float[Array, "b n w"], rotation: Rotation, parts: int = 1) -> Float[Array, "b n w"]:
    """Queries or keys with every head turned, in the dtype of `x`; computed in float32.

    Args:
      x: `[B, N, W]`; with `parts=3` queries, keys and values, `[B, N, 3 W]`, of which values stay.
      rotation: of N tokens.
      parts: 1 or 3.
    """
    cos, sin = rotation
    heads = x.astype(jnp.float32).reshape(*x.shape[:2], parts, -1, cos.shape[-1])
    if parts == 3:
        still = np.ones_like(cos), np.zeros_like(sin)
        cos, sin = (np.stack([x, x, v], axis=1) for x, v in zip((cos, sin), still))
    else:
        cos, sin = cos[:, None], sin[:, None]
    even = np.arange(cos.shape[-1]) % 2 == 0
    # the other channel of the pair, negative for the first; a pair never crosses a head
    of_next, of_previous = np.where(even, -sin, 0), np.where(even, 0, sin)
    result = (
        heads * cos[:, :, None]
        + jnp.roll(heads, -1, axis=-1) * of_next[:, :, None]
        + jnp.roll(heads, 1, axis=-1) * of_previous[:, :, None]
    )
    return result.astype(x.dtype).reshape(x.shape)
