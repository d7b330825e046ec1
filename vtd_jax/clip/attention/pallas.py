"""Attention of a TPU: Pallas kernels that read `qkv` as it leaves the product, forward and back.

A grid step has one row of the batch and some tiles of 128 channels, so one or more whole heads.
Scores never leave the chip; the backward pass computes them again. Context tokens are further keys
and values that all rows share, and nothing is copied for a row.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from vtd_jax.clip.matmul import precision

# rows of a register of bfloat16, two of float32
_ALIGNED = 16
# channels of a tile: the lanes of a TPU's vector registers
LANES = 128
# scores of a grid step: its heads are unrolled, and longer programs compile for minutes
_STEP_SCORES = 700_000
# a row's gradient stays on the chip, twice; from this size on a kernel asks for more than its usual
# 16 MiB, which every chip since the v5e has
_LARGE_ROW, _MORE_MEMORY, _SMALL_MEMORY = 4 * 2**20, 48 * 2**20, 16 * 2**20
_SMALL_CHIPS = ("TPU v2", "TPU v3", "TPU v4")


class Setting(NamedTuple):
    """What a kernel is compiled for.

    Attributes:
      head_width: channels of a head, a divisor of 128.
      causal: whether a position sees only itself and those before it, beside the context.
      tiles: of 128 channels, in one grid step.
      padding: how many of the context's tokens are none, its first ones.
      interpret: whether to run the kernel's operations by XLA, on any device.
    """

    head_width: int
    causal: bool
    tiles: int
    padding: int = 0
    interpret: bool = False


def problem(tokens: int, width: int, head_width: int, itemsize: int) -> str:
    """Why the kernels cannot take rows of a tower, for a message; "" if they can."""
    if LANES % head_width:
        return f"heads of {head_width} channels, expected a divisor of {LANES}"
    if width % LANES:
        return f"a width of {width}, expected a multiple of {LANES}"
    # the gradient of a row, twice, and scores of its last head
    needs = 6 * tokens * width * itemsize + 16 * tokens**2
    if needs > (_SMALL_MEMORY if _is_small() else _MORE_MEMORY):
        return f"rows of {tokens} tokens of {width} channels, which the chip's memory cannot hold"
    return ""


def _is_small() -> bool:
    """Whether this machine's TPU is of the generations with 16 MiB; False where there is none."""
    devices = jax.local_devices() if jax.default_backend() == "tpu" else []
    return any(device.device_kind.startswith(_SMALL_CHIPS) for device in devices)


def padded(shared: Float[Array, "p kv"]) -> Float[Array, "p2 kv"]:
    """A context whose keys a kernel can put before the row's without shifting these."""
    return jnp.pad(shared, ((-shared.shape[0] % _ALIGNED, 0), (0, 0)))


