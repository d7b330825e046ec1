"""Attention pooling: a learnt probe looks at all tokens of an image, and an MLP follows."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vtd_jax.clip.layers import LayerNorm, Linear, activation, zeros
from vtd_jax.clip.matmul import precision, product


class AttentionPool(nnx.Module):
    """The head of SigLIP and PE (Zhai et al. 2022, "MAP").

    Attributes:
      probe: `[1, 1, W]`, the only query, the same for all images.
    """

    def __init__(self, width: int, heads: int, mlp_width: int, activation_name: str, eps: float):
        self.probe = zeros(1, 1, width)
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)
        self.layernorm = LayerNorm(width, eps)
        self.c_fc = Linear(width, mlp_width)
        self.c_proj = Linear(mlp_width, width)
        self.heads, self.activation = heads, activation_name

    def __call__(
        self, x: Float[Array, "n t w"], *, plain: bool = False, device: str = "cpu"
    ) -> Float[Array, "n w"]:
        """One vector an image, in the dtype of `x`.

        Args:
          x: normalised tokens.
          plain: compute keys and values of all tokens, as the formulas say.
          device: as for `Linear`.
        """
        mix = self._mixed_plainly if plain else self._mixed
        pooled = self.out(mix(x).astype(x.dtype)[:, None], device=device).astype(x.dtype)
        before = self.c_fc(self.layernorm(pooled), device=device)
        hidden: Array = activation(self.activation, before, x.dtype)
        return (pooled + self.c_proj(hidden, device=device)).astype(x.dtype)[:, 0]

    def _mixed_plainly(self, x: Float[Array, "n t w"]) -> Float[Array, "n w"]:
        """What each head takes from the values: the reference."""
        query, width = self._query(x.dtype), x.shape[-1]
        k, v = jnp.split(self.qkv(x, slice(width, 3 * width)).astype(x.dtype), 2, axis=-1)
        k, v = (part.reshape(*x.shape[:2], self.heads, -1) for part in (k, v))
        scores = jnp.einsum("hc,nthc->nht", query, k, precision=precision(k))
        weights = jax.nn.softmax(scores.astype(jnp.float32), axis=-1).astype(x.dtype)
        mixed = jnp.einsum("nht,nthc->nhc", weights, v, precision=precision(v))
        return mixed.reshape(x.shape[0], width)

    def _mixed(self, x: Float[Array, "n t w"]) -> Float[Array, "n w"]:
        """The same without keys and values of all tokens, which would be two products of `W²` a
        token: the query is multiplied into the kernel of the keys, and each head's kernel of the
        values comes after the mean. The keys' bias changes all scores by the same, so no weight.
        """
        width, kernel, bias = x.shape[-1], self.qkv.kernel[...], self.qkv.bias[...]
        query = self._query(x.dtype)
        keys, values = (
            kernel[:, first : first + width].astype(x.dtype).reshape(width, self.heads, -1)
            for first in (width, 2 * width)
        )
        seen = jnp.einsum("hc,whc->wh", query, keys, precision=precision(keys))
        scores = product("ntw,wh->nth", x, seen.astype(x.dtype))
        weights = jnp.moveaxis(jax.nn.softmax(scores, axis=1), 2, 1).astype(x.dtype)
        means = product("nht,ntw->nhw", weights, x).astype(x.dtype)
        # XLA's CPU takes products of bfloat16 with the batch first
        means, values = jnp.moveaxis(means, 1, 0), jnp.moveaxis(values, 1, 0)
        mixed = jnp.moveaxis(product("hnw,hwc->hnc", means, values), 0, 1)
        return mixed.reshape(x.shape[0], width) + bias[2 * width :]

    def _query(self, dtype: jnp.dtype) -> Float[Array, "h c"]:
        """The probe's query, divided by the root of its channels."""
        width = self.probe.shape[-1]
        query = self.qkv(self.probe[...][0].astype(dtype), slice(0, width))
        query = query.reshape(self.heads, -1)
        return (query / query.shape[-1] ** 0.5).astype(dtype)
