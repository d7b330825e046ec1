"""The pieces both CLIP transformers are made of: frozen arrays, LayerNorm, attention, blocks."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vtd_jax.clip.config import CLIPConfig


class Frozen(nnx.Variable):
    """An array of the pretrained CLIP: never in a gradient, an optimizer state or a checkpoint."""


def zeros(*shape: int) -> Frozen:
    """A float32 frozen array of zeros, to be filled from a checkpoint."""
    return Frozen(jnp.zeros(shape, jnp.float32))


def precision(x: Array) -> jax.lax.Precision:
    """float32 means float32 on every backend: TPUs and GPUs round inputs of products unless told not to."""
    return jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else jax.lax.Precision.DEFAULT


def activation(name: str, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`quick_gelu` (OpenAI: `x · sigmoid(1.702 x)`) or the exact `gelu` (most open_clip models)."""
    return x * jax.nn.sigmoid(1.702 * x) if name == "quick_gelu" else jax.nn.gelu(x, approximate=False)


class Linear(nnx.Module):
    """`x @ kernel + bias` in a compute dtype; parameters are float32, the kernel is `[in, out]`."""

    def __init__(self, n_in: int, n_out: int):
        self.kernel = zeros(n_in, n_out)
        self.bias = zeros(n_out)

    def __call__(self, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        """Computes in the dtype of `x`."""
        product = jnp.matmul(x, self.kernel[...].astype(x.dtype), precision=precision(x))
        return product + self.bias[...].astype(x.dtype)


class LayerNorm(nnx.Module):
    """LayerNorm over the last axis with eps 1e-5, computed in float32 whatever the dtype of `x`."""

    def __init__(self, width: int, eps: float = 1e-5):
        self.scale = zeros(width)
        self.bias = zeros(width)
        self.eps = eps

    def __call__(self, x: Float[Array, "... w"]) -> Float[Array, "... w"]:
        """Returns the dtype of `x`."""
        x32 = x.astype(jnp.float32)
        centred = x32 - x32.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        return (centred * jax.lax.rsqrt(variance + self.eps) * self.scale[...] + self.bias[...]).astype(x.dtype)


class Attention(nnx.Module):
    """Multi-head self-attention; `project` and `attend` are apart so that keys and values can come from elsewhere."""

    def __init__(self, width: int, head_width: int):
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)
        self.heads = width // head_width

    def project(self, x: Float[Array, "b n w"]) -> tuple[Float[Array, "b h n c"], ...]:
        """Queries, keys and values, heads first; queries are already scaled by `1/sqrt(head width)`."""
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = jnp.moveaxis(qkv, (2, 3), (0, 2))
        return q * (width // self.heads) ** -0.5, k, v

    def attend(self, q: Array, k: Array, v: Array, mask: Array | None) -> Float[Array, "b n w"]:
        """Softmax over keys in float32; `mask [n, m]` is added to the scores."""
        scores = jnp.einsum("bhnc,bhmc->bhnm", q, k, precision=precision(q), preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(scores if mask is None else scores + mask, axis=-1).astype(v.dtype)
        mixed = jnp.einsum("bhnm,bhmc->bhnc", weights, v, precision=precision(v))
        batch, heads, tokens, channels = mixed.shape
        return self.out(jnp.moveaxis(mixed, 1, 2).reshape(batch, tokens, heads * channels))

    def __call__(self, x: Float[Array, "b n w"], mask: Array | None = None) -> Float[Array, "b n w"]:
        """Self-attention of `x`, optionally masked."""
        return self.attend(*self.project(x), mask)


class Block(nnx.Module):
    """Pre-LN transformer block: attention, then a 4× MLP, each added to its input."""

    def __init__(self, width: int, head_width: int, activation_name: str):
        self.ln_1 = LayerNorm(width)
        self.attn = Attention(width, head_width)
        self.ln_2 = LayerNorm(width)
        self.c_fc = Linear(width, 4 * width)
        self.c_proj = Linear(4 * width, width)
        self.activation = activation_name

    def __call__(self, x: Float[Array, "b n w"], mask: Array | None = None) -> Float[Array, "b n w"]:
        """Maps `[B, N, W]` to the same shape and dtype."""
        x = x + self.attn(self.ln_1(x), mask)
        return x + self.c_proj(activation(self.activation, self.c_fc(self.ln_2(x))))


def blocks(config: CLIPConfig, width: int, head_width: int, layers: int) -> nnx.List:
    """`layers` blocks as a list: unrolled code is the faster layout on a CPU."""
    return nnx.List([Block(width, head_width, config.activation) for _ in range(layers)])


def run_block(block: Block, x: Float[Array, "b n w"], mask: Array | None, remat: str) -> Float[Array, "b n w"]:
    """One block; `remat` says what its backward pass computes again: "none", "block" (all) or "dots" (but products)."""
    if remat == "none":
        return block(x, mask)
    # attention's products have batch axes and are large: they are computed again in either case
    keep = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if remat == "dots" else None
    return jax.checkpoint(lambda x: block(x, mask), policy=keep)(x)
