"""A tower's blocks, as a list of modules or stacked in one, and how both are run."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.layers import Block

# how a layer's weights are cut out of stacked ones and rounded: cheap to do again
_CUTTING = ("dynamic_slice", "squeeze", "slice", "convert_element_type")
# (block, what goes from layer to layer, this layer's part of `each`) -> what goes on
Step = Callable[[Block, Any, Any], Any]


def layout(asked: str = "auto", platform: str | None = None) -> str:
    """ "list" (a program as long as the tower: faster on a CPU) or "scan" (one body: a TPU or GPU
     compiles it sooner).

    Args:
      asked: "auto" chooses by `platform`.
      platform: "cpu", "gpu", "tpu" or "cuda"; None for the one that JAX uses.
    """
    if asked != "auto":
        return asked
    return "list" if (platform or jax.default_backend()) == "cpu" else "scan"


def blocks(config: CLIPConfig, tower: str, layers: int, kind: str) -> nnx.List | Block:
    """`layers` blocks of a tower ("vision" or "text"): a list of them, or for "scan" one whose
    arrays have a first axis of `layers`."""
    width, head_width, mlp_width = (
        getattr(config, f"{tower}_{name}") for name in ("width", "head_width", "mlp_width")
    )
    if kind == "list":
        return nnx.List(
            [Block(width, head_width, config.activation, mlp_width) for _ in range(layers)]
        )
    block = Block(width, head_width, config.activation, mlp_width)
    for _, variable in nnx.to_flat_state(nnx.state(block)):
        variable.set_value(jnp.broadcast_to(variable[...], (layers, *variable.shape)))
    return block


def count(stack: nnx.List | Block) -> int:
    """How many layers there are."""
    return len(stack) if isinstance(stack, nnx.List) else stack.ln_1.scale.shape[0]


def block_at(stack: nnx.List | Block, layer: int | Int[Array, ""]) -> Block:
    """One block; of stacked ones a slice of all arrays, and `layer` may be traced."""
    if isinstance(stack, nnx.List):
        return stack[layer]
    graphdef, state = nnx.split(stack)
    return nnx.merge(
        graphdef,
        jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, layer, keepdims=False), state),
    )


def run_blocks(
    stack: nnx.List | Block,
    carry: Any,
    layers: range,
    step: Step,
    each: Float[Array, "layers ..."] | None = None,
    remat: str = "none",
) -> Any:
    """Goes through some layers, one after another.

    Args:
      stack: of `blocks`.
      carry: arrays that go in; `step` must leave their shapes and dtypes.
      layers: which.
      step: one layer.
      each: a part for each of `layers`; None for none.
      remat: what the backward pass computes again: "none", "block" (all of it) or "dots" (all but
        matrix products).
    """
    if isinstance(stack, nnx.List):
        for place, layer in enumerate(layers):
            part = None if each is None else each[place]
            carry = again(lambda carry, part, block=stack[layer]: step(block, carry, part), remat)(
                carry, part
            )
        return carry
    if not len(layers):
        return carry

    def body(carry: Any, at: Any) -> tuple[Any, None]:
        layer, part = at
        return step(block_at(stack, layer), carry, part), None

    scanned = again(body, remat, stacked=True)
    return jax.lax.scan(scanned, carry, (jnp.arange(layers.start, layers.stop), each))[0]


def again(function: Callable[..., Any], remat: str, stacked: bool = False) -> Callable[..., Any]:
    """`function`, of which the backward pass computes again what `remat` says; see `run_blocks`."""
    policies = jax.checkpoint_policies
    if remat == "none":
        # kept for the backward pass, the weights of every round would be a second copy of the tower
        return jax.checkpoint(function, policy=_all_but_weights) if stacked else function
    # attention's products have batch axes and are large: they are computed again in either case
    keep = policies.dots_with_no_batch_dims_saveable if remat == "dots" else None
    return jax.checkpoint(function, policy=keep)


def _all_but_weights(primitive: Any, *_: Any, **__: Any) -> bool:
    return primitive.name not in _CUTTING
