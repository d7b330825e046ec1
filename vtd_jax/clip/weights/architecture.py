"""Infers a CLIP's architecture from its tensors' names and shapes, as OpenAI's loader does."""

import re
from collections.abc import Mapping
from typing import Any

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.weights.files import SOURCES
from vtd_jax.errors import UserError, setting

_BLOCK = r"transformer\.resblocks\.\d+\.(attn|ln_1|ln_2|mlp)\."
_OPENAI = re.compile(
    rf"visual\.(conv[123]|bn[123]|layer[1-4]\.\d+|attnpool|ln_pre|ln_post)\.|(visual\.)?{_BLOCK}"
    r"|visual\.(class_embedding|positional_embedding|proj)$|(token_embedding|ln_final)\."
    r"|(positional_embedding|text_projection|logit_scale|text_projection_bias|logit_bias)$"
    r"|visual\.attn_pool\.(probe$|(attn|layernorm|mlp)\.)|visual\.proj_bias$"
)


def check_architecture(config: CLIPConfig, expected: str, where: str) -> None:
    """Raises a `UserError` unless `config` has the expected architecture ("" accepts any)."""
    if expected and config.architecture != expected:
        raise UserError(
            f"{where}: a CLIP {config.architecture}, the run's clip.architecture is {expected!r}: "
            f"give that checkpoint, or set {setting('clip.architecture', config.architecture)}"
        )


def config_of(fields: dict[str, Any], where: str) -> CLIPConfig:
    """`CLIPConfig` of fields, `seen` left out, whose `UserError` names the file."""
    try:
        return CLIPConfig(**{name: value for name, value in fields.items() if name != "seen"})
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def sizes_of(shapes: Mapping[str, tuple[int, ...]], where: str) -> dict[str, Any]:
    """The fields of `CLIPConfig` that the shapes of a whole CLIP give, and as `seen` those of its
    `Design`.

    Args:
      shapes: PyTorch shapes by OpenAI's names.
      where: the file, for messages.

    Raises:
      UserError: a tensor that gives a size is missing or misshapen, or the model is of another
        kind.
    """
    is_resnet = any(name.startswith(("visual.layer", "visual.attnpool.")) for name in shapes)
    grid_at = "visual.attnpool.positional_embedding" if is_resnet else "visual.positional_embedding"
    patch_at = "visual.layer1.0.conv1.weight" if is_resnet else "visual.conv1.weight"
    ranks = {
        patch_at: 4,
        grid_at: 2,
        "text_projection": 2,
        "positional_embedding": 2,
        "token_embedding.weight": 2,
    }
    _check_sizing(shapes, ranks, where)
    design = _design_of(shapes, is_resnet)
    side = _grid_side(shapes[grid_at], design["class_token"], f"{where}: {grid_at}")
    if is_resnet:
        stages = tuple(_count(rf"visual\.layer{stage}\.(\d+)\.", shapes) for stage in range(1, 5))
        vision = {"vision_layers": stages, "vision_patch_size": None, "image_resolution": 32 * side}
    else:
        patch = shapes[patch_at][-1]
        layers = _count(r"visual\.transformer\.resblocks\.(\d+)\.", shapes)
        vision = {
            "vision_layers": layers,
            "vision_patch_size": patch,
            "image_resolution": patch * side,
        }
    text_layers = _count(r"transformer\.resblocks\.(\d+)\.", shapes)
    if 0 in (text_layers, *(stages if is_resnet else (layers,))):
        raise UserError(f"{where}: not a whole CLIP: a tower without layers")
    vision["vision_width"], text_width = shapes[patch_at][0], shapes["text_projection"][0]
    return vision | {
        "vision_mlp_width": None
        if is_resnet
        else _mlp_width(shapes, "visual.", vision["vision_width"]),
        "text_mlp_width": _mlp_width(shapes, "", text_width),
        "embed_dim": shapes["text_projection"][1],
        "text_width": text_width,
        "text_layers": text_layers,
        "context_length": shapes["positional_embedding"][0],
        "vocab_size": shapes["token_embedding.weight"][0],
        "seen": design,
    }


