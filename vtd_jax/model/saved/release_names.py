"""The release's names and PyTorch layouts for what is learnable, both ways."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Int

from vtd_jax.errors import UserError

_LAYERS = {
    "q": "multihead_attn1.q_proj",
    "k": "multihead_attn1.k_proj",
    "v": "multihead_attn1.v_proj",
    "out": "multihead_attn1.out_proj",
    "fc1": "fc1",
    "fc2": "fc2",
}


def to_release(state: nnx.State | Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Names every learnable array (or its gradient) as the authors' checkpoints do.

    Args:
      state: a state with the structure of `vtd_clip.learnable(model)`: parameters, gradients or
        moments.

    Returns:
      float arrays: `prompt_learner.ctx`, `text_encoder…VPT_shallow`, `image_encoder.VPT`,
        `image_encoder…VPT_shallow`,
      `lrf.…` (linear weights `[out, in]`) and `logit_scale`.
    """
    tree = nnx.to_pure_dict(state) if isinstance(state, nnx.State) else state
    named = {"logit_scale": tree["logit_scale"]}
    towers = [
        (tower, first, tree[field]) for field, (first, tower) in _PROMPTS.items() if field in tree
    ]
    named |= {first: rows[0] for _, first, rows in towers}
    for tower, _, rows in reversed(towers):
        named |= {
            f"{tower}.transformer.resblocks.{i}.VPT_shallow": row for i, row in enumerate(rows) if i
        }
    for part, name in _LAYERS.items() if "fusion" in tree else ():
        named[f"lrf.{name}.weight"] = np.asarray(tree["fusion"][part]["kernel"]).T
        named[f"lrf.{name}.bias"] = tree["fusion"][part]["bias"]
    return {name: np.asarray(value) for name, value in named.items()}


_PROMPTS = {
    "text_prompts": ("prompt_learner.ctx", "text_encoder"),
    "visual_prompts": ("image_encoder.VPT", "image_encoder"),
}


def from_release(
    state: nnx.State, named: Mapping[str, np.ndarray], where: str = "checkpoint"
) -> nnx.State:
    """Fills a learnable state from release-named arrays.

    Args:
      state: what `vtd_clip.learnable(model)` returns; gives structure and shapes.
      named: release names to arrays in PyTorch's layouts.
      where: what the arrays were read from, for messages.

    Raises:
      UserError: missing, surplus or misshapen names.
    """
    expected = to_release(state)
    missing, surplus = sorted(set(expected) - set(named)), sorted(set(named) - set(expected))
    wrong = [
        f"{name} is {np.shape(named[name])}, expected {expected[name].shape}"
        for name in expected
        if name in named and np.shape(named[name]) != expected[name].shape
    ]
    if missing or surplus or wrong:
        raise UserError(
            f"{where}: learnable tensors differ; missing: {missing}; surplus: {surplus}; "
            f"misshapen: {wrong}"
        )
    tree = nnx.to_pure_dict(state)
    new: dict[str, Any] = {"logit_scale": named["logit_scale"]}
    for field, (first, tower) in _PROMPTS.items():
        if field in tree:
            deep = range(1, len(tree[field]))
            names = [first, *(f"{tower}.transformer.resblocks.{i}.VPT_shallow" for i in deep)]
            new[field] = np.stack([named[name] for name in names])
    if "fusion" in tree:
        new["fusion"] = {
            part: {"kernel": named[f"lrf.{layer}.weight"].T, "bias": named[f"lrf.{layer}.bias"]}
            for part, layer in _LAYERS.items()
        }
    filled = nnx.clone(state)
    nnx.replace_by_pure_dict(filled, jax.tree.map(partial(jnp.asarray, dtype=jnp.float32), new))
    return filled


def frozen_name(name: str) -> str | None:
    """The release's name of OpenAI's frozen tensor `name`; None if the release does not store it.

    Its image encoder is CLIP's image tower, its text encoder the text tower without the token
    table, and `logit_scale` is learnable.
    """
    if name.startswith("visual."):
        return "image_encoder." + name.removeprefix("visual.")
    return None if name in ("logit_scale", "token_embedding.weight") else f"text_encoder.{name}"


def is_buffer(name: str) -> bool:
    """Whether this is a buffer of the release: embeddings of its class names, or a counter."""
    return name in _BUFFERS or name.endswith(".num_batches_tracked")


def class_buffers(
    tokens: Int[np.ndarray, "k l"], table: Float[np.ndarray, "v w"], prompts: int
) -> dict[str, Any]:
    """The buffers that the release keeps for its class names, by name.

    Args:
      tokens: ids of the class prompts, all positions.
      table: CLIP's token embedding.
      prompts: P_t. With 0 the whole texts are kept, else what lies before and behind the context.
    """
    embedded = table[tokens]
    if not prompts:
        return {"prompt_learner.complete_text_embeddings": embedded}
    return {
        "prompt_learner.token_prefix": embedded[:, :1],
        "prompt_learner.token_suffix": embedded[:, 1 + prompts :],
    }


def release_settings(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int | bool]:
    """The fields of `ModelConfig` that follow from the learnable tensors' names and shapes."""
    text, visual = (_prompt_sizes(shapes, first, tower) for first, tower in _PROMPTS.values())
    return {
        "text_prompts": text[0],
        "text_depth": text[1],
        "visual_prompts": visual[0],
        "visual_depth": visual[1],
        "fusion": any(name.startswith("lrf.") for name in shapes),
    }


def _prompt_sizes(shapes: Mapping[str, tuple[int, ...]], first: str, tower: str) -> tuple[int, int]:
    """Prompts, and layers that have some; (0, 0) without."""
    if first not in shapes:
        return 0, 0
    blocks = f"{tower}.transformer.resblocks."
    deep = sum(name.startswith(blocks) and name.endswith(".VPT_shallow") for name in shapes)
    return (shapes[first][0] if shapes[first] else 0), 1 + deep


_BUFFERS = (
    "prompt_learner.token_prefix",
    "prompt_learner.token_suffix",
    "prompt_learner.complete_text_embeddings",
)
