"""CLIP's causal text transformer, with room for learnable prompt tokens."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.layers import Block, LayerNorm, zeros
from vtd_jax.clip.matmul import precision
from vtd_jax.clip.stack import again, block_at, blocks, count, layout, run_blocks


class TextTransformer(nnx.Module):
    """Text tower: token table, positions, causal blocks, projection of the end-of-text position.

    Attributes:
      token_embedding: `[vocabulary, W]`.
      positional_embedding: `[L, W]`.
      text_projection: `[W, D]`.
      remat: see `stack.run_blocks`.
      plain: whether every position of every text goes through every layer, as the formulas say;
        else the same features are computed from what can reach them (docs/method.md, section 7).
    """

    def __init__(self, config: CLIPConfig, *, dtype: str = "float32", layers: str = "auto"):
        width = config.text_width
        self.token_embedding = zeros(config.vocab_size, width)
        self.positional_embedding = zeros(config.context_length, width)
        self.blocks = blocks(config, "text", config.text_layers, layout(layers))
        self.ln_final = LayerNorm(width)
        self.text_projection = zeros(width, config.embed_dim)
        self.dtype = jnp.dtype(dtype)
        self.remat, self.plain = "none", False

    def __call__(
        self, tokens: Int[Array, "k l"], prompts: Float[Array, "depth p width"] | None = None
    ) -> Float[Array, "k d"]:
        """Text features, unnormalised float32.

        Args:
          tokens: ids; the largest id of a row is its end-of-text token. Positions after it cannot
            change the result (causal mask), so L may be anything from the longest text up to
            `context_length`.
          prompts: learnable tokens a layer at positions 1..P: row 0 replaces the token embeddings,
            row i the activations before block i (no positional embedding is added to those). Then
            all texts must begin with the same token and end behind the prompts, as those of
            `tokenize` do: tokens that are traced and do not give NaN, others take the plain path.
        """
        ends = tokens.argmax(axis=-1)
        if self.plain or (prompts is not None and not _may_share(tokens, prompts.shape[1])):
            x = self._every_position(tokens, prompts, ends)
        else:
            x = self._end_position(tokens, prompts, ends)
        pooled = self.ln_final(x).astype(jnp.float32)
        return jnp.matmul(pooled, self.text_projection[...], precision=precision(pooled))

    def _end_position(
        self,
        tokens: Int[Array, "k l"],
        prompts: Float[Array, "depth p w"] | None,
        ends: Int[Array, " k"],
    ) -> Float[Array, "k w"]:
        """The end-of-text positions after the last block.

        With prompts the first token and the prompts are a prefix that all texts share and that,
        being causal, sees none of them: it goes through the tower once, and the texts' own
        positions attend to it.
        """
        last = count(self.blocks) - 1
        start = 0 if prompts is None else 1 + prompts.shape[1]
        own = (
            self.token_embedding[...][tokens[:, start:]] + self._positions(start, tokens.shape[1])
        ).astype(self.dtype)
        mask = _causal(tokens.shape[1])
        if prompts is None:
            own = run_blocks(
                self.blocks, own, range(last), lambda block, x, _: block(x, mask), remat=self.remat
            )
            prefix = None
        else:
            first = jnp.concatenate([self.token_embedding[...][tokens[0, :1]], prompts[0]])
            prefix = (first + self._positions(0, start)).astype(self.dtype)[None]
            own, prefix = self._with_prefix(own, prefix, prompts.astype(self.dtype), mask, last)
        at = (ends - start)[:, None, None]
        final = again(
            lambda x, seen: block_at(self.blocks, last)(
                x, mask[ends][:, None, None], seen, lambda x: jnp.take_along_axis(x, at, axis=1)
            ),
            self.remat,
        )
        x = final(own, None if prefix is None else prefix[0])[:, 0]
        if prompts is None:
            return x
        kept = jnp.all(tokens[:, 0] == tokens[0, 0]) & jnp.all(ends >= start)
        # what was only promised of traced tokens is seen here
        return jnp.where(kept, x, jnp.nan)

    def _with_prefix(
        self, own: Array, prefix: Array, prompts: Array, mask: Array, last: int
    ) -> tuple[Float[Array, "k s w"], Float[Array, "1 p w"]]:
        """Both before the last block."""
        start = prefix.shape[1]

        def one(
            block: Block, both: tuple[Array, Array], prompt: Array | None
        ) -> tuple[Array, Array]:
            own, prefix = both
            own, prefix = block(own, mask[start:], prefix[0]), block(prefix, mask[:start, :start])
            return own, prefix if prompt is None else _replace(prefix, prompt)

        replaced = min(prompts.shape[0] - 1, last)
        both = run_blocks(
            self.blocks, (own, prefix), range(replaced), one, prompts[1 : 1 + replaced], self.remat
        )
        return run_blocks(self.blocks, both, range(replaced, last), one, remat=self.remat)

    def _every_position(
        self,
        tokens: Int[Array, "k l"],
        prompts: Float[Array, "depth p w"] | None,
        ends: Int[Array, " k"],
    ) -> Float[Array, "k w"]:
        """The same with every position of every text in every block: the reference."""
        x, depth, layers = self.token_embedding[...][tokens], 1, count(self.blocks)
        if prompts is not None:
            x, depth = _replace(x, prompts[0]), prompts.shape[0]
        x = (x + self._positions(0, tokens.shape[1])).astype(self.dtype)
        mask = _causal(tokens.shape[1])
        deep = None if prompts is None else prompts[1:].astype(self.dtype)
        x = run_blocks(
            self.blocks,
            x,
            range(depth - 1),
            lambda block, x, prompt: _replace(block(x, mask), prompt),
            deep,
            self.remat,
        )
        x = run_blocks(
            self.blocks,
            x,
            range(depth - 1, layers),
            lambda block, x, _: block(x, mask),
            remat=self.remat,
        )
        return x[jnp.arange(tokens.shape[0]), ends]

    def _positions(self, start: int, stop: int) -> Float[Array, "n w"]:
        return self.positional_embedding[...][start:stop]


def _may_share(tokens: Int[Array, "k l"], length: int) -> bool:
    """Whether texts behind `length` prompts share a prefix, as far as can be told before they are
    known.
    """
    if isinstance(tokens, jax.core.Tracer):
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
