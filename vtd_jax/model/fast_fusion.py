"""Confidence logits with less work (docs/method.md, section 7); the reference is `fusion.py`.

Where fusion adds the same vector to every frame of a video, products of fused frames and codes
follow from those of the frames. Many classes go in chunks, forwards and backwards.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vtd_jax.model import discretize
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.fast_discretize import Compared, Named, chunk_of, chunk_size, products

_EXACT = jax.lax.Precision.HIGHEST
# how many times longer a frame may be than its fused frame. Where more of it cancels, the rounding
# of the two products shows
_LONGER = 2.0


class Shift(NamedTuple):
    """The same vector `δ` in all frames of a video: `cos(h, c) = kept · cos(x, c) + share · δ·c`
    for codes of unit length.

    Attributes:
      added: `[B, D]`, `δ = h - x`.
      kept: `[B, T]`, `||x|| / ||h||`.
      share: `[B, T]`, `1 / ||h||`.
    """

    added: Float[Array, "b d"]
    kept: Float[Array, "b t"]
    share: Float[Array, "b t"]


class Fused(NamedTuple):
    """Fused frames `h` as classes are compared with them.

    Attributes:
      unit: `[B, T, D]`, frames `x` of unit length.
      fused: `[B, T, D]`, `h` of unit length; None without fusion.
      shift: where fusion added one vector a video; else None.
    """

    unit: Float[Array, "b t d"]
    fused: Float[Array, "b t d"] | None = None
    shift: Shift | None = None


def unfused(features: Float[Array, "b t d"]) -> Fused:
    """Frames without fusion."""
    return Fused(discretize.normalize(features))


def shifted(features: Float[Array, "b t d"], added: Float[Array, "b d"]) -> Fused:
    """Frames `h = x + δ` with one `δ` a video: products with codes follow from those of `x`."""
    features = features.astype(jnp.float32)
    fused = features + added[:, None]
    # the very factors of `normalize`, so that their rounding cancels
    share, of_frames = (
        jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1), 1e-24)) for x in (fused, features)
    )
    return given(features, fused)._replace(shift=Shift(added, share / of_frames, share))


def given(features: Float[Array, "b t d"], fused: Float[Array, "b t d"]) -> Fused:
    """Fused frames that each had another vector added, as with dropout."""
    return Fused(discretize.normalize(features), discretize.normalize(fused))


def mean_cosines(fused: Fused, named: Named, config: ModelConfig) -> Float[Array, "b r"]:
    """`Σ_t w cos(h, C) / Σ_t w` (docs/method.md, section 4): `fusion.confidence_logits` without its
    scale.

    Args:
      fused: from `unfused`, `shifted` or `given`.
      named: from `name_frames`.
      config: `temperature` and `confidence` are used.
    """
    if named.compared is None:
        chunk = chunk_size(fused.unit, named.codebook.shape[0])
        settings = _Chunks(config.temperature, config.confidence, chunk)
        return _in_chunks(settings, fused, named.codebook)
    return _average(named.compared, fused)


def _average(compared: Compared, fused: Fused) -> Array:
    """`[B, R]`, the mean cosine of fused frames and codes, weighted by confidence."""
    if fused.fused is None:
        return _weighted(compared.weights, compared.similarity)
    if fused.shift is None:
        return _by_product(compared, fused.fused)
    return _of_shifted(compared, fused.fused, fused.shift)


def _weighted(weights: Array, cosines: Array) -> Array:
    return (weights * cosines).sum(axis=1) / weights.sum(axis=1)


def _by_product(compared: Compared, fused: Array, _: Shift | None = None) -> Array:
    """By a product of fused frames and codes."""
    return _weighted(compared.weights, products(fused, compared.codes))


def _by_sums(compared: Compared, _: Array, shift: Shift) -> Array:
    """By `cos(h, c)` as `Shift` writes it: a product of `δ` and codes, one row a video."""
    of_added = jnp.einsum("bd,kd->bk", shift.added, compared.codes, precision=_EXACT)
    of_frames = shift.kept[..., None] * compared.similarity
    return _weighted(compared.weights, of_frames + shift.share[..., None] * of_added[:, None])


@jax.custom_vjp
def _of_shifted(compared: Compared, fused: Array, shift: Shift) -> Array:
    """By sums, unless `δ` nearly cancels a frame.

    The gradient is written by hand: JAX would keep what both branches need.
    """
    return jax.lax.cond(_is_steady(shift), _by_sums, _by_product, compared, fused, shift)


def _shifted_forward(*args: Any) -> tuple[Array, tuple[Compared, Array, Shift]]:
    return _of_shifted(*args), args


def _shifted_backward(
    kept: tuple[Compared, Array, Shift], gradient: Array
) -> tuple[Compared, Array, Shift]:
    def pull_back(function: Callable[..., Array], *args: Any) -> tuple[Compared, Array, Shift]:
        return jax.vjp(function, *args)[1](gradient)

    by_sums, by_product = (functools.partial(pull_back, way) for way in (_by_sums, _by_product))
    return jax.lax.cond(_is_steady(kept[2]), by_sums, by_product, *kept)


def _is_steady(shift: Shift) -> Array:
    """Whether `δ` cancels no frame nearly."""
    return (shift.kept <= _LONGER).all()


_of_shifted.defvjp(_shifted_forward, _shifted_backward)


class _Chunks(NamedTuple):
    """How many classes go at once, and how their confidence is computed."""

    temperature: float
    confidence: str
    size: int


def _chunk(settings: _Chunks, fused: Fused, codes: Array) -> Array:
    """`mean_cosines` of some raw codes."""
    codes = discretize.normalize(codes)
    similarity = products(fused.unit, codes)
    weights = discretize.confidence(similarity, settings.temperature, settings.confidence)
    return _average(Compared(weights, similarity, codes), fused)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _in_chunks(settings: _Chunks, fused: Fused, codebook: Array) -> Array:
    """`mean_cosines`, some classes at a time; the backward pass computes every chunk again."""
    rows, chunk = len(codebook), settings.size

    def step(i: Array, found: Array) -> Array:
        start, codes = chunk_of(codebook, i, chunk)
        return jax.lax.dynamic_update_slice_in_dim(
            found, _chunk(settings, fused, codes), start, axis=1
        )

    return jax.lax.fori_loop(0, -(-rows // chunk), step, jnp.zeros((fused.unit.shape[0], rows)))


def _forward(settings: _Chunks, fused: Fused, codebook: Array) -> tuple[Array, tuple[Fused, Array]]:
    return _in_chunks(settings, fused, codebook), (fused, codebook)


def _backward(settings: _Chunks, kept: tuple[Fused, Array], gradient: Array) -> tuple[Fused, Array]:
    fused, codebook = kept
    rows, chunk = len(codebook), settings.size

    def step(i: Array, total: tuple[Fused, Array]) -> tuple[Fused, Array]:
        start, codes = chunk_of(codebook, i, chunk)
        here = jax.lax.dynamic_slice_in_dim(gradient, start, chunk, axis=1)
        # the last chunk reaches back over classes of the one before
        here = jnp.where(start + jnp.arange(chunk) >= i * chunk, here, 0.0)
        _, pull_back = jax.vjp(functools.partial(_chunk, settings), fused, codes)
        of_fused, of_codes = pull_back(here)
        of_codes += jax.lax.dynamic_slice_in_dim(total[1], start, chunk)
        return (
            jax.tree.map(jnp.add, total[0], of_fused),
            jax.lax.dynamic_update_slice_in_dim(total[1], of_codes, start, axis=0),
        )

    zero = jax.tree.map(jnp.zeros_like, (fused, codebook))
    return jax.lax.fori_loop(0, -(-rows // chunk), step, zero)


_in_chunks.defvjp(_forward, _backward)
