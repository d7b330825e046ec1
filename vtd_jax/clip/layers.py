"""The pieces the towers are made of: frozen arrays, linear layers, LayerNorm, activations."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from vtd_jax.clip.matmul import product


class Frozen(nnx.Variable):
    """An array of the pretrained CLIP: never in a gradient, an optimizer state or a checkpoint."""


def zeros(*shape: int) -> Frozen:
    """A float32 frozen array of zeros, to be filled from a checkpoint."""
    return Frozen(jnp.zeros(shape, jnp.float32))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 2, 3))
def activation(
    name: str, x: Float[Array, "..."], dtype: jnp.dtype, apart: bool = False
) -> Float[Array, "..."]:
    """`quick_gelu` (OpenAI: `x · sigmoid(1.702 x)`), the exact `gelu` (most open_clip models) or
    its approximation `gelu_tanh`, computed in float32.

    Returns `dtype`, and keeps no more than `x` in that dtype for the backward pass.

    Args:
      name: which one.
      x: what the MLP's first product gives.
      dtype: of the result.
      apart: whether it, or in training its gradient, is computed once, apart from the product that
        takes it. Inside of one, a TPU computes it again for every tile. (In training the forward
        pass also writes `x`, and takes less time without.)
    """
    result = _gelu(name, x.astype(jnp.float32)).astype(dtype)
    return jax.lax.optimization_barrier(result) if apart else result


def _gelu(name: str, x: Array) -> Array:
    return (
        x * jax.nn.sigmoid(1.702 * x)
        if name == "quick_gelu"
        else jax.nn.gelu(x, approximate=name == "gelu_tanh")
    )


def _activation_forward(
    name: str, x: Array, dtype: jnp.dtype, apart: bool
) -> tuple[Array, tuple[Array, Array]]:
    # an empty array has the dtype of `x`
    kept = checkpoint_name(x.astype(dtype), "hidden"), jnp.zeros((0,), x.dtype)
    return _gelu(name, x.astype(jnp.float32)).astype(dtype), kept


def _activation_backward(
    name: str, dtype: jnp.dtype, apart: bool, kept: tuple[Array, Array], cotangent: Array
) -> tuple[Array]:
    x, like = kept
    pull_back = jax.vjp(functools.partial(_gelu, name), x.astype(jnp.float32))[1]
    (gradient,) = pull_back(cotangent.astype(jnp.float32))
    if apart:
        gradient = jax.lax.optimization_barrier(gradient.astype(dtype))
    return (gradient.astype(like.dtype),)


activation.defvjp(_activation_forward, _activation_backward)


class Linear(nnx.Module):
    """`x @ kernel + bias`; parameters are float32, the kernel is `[in, out]`."""

    def __init__(self, n_in: int, n_out: int):
        self.kernel = zeros(n_in, n_out)
        self.bias = zeros(n_out)

    def __call__(
        self, x: Float[Array, "... i"], columns: slice = slice(None), device: str = "cpu"
    ) -> Float[Array, "... o"]:
        """Sums of products in the dtype of `x`, only `columns` of the output.

        Returns float32; on a GPU the dtype of `x`, because a product that writes float32 for
        another kernel to round moves three times the bytes.

        Args:
          x: tokens.
          columns: of the output.
          device: that the layout is for: a TPU's product takes the axes of `x` as they are, without
            a copy; a CPU's takes one merged axis.
        """
        kernel, bias = self.kernel[...][:, columns].astype(x.dtype), self.bias[...][columns]
        if device != "cpu" and x.ndim == 3:
            out = x.dtype if device == "gpu" else jnp.dtype(jnp.float32)
            return product("bni,io->bno", x, kernel, out) + bias.astype(out)
        flat = product("mi,io->mo", x.reshape(-1, x.shape[-1]), kernel)
        return flat.reshape(*x.shape[:-1], -1) + bias


class LayerNorm(nnx.Module):
    """LayerNorm over the last axis, computed in float32 whatever the dtype of `x`."""

    def __init__(self, width: int, eps: float = 1e-5):
        self.scale = zeros(width)
        self.bias = zeros(width)
        self.eps = eps

    def __call__(self, x: Float[Array, "... w"]) -> Float[Array, "... w"]:
        """Returns the dtype of `x`."""
        return _normalized(self.eps, x, self.scale[...], self.bias[...])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _normalized(eps: float, x: Array, scale: Array, bias: Array) -> Array:
    return _normalized_and_kept(eps, x, scale, bias)[0]


def _normalized_and_kept(
    eps: float, x: Array, scale: Array, bias: Array
) -> tuple[Array, Array, Array]:
    """The result, and two numbers a token that four passes over the tokens would find again."""
    x32 = x.astype(jnp.float32)
    mean = checkpoint_name(x32.mean(-1, keepdims=True), "stats")
    centred = x32 - mean
    if x.dtype == jnp.float32:
        # a second pass, because E[x²] - E[x]² cancels
        variance = jnp.square(centred).mean(-1, keepdims=True)
    else:
        # one pass for both sums; what cancels is far below the rounding of `x`
        variance = jnp.maximum(jnp.square(x32).mean(-1, keepdims=True) - jnp.square(mean), 0)
    inverse = checkpoint_name(jax.lax.rsqrt(variance + eps), "stats")
    return (centred * inverse * scale + bias).astype(x.dtype), mean, inverse


def _normalized_forward(eps: float, x: Any, scale: Any, bias: Any) -> tuple[Array, Any]:
    result, *numbers = _normalized_and_kept(eps, x.value, scale.value, bias.value)
    return result, (x.value, scale.value, *numbers, scale.perturbed, bias.perturbed)


def _normalized_backward(
    eps: float, kept: tuple[Any, ...], cotangent: Any
) -> tuple[Array | None, Array | None, Array | None]:
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        return None, None, None
    x, scale, mean, inverse, of_scale, of_bias = kept
    cotangent = cotangent.astype(jnp.float32)
    unit = (x.astype(jnp.float32) - mean) * inverse
    of_unit = cotangent * scale
    along = (of_unit * unit).mean(-1, keepdims=True)
    of_x = (of_unit - of_unit.mean(-1, keepdims=True) - unit * along) * inverse
    rows = tuple(range(x.ndim - 1))
    return (
        of_x.astype(x.dtype),
        # frozen ones get no gradient
        (cotangent * unit).sum(rows) if of_scale else None,
        cotangent.sum(rows) if of_bias else None,
    )


_normalized.defvjp(_normalized_forward, _normalized_backward, symbolic_zeros=True)
