"""Softmax attention of many heads, with a backward pass that keeps little."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from vtd_jax.clip.matmul import product


def attend(
    q: Float[Array, "b h n c"],
    k: Float[Array, "b h m c"],
    v: Float[Array, "b h m c"],
    mask: Float[Array, "..."] | None,
) -> Float[Array, "b h n c"]:
    """`softmax(q kᵀ + mask) v`, in the dtype of `q`; scores, powers and their sum are float32.

    The powers are rounded to the dtype of `q` before they are summed and multiplied, so that
    weights add up to one.

    Args:
      q: queries, scaled already.
      k, v: keys and values, of the dtype of `q`.
      mask: added to the scores `[B, H, N, M]`, which its shape must broadcast to; no gradient
        reaches it.
    """
    if mask is not None and mask.ndim > 2:
        mask = jnp.broadcast_to(mask, (*q.shape[:2], *mask.shape[-2:]))
    # XLA's fast CPU kernel takes one batch axis, not two
    q3, k3, v3, mask = (
        x if x is None or x.ndim == 2 else x.reshape(-1, *x.shape[2:]) for x in (q, k, v, mask)
    )
    return _attend(q3, k3, v3, mask).reshape(q.shape)


def split(
    q: Float[Array, "b n w"], k: Float[Array, "b m w"], v: Float[Array, "b m w"], heads: int
) -> tuple[Float[Array, "b h n c"], Float[Array, "b h m c"], Float[Array, "b h m c"]]:
    """Heads apart, with the queries scaled by `1 / √c`."""
    q, k, v = (jnp.moveaxis(x.reshape(*x.shape[:2], heads, -1), 2, 1) for x in (q, k, v))
    # scaling q is less work than scaling the scores, which are `[n, m]`
    return q * q.shape[-1] ** -0.5, k, v


def joined(mixed: Float[Array, "b h n c"]) -> Float[Array, "b n w"]:
    """Heads of a token beside each other again."""
    return jnp.moveaxis(mixed, 1, 2).reshape(mixed.shape[0], mixed.shape[2], -1)


class _Kept(NamedTuple):
    """What the backward pass needs."""

    q: Array
    k: Array
    v: Array
    powers: Array
    total: Array
    mixed: Array
    mask: Array | None


@jax.custom_vjp
def _attend(q: Array, k: Array, v: Array, mask: Array | None) -> Array:
    return _forward(q, k, v, mask)[0]


def _forward(q: Array, k: Array, v: Array, mask: Array | None) -> tuple[Array, _Kept]:
    scores = product("bnc,bmc->bnm", q, k)
    scores = scores if mask is None else scores + mask
    # dividing the result by the sum is less work than dividing every weight
    powers = jnp.exp(scores - scores.max(-1, keepdims=True)).astype(q.dtype)
    powers = checkpoint_name(powers, "powers")
    total = checkpoint_name(powers.astype(jnp.float32).sum(-1, keepdims=True), "powers")
    mixed = (product("bnm,bmc->bnc", powers, v) / total).astype(q.dtype)
    mixed = checkpoint_name(mixed, "mixed")
    return mixed, _Kept(q, k, v, powers, total, mixed, mask)


def _backward(kept: _Kept, cotangent: Array) -> tuple[Array | None, ...]:
    q, k, v, powers, total, mixed, mask = kept
    # without the barrier XLA keeps the float32 copy that the forward pass summed
    powers = jax.lax.optimization_barrier(powers)
    of_weights = product("bnc,bmc->bnm", cotangent, v)
    # the weighted mean of `of_weights` that softmax subtracts is cotangent · mixed, one number a
    # query
    cotangent32 = cotangent.astype(jnp.float32)
    mean = (cotangent32 * mixed.astype(jnp.float32)).sum(-1, keepdims=True)
    of_scores = (powers * ((of_weights - mean) / total)).astype(q.dtype)
    of_q = product("bnm,bmc->bnc", of_scores, k).astype(q.dtype)
    of_k = product("bnm,bnc->bmc", of_scores, q).astype(k.dtype)
    of_v = product("bnm,bnc->bmc", powers, (cotangent32 / total).astype(v.dtype)).astype(v.dtype)
    return of_q, of_k, of_v, None if mask is None else jnp.zeros_like(mask)


_attend.defvjp(_forward, _backward)
