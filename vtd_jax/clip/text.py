"""The text transformer of CLIP, SigLIP and PE, with room for learnable prompt tokens."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from vtd_jax.clip.attention import cudnn, mask_of
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
from vtd_jax.clip.towers.rows import wanted_tokens
from vtd_jax.errors import UserError


class TextTransformer(nnx.Module):
    """Text tower: token table, positions, blocks, projection of one position.

    A causal tower takes the end-of-text position, one where all positions see each other the last.

    Attributes:
      token_embedding: `[vocabulary, W]`.
      positional_embedding: `[L, W]`.
      text_projection: `[W, D]`.
      text_projection_bias: `[D]`, or None.
    """

    def __init__(self, config: CLIPConfig, *, dtype: str = "float32", layers: str = "auto"):
        width = config.text_width
        self.token_embedding = zeros(config.vocab_size, width)
        self.positional_embedding = zeros(config.context_length, width)
        self.blocks = blocks(config, "text", config.text_layers, layout(layers))
        design = config.design
        self.ln_final = LayerNorm(width, design.norm_eps)
        self.text_projection = zeros(width, config.embed_dim)
        biased = design.text_projection_bias
        self.text_projection_bias = zeros(config.embed_dim) if biased else None
        self.causal, self.starts, self.dtype = design.causal, design.starts, jnp.dtype(dtype)

    def __call__(
        self,
        tokens: Int[Array, "k l"],
        prompts: Float[Array, "depth p width"] | None = None,
        compute: Compute = DEFAULT,
    ) -> Float[Array, "k d"]:
        """Text features, unnormalised float32.

        Args:
          tokens: ids; of a causal tower the largest id of a row is its end-of-text token. Positions
            after it cannot change the result (causal mask), so L may be anything from the longest
            text up to `context_length`. Any other tower needs `context_length` positions.
          prompts: learnable tokens a layer at positions 1..P, or 0..P-1 where the tokenizer puts no
            start: row 0 replaces the token embeddings, row i the activations before block i (no
            positional embedding is added to those). For a causal tower all texts must begin with
            the same token and end behind the prompts, as those of `tokenize` do. Traced tokens that
            break this give NaN; known ones take the plain path.
          compute: all but `frame_chunks` is used.

        Raises:
          UserError: too few positions for a tower that is not causal.
        """
        length = self.positional_embedding.shape[0]
        if not self.causal and tokens.shape[1] != length:
            raise UserError(
                f"texts have {tokens.shape[1]} tokens, this text tower takes all its {length} "
                "positions: pad them"
            )
        # the end token has the highest id
        ends = tokens.argmax(axis=-1) if self.causal else jnp.full(tokens.shape[:1], length - 1)
        if compute.plain:
            x = self._every_position(tokens, prompts, ends, compute)
        elif not self.causal:
            x = self._last_position(tokens, prompts, compute)
        elif prompts is None:
            x = self._end_position(tokens, ends, compute)
        elif _may_share_prefix(tokens, prompts.shape[1]):
            x = self._end_position_behind_prefix(tokens, prompts, ends, compute)
        else:
            x = self._every_position(tokens, prompts, ends, compute)
        pooled = self.ln_final(x).astype(jnp.float32)
        features = jnp.matmul(pooled, self.text_projection[...], precision=precision(pooled))
        bias = self.text_projection_bias
        return features if bias is None else features + bias[...]

    def attention_implementation(self, compute: Compute, length: int, prompts: int = 0) -> str:
        """How attention of texts of L tokens with so many prompts is computed."""
        if not self.causal:
            padded = length + cudnn.padding(length)
            return attention_implementation(self.blocks, compute, padded, self.dtype)
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
        """The positions `ends`, computed with every position in every block: the reference."""
        compute = dataclasses.replace(compute, attention="xla")
        x, depth, layers = self.token_embedding[...][tokens], 1, count(self.blocks)
        if prompts is not None:
            x, depth = _replace(x, prompts[0], self.starts), prompts.shape[0]
        x = (x + self._positions(0, tokens.shape[1])).astype(self.dtype)
        deep = None if prompts is None else prompts[1:].astype(self.dtype)

        def with_prompt(block: Block, x: Array, prompt: Array) -> Array:
            return _replace(block(x, compute, causal=self.causal), prompt, self.starts)

        alone = functools.partial(_alone, compute, self.causal)
        x = run_blocks(self.blocks, x, range(depth - 1), with_prompt, deep, compute.remat)
        x = run_blocks(self.blocks, x, range(depth - 1, layers), alone, remat=compute.remat)
        return x[jnp.arange(tokens.shape[0]), ends]

    def _last_position(
        self, tokens: Int[Array, "k l"], prompts: Float[Array, "depth p w"] | None, compute: Compute
    ) -> Float[Array, "k w"]:
        """The last position where all see each other; the last block computes only that.

        Prompts take their positions at the input, and from there on have no place among the others.
        """
        if prompts is None:
            own = self._embed(tokens, 0)
        else:
            start, stop = self.starts, self.starts + prompts.shape[1]
            first = prompts[:1] + self._positions(start, stop)
            prompts = jnp.concatenate([first, prompts[1:]]).astype(self.dtype)
            own = self._embed(tokens[:, stop:], stop)
            if start:
                own = jnp.concatenate([self._embed(tokens[:, :start], 0), own], axis=1)
        at = own.shape[1] - 1

        def last(x: Array) -> Array:
            return x[:, at : at + 1]

        return wanted_tokens(self.blocks, own, prompts, compute, last)[:, 0]

    def _end_position(
        self, tokens: Int[Array, "k l"], ends: Int[Array, " k"], compute: Compute
    ) -> Float[Array, "k w"]:
        """The same without prompts; the last block computes only the end-of-text positions."""
        x, before = self._embed(tokens, 0), range(count(self.blocks) - 1)
        alone = functools.partial(_alone, compute, True)
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
            return own, prefix if prompt is None else _replace(prefix, prompt, 1)

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


def _alone(
    compute: Compute, causal: bool, block: Block, x: Float[Array, "k l w"], _: None
) -> Array:
    """A block without prompts of its own."""
    return block(x, compute, causal=causal)


def _replace(
    x: Float[Array, "k l width"], prompt: Float[Array, "p width"], start: int
) -> Float[Array, "k l width"]:
    """Puts the prompt at P positions of every row from `start` on."""
    rows = jnp.broadcast_to(prompt, (x.shape[0], *prompt.shape)).astype(x.dtype)
    return jnp.concatenate([x[:, :start], rows, x[:, start + prompt.shape[0] :]], axis=1)