def _grid_side(shape: tuple[int, ...], class_token: bool, what: str) -> int:
    side = round(max(shape[0] - class_token, 0) ** 0.5)
    if side < 1 or side**2 + class_token != shape[0]:
        rows = "one row more than a square grid has cells" if class_token else "a row for each cell"
        raise UserError(
            f"{what} is {shape}, expected {rows}{'' if class_token else ' of a square grid'}"
        )
    return side


def _design_of(shapes: Mapping[str, tuple[int, ...]], is_resnet: bool) -> dict[str, Any]:
    """The fields of `Design` that are to be seen in a checkpoint."""
    hidden = shapes.get("visual.attn_pool.mlp.c_fc.weight", ())
    image = is_resnet or "visual.class_embedding" in shapes
    return {
        "class_token": image,
        "patch_bias": not is_resnet and "visual.conv1.bias" in shapes,
        "pre_norm": is_resnet or "visual.ln_pre.weight" in shapes,
        "pooling": "attention" if "visual.attn_pool.probe" in shapes else "class",
        "pooling_mlp_width": hidden[0] if len(hidden) == 2 else 0,
        "image_projection": is_resnet or "visual.proj" in shapes,
        "image_projection_bias": "visual.proj_bias" in shapes,
        "text_projection_bias": "text_projection_bias" in shapes,
        "sigmoid": "logit_bias" in shapes,
    }


def _mlp_width(shapes: Mapping[str, tuple[int, ...]], prefix: str, width: int) -> int | None:
    """Hidden channels of the first block's MLP; None for four times the width or no such tensor."""
    found = shapes.get(f"{prefix}transformer.resblocks.0.mlp.c_fc.weight", ())
    return None if len(found) != 2 or found[0] in (0, 4 * width) else found[0]


def _check_sizing(shapes: Mapping[str, tuple[int, ...]], ranks: dict[str, int], where: str) -> None:
    """Refuses a sizing tensor that is absent or misshapen; names the first foreign tensor."""
    if absent := [name for name in ranks if name not in shapes]:
        if "text_projection.weight" in shapes:
            raise UserError(
                f"{where}: a SigLIP as open_clip saves it, with another activation in each tower "
                "and another cleaning of texts: not supported; take Hugging Face's copy of SigLIP "
                "2 (google/siglip2-base-patch16-224)"
            )
        foreign = next((name for name in shapes if not _OPENAI.match(name)), None)
        image = any(name.startswith("visual.") for name in shapes)
        text = any(not name.startswith("visual.") and name != "logit_scale" for name in shapes)
        if foreign is None and image != text:
            raise UserError(
                f"{where}: holds CLIP's {'image' if image else 'text'} tower only, as "
                f"transformers' {'CLIPVisionModel' if image else 'CLIPTextModel'} or a diffusion "
                "pipeline has it; both towers are needed: take the weights of the whole "
                f"CLIPModel that it is from. {SOURCES}"
            )
        if foreign is None:
            raise UserError(f"{where}: not a whole CLIP: missing: {', '.join(absent)}")
        raise UserError(
            f"{where}: not a CLIP with the towers of OpenAI, SigLIP 2 or PE-Core under their own "
            "names (timm's names, CoCa and other variants are not supported): its first foreign "
            f"tensor is {foreign}; missing: {', '.join(absent)}. {SOURCES}"
        )
    for name, rank in ranks.items():
        if len(shapes[name]) != rank or min(shapes[name]) < 1:
            raise UserError(
                f"{where}: misshapen: {name} is {shapes[name]}, expected {rank} dimensions, none "
                "empty"
            )


def _count(pattern: str, names: Mapping[str, Any]) -> int:
    return len({match[1] for name in names if (match := re.match(pattern, name))})