def tiles(width: int, head_width: int, tokens: int, shared: int) -> int:
    """Tiles of a grid step, a divisor of `width / 128`: as many as compile in seconds."""
    scores = LANES // head_width * tokens * (tokens + shared)
    whole = width // LANES
    fitting = [n for n in range(1, whole + 1) if whole % n == 0 and n * scores <= _STEP_SCORES]
    return max(fitting, default=1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def attend(
    qkv: Float[Array, "b n qkv"], shared: Float[Array, "p kv"] | None, setting: Setting
) -> Float[Array, "b n w"]:
    """`softmax(q kᵀ / √c) v` of every head, keys and values those of the context and of the row.

    Scores, powers and their sums are float32; powers are rounded to the dtype of `qkv` before they
    are summed and multiplied, so that weights add up to one. Returns the dtype of `qkv`.

    Args:
      qkv: queries, keys and values, `3 W` channels of each token; `problem` must find none.
      shared: keys and values of the context, `padded`; None for none.
      setting: see `Setting`.
    """
    return _forward(qkv, shared, setting)[0]


def _forward(
    qkv: Array, shared: Array | None, setting: Setting
) -> tuple[Array, tuple[Array, Array | None]]:
    rows, tokens, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    parts = width // LANES // setting.tiles
    channels = setting.tiles * LANES
    own = [
        pl.BlockSpec((1, tokens, channels), lambda row, part, s=start: (row, 0, part + s))
        for start in (0, parts, 2 * parts)
    ]
    context, arrays = [], [qkv, qkv, qkv]
    if shared is not None:
        context = [
            pl.BlockSpec((shared.shape[0], channels), lambda _, part, s=start: (0, part + s))
            for start in (0, parts)
        ]
        arrays += [shared, shared]
    result = _struct((rows, tokens, width), qkv.dtype, qkv)
    mixed = pl.pallas_call(
        functools.partial(_forward_kernel, setting=setting),
        grid=(rows, parts),
        in_specs=[*own, *context],
        out_specs=pl.BlockSpec((1, tokens, channels), lambda row, part: (row, 0, part)),
        out_shape=result,
        name="attention_forward",
        cost_estimate=_cost(result, shared, setting, backward=False),
        interpret=setting.interpret,
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel")),
    )(*arrays)
    return mixed, (qkv, shared)


def _backward(
    setting: Setting, kept: tuple[Array, Array | None], cotangent: Array
) -> tuple[Array, Array | None]:
    qkv, shared = kept
    rows, tokens, width = cotangent.shape
    parts, channels = width // LANES // setting.tiles, setting.tiles * LANES
    # two cores of a chip sum the gradient of the context apart
    cores = 2 if rows % 2 == 0 else 1
    each = rows // cores

    def row_block(start: int) -> pl.BlockSpec:
        return pl.BlockSpec(
            (1, tokens, channels),
            lambda core, row, part: (core * each + row, 0, part + start),
        )

    arrays = [qkv, qkv, qkv, cotangent]
    ins = [row_block(0), row_block(parts), row_block(2 * parts), row_block(0)]
    outs = [pl.BlockSpec((1, tokens, 3 * width), lambda core, row, _: (core * each + row, 0, 0))]
    shapes = [_struct(qkv.shape, qkv.dtype, qkv)]
    if shared is not None:
        length = shared.shape[0]
        ins += [
            pl.BlockSpec((length, channels), lambda _core, _row, part, s=start: (0, part + s))
            for start in (0, parts)
        ]
        arrays += [shared, shared]
        outs.append(pl.BlockSpec((1, length, 2 * width), lambda core, _row, _part: (core, 0, 0)))
        shapes.append(_struct((cores, length, 2 * width), jnp.float32, qkv))
    row = tokens * 3 * width * qkv.dtype.itemsize
    of_qkv, *of_shared = pl.pallas_call(
        functools.partial(_backward_kernel, setting=setting, width=width),
        grid=(cores, each, parts),
        in_specs=ins,
        out_specs=outs,
        out_shape=shapes,
        name="attention_backward",
        cost_estimate=_cost(cotangent, shared, setting, backward=True),
        interpret=setting.interpret,
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary", "arbitrary"),
            vmem_limit_bytes=_MORE_MEMORY if row > _LARGE_ROW else None,
        ),
    )(*arrays)
    if shared is None:
        return of_qkv, None
    return of_qkv, of_shared[0].sum(0).astype(shared.dtype)


attend.defvjp(_forward, _backward)


class _Head(NamedTuple):
    """One head of one row; arrays have all 128 lanes of its tile.

    Attributes:
      lanes: which lanes are the head's, `[1, 128]`.
      q: scaled queries, zero in other lanes.
      powers: `exp(score - max)` of all keys, rounded.
    """

    lanes: Array
    q: Array
    powers: Array


def _head(q: Array, keys: Array, place: int, setting: Setting) -> _Head:
    """Powers of a head from its tile.

    Args:
      q: `[N, 128]`.
      keys: of the context, if there is one, then of the row, `[M, 128]`.
      place: of the head in the tile.
      setting: of the kernel.
    """
    width, shared = setting.head_width, keys.shape[0] - q.shape[0]
    lane = jax.lax.broadcasted_iota(jnp.int32, (1, LANES), 1)
    lanes = (lane >= place * width) & (lane < (place + 1) * width)
    # other heads' lanes are zero, so that a product over all 128 is one over the head
    q = jnp.where(lanes, q, jnp.zeros_like(q)) * jnp.asarray(width**-0.5, q.dtype)
    scores = _dot(q, keys, 1, 1)
    if setting.causal or setting.padding:
        query, key = (jax.lax.broadcasted_iota(jnp.int32, scores.shape, axis) for axis in (0, 1))
        hidden = key < setting.padding
        hidden = hidden | (key - shared > query) if setting.causal else hidden
        scores = jnp.where(hidden, -jnp.inf, scores)
    return _Head(lanes, q, jnp.exp(scores - scores.max(-1, keepdims=True)).astype(q.dtype))


