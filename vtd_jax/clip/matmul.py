"""Matrix products of the towers: float32 exactly, bfloat16 with float32 sums."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def precision(x: Array) -> jax.lax.Precision:
    """The precision at which float32 stays float32; TPUs and GPUs round inputs by default."""
    return jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else jax.lax.Precision.DEFAULT


def product(
    spec: str,
    a: Float[Array, "..."],
    b: Float[Array, "..."],
    out: jnp.dtype | type = jnp.float32,
) -> Float[Array, "..."]:
    """`einsum(spec, a, b)` of two arrays of one dtype. Returns float32; the caller rounds.

    bfloat16 is summed in float32. The backward pass first rounds the cotangent to bfloat16, because
    products of mixed dtypes are slow, on a CPU slower than float32. Gradients have the dtype of `a`
    and `b`.

    Args:
      spec: with "->", without "...", every letter in at least two of its three parts.
      a, b: arrays.
      out: of bfloat16 arrays also bfloat16: the product rounds what it writes, which saves a GPU a
        pass over float32. Its backward products do the same.
    """
    if a.dtype == jnp.float32:
        return jnp.einsum(spec, a, b, precision=precision(a))
    return _mixed(spec, jnp.dtype(out), a, b)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _mixed(spec: str, out: jnp.dtype, a: Array, b: Array) -> Array:
    return jnp.einsum(spec, a, b, preferred_element_type=out)


def _forward(
    spec: str, out: jnp.dtype, a: Any, b: Any
) -> tuple[Array, tuple[Array | None, Array | None]]:
    # frozen weights get no gradient, so nothing is kept or computed for one
    kept = (a.value if b.perturbed else None, b.value if a.perturbed else None)
    return _mixed(spec, out, a.value, b.value), kept


def _backward(
    spec: str, out: jnp.dtype, kept: tuple[Array | None, Array | None], cotangent: Any
) -> tuple[Array | None, Array | None]:
    a, b = kept
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        return None, None
    of_a, of_b, of_out = spec.replace("->", ",").split(",")
    grad_a = grad_b = None
    if b is not None:
        back = f"{of_out},{of_b}->{of_a}"
        grad_a = product(back, cotangent.astype(b.dtype), b, out).astype(b.dtype)
    if a is not None:
        back = f"{of_a},{of_out}->{of_b}"
        grad_b = product(back, a, cotangent.astype(a.dtype), out).astype(a.dtype)
    return grad_a, grad_b


_mixed.defvjp(_forward, _backward, symbolic_zeros=True)
