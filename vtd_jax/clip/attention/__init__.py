"""Attention of the towers: one function, and a way to compute it for each kind of device."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from vtd_jax.clip.attention import cudnn, xla


def attend(
    qkv: Sequence[Float[Array, "b n _"]],
    shared: Float[Array, "p kv"] | None,
    *,
    heads: int,
    way: str = "xla",
    causal: bool = False,
    tokens: int | None = None,
    interpret: bool = False,
) -> Float[Array, "b n w"]:
    """`softmax(q kᵀ / √c) v` of every head; keys are the context's, then the row's own.

    Ways differ by rounding only: scores, powers and their sums are float32, and powers are rounded
    to the dtype of `qkv` before they are multiplied. Returns that dtype.

    Args:
      qkv: one array `[B, N, 3 W]` as it leaves the product, or queries, keys and values, each
        `[B, N, W]`.
      shared: keys and values of the context `[P, 2 W]`, which every row sees; None for none.
      heads: their number, H = W / c.
      way: "xla", "pallas" (of one array) or "cudnn" (of three arrays, without a context); see
        `choice.chosen`.
      causal: whether a token sees no token of its row after itself.
      tokens: how many of the N are keys; those behind them are padding. None for all.
      interpret: run the kernels' operations without their device.
    """
    if shared is not None and not shared.shape[0]:
        shared = None
    if way == "pallas":
        # imported where it is chosen: what computes on a CPU need not load it
        from vtd_jax.clip.attention import pallas

        (packed,) = qkv
        width, context, padding = packed.shape[-1] // 3, 0, 0
        if shared is not None:
            given, shared = shared.shape[0], pallas.padded(shared)
            context, padding = shared.shape[0], shared.shape[0] - given
        count = pallas.tiles(width, width // heads, packed.shape[1], context)
        setting = pallas.Setting(width // heads, causal, count, padding, interpret)
        return pallas.attend(packed, shared, setting)
    q, k, v = jnp.split(qkv[0], 3, axis=-1) if len(qkv) == 1 else qkv
    if way == "cudnn":
        if shared is not None:
            raise ValueError("cuDNN's attention takes no context: keys and values are of the row")
        return cudnn.attend(q, k, v, heads=heads, causal=causal, tokens=tokens, interpret=interpret)
    mask = mask_of(q.shape[1], 0 if shared is None else shared.shape[0], causal, tokens)
    k, v = with_shared(k, v, shared)
    return xla.joined(xla.attend(*xla.split(q, k, v, heads), mask))


def with_shared(
    k: Float[Array, "b n w"], v: Float[Array, "b n w"], shared: Float[Array, "p kv"] | None
) -> tuple[Float[Array, "b m w"], Float[Array, "b m w"]]:
    """Keys and values of every row, those of the context before its own."""
    if shared is None:
        return k, v
    context = (jnp.broadcast_to(x, (k.shape[0], *x.shape)) for x in jnp.split(shared, 2, axis=-1))
    k, v = (jnp.concatenate(pair, axis=1) for pair in zip(context, (k, v)))
    return k, v


def mask_of(
    n: int, shared: int, causal: bool, tokens: int | None = None
) -> Float[Array, "n m"] | None:
    """What is added to the scores of N queries and `shared + N` keys; None for nothing."""
    own = jnp.zeros((n, n), jnp.float32)
    if causal:
        own = jnp.triu(jnp.full((n, n), -math.inf, jnp.float32), k=1)
    if tokens is not None and tokens < n:
        own = jnp.where(jnp.arange(n) < tokens, own, -math.inf)
    elif not causal:
        return None
    return jnp.pad(own, ((0, 0), (shared, 0)))
