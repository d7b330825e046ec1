"""Reads open_clip's config beside the weights: model and preprocessing in one file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtd_jax.clip.preprocessing import OPENAI_MEAN, OPENAI_STD, RESIZE, Preprocessing
from vtd_jax.clip.weights.files import read_json
from vtd_jax.clip.weights.keys import Keys
from vtd_jax.errors import UserError
from vtd_jax.printable import brief

CONFIG = "open_clip_config.json"

# how a model is made, cast or answers, not what its towers compute
_OF_MODEL = (
    "init_logit_scale", "cast_dtype", "output_dict", "nonscalar_logit_scale", "custom_text",
)  # fmt: skip
# of parts that are refused where they are on, so their own settings say nothing; and of training
_OF_VISION = (
    "attn_pooler_queries", "attn_pooler_heads", "patch_dropout", "output_tokens",
    "timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias", "timm_drop",
    "timm_drop_path",
)  # fmt: skip
_OF_TEXT = (
    "pad_id", "eos_id", "output_tokens", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type",
    "proj", "pooler_type",
)  # fmt: skip
# blocks of another kind, in either tower
_OTHER_BLOCKS = (
    "ls_init_value", "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner",
    "scale_attn", "scale_fc",
)  # fmt: skip


def open_clip_settings(file: Path, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Activation and head widths from an `open_clip_config.json`, or from one of open_clip's
    `model_configs`, its `model_cfg`.

    Args:
      file: it; numbers that it leaves out have open_clip's defaults (GELU, heads of 64, 8 text
        heads).
      sizes: fields of `CLIPConfig` read off the shapes, against which the file is checked.

    Raises:
      UserError: a file of another model, or a key or value that this CLIP does not have.
    """
    whole = Keys(read_json(file), file)
    if "model_cfg" not in whole and "vision_cfg" in whole:
        return _model(whole, sizes)
    settings = _model(whole.part("model_cfg"), sizes)
    # see open_clip_preprocessing
    whole.ignore("preprocess_cfg")
    whole.finish()
    return settings


def open_clip_preprocessing(folder: Path, side: int) -> Preprocessing | None:
    """What the `preprocess_cfg` of a folder's `open_clip_config.json` says; None where there is
    none.

    Args:
      folder: where the file would be.
      side: of the images that the tower takes, pixels.

    Raises:
      UserError: a key or value that frames cannot go through here.
    """
    file = folder / CONFIG
    whole = Keys(read_json(file), file) if file.is_file() else None
    return _preprocessing(whole, file, side) if whole and "preprocess_cfg" in whole else None


def _model(keys: Keys, sizes: Mapping[str, Any]) -> dict[str, Any]:
    keys.same("embed_dim", sizes["embed_dim"])
    keys.off("init_logit_bias", "multimodal_cfg")
    keys.ignore(_OF_MODEL)
    quick = keys.get("quick_gelu", False)
    if type(quick) is not bool:
        raise keys.wrong("quick_gelu", "true or false")
    vision, text = keys.part("vision_cfg"), keys.part("text_cfg")
    activations = {
        "vision_cfg": _both(vision, "vision", quick, sizes),
        "text_cfg": _both(text, "text", quick, sizes),
    }
    head_width = _vision(vision, sizes)
    heads = _text(text, sizes)
    keys.finish()
    if sizes["vision_patch_size"] is None:
        # a ResNet has rectifiers, whatever the text tower has
        activations.pop("vision_cfg")
    if len(set(activations.values())) > 1:
        raise UserError(
            f"{keys.file}: act_kwargs make {activations}, expected the same activation in both "
            "towers"
        )
    return {
        "activation": activations["text_cfg"],
        "vision_head_width": head_width,
        "text_head_width": heads,
    }


