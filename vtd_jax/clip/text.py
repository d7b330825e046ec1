"""CLIP's causal text transformer, with room for learnable prompt tokens."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.layers import LayerNorm, blocks, precision, run_block, zeros


class TextTransformer(nnx.Module):
    """Text tower: token table, positions, causal blocks, projection of the end-of-text position.

    Attributes:
      token_embedding: `[vocabulary, W]`.
      positional_embedding: `[L, W]`.
      text_projection: `[W, D]`.
    """

    def __init__(self, config: CLIPConfig, *, dtype: str = "float32"):
        width = config.text_width
        self.token_embedding = zeros(config.vocab_size, width)
        self.positional_embedding = zeros(config.context_length, width)
        self.blocks = blocks(config, width, config.text_head_width, config.text_layers)
        self.ln_final = LayerNorm(width)
        self.text_projection = zeros(width, config.embed_dim)
        self.dtype = jnp.dtype(dtype)
        self.remat = "none"

    def __call__(
        self, tokens: Int[Array, "k l"], prompts: Float[Array, "depth p width"] | None = None
    ) -> Float[Array, "k d"]:
        """Text features, unnormalised float32.

        Args:
          tokens: ids; the largest id of a row is its end-of-text token. Positions after it cannot change the result
            (causal mask), so L may be anything from the longest text up to `context_length`.
          prompts: learnable tokens a layer at positions 1..P: row 0 replaces the token embeddings, row i the
            activations before block i (no positional embedding is added to those).
        """
        x = self.token_embedding[...][tokens]
        if prompts is not None:
            x = _replace(x, prompts[0])
        x = (x + self.positional_embedding[...][: tokens.shape[1]]).astype(self.dtype)
        mask = jnp.triu(jnp.full((tokens.shape[1], tokens.shape[1]), -jnp.inf, jnp.float32), k=1)
        for i, block in enumerate(self.blocks):
            if prompts is not None and 0 < i < prompts.shape[0]:
                x = _replace(x, prompts[i].astype(self.dtype))
            x = run_block(block, x, mask, self.remat)
        ends = x[jnp.arange(tokens.shape[0]), tokens.argmax(axis=-1)]
        pooled = self.ln_final(ends).astype(jnp.float32)
        return jnp.matmul(pooled, self.text_projection[...], precision=precision(pooled))


def _replace(x: Float[Array, "k l width"], prompt: Float[Array, "p width"]) -> Float[Array, "k l width"]:
    """Puts the prompt at positions 1..P of every row."""
    rows = jnp.broadcast_to(prompt, (x.shape[0], *prompt.shape))
    return jnp.concatenate([x[:, :1], rows, x[:, 1 + prompt.shape[0] :]], axis=1)
