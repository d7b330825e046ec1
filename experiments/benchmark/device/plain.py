"""The image tower as one would write it in JAX without further thought: a baseline, and a check."""

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.model.normalization import STATISTICS

_BLOCK = (
    "ln_1.weight",
    "ln_1.bias",
    "attn.in_proj_weight",
    "attn.in_proj_bias",
    "attn.out_proj.weight",
    "attn.out_proj.bias",
    "ln_2.weight",
    "ln_2.bias",
    "mlp.c_fc.weight",
    "mlp.c_fc.bias",
    "mlp.c_proj.weight",
    "mlp.c_proj.bias",
)
Weights = Mapping[str, Any]


def weights(config: CLIPConfig, state: Mapping[str, np.ndarray], dtype: str) -> dict[str, Any]:
    """Arrays of the tower in `dtype`, those of all blocks stacked under "blocks".

    Args:
      config: of a CLIP with a ViT.
      state: tensors under OpenAI's names.
      dtype: "float32" or "bfloat16".
    """

    def placed(array: np.ndarray) -> Array:
        # PyTorch has [out, in]
        return jnp.asarray(np.swapaxes(array, -1, -2) if array.ndim == 3 else array, dtype)

    assert isinstance(config.vision_layers, int)
    blocks = [f"visual.transformer.resblocks.{i}." for i in range(config.vision_layers)]
    stacked = {name: placed(np.stack([state[at + name] for at in blocks])) for name in _BLOCK}
    tower = {
        name.removeprefix("visual."): jnp.asarray(array, dtype)
        for name, array in state.items()
        if name.startswith("visual.") and ".resblocks." not in name
    }
    tower["conv1.weight"] = tower["conv1.weight"].transpose(2, 3, 1, 0)
    return tower | {"blocks": stacked}


def features(
    tower: Weights,
    prompts: Float[Array, "depth p w"],
    frames: Array,
    *,
    config: CLIPConfig,
    normalization: str,
    remat: str = "none",
    attention: str = "xla",
) -> Float[Array, "b t d"]:
    """Raw frame features in float32.

    Args:
      tower: from `weights`.
      prompts: row 0 enters before the first LayerNorm; row i takes the place of row i - 1 before
        block i.
      frames: uint8 `[B, T, H, W, 3]`.
      config: of the CLIP.
      normalization: see `vtd_jax.model.normalization`.
      remat: "block" computes each block again in the backward pass, "none" nothing.
      attention: "xla" or "cudnn".
    """
    dtype, patch = tower["proj"].dtype, config.vision_patch_size
    assert patch is not None
    mean, deviation = (jnp.asarray(x, jnp.float32) for x in STATISTICS[normalization])
    images = frames.reshape(-1, *frames.shape[2:])
    images = ((images.astype(jnp.float32) - mean) / deviation).astype(dtype)
    # else a TPU rounds the factors of float32 products
    exact = jax.default_matmul_precision("highest")
    with exact if dtype == jnp.float32 else contextlib.nullcontext():
        x = jax.lax.conv_general_dilated(
            images,
            tower["conv1.weight"],
            (patch, patch),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        x = x.reshape(len(images), -1, x.shape[-1])
        first = jnp.broadcast_to(tower["class_embedding"], (len(x), 1, x.shape[-1]))
        x = jnp.concatenate([first, x], axis=1) + tower["positional_embedding"]
        x = _norm(x, tower, "ln_pre")
        prompts = prompts.astype(dtype)
        prompts = jnp.concatenate([_norm(prompts[:1], tower, "ln_pre"), prompts[1:]])
        one = partial(
            _block,
            heads=config.vision_width // config.vision_head_width,
            activation=config.activation,
            attention=attention,
        )
        if remat == "block":
            one = jax.checkpoint(one, prevent_cse=False)
        x = _blocks(one, x, tower["blocks"], prompts)
        out = _norm(x[:, 0], tower, "ln_post") @ tower["proj"]
    return out.astype(jnp.float32).reshape(*frames.shape[:2], -1)


def _blocks(one: Callable[..., Array], x: Array, blocks: Weights, prompts: Array) -> Array:
    layers, depth = len(blocks["ln_1.bias"]), len(prompts)
    # prompts that the next block replaces, or nothing reads, are keys and values only
    replaced = depth if depth == layers else depth - 1

    def part(start: int, stop: int) -> Weights:
        return {name: array[start:stop] for name, array in blocks.items()}

    x, _ = jax.lax.scan(
        lambda x, at: (one(x, *at), None), x, (part(0, replaced), prompts[:replaced])
    )
    if replaced < layers:
        last = jnp.broadcast_to(prompts[replaced], (len(x), *prompts.shape[1:]))
        x = jnp.concatenate([x, last], axis=1)
        x, _ = jax.lax.scan(lambda x, at: (one(x, at, None), None), x, part(replaced, layers))
    return x


def _block(
    x: Array, at: Weights, prompt: Array | None, *, heads: int, activation: str, attention: str
) -> Array:
    def projected(x: Array) -> list[Array]:
        x = _norm(x, at, "ln_1") @ at["attn.in_proj_weight"] + at["attn.in_proj_bias"]
        return [y.reshape(*y.shape[:-1], heads, -1) for y in jnp.split(x, 3, axis=-1)]

    q, k, v = projected(x)
    if prompt is not None:
        _, *seen = projected(jnp.broadcast_to(prompt, (1, *prompt.shape)))
        k, v = (
            jnp.concatenate([y, jnp.broadcast_to(z, (len(x), *z.shape[1:]))], axis=1)
            for y, z in zip((k, v), seen)
        )
    mixed = _attention(q, k, v, attention).reshape(x.shape)
    x = x + mixed @ at["attn.out_proj.weight"] + at["attn.out_proj.bias"]
    hidden = _norm(x, at, "ln_2") @ at["mlp.c_fc.weight"] + at["mlp.c_fc.bias"]
    if activation == "quick_gelu":
        hidden = hidden * jax.nn.sigmoid(1.702 * hidden)
    else:
        hidden = jax.nn.gelu(hidden, approximate=activation == "gelu_tanh")
    return x + hidden @ at["mlp.c_proj.weight"] + at["mlp.c_proj.bias"]


def _attention(q: Array, k: Array, v: Array, way: str) -> Array:
    if way == "xla":
        return jax.nn.dot_product_attention(q, k, v)
    count, seen = q.shape[1], jnp.full(len(k), k.shape[1], jnp.int32)
    # cuDNN's backward pass takes even lengths only
    q, k, v = (jnp.pad(y, ((0, 0), (0, y.shape[1] % 2), (0, 0), (0, 0))) for y in (q, k, v))
    mixed = jax.nn.dot_product_attention(
        q, k, v, key_value_seq_lengths=seen, implementation="cudnn"
    )
    return mixed[:, :count]


def _norm(x: Array, weights: Weights, name: str) -> Array:
    x32 = x.astype(jnp.float32)
    centred = x32 - x32.mean(-1, keepdims=True)
    unit = centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-5)
    return unit.astype(x.dtype) * weights[f"{name}.weight"] + weights[f"{name}.bias"]
