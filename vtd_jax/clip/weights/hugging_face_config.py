"""Reads Hugging Face's config.json and preprocessor_config.json beside the weights."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtd_jax.clip.preprocessing import OPENAI_MEAN, OPENAI_STD, Preprocessing
from vtd_jax.clip.towers.design import OPENAI
from vtd_jax.clip.weights.files import SOURCES, read_json
from vtd_jax.clip.weights.keys import Keys
from vtd_jax.errors import UserError
from vtd_jax.printable import brief
from vtd_jax.terminal import log

CONFIG = "config.json"
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"

# of transformers' PretrainedConfig: generation, training, storage and output formats; no tower
# computes with them
IRRELEVANT = (
    "_attn_implementation_autoset", "_commit_hash", "_name_or_path", "add_cross_attention",
    "architectures", "attention_dropout", "bad_words_ids", "begin_suppress_tokens",
    "chunk_size_feed_forward", "cross_attention_hidden_size", "decoder_start_token_id",
    "diversity_penalty", "do_sample", "dropout", "dtype", "early_stopping",
    "encoder_no_repeat_ngram_size", "epsilon_cutoff", "eta_cutoff",
    "exponential_decay_length_penalty", "finetuning_task", "forced_bos_token_id",
    "forced_eos_token_id", "gradient_checkpointing", "id2label", "initializer_factor",
    "initializer_range", "is_composition", "is_decoder", "is_encoder_decoder", "label2id",
    "length_penalty", "logit_scale_init_value", "max_length", "min_length", "no_repeat_ngram_size",
    "num_beam_groups", "num_beams", "num_return_sequences", "output_attentions",
    "output_hidden_states", "output_scores", "pad_token_id", "prefix", "problem_type",
    "remove_invalid_values", "repetition_penalty", "return_dict", "return_dict_in_generate",
    "sep_token_id", "suppress_tokens", "task_specific_params", "temperature", "tf_legacy_loss",
    "tie_encoder_decoder", "tie_word_embeddings", "top_k", "top_p", "torch_dtype", "torchscript",
    "transformers_version", "typical_p", "use_bfloat16", "use_cache",
)  # fmt: skip
_TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")
_KINDS = ("clip", "siglip")
# by the kind of model: names, mean and deviation that a file may leave out, and whether the middle
# is cropped where it does not say
_PROCESSORS = {
    "clip": (
        "CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil",
        "CLIPFeatureExtractor",
    ),
    "siglip": ("SiglipImageProcessor", "SiglipImageProcessorFast", "SiglipImageProcessorPil"),
}  # fmt: skip
_STATISTICS = {"clip": (OPENAI_MEAN, OPENAI_STD), "siglip": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))}
ACTIVATIONS = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}
# of image processors: names, memory layouts and devices
_NOT_PIXELS = (
    "_processor_class", "_valid_processor_keys", "data_format", "default_to_square", "device",
    "disable_grouping", "do_convert_rgb", "image_seq_length", "input_data_format", "pad_size",
    "processor_class", "return_tensors",
)  # fmt: skip


def check_model_type(folder: Path) -> str:
    """The kind of model in a folder, "clip" or "siglip"; "clip" where no `config.json` says it.

    Raises:
      UserError: `model_type` is another one, whose tensors may have the same names.
    """
    file = folder / CONFIG
    kind = read_json(file).get("model_type", "clip") if file.is_file() else "clip"
    if kind in ("clip_vision_model", "clip_text_model"):
        raise UserError(
            f"{file}: model_type is {kind!r}: CLIP's {'image' if 'vision' in kind else 'text'} "
            "tower only; both towers are needed: take the folder of the whole CLIPModel that it "
            f"is from. {SOURCES}"
        )
    if kind not in _KINDS:
        raise UserError(
            f"{file}: model_type is {brief(kind)}, expected 'clip' or 'siglip': another model, or "
            "another tokenizer, that is not supported (OpenAI's, LAION's, MetaCLIP's first and "
            "DFN's CLIPs are, and SigLIP 2 of a fixed resolution)"
        )
    return kind


def hugging_face_settings(file: Path, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Activation, head widths and design from a `config.json`.

    Args:
      file: it; numbers that it leaves out have `transformers`' defaults (8 and 12 heads,
        QuickGELU).
      sizes: fields of `CLIPConfig` read off the shapes, against which the file is checked.

    Raises:
      UserError: a file of another model, or a key or value that this CLIP does not have.
    """
    keys = Keys(read_json(file), file)
    check_plain(file, sizes)
    keys.ignore(IRRELEVANT, "model_type")
    keys.same("projection_dim", sizes["embed_dim"])
    keys.same("tokenizer_class", *_TOKENIZERS)
    found, activations = {}, {}
    for tower in ("vision", "text"):
        part = keys.part(f"{tower}_config").merged(keys.part(f"{tower}_config_dict"))
        found[f"{tower}_head_width"], activations[tower] = _tower(part, tower, sizes)
    keys.finish()
    return found | {"activation": activation_of_both(activations, file), "design": OPENAI}


def activation_of_both(activations: Mapping[str, str], file: Path) -> str:
    """The activation by tower that both have; a `UserError` where they differ."""
    if len(set(activations.values())) > 1:
        raise UserError(f"{file}: hidden_act is {activations}, expected the same in both towers")
    return activations["text"]