def _forward_kernel(*refs: Any, setting: Setting) -> None:
    """Refs: q, k, v of the row, k, v of the context if there is one; then the result."""
    *ins, out = refs
    for tile in range(setting.tiles):
        at = pl.ds(tile * LANES, LANES)
        q, keys, values = _tile(ins, at)
        mixed = jnp.zeros(q.shape, q.dtype)
        for place in range(LANES // setting.head_width):
            head = _head(q, keys, place, setting)
            # lanes of other heads multiply by one: they hold the sum of the powers
            ones = jnp.where(head.lanes, values, jnp.ones_like(values))
            sums = _dot(head.powers, ones, 1, 0)
            if setting.head_width == LANES:
                total = head.powers.astype(jnp.float32).sum(-1, keepdims=True)
            else:
                total = pltpu.roll(sums, setting.head_width, 1)
            mixed = jnp.where(head.lanes, (sums / total).astype(q.dtype), mixed)
        out[0, :, at] = mixed


def _backward_kernel(*refs: Any, setting: Setting, width: int) -> None:
    """Refs: those of the forward pass with the cotangent after v; then the gradients of `qkv`, and
    of the context if there is one.
    """
    has_context = len(refs) == 8
    ins, outs = (refs[:6], refs[6:]) if has_context else (refs[:4], refs[4:])
    cotangent_ref, part = ins[3], pl.program_id(2)
    if has_context:

        @pl.when((pl.program_id(1) == 0) & (part == 0))
        def _() -> None:
            outs[1][...] = jnp.zeros(outs[1].shape, jnp.float32)

    for tile in range(setting.tiles):
        at = pl.ds(tile * LANES, LANES)
        q, keys, values = _tile((*ins[:3], *ins[4:]), at)
        cotangent, shared = cotangent_ref[0, :, at], keys.shape[0] - q.shape[0]
        of_q = jnp.zeros(q.shape, jnp.float32)
        of_keys, of_values = (jnp.zeros(keys.shape, jnp.float32) for _ in range(2))
        for place in range(LANES // setting.head_width):
            head = _head(q, keys, place, setting)
            given = jnp.where(head.lanes, cotangent, jnp.zeros_like(cotangent))
            powers = head.powers.astype(jnp.float32)
            # one division a query, not one a weight
            weights = powers * (1 / powers.sum(-1, keepdims=True))
            of_weights = _dot(given, values, 1, 1)
            mean = (weights * of_weights).sum(-1, keepdims=True)
            of_scores = (weights * (of_weights - mean)).astype(q.dtype)
            of_own = _dot(of_scores, keys, 1, 0) * setting.head_width**-0.5
            of_q = jnp.where(head.lanes, of_own, of_q)
            of_keys += _dot(of_scores, head.q, 0, 0)
            of_values += _dot(weights.astype(q.dtype), given, 0, 0)
        start = part * (setting.tiles * LANES) + tile * LANES
        for place, gradient in enumerate((of_q, of_keys[shared:], of_values[shared:])):
            here = pl.ds(pl.multiple_of(start + place * width, LANES), LANES)
            outs[0][0, :, here] = gradient.astype(q.dtype)
        if has_context:
            for place, gradient in enumerate((of_keys[:shared], of_values[:shared])):
                here = pl.ds(pl.multiple_of(start + place * width, LANES), LANES)
                outs[1][0, :, here] += gradient


def _tile(ins: Any, at: Any) -> tuple[Array, Array, Array]:
    """Queries, all keys and all values of a tile; those of the context come first."""
    q, k, v = (ref[0, :, at] for ref in ins[:3])
    if len(ins) == 3:
        return q, k, v
    k, v = (jnp.concatenate([ref[:, at], x]) for ref, x in zip(ins[3:], (k, v)))
    return q, k, v


def _dot(a: Array, b: Array, axis_a: int, axis_b: int) -> Array:
    """A product over one axis of each; float32."""
    return jax.lax.dot_general(
        a,
        b,
        (((axis_a,), (axis_b,)), ((), ())),
        precision=precision(a),
        preferred_element_type=jnp.float32,
    )


def _cost(result: Any, shared: Array | None, setting: Setting, backward: bool) -> pl.CostEstimate:
    """What a call computes and moves, for XLA's schedule; without products with zeros."""
    rows, tokens, width = result.shape
    scores = rows * tokens * (tokens + (0 if shared is None else shared.shape[0]))
    return pl.CostEstimate(
        flops=(10 if backward else 4) * scores * width,
        transcendentals=scores * (width // setting.head_width),
        bytes_accessed=(7 if backward else 4) * result.size * result.dtype.itemsize,
    )


def _struct(shape: tuple[int, ...], dtype: Any, like: Array) -> jax.ShapeDtypeStruct:
    """A result's shape that varies over the same mesh axes as `like`."""
    return jax.eval_shape(lambda x: jnp.broadcast_to(x.reshape(-1)[0].astype(dtype), shape), like)
