"""The block both CLIP transformers are made of: attention, then an MLP."""

from collections.abc import Callable

import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from vtd_jax.clip.attention import attend, with_shared, xla
from vtd_jax.clip.attention.choice import chosen
from vtd_jax.clip.compute import DEFAULT, Compute
from vtd_jax.clip.layers import LayerNorm, Linear, activation
from vtd_jax.clip.towers.rotary import Rotation, turned

# what the backward pass needs of a block beside "qkv", by its name there: frozen weights
# need nothing for themselves
KEPT = ("mid", "hidden", "stats")
# picks the positions of `[B, N, W]` whose results are wanted
Rows = Callable[[Array], Array]


class Attention(nnx.Module):
    """Attention of tokens to themselves and to a context shared by all rows of the batch."""

    def __init__(self, width: int, head_width: int):
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)
        self.heads = width // head_width

    def __call__(
        self,
        x: Float[Array, "b n w"],
        compute: Compute = DEFAULT,
        *,
        causal: bool = False,
        context: Float[Array, "p w"] | None = None,
        tokens: int | None = None,
        rotation: Rotation | None = None,
    ) -> Float[Array, "b n w"]:
        """What every position takes from the context and from all positions, not rounded; softmax
        over keys too.

        Args:
          x: tokens.
          compute: `attention`, `platform` and `interpret` are used.
          causal: whether a position sees no position of `x` after itself.
          context: further tokens, the same for the whole batch, which are keys and values only.
          tokens: how many positions are seen; those behind them are padding. None for all.
          rotation: turns queries and keys of `x`, not those of the context; None for no turn.
        """
        width, device = x.shape[-1], compute.device
        way = self.way(compute, x.shape[1], x.dtype, context is not None)
        # a GPU would split one product's result by copies
        parts = 3 if device == "gpu" and way != "pallas" else 1
        each = 3 * width // parts
        columns = [slice(place * each, (place + 1) * each) for place in range(parts)]
        qkv = [self.qkv(x, part, device).astype(x.dtype) for part in columns]
        if rotation is not None:
            # values stay; the backward pass of a turn needs nothing of its input
            turn = [turned(part, rotation, 3 if parts == 1 else 1) for part in qkv[:2]]
            qkv = [*turn, *qkv[2:]]
        qkv = [checkpoint_name(part, "qkv") for part in qkv]
        mixed = attend(
            qkv,
            None if context is None else self._seen(context, device),
            heads=self.heads,
            way=way,
            causal=causal,
            tokens=tokens,
            interpret=compute.interpret,
        )
        return self.out(mixed, device=device)

    def of_rows(
        self,
        x: Float[Array, "b n w"],
        compute: Compute,
        rows: Rows,
        *,
        context: Float[Array, "p w"] | None = None,
        mask: Float[Array, "... q m"] | None = None,
    ) -> Float[Array, "b q w"]:
        """The same for few positions, always by XLA.

        Args:
          x: tokens.
          compute: `platform` is used.
          rows: picks the wanted positions.
          context: as above.
          mask: added to the scores; M keys are the P of the context, then the N of `x`.
        """
        width, device = x.shape[-1], compute.device
        q = self.qkv(rows(x), slice(0, width), device).astype(x.dtype)
        k, v = jnp.split(self.qkv(x, slice(width, 3 * width), device).astype(x.dtype), 2, axis=-1)
        shared = None if context is None else self._seen(context, device)
        k, v = with_shared(k, v, shared)
        mixed = xla.joined(xla.attend(*xla.split(q, k, v, self.heads), mask))
        return self.out(mixed, device=device)

    def way(self, compute: Compute, tokens: int, dtype: jnp.dtype, context: bool = False) -> str:
        """The way for rows of so many tokens, see `choice.chosen`; layers may be stacked."""
        width = self.out.kernel.shape[-1]
        return chosen(
            compute.attention,
            compute.device,
            tokens=tokens,
            width=width,
            head_width=width // self.heads,
            dtype=jnp.dtype(dtype),
            context=context,
            interpret=compute.interpret,
        )

    def _seen(self, context: Float[Array, "p w"], device: str) -> Float[Array, "p kv"]:
        # its few queries are not needed, but slicing the weights costs more than computing them
        return self.qkv(context, device=device).astype(context.dtype)[:, context.shape[-1] :]


class Block(nnx.Module):
    """Pre-LN transformer block: attention, then an MLP, each added to its input."""

    def __init__(
        self,
        width: int,
        head_width: int,
        activation_name: str,
        mlp_width: int | None = None,
        eps: float = 1e-5,
    ):
        self.ln_1 = LayerNorm(width, eps)
        self.attn = Attention(width, head_width)
        self.ln_2 = LayerNorm(width, eps)
        self.c_fc = Linear(width, mlp_width or 4 * width)
        self.c_proj = Linear(mlp_width or 4 * width, width)
        self.activation = activation_name

    def __call__(
        self,
        x: Float[Array, "b n w"],
        compute: Compute = DEFAULT,
        *,
        causal: bool = False,
        context: Float[Array, "p w"] | None = None,
        tokens: int | None = None,
        rotation: Rotation | None = None,
    ) -> Float[Array, "b n w"]:
        """All positions, in the dtype of `x`; arguments as in `Attention`."""
        seen = None if context is None else self.ln_1(context)
        attended = self.attn(
            self.ln_1(x), compute, causal=causal, context=seen, tokens=tokens, rotation=rotation
        )
        return self._mlp(x, attended, compute.device)

    def of_rows(
        self,
        x: Float[Array, "b n w"],
        compute: Compute,
        rows: Rows,
        *,
        context: Float[Array, "p w"] | None = None,
        mask: Float[Array, "... q m"] | None = None,
    ) -> Float[Array, "b q w"]:
        """The wanted positions; arguments as in `Attention.of_rows`."""
        seen = None if context is None else self.ln_1(context)
        attended = self.attn.of_rows(self.ln_1(x), compute, rows, context=seen, mask=mask)
        return self._mlp(rows(x), attended, compute.device)

    def _mlp(
        self, x: Float[Array, "b q w"], attended: Float[Array, "b q w"], device: str
    ) -> Float[Array, "b q w"]:
        x = checkpoint_name((x + attended).astype(x.dtype), "mid")
        apart = device != "cpu" and x.dtype != jnp.float32
        before = self.c_fc(self.ln_2(x), device=device)
        hidden: Array = activation(self.activation, before, x.dtype, apart)
        return (x + self.c_proj(hidden, device=device)).astype(x.dtype)
