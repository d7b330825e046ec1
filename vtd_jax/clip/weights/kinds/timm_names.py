"""Turns the names of timm's image towers inside open_clip's models into OpenAI's."""

import re

import numpy as np

from vtd_jax.clip.weights.lazy import LazyTensor, transposed
from vtd_jax.clip.weights.renaming import put, renamed_by, rules
from vtd_jax.errors import UserError

PREFIX = "visual.trunk."
_NAMES = rules(
    (r"^cls_token$", "class_embedding"),
    (r"^pos_embed$", "positional_embedding"),
    (r"^patch_embed\.proj\.", "conv1."),
    (r"^norm_pre\.", "ln_pre."),
    (r"^norm\.", "ln_post."),
    (r"^blocks\.", "transformer.resblocks."),
    (r"(resblocks\.\d+)\.norm([12])\.", r"\1.ln_\2."),
    (r"(resblocks\.\d+\.attn)\.qkv\.", r"\1.in_proj_"),
    (r"(resblocks\.\d+\.attn)\.proj\.", r"\1.out_proj."),
    (r"^attn_pool\.latent$", "attn_pool.probe"),
    (r"^attn_pool\.proj\.", "attn_pool.attn.out_proj."),
    (r"^attn_pool\.norm\.", "attn_pool.layernorm."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
    (r"^head\.weight$", "proj"),
    (r"^head\.bias$", "proj_bias"),
)
# of the pooling: the query's and the rest, which are one tensor in OpenAI's naming
_QUERY, _REST = re.compile(r"^attn_pool\.q\.(weight|bias)$"), "attn_pool.kv."
# axes of length 1 that timm puts before these
_LEADING = {"class_embedding": 2, "positional_embedding": 1}


def from_timm(tensors: dict[str, LazyTensor], where: str) -> dict[str, LazyTensor]:
    """Renames a timm image tower, and leaves all other tensors as they are; nothing is read yet.

    Raises:
      UserError: a tensor has another number of dimensions, no partner, or the name of another one.
    """
    if not any(name.startswith(PREFIX) for name in tensors):
        return tensors
    out = {name: tensor for name, tensor in tensors.items() if not name.startswith(PREFIX)}
    tower = {
        name.removeprefix(PREFIX): tensor
        for name, tensor in tensors.items()
        if name.startswith(PREFIX)
    }
    for name in [name for name in tower if _QUERY.match(name)]:
        end = name.rpartition(".")[2]
        if f"{_REST}{end}" not in tower:
            raise UserError(f"{where}: missing: {PREFIX}{_REST}{end}")
        parts = tower.pop(name), tower.pop(f"{_REST}{end}")
        joined = _joined(*parts, f"{where}: {PREFIX}{name}")
        put(out, f"visual.attn_pool.attn.in_proj_{end}", joined, where)
    for name, tensor in tower.items():
        name = renamed_by(_NAMES, name)
        if name in _LEADING:
            tensor = _without(tensor, _LEADING[name], f"{where}: {name}")
        put(out, f"visual.{name}", transposed(tensor) if name == "proj" else tensor, where)
    return out


def _joined(first: LazyTensor, second: LazyTensor, where: str) -> LazyTensor:
    if not first.shape or first.shape[1:] != second.shape[1:] or not second.shape:
        raise UserError(f"{where} is {first.shape}, its keys and values {second.shape}")
    return LazyTensor(
        (first.shape[0] + second.shape[0], *first.shape[1:]),
        lambda: np.concatenate([first.read(), second.read()]),
    )


def _without(tensor: LazyTensor, leading: int, where: str) -> LazyTensor:
    if tensor.shape[:leading] != (1,) * leading:
        raise UserError(f"{where} is {tensor.shape}, expected {leading} leading axes of length 1")
    shape = tensor.shape[leading:]
    return LazyTensor(shape, lambda: tensor.read().reshape(shape))