def check_plain(file: Path, sizes: Mapping[str, Any]) -> None:
    """Raises a `UserError` for weights whose design is not OpenAI's, beside a config that it is."""
    if other := [name for name, x in sizes["seen"].items() if getattr(OPENAI, name) != x]:
        raise UserError(
            f"{file}: of a CLIP with OpenAI's towers, but the weights beside it have others "
            f"({', '.join(other)}): a config of other weights"
        )


def _tower(part: Keys, tower: str, sizes: Mapping[str, Any]) -> tuple[int, str]:
    """Head width and activation of one tower; the rest is checked."""
    # projection_dim of a tower is read by transformers' one-tower models only
    part.ignore(IRRELEVANT, "projection_dim", "tokenizer_class")
    width = sizes[f"{tower}_width"]
    part.same("model_type", f"clip_{tower}_model", "clip")
    part.same("hidden_size", width)
    part.same("intermediate_size", sizes[f"{tower}_mlp_width"] or 4 * width)
    part.same("num_hidden_layers", sizes[f"{tower}_layers"])
    part.same("layer_norm_eps", 1e-5)
    part.off("pruned_heads")
    if tower == "vision":
        part.same("image_size", sizes["image_resolution"], [sizes["image_resolution"]] * 2)
        part.same("patch_size", sizes["vision_patch_size"])
        part.same("num_channels", 3)
        part.ignore("bos_token_id", "eos_token_id")
    else:
        part.same("vocab_size", sizes["vocab_size"])
        part.same("max_position_embeddings", sizes["context_length"])
        # 0 and 2 stand in configs of OpenAI's own, whose models take the highest id for the end
        part.same("bos_token_id", 49406, 0)
        part.same("eos_token_id", 49407, 2)
    return heads_and_activation(part, width, {"vision": 12, "text": 8}[tower], "quick_gelu")


def heads_and_activation(part: Keys, width: int, heads: int, activation: str) -> tuple[int, str]:
    """Head width and activation of a tower, the last keys of its config that are read.

    Args:
      part: the tower's config.
      width: of the tower.
      heads, activation: where it does not say; the activation as `transformers` names it.

    Raises:
      UserError: heads that do not divide the width, another activation, or a key left over.
    """
    heads = part.positive("num_attention_heads", heads)
    if width % heads:
        raise part.wrong("num_attention_heads", f"a divisor of the width {width}")
    act = part.get("hidden_act", activation)
    if not isinstance(act, str) or act not in ACTIVATIONS:
        raise part.wrong("hidden_act", f"one of {', '.join(ACTIVATIONS)}")
    part.finish()
    return width // heads, ACTIVATIONS[act]


def hugging_face_preprocessing(folder: Path, side: int, kind: str = "clip") -> Preprocessing | None:
    """What the image processor's file in a folder says; None where there is none.

    Args:
      folder: where `preprocessor_config.json` would be, or `processor_config.json` with an
        `image_processor`.
      side: of the images that the tower takes, pixels.
      kind: of model, from `check_model_type`.

    Raises:
      UserError: a key or value that frames cannot go through here.
    """
    file = folder / PREPROCESSOR
    if file.is_file():
        keys = Keys(read_json(file), file)
    else:
        file = folder / PROCESSOR
        whole = Keys(read_json(file), file) if file.is_file() else None
        if whole is None or "image_processor" not in whole:
            return None
        keys = whole.part("image_processor")
    keys.ignore(_NOT_PIXELS)
    keys.same("image_processor_type", *_PROCESSORS[kind])
    keys.same("feature_extractor_type", *_PROCESSORS[kind])
    for step in ("do_resize", "do_rescale", "do_normalize"):
        keys.same(step, True)
    keys.off("do_pad", "use_square_size")
    # Pillow's numbers
    keys.same("resample", 3, 2)
    interpolation = "bilinear" if keys.get("resample", 3) == 2 else "bicubic"
    factor = keys.get("rescale_factor", 1 / 255)
    if type(factor) is not float or not math.isclose(factor, 1 / 255, rel_tol=1e-6):
        raise keys.wrong("rescale_factor", "1 / 255")
    mean, std = _STATISTICS[kind]
    mean, std = keys.get("image_mean", mean), keys.get("image_std", std)
    resize = _resize(keys, side, kind == "clip")
    keys.finish()
    try:
        fields = {"mean": mean, "std": std, "resize": resize, "interpolation": interpolation}
        return Preprocessing.from_dict(fields)
    except UserError as error:
        raise UserError(f"{file}: image_{error}") from None


def _resize(keys: Keys, side: int, cropped: bool) -> str:
    """How the whole image becomes a square of the tower's side; cropped where nothing says so."""
    size, cropped = keys.get("size", 224), keys.get("do_center_crop", cropped)
    crop = keys.get("crop_size", 224)
    square = {"height": side, "width": side}
    if size == square and (cropped is False or crop in (side, square)):
        return "squash"
    # a short side of round(256 / 224 · side) before the crop is what preprocess=release does
    short = (
        size.get("shortest_edge")
        if isinstance(size, dict) and set(size) == {"shortest_edge"}
        else size
    )
    if short not in (side, round(side * 256 / 224)):
        raise keys.wrong(
            "size",
            f"{side}, the tower's image size, as a number, a shortest_edge, or height and width",
        )
    if cropped is not True:
        raise keys.wrong("do_center_crop", "true")
    if short != side:
        log(
            f"note: {keys.file}: size is {short}, of which the middle {side} was taken; here "
            f"preprocess=clip scales to a short side of {side}, preprocess=release to {short}"
        )
    if crop not in (side, square):
        raise keys.wrong("crop_size", f"{side}, the tower's image size")
    return "shortest"
