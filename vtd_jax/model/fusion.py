"""Confidence-aware fusion (paper section 3.3): frames with their video token, and logits."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from vtd_jax.model.axes import WHOLE, Axes
from vtd_jax.model.discretize import cosine

_EXACT = jax.lax.Precision.HIGHEST


class Dense(nnx.Module):
    """A learnable float32 linear layer with PyTorch's initial values, U(±1/sqrt(in))."""

    def __init__(self, n_in: int, n_out: int, *, zero: bool = False, rngs: nnx.Rngs):
        bound = 0.0 if zero else n_in**-0.5
        self.kernel = nnx.Param(
            jax.random.uniform(rngs.params(), (n_in, n_out), minval=-bound, maxval=bound)
        )
        self.bias = nnx.Param(
            jax.random.uniform(rngs.params(), (n_out,), minval=-bound, maxval=bound)
        )

    def __call__(self, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        """`x @ kernel + bias` in float32."""
        return jnp.matmul(x, self.kernel[...], precision=_EXACT) + self.bias[...]


class Fusion(nnx.Module):
    """`h = x + fc2(relu(fc1(attention(query = x, key = value = video tokens))))`.

    With one video token the attention weight is exactly 1. Without dropout every frame of a video
    then gets the same vector added, and `q` and `k` get zero gradient.
    """

    def __init__(self, width: int, heads: int, *, dropout: float, init: str, rngs: nnx.Rngs):
        self.q = Dense(width, width, rngs=rngs)
        self.k = Dense(width, width, rngs=rngs)
        self.v = Dense(width, width, rngs=rngs)
        self.out = Dense(width, width, rngs=rngs)
        self.fc1 = Dense(width, 4 * width, rngs=rngs)
        self.fc2 = Dense(4 * width, width, zero=init == "zero", rngs=rngs)
        self.heads, self.dropout = heads, dropout

    def __call__(
        self,
        features: Float[Array, "b t d"],
        tokens: Float[Array, "b n d"],
        dropout_keys: Key[Array, " b"] | None = None,
    ) -> Float[Array, "b t d"]:
        """Fused frames, float32.

        Args:
          features: raw frame features.
          tokens: raw video tokens.
          dropout_keys: one key a video (so that the draw does not depend on how a batch is split);
            None outside training.
        """
        features = features.astype(jnp.float32)
        attended = self._attend(features, tokens.astype(jnp.float32), dropout_keys)
        return features + self.fc2(jax.nn.relu(self.fc1(attended)))

    def shift(self, token: Float[Array, "b 1 d"]) -> Float[Array, "b d"]:
        """What one video token without dropout adds to every frame (docs/method.md, section 7)."""
        attended = self.out(self.v(token.astype(jnp.float32)))
        return self.fc2(jax.nn.relu(self.fc1(attended)))[:, 0]

    def attention(
        self, features: Float[Array, "b t d"], tokens: Float[Array, "b n d"]
    ) -> Float[Array, "b h t n"]:
        """Attention of every head and frame to every video token; sums to 1 over the tokens."""
        q, k = self._split(self.q(features)), self._split(self.k(tokens))
        scores = jnp.einsum("bthc,bnhc->bhtn", q, k, precision=_EXACT) * q.shape[-1] ** -0.5
        return jax.nn.softmax(scores, axis=-1)

    def _split(self, x: Array) -> Array:
        return x.reshape(*x.shape[:2], self.heads, -1)

    def _attend(self, features: Array, tokens: Array, keys: Array | None) -> Array:
        weights = self.attention(features, tokens)
        if keys is not None and self.dropout > 0:
            kept = jax.vmap(
                lambda key: jax.random.bernoulli(key, 1 - self.dropout, weights.shape[1:])
            )(keys)
            weights = jnp.where(kept, weights / (1 - self.dropout), 0.0)
        mixed = jnp.einsum(
            "bhtn,bnhc->bthc", weights, self._split(self.v(tokens)), precision=_EXACT
        )
        return self.out(mixed.reshape(features.shape))


def confidence_logits(
    fused: Float[Array, "b t d"],
    codebook: Float[Array, "k d"],
    weights: Float[Array, "b t k"],
    scale: Float[Array, ""],
) -> Float[Array, "b k"]:
    """`scale · Σ_t w cos(h, C) / Σ_t w`: each class averages its own confident frames."""
    return scale * (weights * cosine(fused, codebook)).sum(axis=1) / weights.sum(axis=1)


def mean_logits(
    fused: Float[Array, "b t d"], codebook: Float[Array, "k d"], scale: Float[Array, ""]
) -> Float[Array, "b k"]:
    """`scale · cos(mean of raw frame features, C)`: what mean-pooling baselines do."""
    return scale * cosine(fused.mean(axis=1, keepdims=True), codebook)[:, 0]


def softmax_mean_logits(
    fused: Float[Array, "b t d"],
    codebook: Float[Array, "k d"],
    scale: Float[Array, ""],
    axes: Axes = WHOLE,
) -> Float[Array, "b k"]:
    """Log of the mean over frames of `softmax(scale · cos)`."""
    scores = axes.log_softmax(scale * cosine(fused, codebook))
    return jax.nn.logsumexp(scores, axis=1) - jnp.log(fused.shape[1])
