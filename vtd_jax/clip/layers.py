"""The pieces both CLIP transformers are made of: frozen arrays, LayerNorm, attention, blocks."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vtd_jax.clip.attention import attend
from vtd_jax.clip.matmul import product

# picks the positions of `[B, N, W]` whose results are wanted
Rows = Callable[[Array], Array]


class Frozen(nnx.Variable):
    """An array of the pretrained CLIP: never in a gradient, an optimizer state or a checkpoint."""


def zeros(*shape: int) -> Frozen:
    """A float32 frozen array of zeros, to be filled from a checkpoint."""
    return Frozen(jnp.zeros(shape, jnp.float32))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 2))
def activation(name: str, x: Float[Array, "..."], dtype: jnp.dtype) -> Float[Array, "..."]:
    """`quick_gelu` (OpenAI: `x · sigmoid(1.702 x)`), the exact `gelu` (most open_clip models) or
    its approximation `gelu_tanh` of a float32 `x`.

    Returns `dtype`, and keeps no more than `x` in that dtype for the backward pass.
    """
    return _gelu(name, x).astype(dtype)


def _gelu(name: str, x: Array) -> Array:
    return (
        x * jax.nn.sigmoid(1.702 * x)
        if name == "quick_gelu"
        else jax.nn.gelu(x, approximate=name == "gelu_tanh")
    )


def _activation_forward(name: str, x: Array, dtype: jnp.dtype) -> tuple[Array, Array]:
    return _gelu(name, x).astype(dtype), x.astype(dtype)


def _activation_backward(name: str, dtype: jnp.dtype, x: Array, cotangent: Array) -> tuple[Array]:
    pull_back = jax.vjp(functools.partial(_gelu, name), x.astype(jnp.float32))[1]
    return pull_back(cotangent.astype(jnp.float32))


activation.defvjp(_activation_forward, _activation_backward)


class Linear(nnx.Module):
    """`x @ kernel + bias`; parameters are float32, the kernel is `[in, out]`."""

    def __init__(self, n_in: int, n_out: int):
        self.kernel = zeros(n_in, n_out)
        self.bias = zeros(n_out)

    def __call__(
        self, x: Float[Array, "... i"], columns: slice = slice(None)
    ) -> Float[Array, "... o"]:
        """float32 sums of products in the dtype of `x`, only `columns` of the output."""
        kernel = self.kernel[...][:, columns].astype(x.dtype)
        flat = product("mi,io->mo", x.reshape(-1, x.shape[-1]), kernel)
        return flat.reshape(*x.shape[:-1], -1) + self.bias[...][columns]


class LayerNorm(nnx.Module):
    """LayerNorm over the last axis with eps 1e-5, computed in float32 whatever the dtype of `x`."""

    def __init__(self, width: int, eps: float = 1e-5):
        self.scale = zeros(width)
        self.bias = zeros(width)
        self.eps = eps

    def __call__(self, x: Float[Array, "... w"]) -> Float[Array, "... w"]:
        """Returns the dtype of `x`."""
        x32 = x.astype(jnp.float32)
        # two passes: E[x²] - E[x]² would cancel in float32
        centred = x32 - x32.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        unit = centred * jax.lax.rsqrt(variance + self.eps)
        return (unit * self.scale[...] + self.bias[...]).astype(x.dtype)


class Attention(nnx.Module):
    """Attention of tokens to themselves and to a context shared by all rows of the batch."""

    def __init__(self, width: int, head_width: int):
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)
        self.heads = width // head_width

    def __call__(
        self,
        x: Float[Array, "b n w"],
        mask: Float[Array, "... q m"] | None = None,
        context: Float[Array, "p w"] | None = None,
        rows: Rows | None = None,
    ) -> Float[Array, "b q w"]:
        """What every wanted position takes from the context and from all positions; float32,
        softmax over keys too.

        Args:
          x: tokens.
          mask: added to the scores; M keys are the P of the context, then the N of `x`.
          context: further tokens, the same for the whole batch, which are keys and values only.
          rows: picks the wanted positions; None for all.
        """
        width = x.shape[-1]
        if rows is None:
            q, k, v = jnp.split(self.qkv(x).astype(x.dtype), 3, axis=-1)
        else:
            q = self.qkv(rows(x), slice(0, width)).astype(x.dtype)
            k, v = jnp.split(self.qkv(x, slice(width, 3 * width)).astype(x.dtype), 2, axis=-1)
        if context is not None:
            # the context's few queries are not needed, but slicing the weights costs more than
            # computing them
            seen = jnp.split(self.qkv(context).astype(x.dtype), 3, axis=-1)[1:]
            shared = (jnp.broadcast_to(y, (x.shape[0], *y.shape)) for y in seen)
            k, v = (jnp.concatenate(pair, axis=1) for pair in zip(shared, (k, v)))
        # scaling q is less work than scaling the scores, which are `[n, m]`
        q, k, v = self._split(q) * (width // self.heads) ** -0.5, self._split(k), self._split(v)
        return self.out(jnp.moveaxis(attend(q, k, v, mask), 1, 2).reshape(x.shape[0], -1, width))

    def _split(self, x: Float[Array, "b n w"]) -> Float[Array, "b h n c"]:
        return jnp.moveaxis(x.reshape(*x.shape[:2], self.heads, -1), 2, 1)


class Block(nnx.Module):
    """Pre-LN transformer block: attention, then an MLP, each added to its input."""

    def __init__(
        self, width: int, head_width: int, activation_name: str, mlp_width: int | None = None
    ):
        self.ln_1 = LayerNorm(width)
        self.attn = Attention(width, head_width)
        self.ln_2 = LayerNorm(width)
        self.c_fc = Linear(width, mlp_width or 4 * width)
        self.c_proj = Linear(mlp_width or 4 * width, width)
        self.activation = activation_name

    def __call__(
        self,
        x: Float[Array, "b n w"],
        mask: Float[Array, "... q m"] | None = None,
        context: Float[Array, "p w"] | None = None,
        rows: Rows | None = None,
    ) -> Float[Array, "b q w"]:
        """The wanted positions, in the dtype of `x`; arguments as in `Attention`."""
        seen = None if context is None else self.ln_1(context)
        attended = self.attn(self.ln_1(x), mask, seen, rows)
        x = ((x if rows is None else rows(x)) + attended).astype(x.dtype)
        hidden: Array = activation(self.activation, self.c_fc(self.ln_2(x)), x.dtype)
        return (x + self.c_proj(hidden)).astype(x.dtype)
