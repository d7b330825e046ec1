"""A tower's blocks, as a list of modules or stacked in one module, and how to run either."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from vtd_jax.clip.block import KEPT, Block
from vtd_jax.clip.compute import Compute
from vtd_jax.clip.config import CLIPConfig

# (block, carry, this layer's part of `each`) -> the next carry
Step = Callable[[Block, Any, Any], Any]


def layout(asked: str = "auto", platform: str | None = None) -> str:
    """How blocks are stored: "list" (unrolled, faster on a CPU and a GPU) or "scan" (one loop body,
    which compiles much sooner for a TPU).

    Args:
      asked: "auto" chooses by `platform`.
      platform: "cpu", "gpu", "tpu" or "cuda"; None for the one that JAX uses.
    """
    if asked != "auto":
        return asked
    return "scan" if (platform or jax.default_backend()) == "tpu" else "list"


def blocks(config: CLIPConfig, tower: str, layers: int, kind: str) -> nnx.List | Block:
    """The blocks of tower "vision" or "text": a list, or for "scan" one with stacked arrays."""
    width, head_width, mlp_width = (
        getattr(config, f"{tower}_{name}") for name in ("width", "head_width", "mlp_width")
    )
    of_one = width, head_width, config.activation, mlp_width, config.design.norm_eps
    if kind == "list":
        return nnx.List([Block(*of_one) for _ in range(layers)])
    block = Block(*of_one)
    for _, variable in nnx.to_flat_state(nnx.state(block)):
        variable.set_value(jnp.broadcast_to(variable[...], (layers, *variable.shape)))
    return block


def count(stack: nnx.List | Block) -> int:
    """How many layers there are."""
    return len(stack) if isinstance(stack, nnx.List) else stack.ln_1.scale.shape[0]


def attention_implementation(
    stack: nnx.List | Block, compute: Compute, tokens: int, dtype: Any, *, context: bool = False
) -> str:
    """How blocks compute attention of rows of so many tokens: "xla", "pallas" or "cudnn".

    Raises:
      UserError: as for `choice.chosen`.
    """
    if compute.plain:
        return "xla"
    block: Block = stack[0] if isinstance(stack, nnx.List) else stack
    return block.attn.way(compute, tokens, dtype, context)


def block_at(stack: nnx.List | Block, layer: int | Int[Array, ""]) -> Block:
    """One block; of stacked ones a slice of all arrays, and `layer` may be traced."""
    if isinstance(stack, nnx.List):
        return stack[int(layer)]
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
    """Runs some layers, one after another.

    Args:
      stack: from `blocks`.
      carry: arrays that go in; `step` must keep their shapes and dtypes.
      layers: which layers.
      step: runs one layer.
      each: a part for each of `layers`; None for none.
      remat: see `Compute`.

    Returns:
      What `step` made of `carry` in the last layer.
    """
    stacked = not isinstance(stack, nnx.List)

    def run(carry: Any, layer: int | Int[Array, ""], part: Any) -> Any:
        # slicing the block inside lets the backward pass slice it again instead of keeping a copy
        function = recomputed(lambda *args: step(block_at(stack, layer), *args), remat, stacked)
        return function(carry, part)

    if not layers:
        return carry
    if stacked:
        numbers = jnp.arange(layers.start, layers.stop)
        return jax.lax.scan(lambda carry, at: (run(carry, *at), None), carry, (numbers, each))[0]
    for place, layer in enumerate(layers):
        carry = run(carry, layer, None if each is None else each[place])
    return carry


def recomputed(
    function: Callable[..., Any], remat: str, stacked: bool = False
) -> Callable[..., Any]:
    """The same function, with the backward pass computing again what `remat` says (see `Compute`).

    Args:
      function: takes and returns arrays.
      remat: "none", "block" or "dots".
      stacked: whether it runs inside a scan over stacked layers.
    """
    if remat == "none" and not stacked:
        return function
    # a loop reads arrays back from a stack: for q, k and v that takes longer than their product
    dots = KEPT if stacked else (*KEPT, "qkv")
    # attention is computed again for "dots": its arrays are the largest
    kept = {"none": (*KEPT, "qkv", "powers", "mixed"), "dots": dots, "block": ()}[remat]
    # without a policy a scan keeps every layer's weights, a second copy of the tower
    policy = jax.checkpoint_policies.save_only_these_names(*kept) if kept else None
    # rounds of a loop cannot be merged with each other anyway
    return jax.checkpoint(function, policy=policy, prevent_cse=not stacked)
