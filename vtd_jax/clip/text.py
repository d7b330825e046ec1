"""CLIP's causal text transformer, with room for learnable prompt tokens."""

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from vtd_jax.clip.compute import DEFAULT, Compute
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.layers import Block, LayerNorm, zeros
from vtd_jax.clip.matmul import precision
from vtd_jax.clip.stack import block_at, blocks, count, layout, recomputed, run_blocks


class TextTransformer(nnx.Module):
    """Text tower: token table, positions, causal blocks, projection of the end-of-text position.

    Attributes:
      token_embedding: `[vocabulary, W]`.
      positional_embedding: `[L, W]`.
      text_projection: `[W, D]`.
    """

    def __init__(self, config: CLIPConfig, *, dtype: str = "float32", layers: str = "auto"):
        width = config.text_width
        self.token_embedding = zeros(config.vocab_size, width)
        self.positional_embedding = zeros(config.context_length, width)
        self.blocks = blocks(config, "text", config.text_layers, layout(layers))
        self.ln_final = LayerNorm(width)
        self.text_projection = zeros(width, config.embed_dim)
        self.dtype = jnp.dtype(dtype)

    def __call__(
        self,
        tokens: Int[Array, "k l"],
        prompts: Float[Array, "depth p width"] | None = None,
        compute: Compute = DEFAULT,
    ) -> Float[Array, "k d"]:
        """Text features, unnormalised float32.

        Args:
          tokens: ids; the largest id of a row is its end-of-text token. Positions after it cannot
            change the result (causal mask), so L may be anything from the longest text up to
            `context_length`.
          prompts: learnable tokens a layer at positions 1..P: row 0 replaces the token embeddings,
            row i the activations before block i (no positional embedding is added to those).
            All texts must begin with the same token and end behind the prompts, as those of
            `tokenize` do. Traced tokens that break this give NaN; known ones take the plain path.
          compute: `plain` and `remat` are used.
        """
        # the end token has the highest id
        ends = tokens.argmax(axis=-1)
        if compute.plain:
            x = self._every_position(tokens, prompts, ends, compute.remat)
        elif prompts is None:
            x = self._end_position(tokens, ends, compute.remat)
        elif _may_share_prefix(tokens, prompts.shape[1]):
            x = self._end_position_behind_prefix(tokens, prompts, ends, compute.remat)
        else:
            x = self._every_position(tokens, prompts, ends, compute.remat)
        pooled = self.ln_final(x).astype(jnp.float32)
        return jnp.matmul(pooled, self.text_projection[...], precision=precision(pooled))

    def _every_position(
        self,
        tokens: Int[Array, "k l"],
        prompts: Float[Array, "depth p w"] | None,
        ends: Int[Array, " k"],
        remat: str,
    ) -> Float[Array, "k w"]:
        """End-of-text positions, computed with every position in every block: the reference."""
        x, depth, layers = self.token_embedding[...][tokens], 1, count(self.blocks)
        if prompts is not None:
            x, depth = _replace(x, prompts[0]), prompts.shape[0]
        x = (x + self._positions(0, tokens.shape[1])).astype(self.dtype)
        mask = _causal(tokens.shape[1])
        deep = None if prompts is None else prompts[1:].astype(self.dtype)

        def with_prompt(block: Block, x: Array, prompt: Array) -> Array:
            return _replace(block(x, mask), prompt)

        def alone(block: Block, x: Array, _: None) -> Array:
            return block(x, mask)

        x = run_blocks(self.blocks, x, range(depth - 1), with_prompt, deep, remat)
        x = run_blocks(self.blocks, x, range(depth - 1, layers), alone, remat=remat)
        return x[jnp.arange(tokens.shape[0]), ends]

    def _end_position(
        self, tokens: Int[Array, "k l"], ends: Int[Array, " k"], remat: str
    ) -> Float[Array, "k w"]:
        """The same without prompts; the last block computes only the end-of-text positions."""
        x = self._embed(tokens, 0)
        mask, before = _causal(tokens.shape[1]), range(count(self.blocks) - 1)
        x = run_blocks(self.blocks, x, before, lambda block, x, _: block(x, mask), remat=remat)
        return self._last_block(x, None, mask, ends, remat)

    def _end_position_behind_prefix(
        self,
        tokens: Int[Array, "k l"],
        prompts: Float[Array, "depth p w"],
        ends: Int[Array, " k"],
        remat: str,
    ) -> Float[Array, "k w"]:
        """The same with prompts, where the first token and the prompts are a prefix of all texts.

        The mask is causal, so nothing of a text reaches the prefix. The prefix goes through the
        tower once, and the other positions of every text attend to it.
        """
        start, last = 1 + prompts.shape[1], count(self.blocks) - 1
        own = self._embed(tokens[:, start:], start)
        mask = _causal(tokens.shape[1])
        first = jnp.concatenate([self.token_embedding[...][tokens[0, :1]], prompts[0]])
        prefix = (first + self._positions(0, start)).astype(self.dtype)[None]
        # the last block's output at the prompts is never used
        deep = prompts.astype(self.dtype)[1 : 1 + last]

        def both(
            block: Block, carry: tuple[Array, Array], prompt: Array | None
        ) -> tuple[Array, Array]:
            own, prefix = carry
            own, prefix = block(own, mask[start:], prefix[0]), block(prefix, mask[:start, :start])
            return own, prefix if prompt is None else _replace(prefix, prompt)

        carry = run_blocks(self.blocks, (own, prefix), range(len(deep)), both, deep, remat)
        own, prefix = run_blocks(self.blocks, carry, range(len(deep), last), both, remat=remat)
        x = self._last_block(own, prefix, mask, ends, remat)
        # traced tokens could not be checked before: texts without a common prefix become NaN
        shared = jnp.all(tokens[:, 0] == tokens[0, 0]) & jnp.all(ends >= start)
        return jnp.where(shared, x, jnp.nan)

    def _last_block(
        self,
        own: Float[Array, "k s w"],
        prefix: Float[Array, "1 p w"] | None,
        mask: Float[Array, "l l"],
        ends: Int[Array, " k"],
        remat: str,
    ) -> Float[Array, "k w"]:
        """The last block at the end-of-text positions; `own` are the positions after the prefix."""
        at = (ends - (0 if prefix is None else prefix.shape[1]))[:, None, None]

        def last(own: Array, prefix: Array | None) -> Array:
            block = block_at(self.blocks, count(self.blocks) - 1)
            seen = mask[ends][:, None, None]
            return block(own, seen, prefix, lambda x: jnp.take_along_axis(x, at, axis=1))

        return recomputed(last, remat)(own, None if prefix is None else prefix[0])[:, 0]

    def _embed(self, tokens: Int[Array, "k s"], start: int) -> Float[Array, "k s w"]:
        """Tokens with the positions from `start` on."""
        x = self.token_embedding[...][tokens]
        return (x + self._positions(start, start + tokens.shape[1])).astype(self.dtype)

    def _positions(self, start: int, stop: int) -> Float[Array, "n w"]:
        return self.positional_embedding[...][start:stop]


def _may_share_prefix(tokens: Int[Array, "k l"], length: int) -> bool:
    """Whether all texts begin with the same token and end behind `length` prompts. Traced tokens,
    whose values are unknown, count as such if they are long enough.
    """
    if isinstance(tokens, Tracer):
        return tokens.shape[1] > 1 + length
    known = np.asarray(tokens)
    return bool((known[:, 0] == known[0, 0]).all() and (known.argmax(axis=-1) > length).all())


def _causal(positions: int) -> Float[Array, "n n"]:
    """0 where a position may look, -inf at those after it."""
    return jnp.triu(jnp.full((positions, positions), -jnp.inf, jnp.float32), k=1)


def _replace(
    x: Float[Array, "k l width"], prompt: Float[Array, "p width"]
) -> Float[Array, "k l width"]:
    """Puts the prompt at positions 1..P of every row."""
    rows = jnp.broadcast_to(prompt, (x.shape[0], *prompt.shape))
    return jnp.concatenate([x[:, :1], rows.astype(x.dtype), x[:, 1 + prompt.shape[0] :]], axis=1)
