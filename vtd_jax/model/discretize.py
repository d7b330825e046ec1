"""Video-to-text discretization (paper section 3.2): pure functions of frame features and a
codebook.

The plain reference, one function an idea; `fast_discretize.py` gives the same with less work and
memory.

All compute in float32 with exact products on every backend: an argmin over close codes must not
depend on the machine.
Where the codebook is split over devices, `k` is this device's share of the classes, and `axes` says
so.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vtd_jax.model import ties
from vtd_jax.model.axes import WHOLE, Axes

_EXACT = jax.lax.Precision.HIGHEST


def normalize(x: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """Unit L2 norm over the last axis, in float32; a zero vector stays zero."""
    x = x.astype(jnp.float32)
    # the bound keeps a zero vector's gradient finite
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-24))


def cosine(features: Float[Array, "b t d"], codebook: Float[Array, "k d"]) -> Float[Array, "b t k"]:
    """Cosine of every frame with every code."""
    return jnp.einsum("btd,kd->btk", normalize(features), normalize(codebook), precision=_EXACT)


def confidence(
    similarity: Float[Array, "b t k"], temperature: float, kind: str = "softmax"
) -> Float[Array, "b t k"]:
    """How much a frame counts for a class; sums to 1 over frames.

    Args:
      similarity: cosines of frames with codes.
      temperature: the paper's equation for the frame weights has one; the release divides by 0.01.
      kind: "softmax" over t of `similarity / temperature` (the method), or "uniform": 1/T for every
        frame and class, through which no gradient passes (the ablation).
    """
    if kind == "uniform":
        return jnp.full(similarity.shape, 1 / similarity.shape[1], jnp.float32)
    return jax.nn.softmax(similarity / temperature, axis=1)


def assign(
    features: Float[Array, "b t d"],
    codebook: Float[Array, "k d"],
    similarity: Float[Array, "b t k"],
    metric: str,
    axes: Axes = WHOLE,
) -> Int[Array, "b t"]:
    """The code that names each frame.

    Args:
      features: raw frame features.
      codebook: raw class embeddings.
      similarity: their cosines, used by "cosine".
      metric: "euclidean" takes the least `||x - c||²` of raw features, as released; "cosine" the
        largest cosine, as in the paper. The lowest index wins a tie.
      axes: how classes are split over devices.
    """
    if metric == "cosine":
        return axes.argmax(similarity)
    codebook = codebook.astype(jnp.float32)
    products = jnp.einsum("btd,kd->btk", features.astype(jnp.float32), codebook, precision=_EXACT)
    # ||x||² is the same for every code, so it is left out
    return axes.argmin(jnp.square(codebook).sum(-1) - 2 * products)


def count_votes(
    assignment: Int[Array, "b t"],
    weights: Float[Array, "b t k"],
    axes: Axes = WHOLE,
    votes: str = "confidence",
) -> Float[Array, "b k"]:
    """Every frame votes for its own code. No gradient passes.

    Args:
      assignment: of `assign`.
      weights: the confidence.
      axes: how classes are split.
      votes: `ModelConfig.votes`: "confidence", a frame's vote is the confidence it has in its code,
        or "frames", it is one.
    """
    chosen = assignment[..., None] == axes.ids(weights.shape[-1])
    if votes == "frames":
        return chosen.sum(axis=1).astype(jnp.float32)
    return jax.lax.stop_gradient(jnp.where(chosen, weights, 0.0).sum(axis=1))


def tally(
    assignment: Int[Array, "b t"], weights: Float[Array, "b t k"], axes: Axes = WHOLE
) -> ties.Tally:
    """What decides between classes of as many votes, beside `count_votes`."""
    return ties.tally(assignment[..., None] == axes.ids(weights.shape[-1]), weights)


def video_tokens(
    votes: Float[Array, "b k"],
    codebook: Float[Array, "k d"],
    top_n: int,
    axes: Axes = WHOLE,
    tally: ties.Tally | None = None,
    worth: str = "confidence",
) -> Float[Array, "b n d"]:
    """The raw codes with the most votes, best first; gradients reach the codebook through the
    gather.

    Args:
      votes: of `count_votes`.
      codebook: raw codes.
      top_n: n; of fewer classes all.
      axes: how classes are split.
      tally: of all classes: ties go to the class of more frames (`ties.rank`). None: the last bit
        of the votes decides, as released.
      worth: `ModelConfig.votes`, where a tally is given.
    """
    if tally is None:
        return axes.best_rows(votes, codebook, top_n)
    rows = codebook.shape[0]
    classes = jnp.broadcast_to(axes.ids(rows), votes.shape)
    # padding comes last: it has the highest ids and no votes
    count = min(top_n, rows if axes.codebook is None else axes.classes)
    return axes.rows(codebook, ties.rank(tally, classes, count, axes, worth))
