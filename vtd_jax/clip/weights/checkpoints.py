"""CLIP checkpoints in and out: OpenAI, Hugging Face, open_clip and our own, all without PyTorch.

Everything is turned into one form, the "state": float32 NumPy arrays under OpenAI's names in
PyTorch's layouts.
"""

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from vtd_jax.clip.config import ACTIVATIONS, CLIPConfig
from vtd_jax.clip.model import CLIP
from vtd_jax.clip.weights.facts import Facts, check_asked, settle
from vtd_jax.clip.weights.files import SOURCES, Weights, open_weights
from vtd_jax.clip.weights.foreign import is_clip, is_hugging_face, strip_wrappers, to_openai_names
from vtd_jax.clip.weights.hugging_face_config import check_model_type
from vtd_jax.clip.weights.params import (
    check_logit_scale,
    check_shapes,
    check_state,
    clip_from_state,
)
from vtd_jax.clip.weights.torch_archive import LazyTensor
from vtd_jax.errors import UserError
from vtd_jax.files import replacing
from vtd_jax.untrusted.json_text import parse_json

TINY_CLIP = Path(__file__).parents[1] / "tiny" / "tiny_clip.safetensors"
CONFIG_KEY = "vtd_jax.clip_config"
DTYPES = ("float32", "bfloat16")

_BLOCK = r"transformer\.resblocks\.\d+\.(attn|ln_1|ln_2|mlp)\."
_OPENAI = re.compile(
    rf"visual\.(conv[123]|bn[123]|layer[1-4]\.\d+|attnpool|ln_pre|ln_post)\.|(visual\.)?{_BLOCK}"
    r"|visual\.(class_embedding|positional_embedding|proj)$|(token_embedding|ln_final)\."
    r"|(positional_embedding|text_projection|logit_scale)$"
)


def load_clip(
    path: str | os.PathLike,
    *,
    dtype: str = "float32",
    activation: str | None = None,
    head_width: int | None = None,
    expected: str = "",
    layers: str = "auto",
) -> CLIP:
    """A CLIP from any published checkpoint.

    Args:
      path: as for `read_checkpoint`.
      dtype: compute dtype of the towers, "float32" or "bfloat16"; parameters are float32 either
        way.
      activation, head_width: as for `read_checkpoint`.
      expected: the architecture that the caller's config is for, e.g. "ViT-B/16"; "" takes any.
      layers: how blocks are laid out, see `stack.layout`.

    Raises:
      UserError: as for `read_checkpoint`, or another architecture than expected.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r}, expected {' or '.join(DTYPES)}")
    config, state = read_checkpoint(
        path, activation=activation, head_width=head_width, expected=expected
    )
    return clip_from_state(config, state, dtype=dtype, layers=layers)


def read_checkpoint(
    path: str | os.PathLike,
    *,
    activation: str | None = None,
    head_width: int | None = None,
    expected: str = "",
) -> tuple[CLIPConfig, dict[str, np.ndarray]]:
    """Reads OpenAI `.pt` files, Hugging Face and open_clip files or folders, and what `save_clip`
    wrote.

    Args:
      path: file or folder; "tiny" is the CLIP that comes with this package.
      activation: of both towers, one of `ACTIVATIONS`; for weights without a config beside them, as
        no tensor tells. OpenAI's own files need none.
      head_width: channels of an attention head of the image tower; likewise.
      expected: as for `check_architecture`, checked before any tensor is read.

    Returns:
      The configuration, sizes read off the shapes as OpenAI's loader does, and float32 arrays of
      the shapes of `vtd_jax.clip.weights.params.tensor_shapes`.

    Raises:
      UserError: no checkpoint, a truncated or damaged one, one that carries code, or one whose
        tensors are missing, surplus, misshapen or not finite; a config beside it with a setting
        that is not supported; nothing that says what no tensor tells, or an argument that
        contradicts what does.
    """
    if activation not in (None, *ACTIVATIONS):
        raise UserError(f"activation {activation!r}, expected one of {', '.join(ACTIVATIONS)}")
    if head_width is not None and (type(head_width) is not int or head_width < 1):
        raise UserError(f"head_width {head_width!r}, expected a positive whole number")
    asked = {"activation": activation, "vision_head_width": head_width}
    where = str(TINY_CLIP if os.fspath(path) == "tiny" else path)
    with contextlib.ExitStack() as stack:
        weights = open_weights(Path(where), stack)
        named = strip_wrappers(weights.tensors, where)
        if is_hugging_face(named):
            check_model_type(weights.folder)
        tensors = to_openai_names(named, where)
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        config = _config(weights, named, shapes, asked, where)
        # before any tensor is read
        check_shapes(config, shapes, where)
        check_architecture(config, expected, where)
        state = {name: _finite(tensor, name, where) for name, tensor in tensors.items()}
    check_logit_scale(state["logit_scale"], where)
    return config, state


def holds_clip(path: str | os.PathLike) -> bool:
    """Whether a file that is there holds a CLIP's own tensors, and not what was learnt on top of
    one.

    Raises:
      UserError: it cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        return is_clip(open_weights(Path(path), stack, skip_foreign=True).tensors)


