"""CLIP's causal text transformer, with room for learnable prompt tokens."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from vtd_jax.clip.attention import mask_of
from vtd_jax.clip.block import Block
from vtd_jax.clip.compute import DEFAULT, Compute
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.layers import LayerNorm, zeros
from vtd_jax.clip.matmul import precision
from vtd_jax.clip.stack import (
    attention_implementation,
    block_at,
    blocks,
    count,
    layout,
    recomputed,
    run_blocks,
)


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
          compute: all but `frame_chunks` is used.
        """
        # the end token has the highest id
        ends = tokens.argmax(axis=-1)
        if compute.plain:
            x = self._every_position(tokens, prompts, ends, compute)
        elif prompts is None:
            x = self._end_position(tokens, ends, compute)
        elif _may_share_prefix(tokens, prompts.shape[1]):
            x = self._end_position_behind_prefix(tokens, prompts, ends, compute)
        else:
            x = self._every_position(tokens, prompts, ends, compute)
        pooled = self.ln_final(x).astype(jnp.float32)
        return jnp.matmul(pooled, self.text_projection[...], precision=precision(pooled))

    def attention_implementation(self, compute: Compute, length: int, prompts: int = 0) -> str:
        """How attention of texts of L tokens with so many prompts is computed."""
        # prompts and what is before them are a context
        own = length - (1 + prompts if prompts else 0)
        context = prompts > 0
        return attention_implementation(self.blocks, compute, own, self.dtype, context=context)

    def _every_position(
        self,
        tokens: Int[Array, "k l"],
        prompts: Float[Array, "depth p w"] | None,
        ends: Int[Array, " k"],
        compute: Compute,
    ) -> Float[Array, "k w"]:
        """End-of-text positions, computed with every position in every block: the reference."""
        compute = dataclasses.replace(compute, attention="xla")
        x, depth, layers = self.token_embedding[...][tokens], 1, count(self.blocks)
        if prompts is not None:
            x, depth = _replace(x, prompts[0]), prompts.shape[0]
        x = (x + self._positions(0, tokens.shape[1])).astype(self.dtype)
        deep = None if prompts is None else prompts[1:].astype(self.dtype)

        def with_prompt(block: Block, x: Array, prompt: Array) -> Array:
            return _replace(block(x, compute, causal=True), prompt)

        alone = functools.partial(_alone, compute)
        x = run_blocks(self.blocks, x, range(depth - 1), with_prompt, deep, compute.remat)
        x = run_blocks(self.blocks, x, range(depth - 1, layers), alone, remat=compute.remat)
        return x[jnp.arange(tokens.shape[0]), ends]

    def _end_position(
        self, tokens: Int[Array, "k l"], ends: Int[Array, " k"], compute: Compute
    ) -> Float[Array, "k w"]:
        """The same without prompts; the last block computes only the end-of-text positions."""
        x, before = self._embed(tokens, 0), range(count(self.blocks) - 1)
        alone = functools.partial(_alone, compute)
        x = run_blocks(self.blocks, x, before, alone, remat=compute.remat)
        return self._last_block(x, None, ends, compute)

    def _end_position_behind_prefix(
        self,
        tokens: Int[Array, "k l"],
        prompts: Float[Array, "depth p w"],
        ends: Int[Array, " k"],
        compute: Compute,
    ) -> Float[Array, "k w"]:
        """The same with prompts, where the first token and the prompts are a prefix of all texts.

        The mask is causal, so nothing of a text reaches the prefix. The prefix goes through the
        tower once, and the other positions of every text attend to it.
        """
        start, last = 1 + prompts.shape[1], count(self.blocks) - 1
        own = self._embed(tokens[:, start:], start)
        first = jnp.concatenate([self.token_embedding[...][tokens[0, :1]], prompts[0]])
        prefix = (first + self._positions(0, start)).astype(self.dtype)[None]
        # the last block's output at the prompts is never used
        deep = prompts.astype(self.dtype)[1 : 1 + last]

        def both(
            block: Block, carry: tuple[Array, Array], prompt: Array | None
        ) -> tuple[Array, Array]:
            own, prefix = carry
            own = block(own, compute, causal=True, context=prefix[0])
            prefix = block(prefix, compute, causal=True)
            return own, prefix if prompt is None else _replace(prefix, prompt)

        remat, depth = compute.remat, len(deep)
        carry = run_blocks(self.blocks, (own, prefix), range(depth), both, deep, remat)
        own, prefix = run_blocks(self.blocks, carry, range(depth, last), both, remat=remat)
        x = self._last_block(own, prefix, ends, compute)
        # traced tokens could not be checked before: texts without a common prefix become NaN
        shared = jnp.all(tokens[:, 0] == tokens[0, 0]) & jnp.all(ends >= start)
        return jnp.where(shared, x, jnp.nan)

    def _last_block(
        self,
        own: Float[Array, "k s w"],
        prefix: Float[Array, "1 p w"] | None,
        ends: Int[Array, " k"],
        compute: Compute,
    ) -> Float[Array, "k w"]:
        """The last block at the end-of-text positions; `own` are the positions after the prefix."""
        start = 0 if prefix is None else prefix.shape[1]
        at = (ends - start)[:, None, None]
        mask = mask_of(start + own.shape[1], 0, causal=True)
        assert mask is not None
        seen = mask[ends][:, None, None]

        def rows(x: Array) -> Array:
            return jnp.take_along_axis(x, at, axis=1)

        def last(own: Array, prefix: Array | None) -> Array:
            block = block_at(self.blocks, count(self.blocks) - 1)
            return block.of_rows(own, compute, rows, context=prefix, mask=seen)

        return recomputed(last, compute.remat)(own, None if prefix is None else prefix[0])[:, 0]

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


def _alone(compute: Compute, block: Block, x: Float[Array, "k l w"], _: None) -> Array:
    """A block without prompts of its own."""
    return block(x, compute, causal=True)


def _replace(
    x: Float[Array, "k l width"], prompt: Float[Array, "p width"]
) -> Float[Array, "k l width"]:
    """Puts the prompt at positions 1..P of every row."""
    rows = jnp.broadcast_to(prompt, (x.shape[0], *prompt.shape))
    return jnp.concatenate([x[:, :1], rows.astype(x.dtype), x[:, 1 + prompt.shape[0] :]], axis=1)
