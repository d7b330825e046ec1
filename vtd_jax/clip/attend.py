"""Softmax attention of many heads; its backward pass keeps little and multiplies in the dtype of the forward pass."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vtd_jax.clip.products import product

Heads = Float[Array, "b h n c"]


@jax.custom_vjp
def attend(q: Heads, k: Float[Array, "b h m c"], v: Float[Array, "b h m c"], mask: Float[Array, "..."] | None) -> Heads:
    """`softmax(q kᵀ + mask) v`, in the dtype of `q`; scores and softmax are float32.

    Args:
      q: queries, scaled already.
      k, v: keys and values, of the dtype of `q`.
      mask: added to the scores `[B, H, N, M]`, which its shape must broadcast to; no gradient reaches it.
    """
    return _forward(q, k, v, mask)[0]


def _forward(q: Array, k: Array, v: Array, mask: Array | None) -> tuple[Array, tuple[Array | None, ...]]:
    scores = product("bhnc,bhmc->bhnm", q, k)
    weights = jax.nn.softmax(scores if mask is None else scores + mask, axis=-1).astype(q.dtype)
    mixed = product("bhnm,bhmc->bhnc", weights, v).astype(q.dtype)
    return mixed, (q, k, v, weights, mixed, mask)


def _backward(kept: tuple[Array | None, ...], cotangent: Array) -> tuple[Array | None, ...]:
    q, k, v, weights, mixed, mask = kept
    of_weights = product("bhnc,bhmc->bhnm", cotangent, v)
    # what softmax subtracts is the mean of `of_weights` by weight: cotangent · mixed, one number a query
    mean = (cotangent.astype(jnp.float32) * mixed.astype(jnp.float32)).sum(-1, keepdims=True)
    of_scores = (weights * (of_weights - mean)).astype(q.dtype)
    of_q = product("bhnm,bhmc->bhnc", of_scores, k).astype(q.dtype)
    of_mask = None if mask is None else jnp.zeros_like(mask)
    return of_q, _over_queries(of_scores, q), _over_queries(weights, cotangent), of_mask


attend.defvjp(_forward, _backward)


def _over_queries(x: Float[Array, "b h n m"], y: Float[Array, "b h n c"]) -> Float[Array, "b h m c"]:
    """`xᵀ y`, in the dtype of `y`."""

    def plain(x: Array, y: Array) -> Array:
        return product("bhnm,bhnc->bhmc", x, y).astype(y.dtype)

    def turned(x: Array, y: Array) -> Array:
        # XLA's fast CPU kernel takes no transposed bfloat16: y, the smaller one, is turned; without the rows of zeros
        # XLA would undo it
        rows = jnp.pad(jnp.swapaxes(y, -1, -2), ((0, 0), (0, 0), (0, 8), (0, 0)))
        return jnp.swapaxes(product("bhcn,bhnm->bhcm", rows, x)[:, :, :-8].astype(y.dtype), -1, -2)

    if y.dtype == jnp.float32:
        return plain(x, y)
    return jax.lax.platform_dependent(x, y, cpu=turned, default=plain)
