"""CLIP checkpoints in and out: OpenAI, Hugging Face, open_clip and our own, all without PyTorch.

Everything is turned into one form, the "state": float32 NumPy arrays under OpenAI's names in PyTorch's layouts.
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
from vtd_jax.clip.foreign import hugging_face_settings, is_hugging_face, open_clip_settings, to_openai_names
from vtd_jax.clip.model import CLIP
from vtd_jax.clip.params import check_state, clip_from_state
from vtd_jax.clip.torch_archive import LazyTensor
from vtd_jax.clip.weight_files import SOURCES, Weights, open_weights
from vtd_jax.errors import UserError
from vtd_jax.files import replacing

TINY_CLIP = Path(__file__).parent / "tiny" / "tiny_clip.safetensors"
CONFIG_KEY = "vtd_jax.clip_config"

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
    expected: str = "",
    layers: str = "auto",
) -> CLIP:
    """A CLIP from any published checkpoint.

    Args:
      path: as for `read_checkpoint`.
      dtype: compute dtype of the towers, "float32" or "bfloat16"; parameters are float32 either way.
      activation: as for `read_checkpoint`.
      expected: the architecture that the caller's config is for, e.g. "ViT-B/16"; "" takes any.
      layers: how blocks are laid out, see `stack.layout`.

    Raises:
      UserError: as for `read_checkpoint`, or another architecture than expected.
    """
    config, state = read_checkpoint(path, activation=activation, expected=expected)
    return clip_from_state(config, state, dtype=dtype, layers=layers)


def read_checkpoint(
    path: str | os.PathLike, *, activation: str | None = None, expected: str = ""
) -> tuple[CLIPConfig, dict[str, np.ndarray]]:
    """Reads OpenAI `.pt` files, Hugging Face and open_clip files or folders, and what `save_clip` wrote.

    Args:
      path: file or folder; "tiny" is the CLIP that comes with this package.
      activation: "quick_gelu" or "gelu", for weights without a config that says which: no shape tells, and left open it
        is QuickGELU, as in OpenAI's models. It overrules a config.
      expected: as for `check_architecture`, checked before any tensor is read.

    Returns:
      The configuration, read off the shapes as OpenAI's loader does, and float32 arrays of the shapes of
      `vtd_jax.clip.params.tensor_shapes`.

    Raises:
      UserError: no checkpoint, a truncated or damaged one, one that carries code, or one whose tensors are missing,
        surplus, misshapen or not finite.
    """
    if activation not in (None, *ACTIVATIONS):
        raise UserError(f"activation {activation!r}, expected one of {', '.join(ACTIVATIONS)}")
    where = str(TINY_CLIP if os.fspath(path) == "tiny" else path)
    with contextlib.ExitStack() as stack:
        weights = open_weights(Path(where), stack)
        tensors = to_openai_names(weights.tensors, where)
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        config = _config(weights, shapes, activation, where)
        # stand-ins without memory: names and shapes are settled before any tensor is read
        check_state(config, {n: np.broadcast_to(np.float32(0), s) for n, s in shapes.items()}, where)
        check_architecture(config, expected, where)
        state = {name: _finite(tensor, name, where) for name, tensor in tensors.items()}
    return config, state


def save_clip(
    path: str | os.PathLike, config: CLIPConfig, state: Mapping[str, np.ndarray], dtype: str = "float32"
) -> None:
    """Writes safetensors under OpenAI's names, with the configuration as JSON in the metadata.

    Args:
      path: ends in `.safetensors`; written whole or not at all.
      config: the sizes.
      state: as `read_checkpoint` returns it.
      dtype: "float32", or "float16" for half the size (OpenAI's own files are float16).

    Raises:
      UserError: another suffix or dtype, tensors that do not fit `config`, values beyond float16, or a failed write.
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
    """Raises a `UserError` unless `config` is of the architecture that a run was configured for ("" takes any)."""
    if expected and config.architecture != expected:
        raise UserError(
            f"{where}: a CLIP {config.architecture}, the run's clip.architecture is {expected!r}: "
            "give that checkpoint, or set clip.architecture to what this one is"
        )


def infer_config(shapes: Mapping[str, tuple[int, ...]], where: str = "checkpoint", **settings: Any) -> CLIPConfig:
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
    ranks = {patch_at: 4, grid_at: 2, "text_projection": 2, "positional_embedding": 2, "token_embedding.weight": 2}
    _check_telling(shapes, ranks, where)
    side = round((shapes[grid_at][0] - 1) ** 0.5)
    if side < 1 or side**2 + 1 != shapes[grid_at][0]:
        raise UserError(f"{where}: {grid_at} is {shapes[grid_at]}, expected one row more than a square grid has cells")
    if is_resnet:
        stages = tuple(_count(rf"visual\.layer{stage}\.(\d+)\.", shapes) for stage in range(1, 5))
        vision = {"vision_layers": stages, "vision_patch_size": None, "image_resolution": 32 * side}
    else:
        patch = shapes[patch_at][-1]
        layers = _count(r"visual\.transformer\.resblocks\.(\d+)\.", shapes)
        vision = {"vision_layers": layers, "vision_patch_size": patch, "image_resolution": patch * side}
    text_layers = _count(r"transformer\.resblocks\.(\d+)\.", shapes)
    if 0 in (text_layers, *(stages if is_resnet else (layers,))):
        raise UserError(f"{where}: not a whole CLIP: a tower without layers")
    return vision | {
        "vision_width": shapes[patch_at][0],
        "embed_dim": shapes["text_projection"][1],
        "text_width": shapes["text_projection"][0],
        "text_layers": text_layers,
        "context_length": shapes["positional_embedding"][0],
        "vocab_size": shapes["token_embedding.weight"][0],
    }


def _check_telling(shapes: Mapping[str, tuple[int, ...]], ranks: dict[str, int], where: str) -> None:
    """Raises where a tensor that tells a size is absent or of the wrong rank; names the first foreign tensor."""
    if absent := [name for name in ranks if name not in shapes]:
        foreign = next((name for name in shapes if not _OPENAI.match(name)), None)
        if foreign is None:
            raise UserError(f"{where}: not a whole CLIP: missing: {', '.join(absent)}")
        raise UserError(
            f"{where}: not a CLIP with OpenAI's towers (timm, SigLIP, CoCa and other variants are not supported): its "
            f"first foreign tensor is {foreign}; missing: {', '.join(absent)}. {SOURCES}"
        )
    for name, rank in ranks.items():
        if len(shapes[name]) != rank or min(shapes[name]) < 1:
            raise UserError(f"{where}: misshapen: {name} is {shapes[name]}, expected {rank} dimensions, none empty")


def _count(pattern: str, names: Mapping[str, Any]) -> int:
    return len({match[1] for name in names if (match := re.match(pattern, name))})


def _config(weights: Weights, shapes: Mapping[str, tuple], activation: str | None, where: str) -> CLIPConfig:
    """Sizes from the shapes; activation and heads from whichever config comes with the weights."""
    sizes = _sizes(shapes, where)
    if CONFIG_KEY in weights.metadata:
        config = _own_config(weights.metadata[CONFIG_KEY], sizes, where)
        return dataclasses.replace(config, activation=activation or config.activation)
    hugging_face = is_hugging_face(weights.tensors)
    beside = weights.folder / ("config.json" if hugging_face else "open_clip_config.json")
    settings = {}
    if beside.is_file() and not weights.is_script:
        settings = (hugging_face_settings if hugging_face else open_clip_settings)(beside, sizes)
    return _build(sizes | settings | ({"activation": activation} if activation else {}), where)


def _own_config(text: str, sizes: dict[str, Any], where: str) -> CLIPConfig:
    """The configuration that `save_clip` wrote, which must agree with the shapes."""
    try:
        config = CLIPConfig.from_dict(json.loads(text))
    except (ArithmeticError, AttributeError, RecursionError, TypeError, ValueError) as error:
        raise UserError(f"{where}: damaged: its {CONFIG_KEY} cannot be read: {error}") from None
    wrong = [
        f"{name} {getattr(config, name)}, not {size}" for name, size in sizes.items() if getattr(config, name) != size
    ]
    wrong += [name for name in ("vision_head_width", "text_head_width") if type(getattr(config, name)) is not int]
    if wrong:
        raise UserError(f"{where}: damaged: its {CONFIG_KEY} is not that of its tensors: {', '.join(wrong)}")
    return dataclasses.replace(config, **sizes)


def _finite(tensor: LazyTensor, name: str, where: str) -> np.ndarray:
    array = tensor.read()
    if not np.isfinite(array).all():
        raise UserError(f"{where}: tensor {name} has {np.sum(~np.isfinite(array))} values that are NaN or infinite")
    return array


def _write(path: Path, write: Callable[[str], None]) -> None:
    """Runs `write` on a temporary sibling and moves that into place, so that no half file is ever seen."""
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
