"""Checkpoints of Hugging Face and open_clip under OpenAI's names, and what their configs add to the shapes."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vtd_jax.clip.torch_archive import LazyTensor
from vtd_jax.clip.weight_files import read_json
from vtd_jax.errors import UserError

# buffers and numbers that carry no weights: OpenAI's loader and Hugging Face's drop them too
_HARMLESS = re.compile(
    r"(^|\.)(num_batches_tracked|position_ids|attn_mask|input_resolution|context_length|vocab_size)$"
)
_HUGGING_FACE = [
    (re.compile(pattern), name)
    for pattern, name in (
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
        (r"^vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
        (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
        (r"(resblocks\.\d+)\.layer_norm([12])\.", r"\1.ln_\2."),
        (r"(resblocks\.\d+)\.mlp\.fc1\.", r"\1.mlp.c_fc."),
        (r"(resblocks\.\d+)\.mlp\.fc2\.", r"\1.mlp.c_proj."),
        (r"(resblocks\.\d+)\.self_attn\.out_proj\.", r"\1.attn.out_proj."),
        (r"(resblocks\.\d+)\.self_attn\.([qkv])_proj\.", r"\1.attn.in_proj_\2_"),
    )
]
_TRANSPOSED = ("visual.proj", "text_projection")
_QKV = re.compile(r"(.*\.in_proj_)([qkv])_(weight|bias)")


def is_hugging_face(names: Mapping[str, Any]) -> bool:
    """True where tensors are named as in `transformers.CLIPModel`."""
    return any(name.startswith(("vision_model.", "text_model.")) for name in names)


def to_openai_names(tensors: dict[str, LazyTensor], where: str) -> dict[str, LazyTensor]:
    """Renames to OpenAI's names; a name that has no counterpart stays as it is.

    Takes off `module.` (of parallel training) and open_clip's `text.`, drops what carries no weights, and turns Hugging
    Face's separate query, key and value into OpenAI's joined `in_proj`. Nothing is read yet.

    Raises:
      UserError: a Hugging Face layer lacks one of its query, key and value.
    """
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    tensors = {name: tensor for name, tensor in tensors.items() if not _HARMLESS.search(name)}
    if is_hugging_face(tensors):
        tensors = _from_hugging_face(tensors, where)
    elif "text.token_embedding.weight" in tensors:
        tensors = {name.removeprefix("text."): tensor for name, tensor in tensors.items()}
    scale = tensors.get("logit_scale")
    if scale is not None and scale.shape == (1,):
        tensors["logit_scale"] = LazyTensor((), lambda: scale.read().reshape(()))
    return tensors


def _from_hugging_face(tensors: dict[str, LazyTensor], where: str) -> dict[str, LazyTensor]:
    renamed: dict[str, LazyTensor] = {}
    joined: dict[str, dict[str, LazyTensor]] = {}
    for name, tensor in tensors.items():
        for pattern, replacement in _HUGGING_FACE:
            name = pattern.sub(replacement, name)
        if part := _QKV.fullmatch(name):
            joined.setdefault(part[1] + part[3], {})[part[2]] = tensor
        elif name in _TRANSPOSED:
            renamed[name] = _transposed(tensor)
        else:
            renamed[name] = tensor
    for name, parts in joined.items():
        if absent := [part for part in "qkv" if part not in parts]:
            raise UserError(f"{where}: missing: {absent[0]}_proj of {name} (Hugging Face's name: self_attn)")
        renamed[name] = _stacked([parts[part] for part in "qkv"], name, where)
    return renamed


def _transposed(tensor: LazyTensor) -> LazyTensor:
    # a Linear of Hugging Face is [out, in], OpenAI's projection matrices are [in, out]
    return LazyTensor(tensor.shape[::-1], lambda: np.ascontiguousarray(tensor.read().T))


def _stacked(parts: list[LazyTensor], name: str, where: str) -> LazyTensor:
    shapes = {part.shape for part in parts}
    if len(shapes) > 1 or not parts[0].shape:
        raise UserError(f"{where}: misshapen: query, key and value of {name} are {[part.shape for part in parts]}")
    (shape,) = shapes
    return LazyTensor((3 * shape[0], *shape[1:]), lambda: np.concatenate([part.read() for part in parts]))


def hugging_face_settings(config: Path, sizes: dict[str, Any]) -> dict[str, Any]:
    """What shapes cannot tell, from a Hugging Face `config.json`: activation and head widths.

    Args:
      config: the file; numbers it leaves out have `transformers`' defaults (8 and 12 heads, QuickGELU).
      sizes: fields of `CLIPConfig` read off the shapes, against which the file is checked.

    Raises:
      UserError: a file of another model, or settings that this CLIP does not have.
    """
    content = read_json(config)
    found = {}
    acts = set()
    for tower, default_heads in (("vision", 12), ("text", 8)):
        fields = _part(content, f"{tower}_config", config) | _part(content, f"{tower}_config_dict", config)
        width = sizes[f"{tower}_width"]
        _same(config, f"{tower}_config.hidden_size", fields.get("hidden_size", width), width)
        _same(config, f"{tower}_config.layer_norm_eps", fields.get("layer_norm_eps", 1e-5), 1e-5)
        found[f"{tower}_head_width"] = _head_width(config, width, fields.get("num_attention_heads", default_heads))
        acts.add(fields.get("hidden_act", "quick_gelu"))
    if acts not in ({"quick_gelu"}, {"gelu"}):
        raise UserError(f"{config}: hidden_act is {sorted(map(str, acts))}, expected quick_gelu or gelu in both towers")
    return found | {"activation": acts.pop()}


def open_clip_settings(config: Path, sizes: dict[str, Any]) -> dict[str, Any]:
    """What shapes cannot tell, from an `open_clip_config.json`: activation and head widths.

    Args and errors are those of `hugging_face_settings`; open_clip's default is GELU.
    """
    model = _part(read_json(config), "model_cfg", config)
    vision, text = _part(model, "vision_cfg", config), _part(model, "text_cfg", config)
    _same(config, "model_cfg.embed_dim", model.get("embed_dim", sizes["embed_dim"]), sizes["embed_dim"])
    for tower, fields in (("vision", vision), ("text", text)):
        width = sizes[f"{tower}_width"]
        _same(config, f"{tower}_cfg.width", fields.get("width", width), width)
        eps = (fields.get("norm_kwargs") or {}).get("eps", 1e-5)
        _same(config, f"{tower}_cfg.norm_kwargs.eps", eps, 1e-5)
    # these change what is computed without changing a single shape
    _same(config, "vision_cfg.pool_type", vision.get("pool_type", "tok"), "tok")
    _same(config, "text_cfg.pool_type", text.get("pool_type", "argmax"), "argmax")
    _same(config, "text_cfg.no_causal_mask", bool(text.get("no_causal_mask", False)), False)
    return {
        "activation": "quick_gelu" if model.get("quick_gelu", False) else "gelu",
        "vision_head_width": _positive(config, "vision_cfg.head_width", vision.get("head_width", 64)),
        "text_head_width": _head_width(config, sizes["text_width"], text.get("heads", 8)),
    }


def _part(content: dict[str, Any], key: str, config: Path) -> dict[str, Any]:
    part = content.get(key) or {}
    if not isinstance(part, dict):
        raise UserError(f"{config}: {key} is {type(part).__name__}, expected an object")
    return part


def _same(config: Path, key: str, found: Any, expected: Any) -> None:
    if found != expected:
        raise UserError(
            f"{config}: {key} is {found!r}, expected {expected!r}: either a config of other weights than those beside "
            "it, or a variant of CLIP that is not supported"
        )


def _positive(config: Path, key: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise UserError(f"{config}: {key} is {value!r}, expected a positive whole number")
    return value


def _head_width(config: Path, width: int, heads: Any) -> int:
    if width % _positive(config, "the number of attention heads", heads):
        raise UserError(f"{config}: {heads} attention heads do not divide the width {width}")
    return width // heads
