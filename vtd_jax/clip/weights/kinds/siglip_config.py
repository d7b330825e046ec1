"""Reads the config.json of transformers' SiglipModel: SigLIP 2 of a fixed resolution."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtd_jax.clip.towers.design import siglip
from vtd_jax.clip.weights.files import read_json
from vtd_jax.clip.weights.hugging_face_config import (
    IRRELEVANT,
    activation_of_both,
    heads_and_activation,
)
from vtd_jax.clip.weights.keys import Keys
from vtd_jax.errors import UserError

# of the tokens' kinds and of the towers' storage; the last position is pooled whatever it holds
_NOT_COMPUTED = ("bos_token_id", "eos_token_id", "pad_token_id")


def siglip_settings(file: Path, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Activation, head widths and design from a `config.json`.

    Args:
      file: it; numbers that it leaves out have `transformers`' defaults (12 heads, GELU by a tanh).
      sizes: fields of `CLIPConfig` read off the shapes, against which the file is checked.

    Raises:
      UserError: a file of another model, or a key or value that these towers do not have.
    """
    keys = Keys(read_json(file), file)
    keys.ignore(IRRELEVANT, _NOT_COMPUTED, "model_type", "tokenizer_class")
    found = {tower: _tower(keys.part(f"{tower}_config"), tower, sizes) for tower in _TOWERS}
    keys.finish()
    activations = {tower: activation for tower, (_, activation) in found.items()}
    widths = {f"{tower}_head_width": width for tower, (width, _) in found.items()}
    side = _image_side(keys.part("vision_config"), sizes)
    heads = sizes["vision_width"] // widths["vision_head_width"]
    design = siglip(heads, sizes["vision_mlp_width"] or 4 * sizes["vision_width"])
    if wrong := [name for name, value in sizes["seen"].items() if getattr(design, name) != value]:
        raise UserError(
            f"{file}: model_type is 'siglip', but its weights are not: {', '.join(wrong)} "
            f"{'is' if len(wrong) == 1 else 'are'} otherwise"
        )
    return widths | {
        "activation": activation_of_both(activations, file),
        "design": design,
        "image_resolution": side,
    }


_TOWERS = ("vision", "text")


def _image_side(vision: Keys, sizes: Mapping[str, Any]) -> int:
    """The side of images; it has as many whole patches as the weights, and may have a rest."""
    filled, patch = sizes["image_resolution"], sizes["vision_patch_size"]
    side = vision.get("image_size", filled)
    if isinstance(side, list) and len(side) == 2 and side[0] == side[1]:
        side = side[0]
    if type(side) is not int or not filled <= side < filled + patch:
        raise vision.wrong("image_size", f"{filled}, or less than a patch of {patch} more")
    return side


def _tower(part: Keys, tower: str, sizes: Mapping[str, Any]) -> tuple[int, str]:
    """Head width and activation of one tower; the rest is checked."""
    part.ignore(IRRELEVANT, _NOT_COMPUTED)
    width = sizes[f"{tower}_width"]
    part.same("model_type", f"siglip_{tower}_model", "siglip")
    part.same("hidden_size", width)
    part.same("intermediate_size", sizes[f"{tower}_mlp_width"] or 4 * width)
    part.same("num_hidden_layers", sizes[f"{tower}_layers"])
    part.same("layer_norm_eps", 1e-6)
    if tower == "vision":
        patch = sizes["vision_patch_size"]
        part.ignore("image_size")
        part.same("patch_size", patch, [patch, patch])
        part.same("num_channels", 3)
        part.same("vision_use_head", True)
    else:
        part.same("vocab_size", sizes["vocab_size"])
        part.same("max_position_embeddings", sizes["context_length"])
        part.same("projection_size", sizes["embed_dim"])
    return heads_and_activation(part, width, 12, "gelu_pytorch_tanh")
