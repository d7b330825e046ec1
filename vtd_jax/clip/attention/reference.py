"""The plain reference of attention, which every way is tested against."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vtd_jax.clip.attention import mask_of, with_shared


def attend(
    qkv: Sequence[Float[Array, "b n _"]],
    shared: Float[Array, "p kv"] | None,
    *,
    heads: int,
    causal: bool = False,
    tokens: int | None = None,
) -> Float[Array, "b n w"]:
    """`vtd_jax.clip.attention.attend`, as its formula says, in the dtype of its arguments."""
    q, k, v = jnp.split(qkv[0], 3, axis=-1) if len(qkv) == 1 else qkv
    k, v = with_shared(k, v, shared)
    q, k, v = (x.reshape(*x.shape[:2], heads, -1) for x in (q, k, v))
    exact = jax.lax.Precision.HIGHEST
    scores = jnp.einsum("bnhc,bmhc->bhnm", q, k, precision=exact) / q.shape[-1] ** 0.5
    mask = mask_of(q.shape[1], k.shape[1] - q.shape[1], causal, tokens)
    weights = jax.nn.softmax(scores if mask is None else scores + mask, axis=-1)
    mixed = jnp.einsum("bhnm,bmhc->bnhc", weights.astype(q.dtype), v, precision=exact)
    return mixed.reshape(*mixed.shape[:2], -1)
