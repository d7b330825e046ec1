"""Activation, head widths and preprocessing of a CLIP, which no tensor shows."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.preprocessing import OPENAI, Preprocessing
from vtd_jax.clip.towers.design import OPENAI as OPENAI_DESIGN
from vtd_jax.clip.towers.published import HALVES
from vtd_jax.clip.weights import hugging_face_config, open_clip_config
from vtd_jax.clip.weights.files import Weights
from vtd_jax.clip.weights.foreign import is_hugging_face
from vtd_jax.clip.weights.kinds.pe_core import pe_core_settings
from vtd_jax.clip.weights.kinds.siglip_config import siglip_settings
from vtd_jax.clip.weights.kinds.tokenizers import check_gemma_settings
from vtd_jax.clip.weights.lazy import LazyTensor
from vtd_jax.clip.weights.tokenizer_files import check_tokenizer_files
from vtd_jax.errors import UserError, function, setting
from vtd_jax.terminal import log

# widths of published image towers whose heads are not of 64: ViT-H, g, bigG and e
WIDE_HEADS = {1280: 80, 1408: 88, 1664: 104, 1792: 112}
_OPENAI = {
    "activation": "quick_gelu",
    "vision_head_width": 64,
    "text_head_width": 64,
    "design": OPENAI_DESIGN,
}
# OpenAI's archives have these as buffers; its class, and open_clip, do not write them
_OPENAI_NUMBERS = ("input_resolution", "context_length", "vocab_size")
_WHOSE = {True: "what OpenAI's CLIPs have", False: "what all SigLIP 2 and PE-Core have"}
# field of `CLIPConfig` -> the argument that sets it
_ARGUMENTS = {"activation": "activation", "vision_head_width": "head_width"}


class Facts(NamedTuple):
    """Fields of `CLIPConfig` and their source; `binding` where no explicit value may differ."""

    fields: dict[str, Any]
    source: str
    binding: bool = True


def settle(
    weights: Weights,
    tensors: Mapping[str, LazyTensor],
    sizes: Mapping[str, Any],
    asked: Mapping[str, Any],
    where: str,
) -> dict[str, Any]:
    """The fields of `CLIPConfig` that shapes do not show.

    Args:
      weights: the opened file.
      tensors: its tensors, under the file's names without wrappers.
      sizes: fields read off the shapes.
      asked: the caller's `activation` and `vision_head_width`; None for not given.
      where: the file, for messages.

    Raises:
      UserError: no source has them, or it contradicts the caller.
    """
    asked = {name: value for name, value in asked.items() if value is not None}
    known = _beside(weights, tensors, sizes) or _of_their_own(weights, tensors, sizes)
    if known is None:
        _check_design(sizes, where)
        check_tokenizer_files(weights.folder)
        images = _images(weights.folder, sizes["image_resolution"], is_hugging_face(tensors))
        fields = _asked_only(tensors, sizes, asked, where) | {"preprocessing": images}
        known = Facts(fields, "the caller", binding=False)
    check_asked(known, asked, where)
    fields = known.fields | asked
    if any(known.fields[name] != value for name, value in asked.items()):
        # OpenAI's class has other settings, so these are not OpenAI's weights
        fields["preprocessing"] = None
    if fields["preprocessing"] is None:
        is_openais = fields["design"] == OPENAI_DESIGN
        fields["preprocessing"] = usual = OPENAI if is_openais else HALVES
        log(
            f"note: {where}: nothing beside the weights says how images were normalised, so "
            f"{_WHOSE[is_openais]} is taken ({usual}); {hugging_face_config.PREPROCESSOR}, or "
            f"preprocess_cfg in {open_clip_config.CONFIG}, would say"
        )
    return fields


def check_asked(known: Facts, asked: Mapping[str, Any], where: str) -> None:
    """Raises a `UserError` where an explicit value contradicts what comes with the weights."""
    for name, value in asked.items() if known.binding else ():
        if known.fields[name] != value:
            raise UserError(
                f"{where}: {setting(_ARGUMENTS[name], value)} contradicts {known.source}, which "
                f"says {known.fields[name]}: leave it out"
            )


def _beside(
    weights: Weights, tensors: Mapping[str, LazyTensor], sizes: Mapping[str, Any]
) -> Facts | None:
    """The facts in the config of the weights' own format, in the same folder."""
    hugging_face, folder, side = is_hugging_face(tensors), weights.folder, sizes["image_resolution"]
    file = folder / (hugging_face_config if hugging_face else open_clip_config).CONFIG
    if weights.is_script or not file.is_file():
        return None
    kind = hugging_face_config.check_model_type(folder) if hugging_face else "clip"
    if kind == "siglip":
        fields = siglip_settings(file, sizes)
        side = fields["image_resolution"]
        check_gemma_settings(folder)
    else:
        if hugging_face:
            fields = hugging_face_config.hugging_face_settings(file, sizes)
        else:
            fields = open_clip_config.open_clip_settings(file, sizes)
        check_tokenizer_files(folder)
    return Facts(fields | {"preprocessing": _images(folder, side, hugging_face, kind)}, str(file))