def save_clip(
    path: str | os.PathLike,
    config: CLIPConfig,
    state: Mapping[str, np.ndarray],
    dtype: str = "float32",
) -> None:
    """Writes safetensors under OpenAI's names, with the configuration as JSON in the metadata.

    Args:
      path: ends in `.safetensors`; written whole or not at all.
      config: the sizes.
      state: as `read_checkpoint` returns it.
      dtype: "float32", or "float16" for half the size (OpenAI's own files are float16).

    Raises:
      UserError: another suffix or dtype, tensors that do not fit `config`, values beyond float16,
        or a failed write.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise UserError(f"{path}: the name of a CLIP checkpoint ends in .safetensors here")
    if dtype not in ("float32", "float16"):
        raise UserError(f"{path}: dtype {dtype!r}, expected float32 or float16")
    check_state(config, state, str(path))
    with np.errstate(over="ignore"):
        arrays = {name: np.ascontiguousarray(array, dtype) for name, array in state.items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise UserError(f"{path}: tensor {name} has values that are not finite in {dtype}")
    # ascontiguousarray makes a scalar one-dimensional
    arrays = {name: array.reshape(np.shape(state[name])) for name, array in arrays.items()}
    _write(path, lambda file: save_file(arrays, file, {CONFIG_KEY: json.dumps(config.to_dict())}))


def check_architecture(config: CLIPConfig, expected: str, where: str) -> None:
    """Raises a `UserError` unless `config` is of the architecture that a run was configured for (""
    takes any).
    """
    if expected and config.architecture != expected:
        raise UserError(
            f"{where}: a CLIP {config.architecture}, the run's clip.architecture is {expected!r}: "
            "give that checkpoint, or set clip.architecture to what this one is"
        )


def infer_config(
    shapes: Mapping[str, tuple[int, ...]], where: str = "checkpoint", **settings: Any
) -> CLIPConfig:
    """The architecture that tensors of these shapes belong to (OpenAI's `build_model`).

    Args:
      shapes: PyTorch shapes by OpenAI's names.
      where: the file, for messages.
      **settings: fields of `CLIPConfig` that no shape tells; OpenAI's are the default.

    Raises:
      UserError: a tensor that tells a size is missing or misshapen, or another kind of model.
    """
    return _build(_sizes(shapes, where) | settings, where)


def _build(fields: dict[str, Any], where: str) -> CLIPConfig:
    try:
        return CLIPConfig(**fields)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _sizes(shapes: Mapping[str, tuple[int, ...]], where: str) -> dict[str, Any]:
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
    _check_telling(shapes, ranks, where)
    side = round((shapes[grid_at][0] - 1) ** 0.5)
    if side < 1 or side**2 + 1 != shapes[grid_at][0]:
        raise UserError(
            f"{where}: {grid_at} is {shapes[grid_at]}, expected one row more than a square grid "
            "has cells"
        )
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
    }


def _mlp_width(shapes: Mapping[str, tuple[int, ...]], prefix: str, width: int) -> int | None:
    """Hidden channels of the first block's MLP; None where they are four times the width, or not
    there to tell.
    """
    found = shapes.get(f"{prefix}transformer.resblocks.0.mlp.c_fc.weight", ())
    return None if len(found) != 2 or found[0] in (0, 4 * width) else found[0]


def _check_telling(
    shapes: Mapping[str, tuple[int, ...]], ranks: dict[str, int], where: str
) -> None:
    """Raises where a tensor that tells a size is absent or of the wrong rank; names the first
    foreign tensor.
    """
    if absent := [name for name in ranks if name not in shapes]:
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
            f"{where}: not a CLIP with OpenAI's towers (timm, SigLIP, CoCa and other variants are "
            f"not supported): its first foreign tensor is {foreign}; missing: "
            f"{', '.join(absent)}. {SOURCES}"
        )
    for name, rank in ranks.items():
        if len(shapes[name]) != rank or min(shapes[name]) < 1:
            raise UserError(
                f"{where}: misshapen: {name} is {shapes[name]}, expected {rank} dimensions, none "
                "empty"
            )


def _count(pattern: str, names: Mapping[str, Any]) -> int:
    return len({match[1] for name in names if (match := re.match(pattern, name))})


def _config(
    weights: Weights,
    named: Mapping[str, LazyTensor],
    shapes: Mapping[str, tuple],
    asked: dict[str, Any],
    where: str,
) -> CLIPConfig:
    """Sizes from the shapes; what they cannot tell from what comes with the weights, or as it is
    asked for.
    """
    sizes = _sizes(shapes, where)
    if CONFIG_KEY not in weights.metadata:
        return _build(sizes | settle(weights, named, sizes, asked, where), where)
    config = _own_config(weights.metadata[CONFIG_KEY], sizes, where)
    asked = {name: value for name, value in asked.items() if value is not None}
    check_asked(Facts(dataclasses.asdict(config), "what the file says of itself"), asked, where)
    return config


def _own_config(text: str, sizes: dict[str, Any], where: str) -> CLIPConfig:
    """The configuration that `save_clip` wrote, which must agree with the shapes."""
    told = f"{where}: damaged: its {CONFIG_KEY} cannot be read"
    try:
        config = CLIPConfig.from_dict(parse_json(text, "metadata", dict[str, Any]))
    except UserError as error:
        raise UserError(f"{told}: {error}") from None
    wrong = [
        f"{name} {getattr(config, name)}, not {size}"
        for name, size in sizes.items()
        if getattr(config, name) != size
    ]
    if wrong:
        raise UserError(
            f"{where}: damaged: its {CONFIG_KEY} is not that of its tensors: {', '.join(wrong)}"
        )
    return dataclasses.replace(config, **sizes)


def _finite(tensor: LazyTensor, name: str, where: str) -> np.ndarray:
    array = tensor.read()
    finite = np.isfinite(array)
    if not finite.all():
        first = np.unravel_index(np.argmin(finite), array.shape)
        raise UserError(
            f"{where}: tensor {name} has {array.size - finite.sum()} values that are NaN or "
            f"infinite, the first is {array[first]} at {list(map(int, first))}: damaged, or saved "
            "from training that had diverged"
        )
    return array


def _write(path: Path, write: Callable[[str], None]) -> None:
    """Runs `write` on a temporary sibling and moves that into place, so that no half file is ever
    seen.
    """
    try:
        with replacing(path) as temporary:
            write(str(temporary))
            # safetensors makes files that only their owner may read
            temporary.chmod(0o666 & ~_umask())
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be written: {error}") from None


def _umask() -> int:
    """The process's file-mode mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
