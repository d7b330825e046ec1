"""Reads open_clip's config beside the weights: model and preprocessing in one file."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.preprocessing import OPENAI_MEAN, OPENAI_STD, RESIZE, Preprocessing
from vtd_jax.clip.towers.design import OPENAI
from vtd_jax.clip.weights.files import read_json
from vtd_jax.clip.weights.hugging_face_config import check_plain
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


# timm's name of the image tower -> the published CLIP
_PE_CORE = {
    "vit_pe_core_tiny_patch16_384": "PE-Core-T/16-384",
    "vit_pe_core_small_patch16_384": "PE-Core-S/16-384",
    "vit_pe_core_base_patch16_224": "PE-Core-B/16-224",
    "vit_pe_core_large_patch14_336": "PE-Core-L/14-336",
    "vit_pe_core_gigantic_patch14_448": "PE-Core-G/14-448",
}


def open_clip_settings(file: Path, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Activation, head widths and design from an `open_clip_config.json`, or one of open_clip's
    `model_configs`, its `model_cfg`.

    Args:
      file: it; numbers that it leaves out have open_clip's defaults (GELU, heads of 64, 8 text
        heads).
      sizes: fields of `CLIPConfig` read off the shapes, against which the file is checked.

    Raises:
      UserError: a file of another model, or a key or value that this CLIP does not have.
    """
    whole = Keys(read_json(file), file)
    model = whole.part("model_cfg")
    if "model_cfg" not in whole and "vision_cfg" in whole:
        model = whole
    timm = model.part("vision_cfg").get("timm_model_name")
    if isinstance(timm, str) and timm in _PE_CORE:
        settings = _pe_core(model, CLIPConfig.named(_PE_CORE[timm]), sizes)
    else:
        check_plain(file, sizes)
        settings = _model(model, sizes) | {"design": OPENAI}
    if model is not whole:
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


def _pe_core(keys: Keys, known: CLIPConfig, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a PE-Core whose image tower is timm's: it has a bias behind its projection."""
    design = dataclasses.replace(known.design, image_projection_bias=True)
    of_known = {name: getattr(known, name) for name in sizes if name != "seen"}
    of_known |= {name: getattr(design, name) for name in sizes["seen"]}
    wrong = [name for name, x in (sizes | sizes["seen"]).items() if of_known.get(name, x) != x]
    if wrong:
        raise UserError(
            f"{keys.file}: names a {known.architecture}, but the weights beside it have another "
            f"{', '.join(wrong)}: a config of other weights"
        )
    keys.same("embed_dim", sizes["embed_dim"])
    keys.off("quick_gelu", "init_logit_bias", "multimodal_cfg")
    keys.ignore(_OF_MODEL)
    vision, text = keys.part("vision_cfg"), keys.part("text_cfg")
    vision.same("image_size", sizes["image_resolution"], [sizes["image_resolution"]] * 2)
    vision.same("timm_pool", "map")
    vision.off("timm_proj", "timm_proj_bias")
    vision.ignore("timm_model_name", "timm_model_pretrained", "timm_drop", "timm_drop_path")
    vision.ignore("patch_dropout")
    vision.finish()
    activation, head_width = _both(text, "text", False, sizes), _text(text, sizes)
    keys.finish()
    if activation != known.activation:
        raise UserError(f"{keys.file}: text_cfg.act_kwargs make {activation}, expected gelu")
    return {
        "activation": activation,
        "vision_head_width": known.vision_head_width,
        "text_head_width": head_width,
        "design": design,
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
    keys.same("interpolation", "bicubic", "bilinear", "random")
    # "random" is of training; there open_clip evaluates with bicubic
    bilinear = keys.get("interpolation") == "bilinear"
    interpolation = "bilinear" if bilinear else "bicubic"
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
        fields = {"mean": mean, "std": std, "resize": resize, "interpolation": interpolation}
        return Preprocessing.from_dict(fields)
    except UserError as error:
        raise UserError(f"{file}: preprocess_cfg.{error}") from None