def _images(
    folder: Path, side: int, hugging_face: bool, kind: str = "clip"
) -> Preprocessing | None:
    """The preprocessing in a folder's files, the weights' own format first; None for none."""
    theirs = functools.partial(hugging_face_config.hugging_face_preprocessing, kind=kind)
    open_clips = open_clip_config.open_clip_preprocessing
    if hugging_face:
        return theirs(folder, side) or open_clips(folder, side)
    return open_clips(folder, side) or theirs(folder, side)


def _of_their_own(
    weights: Weights, tensors: Mapping[str, LazyTensor], sizes: Mapping[str, Any]
) -> Facts | None:
    """The facts of weights whose own names and sizes tell whose they are."""
    if (fields := pe_core_settings(tensors, sizes)) is not None:
        return Facts(fields, "Meta's PE-Core, whose names and sizes these are")
    return None if _differences(sizes) else _openais(weights, tensors, sizes)


def _differences(sizes: Mapping[str, Any]) -> list[str]:
    """Fields of the design that are to be seen in the tensors and are not OpenAI's."""
    return [name for name, x in sizes["seen"].items() if getattr(OPENAI_DESIGN, name) != x]


def _check_design(sizes: Mapping[str, Any], where: str) -> None:
    """Refuses towers of another design: what else is theirs, no argument says."""
    if other := _differences(sizes):
        raise UserError(
            f"{where}: towers that are not OpenAI's ({', '.join(other)}), and nothing beside the "
            "weights says what else is theirs: put the model's "
            f"{hugging_face_config.CONFIG} there (SigLIP 2 of Hugging Face), or take the file of a "
            f"published PE-Core; what {function('save_clip')} writes says it itself"
        )


def _openais(
    weights: Weights, tensors: Mapping[str, LazyTensor], sizes: Mapping[str, Any]
) -> Facts | None:
    """OpenAI's facts, for weights that OpenAI's own code wrote.

    That is their archive, its state dict (only theirs has three certain numbers), or a state dict
    that PyTorch saved from their class (their blocks list attention before its norm, open_clip's
    after it).
    """
    if sizes["vision_width"] in WIDE_HEADS and sizes["vision_patch_size"]:
        return None
    fields = _OPENAI | {"preprocessing": OPENAI}
    if (weights.is_script and "open_clip" not in weights.kind) or all(
        name in tensors for name in _OPENAI_NUMBERS
    ):
        return Facts(fields, "OpenAI's own archive")
    names = list(tensors) if weights.ordered and not weights.is_script else []
    first = {
        name: names.index(f"transformer.resblocks.0.{name}")
        for name in ("attn.in_proj_weight", "ln_1.weight")
        if f"transformer.resblocks.0.{name}" in names
    }
    if len(first) == 2 and first["attn.in_proj_weight"] < first["ln_1.weight"]:
        return Facts(fields, "a state dict of OpenAI's class", binding=False)
    return None


def _asked_only(
    tensors: Mapping[str, LazyTensor],
    sizes: Mapping[str, Any],
    asked: Mapping[str, Any],
    where: str,
) -> dict[str, Any]:
    """The fields that only the caller can know."""
    width, lacking = sizes["vision_width"], [] if "activation" in asked else ["activation"]
    if not _has_heads_of_64(sizes) and "vision_head_width" not in asked:
        lacking.append("vision_head_width")
    if lacking:
        names = {
            "activation": "the activation",
            "vision_head_width": "the width of the image tower's attention heads",
        }
        hint = (
            f" ({WIDE_HEADS[width]} in published towers of width {width})"
            if width in WIDE_HEADS
            else ""
        )
        how = {
            "activation": (
                f"{setting('activation', 'quick_gelu')} (OpenAI, MetaCLIP, DFN) or "
                f"{setting('activation', 'gelu')} (LAION and most others of open_clip)"
            ),
            "vision_head_width": f"{setting('head_width', 'N')}{hint}",
        }
        module = hugging_face_config if is_hugging_face(tensors) else open_clip_config
        raise UserError(
            f"{where}: {' and '.join(names[name] for name in lacking)}: not in the weights, and "
            f"nothing beside them says; put the model's {module.CONFIG} there, or give "
            f"{' and '.join(how[name] for name in lacking)}; what {function('save_clip')} writes "
            "says it itself"
        )
    if asked.get("vision_head_width") == 64 and width in WIDE_HEADS and sizes["vision_patch_size"]:
        raise UserError(
            f"{where}: {setting('head_width', 64)}: image towers of width {width} have heads of "
            f"{WIDE_HEADS[width]}, never 64"
        )
    # text towers of all published CLIPs have heads of 64
    return _OPENAI | dict(asked)


def _has_heads_of_64(sizes: Mapping[str, Any]) -> bool:
    """True for the sizes of OpenAI's nine, which open_clip trained with the same heads."""
    known = {field.name for field in dataclasses.fields(CLIPConfig)}
    try:
        config = CLIPConfig(**{name: value for name, value in sizes.items() if name in known})
    except UserError:
        return False
    return config.is_named
