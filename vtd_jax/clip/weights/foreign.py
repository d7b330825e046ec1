"""Turns tensor names of Hugging Face, open_clip and training wrappers into OpenAI's."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from vtd_jax.clip.weights.kinds.timm_names import from_timm
from vtd_jax.clip.weights.lazy import LazyTensor, transposed
from vtd_jax.clip.weights.renaming import put, renamed_by, rules
from vtd_jax.errors import UserError

# buffers and numbers that carry no weights: OpenAI's loader and Hugging Face's drop them too
_HARMLESS = re.compile(
    r"(^|\.)(num_batches_tracked|position_ids|attn_mask|input_resolution|context_length|vocab_size)$"
)
_HUGGING_FACE = rules(
    (r"^vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^visual_projection\.weight$", "visual.proj"),
    (r"^text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^text_projection\.weight$", "text_projection"),
    # SigLIP's pooling and text projection
    (r"^vision_model\.head\.attention\.", "visual.attn_pool.attn."),
    (r"^vision_model\.head\.mlp\.fc1\.", "visual.attn_pool.mlp.c_fc."),
    (r"^vision_model\.head\.mlp\.fc2\.", "visual.attn_pool.mlp.c_proj."),
    (r"^vision_model\.head\.", "visual.attn_pool."),
    (r"^text_model\.head\.weight$", "text_projection"),
    (r"^text_model\.head\.bias$", "text_projection_bias"),
    (r"^vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
    (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"(resblocks\.\d+)\.layer_norm([12])\.", r"\1.ln_\2."),
    (r"(resblocks\.\d+)\.mlp\.fc1\.", r"\1.mlp.c_fc."),
    (r"(resblocks\.\d+)\.mlp\.fc2\.", r"\1.mlp.c_proj."),
    (r"(resblocks\.\d+)\.self_attn\.out_proj\.", r"\1.attn.out_proj."),
    (r"(resblocks\.\d+)\.self_attn\.([qkv])_proj\.", r"\1.attn.in_proj_\2_"),
)
_TRANSPOSED = ("visual.proj", "text_projection")
_QKV = re.compile(r"(.*\.in_proj_)([qkv])_(weight|bias)")


# what DataParallel (and what wraps like it) and torch.compile add to names
_WRAPPERS = re.compile(r"(?<![^.])(module|_orig_mod)\.")
# one tensor of each tower in each naming; any prefix of it is a wrapper's
_ANCHORS = (
    "visual.class_embedding",
    "visual.attn_pool.probe",
    "visual.attnpool.positional_embedding",
    "vision_model.embeddings.class_embedding",
    "vision_model.head.probe",
    "text_model.embeddings.token_embedding.weight",
    "text.token_embedding.weight",
    "token_embedding.weight",
)


def is_hugging_face(names: Mapping[str, Any]) -> bool:
    """True where tensors are named as in `transformers.CLIPModel` and `SiglipModel`."""
    return any(name.startswith(("vision_model.", "text_model.")) for name in names)


def strip_wrappers(tensors: dict[str, LazyTensor], where: str) -> dict[str, LazyTensor]:
    """Removes what training wrappers add to names: `module.`, `_orig_mod.` and any common prefix.

    Raises:
      UserError: two tensors would have the same name, or only some have the prefix of the CLIP's
        (it is named).
    """
    bare = {_WRAPPERS.sub("", name): tensor for name, tensor in tensors.items()}
    if len(bare) < len(tensors):
        raise UserError(
            f"{where}: holds a model twice, with and without module. or _orig_mod. in its "
            "tensors' names"
        )
    prefix = _prefix(bare)
    if not prefix:
        return bare
    others = [name for name in bare if not name.startswith(prefix)]
    if others:
        raise UserError(
            f"{where}: its CLIP's tensors begin with {prefix!r}, {len(others)} others do not "
            f"(first: {others[0]}): save the CLIP's state dict alone"
        )
    return {name.removeprefix(prefix): tensor for name, tensor in bare.items()}


def is_clip(names: Mapping[str, Any]) -> bool:
    """True where tensors are those of a CLIP, whole or not, in any naming and behind any prefix."""
    return any(f".{name}".endswith(f".{anchor}") for anchor in _ANCHORS for name in names)


def _prefix(names: Mapping[str, Any]) -> str:
    """What stands before the names of a CLIP; "" for nothing, and where there is no CLIP."""
    for anchor in _ANCHORS:
        if anchor in names:
            return ""
    ends = (
        name.removesuffix(anchor)
        for anchor in _ANCHORS
        for name in names
        if name.endswith(f".{anchor}")
    )
    return next(ends, "")


def to_openai_names(tensors: dict[str, LazyTensor], where: str) -> dict[str, LazyTensor]:
    """Renames to OpenAI's names; a name that has no counterpart stays as it is.

    Takes off open_clip's `text.`, drops what carries no weights, and turns Hugging Face's separate
    query, key and value into OpenAI's joined `in_proj`. Nothing is read yet.

    Raises:
      UserError: a Hugging Face layer lacks one of its query, key and value, or two tensors have
        one name in OpenAI's naming.
    """
    tensors = {name: tensor for name, tensor in tensors.items() if not _HARMLESS.search(name)}
    if is_hugging_face(tensors):
        tensors = _from_hugging_face(tensors, where)
    elif "text.token_embedding.weight" in tensors:
        bare: dict[str, LazyTensor] = {}
        for name, tensor in tensors.items():
            put(bare, name.removeprefix("text."), tensor, where)
        tensors = from_timm(bare, where)
    for name in ("logit_scale", "logit_bias"):
        if name in tensors and tensors[name].shape == (1,):
            tensors[name] = _scalar(tensors[name])
    return tensors


def _scalar(tensor: LazyTensor) -> LazyTensor:
    return LazyTensor((), lambda: tensor.read().reshape(()))


def _from_hugging_face(tensors: dict[str, LazyTensor], where: str) -> dict[str, LazyTensor]:
    renamed: dict[str, LazyTensor] = {}
    joined: dict[str, dict[str, LazyTensor]] = {}
    for name, tensor in tensors.items():
        name = renamed_by(_HUGGING_FACE, name)
        if part := _QKV.fullmatch(name):
            put(joined.setdefault(part[1] + part[3], {}), part[2], tensor, where)
        else:
            # a Linear of Hugging Face is [out, in], OpenAI's projection matrices are [in, out]
            tensor = transposed(tensor) if name in _TRANSPOSED else tensor
            put(renamed, name, tensor, where)
    for name, parts in joined.items():
        if absent := [part for part in "qkv" if part not in parts]:
            raise UserError(
                f"{where}: missing: {absent[0]}_proj of {name} (Hugging Face's name: self_attn)"
            )
        put(renamed, name, _stacked([parts[part] for part in "qkv"], name, where), where)
    return renamed


def _stacked(parts: list[LazyTensor], name: str, where: str) -> LazyTensor:
    shapes = {part.shape for part in parts}
    if len(shapes) > 1 or not parts[0].shape:
        raise UserError(
            f"{where}: misshapen: query, key and value of {name} are "
            f"{[part.shape for part in parts]}"
        )
    (shape,) = shapes
    return LazyTensor(
        (3 * shape[0], *shape[1:]), lambda: np.concatenate([part.read() for part in parts])
    )
