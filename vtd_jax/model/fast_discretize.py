"""Discretization with less work (docs/method.md, section 7); the reference is `discretize.py`.

For one video token a video. One product of frames and codes serves the confidence, the assignment
and, in `fast_fusion.py`, the logits. At most T codes take part in a video's vote. Many classes go
in chunks, so that `[B, T, K]` never exists. Results and gradients equal the plain ones to float32
rounding.

The product is of unit vectors, as in the plain path. A cosine's rounding error is divided by the
temperature before the exponential, so dividing raw products afterwards would give other weights.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vtd_jax.model import discretize, ties
from vtd_jax.model.axes import Axes
from vtd_jax.model.config import ModelConfig

_EXACT = jax.lax.Precision.HIGHEST
# bytes of unit codes and products up to which all classes go at once. Chunks multiply once more in
# the backward pass, which no benchmark's class list should pay for (700 classes and 64 × 32 frames
# have 7 MB)
_WHOLE = 64 << 20
# bytes of one chunk: on a CPU it stays in a cache, other devices need large products to be busy
_CHUNKS = {"cpu": 2 << 20}
_CHUNK = 32 << 20


class Compared(NamedTuple):
    """All frames compared with all codes of this device.

    Attributes:
      weights: `[B, T, R]`, the confidence.
      similarity: `[B, T, R]`, cosines.
      codes: `[R, D]`, of unit length.
    """

    weights: Float[Array, "b t r"]
    similarity: Float[Array, "b t r"]
    codes: Float[Array, "r d"]


class Named(NamedTuple):
    """What the frames of every video are named by.

    Attributes:
      assignment: `[B, T]`, the class of every frame.
      votes: `[B, T]`, how many votes that class has in the video.
      token: `[B, 1, D]`, the raw code with the most votes.
      tied: `[B]`, whether several classes have the most to rounding (`ties.tied`).
      codebook: `[R, D]`, to be used from here on: the token's gradients are added to its gradient
        in place.
      compared: frames and codes; None where classes go in chunks.
    """

    assignment: Int[Array, "b t"]
    votes: Float[Array, "b t"]
    token: Float[Array, "b 1 d"]
    tied: Bool[Array, " b"]
    codebook: Float[Array, "r d"]
    compared: Compared | None


def chunk_size(features: Float[Array, "b t d"], classes: int) -> int:
    """How many of K classes go at once; K where all do.

    Args:
      features: raw or unit frame features. A symbolic number of videos counts as one.
      classes: K, of this device.
    """
    frames = math.prod(size for size in features.shape[:2] if isinstance(size, int))
    a_class = 4 * (frames + features.shape[-1])
    if classes * a_class <= _WHOLE:
        return classes
    return max(_CHUNKS.get(jax.default_backend(), _CHUNK) // a_class, 1)


def chunk_of(
    codebook: Float[Array, "r d"], i: Int[Array, ""], size: int
) -> tuple[Int[Array, ""], Float[Array, "c d"]]:
    """Start and codes of chunk `i`; the last one overlaps the one before, to be as long."""
    start = jnp.minimum(i * size, codebook.shape[0] - size)
    return start, jax.lax.dynamic_slice_in_dim(codebook, start, size)


def products(frames: Float[Array, "b t d"], codes: Float[Array, "r d"]) -> Float[Array, "b t r"]:
    """Products of all frames and codes, exact."""
    return jnp.einsum("btd,kd->btk", frames, codes, precision=_EXACT)


def name_frames(
    features: Float[Array, "b t d"], codebook: Float[Array, "r d"], config: ModelConfig, axes: Axes
) -> Named:
    """Assignment, votes and the video token (paper section 3.2; docs/method.md, section 3) for
    `top_n` 1.

    Args:
      features: raw frame features.
      codebook: raw codes, this device's share of them.
      config: `assignment`, `temperature`, `confidence`, `ties` and `votes` are used.
      axes: how classes are split.
    """
    rows = codebook.shape[0]
    chunk = chunk_size(features, rows)
    fixed, codes = jax.lax.stop_gradient((features.astype(jnp.float32), codebook))
    compared = None
    if chunk < rows:
        assignment = axes.first(*_nearest(fixed, codes, config.assignment, axes, chunk))
        candidates = axes.total(_take(codes, axes.places(assignment, rows))[1])
        frames, candidates = discretize.normalize(fixed), discretize.normalize(candidates)
        cosines = jnp.einsum("btd,bjd->btj", frames, candidates, precision=_EXACT)
        shares = discretize.confidence(cosines, config.temperature, config.confidence)
    else:
        unit = discretize.normalize(codebook)
        similarity = products(discretize.normalize(features), unit)
        weights = discretize.confidence(similarity, config.temperature, config.confidence)
        assignment = _assign(
            jax.lax.stop_gradient(similarity), fixed, codes, config.assignment, axes
        )
        shares = axes.columns(jax.lax.stop_gradient(weights), assignment)
        compared = Compared(weights, similarity, unit)
    own = jnp.diagonal(shares, axis1=1, axis2=2)
    votes, winner = vote(assignment, jnp.ones_like(own) if config.votes == "frames" else own)
    same = assignment[:, :, None] == assignment[:, None, :]
    tally = ties.tally(same, shares)
    if config.ties == "frames":
        winner = ties.winner(tally, assignment, votes=config.votes)
    # frames of one class count once
    first = ~jnp.tril(same, k=-1).any(axis=2)
    once = tally._replace(frames=jnp.where(first, tally.frames, 0.0))
    tied = ties.tied(once, votes=config.votes)
    codebook, token = _take(codebook, axes.places(winner, rows)[:, None])
    return Named(assignment, votes, axes.total(token), tied, codebook, compared)


def _assign(similarity: Array, features: Array, codebook: Array, metric: str, axes: Axes) -> Array:
    """`discretize.assign` from cosines: `||c||² - 2 ||x|| ||c|| cos`."""
    if metric == "cosine":
        return axes.argmax(similarity)
    lengths = jnp.linalg.norm(codebook.astype(jnp.float32), axis=-1)
    return axes.argmin(
        lengths * (lengths - 2 * jnp.linalg.norm(features, axis=-1, keepdims=True) * similarity)
    )


def _nearest(
    features: Array, codebook: Array, metric: str, axes: Axes, chunk: int
) -> tuple[Array, Array]:
    """Every frame's least distance on this device and its class; the lowest wins a tie."""
    rows = len(codebook)
    ids = axes.ids(rows)
    real = jnp.ones(rows, bool) if axes.codebook is None else axes.real(rows)

    def step(i: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
        start, codes = chunk_of(codebook, i, chunk)
        if metric == "cosine":
            distance = -discretize.cosine(features, codes)
        else:
            codes = codes.astype(jnp.float32)
            distance = jnp.square(codes).sum(-1) - 2 * products(features, codes)
        distance = jnp.where(jax.lax.dynamic_slice_in_dim(real, start, chunk), distance, jnp.inf)
        least, found = distance.min(axis=-1), ids[start + distance.argmin(axis=-1)]
        # a later class must be nearer, not as near
        nearer = least < best[0]
        return jnp.where(nearer, least, best[0]), jnp.where(nearer, found, best[1])

    nothing = jnp.full(features.shape[:2], jnp.inf), jnp.full(features.shape[:2], ids[0])
    return jax.lax.fori_loop(0, -(-rows // chunk), step, nothing)


def vote(
    assignment: Int[Array, "b t"], own: Float[Array, "b t"]
) -> tuple[Float[Array, "b t"], Int[Array, " b"]]:
    """Every frame votes for its own class; the votes of every frame's class, and the class with the
    most, as released.

    Args:
      assignment: the class of every frame.
      own: what the vote of every frame is worth: its confidence in its class, or 1.

    Returns:
      `(votes, winner)`; the lowest class of exactly as many votes.
    """
    same = assignment[:, :, None] == assignment[:, None, :]
    votes = jnp.where(same, own[:, :, None], 0.0).sum(axis=1)
    most = votes == votes.max(axis=1, keepdims=True)
    return votes, jnp.where(most, assignment, jnp.iinfo(assignment.dtype).max).min(axis=1)


def votes_of_classes(named: Named, axes: Axes) -> Float[Array, "b r"]:
    """The votes of this device's classes, as `discretize.count_votes` counts them."""
    videos, rows = named.votes.shape[0], named.codebook.shape[0]
    # frames of one class write the same number
    at = jnp.arange(videos)[:, None], axes.places(named.assignment, rows)
    return jnp.zeros((videos, rows)).at[at].set(named.votes, mode="drop")


@jax.custom_vjp
def _take(codebook: Array, places: Array) -> tuple[Array, Array]:
    """The codebook, and its rows at `places`: zeros for places after the last row.

    Gradients of the rows are added into that of the returned codebook, which saves an array of its
    size.
    """
    return codebook, codebook.at[places].get(mode="fill", fill_value=0)


def _take_forward(codebook: Array, places: Array) -> tuple[tuple[Array, Array], Array]:
    return _take(codebook, places), places


def _take_backward(places: Array, gradient: tuple[Array, Array]) -> tuple[Array, None]:
    of_codebook, of_rows = gradient
    return of_codebook.at[places].add(of_rows, mode="drop"), None


_take.defvjp(_take_forward, _take_backward)
