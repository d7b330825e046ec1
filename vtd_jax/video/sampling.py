"""Samples a clip's frames, one in each of T uniform segments (docs/method.md, sections 5, 6)."""

import numpy as np
from jaxtyping import Int64

from vtd_jax.errors import UserError


def train_indices(n: int, t: int, rng: np.random.Generator) -> Int64[np.ndarray, " t"]:
    """Draws one frame from each of `t` uniform segments of `n` frames.

    With `step = n // t`: `i * step + U{0 .. step - 1}`; for a video shorter than the clip `round(i
    * n / t)`, halves to even, where frames repeat. (The release has a third case, sorted draws for
    `step == 0 and n > t`, which cannot occur.) Frames after `t * step` are never drawn, as in the
    release.

    Args:
      n: frames in the video, >= 1.
      t: frames wanted, >= 1.
      rng: source of the random offsets.

    Returns:
      `t` indices in 0 .. n - 1; ascending, except that an index that rounds up to `n` wraps to 0.
    """
    _check(n, t)
    step = n // t
    if step > 0:
        return np.arange(t, dtype=np.int64) * step + rng.integers(step, size=t)
    return np.array([round(i * n / t) % n for i in range(t)], np.int64)


def test_indices(n: int, t: int) -> Int64[np.ndarray, " t"]:
    """The centre of each of `t` uniform segments: `floor(i * n / t + n / (2 t))`, modulo `n`.

    Computed in whole numbers, so that no rounding of a quotient can move an index.
    """
    _check(n, t)
    return (2 * np.arange(t, dtype=np.int64) + 1) * n // (2 * t) % n


test_indices.__test__ = False


def view_indices(n: int, t: int, views: int, index: int) -> Int64[np.ndarray, "v t"]:
    """Frame indices of the temporal views of a video: the test clip, then train-style draws.

    Args:
      n: frames in the video.
      t: frames a clip.
      views: temporal views, >= 1.
      index: a number of the video, which fixes the draws.
    """
    if views < 1:
        raise UserError(f"temporal_views={views}: expected at least 1")
    clips = [test_indices(n, t)]
    # a fixed seed: evaluation never depends on a run's seed
    rngs = (np.random.default_rng([0, index, view]) for view in range(1, views))
    clips += [train_indices(n, t, rng) for rng in rngs]
    return np.stack(clips)


def evenly_spaced(n: int, most: int) -> Int64[np.ndarray, " m"]:
    """All `n` indices if there are at most `most`, else the centres of `most` uniform segments."""
    return np.arange(n, dtype=np.int64) if n <= most else test_indices(n, most)


def _check(n: int, t: int) -> None:
    if n < 1:
        raise UserError(f"a video of {n} frames cannot be sampled: expected at least 1 frame")
    if t < 1:
        raise UserError(f"frames={t}: expected at least 1 frame a clip")
