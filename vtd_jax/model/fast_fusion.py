"""Confidence logits with what is not needed left out (docs/method.md, section 7); the plain
reference is `fusion.py`.

Where every frame of a video gets the same vector added, products of fused frames and codes follow
from those of the frames. Many classes pass in chunks, forwards and backwards.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vtd_jax.model import discretize
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.fast_discretize import Named, chunk_of, chunk_size, products

_EXACT = jax.lax.Precision.HIGHEST
# so many times longer than its fused frame a frame may be: what cancels leaves the rounding of the
# products
_LONGER = 2.0


class Fused(NamedTuple):
    """Fused frames `h` as classes are compared with them.

    Attributes:
      unit: `[B, T, D]`, frames `x` of unit length.
      fused: `[B, T, D]`, `h` of unit length; None without fusion.
      added: `[B, D]`, `δ = h - x` where all frames of a video have the same; else None. With it
        `cos(h, c) = kept · cos(x, c) + share · δ·c / ||c||`.
      kept: `[B, T]`, `||x|| / ||h||`; None without `δ`.
      share: `[B, T]`, `1 / ||h||`; None without `δ`.
    """

    unit: Float[Array, "b t d"]
    fused: Float[Array, "b t d"] | None = None
    added: Float[Array, "b d"] | None = None
    kept: Float[Array, "b t"] | None = None
    share: Float[Array, "b t"] | None = None


def unfused(features: Float[Array, "b t d"]) -> Fused:
    """Frames without fusion."""
    return Fused(discretize.normalize(features))


def shifted(features: Float[Array, "b t d"], added: Float[Array, "b d"]) -> Fused:
    """Frames `h = x + δ` with one `δ` a video: their products with codes follow from those of `x`."""
    features = features.astype(jnp.float32)
    fused = features + added[:, None]
    # the very factors of `normalize`, so that their rounding cancels
    share, of_frames = (
        jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1), 1e-24)) for x in (fused, features)
    )
    return given(features, fused)._replace(added=added, kept=share / of_frames, share=share)


def given(features: Float[Array, "b t d"], fused: Float[Array, "b t d"]) -> Fused:
    """Fused frames that have vectors of their own, as with dropout."""
    return Fused(discretize.normalize(features), discretize.normalize(fused))


def mean_cosines(fused: Fused, named: Named, config: ModelConfig) -> Float[Array, "b r"]:
    """`Σ_t w cos(h, C) / Σ_t w` (docs/method.md, section 4): `fusion.confidence_logits` without its
    scale.

    Args:
      fused: from `unfused`, `shifted` or `given`.
      named: from `name_frames`.
      config: `temperature` and `confidence` are used.
    """
    if named.codes is None:
        settings = (
            config.temperature,
            config.confidence,
            chunk_size(fused.unit, named.codebook.shape[0]),
        )
        return _in_chunks(settings, fused, named.codebook)
    return _average(named.weights, named.similarity, named.codes, fused)


def _average(weights: Array, similarity: Array, codes: Array, fused: Fused) -> Array:
    """`[B, R]`, from the frames' confidence in unit codes and their cosines."""
    if fused.fused is None:
        return _weighted(weights, similarity)
    function = _of_given if fused.added is None else _of_shifted
    return function(weights, similarity, codes, fused)


def _weighted(weights: Array, cosines: Array) -> Array:
    return (weights * cosines).sum(axis=1) / weights.sum(axis=1)


def _of_given(weights: Array, similarity: Array, codes: Array, fused: Fused) -> Array:
    return _weighted(weights, products(fused.fused, codes))


def _of_sums(weights: Array, similarity: Array, codes: Array, fused: Fused) -> Array:
    of_added = jnp.einsum("bd,kd->bk", fused.added, codes, precision=_EXACT)
    return _weighted(
        weights, fused.kept[..., None] * similarity + fused.share[..., None] * of_added[:, None]
    )


@jax.custom_vjp
def _of_shifted(*parts: Any) -> Array:
    """Without a second product of frames and codes, unless a frame's `δ` nearly takes it away.

    Differentiated by hand for what is kept: JAX would keep what either way needs.
    """
    return jax.lax.cond(_steady(parts), _of_sums, _of_given, *parts)


def _shifted_forward(*parts: Any) -> tuple[Array, Any]:
    return _of_shifted(*parts), parts


def _shifted_backward(parts: Any, gradient: Array) -> Any:
    def pull_back(function: Any, parts: Any) -> Any:
        return jax.vjp(function, *parts)[1](gradient)

    ways = (functools.partial(pull_back, function) for function in (_of_sums, _of_given))
    return jax.lax.cond(_steady(parts), *ways, parts)


def _steady(parts: Any) -> Array:
    return (parts[-1].kept <= _LONGER).all()


_of_shifted.defvjp(_shifted_forward, _shifted_backward)


def _chunk(settings: tuple[float, str, int], fused: Fused, codes: Array) -> Array:
    """`mean_cosines` of some raw codes."""
    codes = discretize.normalize(codes)
    similarity = products(fused.unit, codes)
    weights = discretize.confidence(similarity, settings[0], settings[1])
    return _average(weights, similarity, codes, fused)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _in_chunks(settings: tuple[float, str, int], fused: Fused, codebook: Array) -> Array:
    """`mean_cosines`, some classes at a time; backwards every chunk is computed again."""
    rows, chunk = len(codebook), settings[2]

    def step(i: Array, found: Array) -> Array:
        start, codes = chunk_of(codebook, i, chunk)
        return jax.lax.dynamic_update_slice_in_dim(
            found, _chunk(settings, fused, codes), start, axis=1
        )

    return jax.lax.fori_loop(0, -(-rows // chunk), step, jnp.zeros((fused.unit.shape[0], rows)))


def _forward(settings: tuple[float, str, int], fused: Fused, codebook: Array) -> tuple[Array, Any]:
    return _in_chunks(settings, fused, codebook), (fused, codebook)


def _backward(
    settings: tuple[float, str, int], kept: tuple[Fused, Array], gradient: Array
) -> tuple[Fused, Array]:
    fused, codebook = kept
    rows, chunk = len(codebook), settings[2]

    def step(i: Array, total: tuple[Fused, Array]) -> tuple[Fused, Array]:
        start, codes = chunk_of(codebook, i, chunk)
        here = jax.lax.dynamic_slice_in_dim(gradient, start, chunk, axis=1)
        # the last chunk reaches back over classes that had their turn
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
