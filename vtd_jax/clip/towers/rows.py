"""Runs the blocks of a tower whose tokens all see each other, with prompts beside the tokens.

Prompts are `[depth, P, W]`: row 0 is there from the first block on, row i takes its place before
block i. They have no place among the tokens, so what the blocks give for them is dropped wherever
nothing needs it.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float

from vtd_jax.clip.attention import cudnn
from vtd_jax.clip.block import Block, Rows
from vtd_jax.clip.compute import Compute
from vtd_jax.clip.stack import attention_implementation, block_at, count, recomputed, run_blocks
from vtd_jax.clip.towers.rotary import Rotation

Prompts = Float[Array, "depth p w"] | None


class _Tower(NamedTuple):
    """What is the same for a whole run, as `wanted_tokens` has it."""

    blocks: nnx.List | Block
    compute: Compute
    rows: Rows | None
    rotation: Rotation | None


def every_token(
    blocks: nnx.List | Block,
    x: Float[Array, "n t w"],
    prompts: Prompts,
    compute: Compute,
    rotation: Rotation | None = None,
) -> Float[Array, "n t w"]:
    """The T tokens after the last block, all computed in every block: the reference, by XLA."""
    layers, remat, own = count(blocks), compute.remat, x.shape[1]
    compute = dataclasses.replace(compute, attention="xla")
    if prompts is None:
        alone = functools.partial(_alone, compute, rotation)
        return run_blocks(blocks, x, range(layers), alone, remat=remat)
    x = jnp.concatenate([x, _for_all(prompts[0], x)], axis=1)
    depth = prompts.shape[0]
    alone = functools.partial(_alone, compute, _padded(rotation, x))

    def replacing(block: Block, x: Array, prompt: Array) -> Array:
        return jnp.concatenate([alone(block, x, None)[:, :own], _for_all(prompt, x)], axis=1)

    x = run_blocks(blocks, x, range(depth - 1), replacing, prompts[1:], remat)
    return run_blocks(blocks, x, range(depth - 1, layers), alone, remat=remat)[:, :own]


def wanted_tokens(
    blocks: nnx.List | Block,
    x: Float[Array, "n t w"],
    prompts: Prompts,
    compute: Compute,
    rows: Rows | None = None,
    rotation: Rotation | None = None,
) -> Float[Array, "n q w"]:
    """The tokens that `rows` picks of the T after the last block, or all of them.

    The last block computes only these. `rows` and `rotation` are not used together.
    """
    tokens = x.shape[1] + (0 if prompts is None else prompts.shape[1])
    tokens += cudnn.padding(tokens)
    way = attention_implementation(blocks, compute, tokens, x.dtype)
    run = _prompts_in_rows if way == "cudnn" else _prompts_beside
    return run(_Tower(blocks, compute, rows, rotation), x, prompts)


def _prompts_beside(
    tower: _Tower, x: Float[Array, "n t w"], prompts: Prompts
) -> Float[Array, "n q w"]:
    """A block's output at the prompts is dropped where the next block replaces them, and after the
    last block. Such prompts are keys and values only, the same for all rows of the batch.
    """
    blocks, compute, rotation = tower.blocks, tower.compute, tower.rotation
    last, remat, own = count(blocks) - 1, compute.remat, x.shape[1]
    replaced, context = 0, None
    if prompts is not None:
        replaced = prompts.shape[0] - 1

        def beside(block: Block, x: Array, prompt: Array) -> Array:
            return block(x, compute, context=prompt, rotation=rotation)

        x = run_blocks(blocks, x, range(replaced), beside, prompts[:replaced], remat)
        if replaced == last:
            context = prompts[last]
        else:
            # no block replaces these prompts, so they remain as tokens of every row
            x = jnp.concatenate([x, _for_all(prompts[replaced], x)], axis=1)
            rotation = _padded(rotation, x)
    alone = functools.partial(_alone, compute, rotation)
    x = run_blocks(blocks, x, range(replaced, last), alone, remat=remat)
    return _last_block(tower._replace(rotation=rotation), x, context, own)


def _prompts_in_rows(
    tower: _Tower, x: Float[Array, "n t w"], prompts: Prompts
) -> Float[Array, "n q w"]:
    """The same for cuDNN, whose keys and values must be of the row.

    Prompts are tokens at the end of each row, which a block with prompts of its own overwrites:
    every array keeps its length, and nothing is copied to make room for them.
    """
    blocks, compute = tower.blocks, tower.compute
    last, remat, own = count(blocks) - 1, compute.remat, x.shape[1]
    depth, length = (1, 0) if prompts is None else prompts.shape[:2]
    tokens = own + length
    padding = cudnn.padding(tokens)
    # else XLA puts images innermost, and transposes around every attention
    x = with_layout_constraint(x, Layout(tuple(range(x.ndim))))
    x = jnp.pad(x, ((0, 0), (0, length + padding), (0, 0)))
    rotation = _padded(tower.rotation, x)
    is_prompt = (jnp.arange(x.shape[1]) >= own)[:, None]

    def overwritten(x: Array, prompt: Array) -> Array:
        row = jnp.pad(prompt, ((own, padding), (0, 0)))
        return jnp.where(is_prompt, row, x)

    def beside(block: Block, x: Array, prompt: Array) -> Array:
        return alone(block, overwritten(x, prompt), None)

    def alone(block: Block, x: Array, _: None) -> Array:
        return block(x, compute, tokens=tokens, rotation=rotation)

    replaced = 0
    if prompts is not None:
        replaced = min(depth, last)
        x = run_blocks(blocks, x, range(replaced), beside, prompts[:replaced], remat)
    x = run_blocks(blocks, x, range(replaced, last), alone, remat=remat)
    if prompts is not None and depth > last:
        x = overwritten(x, prompts[last])
    if tower.rows is not None:
        return _last_block(tower, x[:, :tokens], None, own)

    def final(x: Array) -> Array:
        return alone(block_at(blocks, last), x, None)

    return recomputed(final, remat)(x)[:, :own]


def _last_block(
    tower: _Tower, x: Float[Array, "n t w"], context: Float[Array, "p w"] | None, own: int
) -> Float[Array, "n q w"]:
    """The last block at the wanted tokens."""
    blocks, compute, rows, rotation = tower

    def final(x: Array, context: Array | None) -> Array:
        block = block_at(blocks, count(blocks) - 1)
        if rows is None:
            return block(x, compute, context=context, rotation=rotation)[:, :own]
        return block.of_rows(x, compute, rows, context=context)

    return recomputed(final, compute.remat)(x, context)


def _padded(rotation: Rotation | None, x: Float[Array, "n t w"]) -> Rotation | None:
    return None if rotation is None else rotation.padded(x.shape[1])


def _alone(
    compute: Compute, rotation: Rotation | None, block: Block, x: Float[Array, "n t w"], _: None
) -> Array:
    """A block without prompts of its own."""
    return block(x, compute, rotation=rotation)


def _for_all(
    prompt: Float[Array, "p width"], x: Float[Array, "n tokens width"]
) -> Float[Array, "n p width"]:
    """One prompt for every row of the batch."""
    return jnp.broadcast_to(prompt, (x.shape[0], *prompt.shape))