def _both(part: Keys, tower: str, quick: bool, sizes: Mapping[str, Any]) -> str:
    """Checks what both towers have; returns the activation."""
    width, hidden = sizes[f"{tower}_width"], sizes[f"{tower}_mlp_width"]
    part.same("width", width)
    part.same("layers", sizes[f"{tower}_layers"])
    ratio = part.get("mlp_ratio", 4.0)
    # a ResNet has no such MLPs
    transformer = tower == "text" or sizes["vision_patch_size"] is not None
    right = (
        type(ratio) in (int, float)
        and 0 < ratio < 1e6
        and int(width * ratio) == (hidden or 4 * width)
    )
    if transformer and not right:
        raise part.wrong("mlp_ratio", f"{(hidden or 4 * width) / width:g}, as its weights have")
    part.off(*_OTHER_BLOCKS)
    part.same("block_type", "default")
    # the pooled token is the same whether it or all of them are normalised
    part.same("final_ln_after_pool", False, True)
    norm = part.part("norm_kwargs")
    norm.same("eps", 1e-5)
    norm.finish()
    act = part.part("act_kwargs")
    approximate = act.get("approximate", "none")
    if approximate not in ("none", "tanh") or (quick and "approximate" in act):
        raise act.wrong("approximate", "none or tanh, and no quick_gelu")
    act.finish()
    return "quick_gelu" if quick else {"none": "gelu", "tanh": "gelu_tanh"}[approximate]


def _vision(vision: Keys, sizes: Mapping[str, Any]) -> int:
    """Checks the image tower's own; returns the width of its heads."""
    side = sizes["image_resolution"]
    vision.same("image_size", side, [side, side])
    vision.same("patch_size", sizes["vision_patch_size"], [sizes["vision_patch_size"]] * 2)
    vision.same("pool_type", "tok")
    vision.same("pos_embed_type", "learnable")
    vision.off(
        "timm_model_name", "global_average_pool", "attentional_pool", "no_ln_pre", "input_patchnorm"
    )
    vision.ignore(_OF_VISION)
    head_width = vision.positive("head_width", 64)
    vision.finish()
    return head_width


def _text(text: Keys, sizes: Mapping[str, Any]) -> int:
    """Checks the text tower's own; returns the width of its heads."""
    text.off("hf_tokenizer_name", "tokenizer_mode")
    text.same("context_length", sizes["context_length"])
    text.same("vocab_size", sizes["vocab_size"])
    text.same("pool_type", "argmax")
    text.same("proj_type", "linear")
    text.off("hf_model_name", "no_causal_mask", "embed_cls", "proj_bias")
    tokenizer = text.part("tokenizer_kwargs")
    tokenizer.same("clean", "lower")
    tokenizer.finish()
    text.ignore(_OF_TEXT)
    width, heads = sizes["text_width"], text.positive("heads", 8)
    if width % heads:
        raise text.wrong("heads", f"a divisor of the width {width}")
    text.finish()
    return width // heads


def _preprocessing(whole: Keys, file: Path, side: int) -> Preprocessing:
    keys = whole.part("preprocess_cfg")
    keys.same("size", side, [side, side])
    keys.same("mode", "RGB")
    # videos are scaled bilinearly whatever images were (docs/method.md, section 6)
    keys.same("interpolation", "bicubic", "bilinear", "random")
    # only resize_mode "longest" fills, and that is refused
    keys.ignore("fill_color")
    mean, std = keys.get("mean", OPENAI_MEAN), keys.get("std", OPENAI_STD)
    resize = keys.get("resize_mode", "shortest")
    keys.finish()
    # the only field that has another name there
    if resize not in RESIZE:
        raise UserError(
            f"{file}: preprocess_cfg.resize_mode is {brief(resize)}, expected one of "
            f"{', '.join(RESIZE)}"
        )
    try:
        return Preprocessing.from_dict({"mean": mean, "std": std, "resize": resize})
    except UserError as error:
        raise UserError(f"{file}: preprocess_cfg.{error}") from None
