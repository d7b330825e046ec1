"""Attention of an NVIDIA GPU by cuDNN, through `jax.nn.dot_product_attention`."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# channels of a head, at most
MOST_HEAD_WIDTH = 128


@functools.cache
def is_installed() -> bool:
    """Whether JAX finds cuDNN here, with which alone it traces and compiles such a program."""
    x = jax.ShapeDtypeStruct((1, 64, 1, 64), jnp.bfloat16)
    attention = functools.partial(jax.nn.dot_product_attention, implementation="cudnn")
    try:
        jax.eval_shape(attention, x, x, x)
    except RuntimeError:
        return False
    return True


def problem(dtype: jnp.dtype, head_width: int) -> str:
    """Why cuDNN cannot take a tower, for a message; "" if it can."""
    if dtype != jnp.bfloat16:
        return f"arrays of {dtype}, expected bfloat16"
    if head_width % 8 or head_width > MOST_HEAD_WIDTH:
        return f"heads of {head_width} channels, expected a multiple of 8 up to {MOST_HEAD_WIDTH}"
    return ""


def padding(tokens: int) -> int:
    """Tokens to append: its backward pass takes even lengths only."""
    return tokens % 2


def attend(
    q: Float[Array, "b n w"],
    k: Float[Array, "b n w"],
    v: Float[Array, "b n w"],
    *,
    heads: int,
    causal: bool,
    tokens: int | None,
    interpret: bool,
) -> Float[Array, "b n w"]:
    """See `vtd_jax.clip.attention.attend`; N is even."""
    q, k, v = (x.reshape(*x.shape[:2], heads, -1) for x in (q, k, v))
    lengths = None
    if tokens is not None and tokens < q.shape[1]:
        lengths = jnp.full((q.shape[0],), tokens, jnp.int32)
    mixed = jax.nn.dot_product_attention(
        q,
        k,
        v,
        is_causal=causal,
        key_value_seq_lengths=lengths,
        implementation="xla" if interpret else "cudnn",
    )
    return mixed.reshape(*mixed.shape[:2], -1)
