"""Reads checkpoints of OpenAI, Hugging Face, open_clip and our own, without PyTorch; writes ours.

All become one form, the "state": float32 NumPy arrays under OpenAI's names in PyTorch's layouts.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from vtd_jax.clip.config import ACTIVATIONS, LAYOUTS, CLIPConfig
from vtd_jax.clip.hub.names import TINY
from vtd_jax.clip.hub.resolve import Found, resolve
from vtd_jax.clip.model import CLIP
from vtd_jax.clip.tokenizing.gemma import GemmaTokenizer
from vtd_jax.clip.weights.architecture import check_architecture, config_of, sizes_of
from vtd_jax.clip.weights.facts import Facts, check_asked, settle
from vtd_jax.clip.weights.files import Weights, open_weights
from vtd_jax.clip.weights.foreign import is_clip, is_hugging_face, strip_wrappers, to_openai_names
from vtd_jax.clip.weights.hugging_face_config import check_model_type
from vtd_jax.clip.weights.kinds.tokenizers import own_tokenizer_file, tokenizer_of
from vtd_jax.clip.weights.lazy import LazyTensor
from vtd_jax.clip.weights.params import (
    check_logit_bias,
    check_logit_scale,
    check_shapes,
    check_state,
    clip_from_state,
)
from vtd_jax.errors import UserError
from vtd_jax.fields import check_choice, check_path, check_switch, check_whole
from vtd_jax.files import replacing
from vtd_jax.finite import check_finite
from vtd_jax.outputs import check_suffix
from vtd_jax.printable import brief
from vtd_jax.untrusted.json_text import parse_json

TINY_CLIP = Path(__file__).parents[1] / "tiny" / "tiny_clip.safetensors"
CONFIG_KEY = "vtd_jax.clip_config"
DTYPES = ("float32", "bfloat16")
_DIVERGED = "damaged, or saved from training that had diverged"


def load_clip(
    path: str | os.PathLike,
    *,
    dtype: str = "float32",
    activation: str | None = None,
    head_width: int | None = None,
    expected: str = "",
    layers: str = "auto",
    download: bool | None = None,
) -> CLIP:
    """A CLIP from any published checkpoint.

    Example:
      >>> import vtd_jax
      >>> clip = vtd_jax.load_clip("tiny")
      >>> clip.config.architecture
      'tiny'

    Args:
      path: as for `read_checkpoint`.
      dtype: compute dtype of the towers, "float32" or "bfloat16"; parameters are float32 either
        way.
      activation, head_width: as for `read_checkpoint`.
      expected: the architecture that the caller's config is for, e.g. "ViT-B/16"; "" takes any.
      layers: how blocks are laid out, see `stack.layout`.
      download: as for `read_checkpoint`.

    Raises:
      UserError: as for `read_checkpoint`, or another architecture than expected.
    """
    check_path("path", path, "a checkpoint's path or name")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise UserError(f"dtype {brief(dtype)}, expected {' or '.join(DTYPES)}")
    check_choice("layers", layers, LAYOUTS)
    if download is not None:
        download = check_switch("download", download)
    config, state = read_checkpoint(
        path, activation=activation, head_width=head_width, expected=expected, download=download
    )
    tokenizer = read_tokenizer(config, path, download=download)
    clip = clip_from_state(config, state, dtype=dtype, layers=layers)
    clip.tokenizer = tokenizer
    return clip


def read_checkpoint(
    path: str | os.PathLike,
    *,
    activation: str | None = None,
    head_width: int | None = None,
    expected: str = "",
    download: bool | None = None,
) -> tuple[CLIPConfig, dict[str, np.ndarray]]:
    """Reads OpenAI `.pt` files, Hugging Face and open_clip files or folders, and what `save_clip`
    wrote.

    Args:
      path: file or folder, or a name as `vtd_jax.clip.hub.resolve.resolve` takes it: `ViT-B/16`,
        `hf:ORG/MODEL`, `open_clip:MODEL/TAG`, `gs://…`; "tiny" is the CLIP of this package.
      activation: of both towers, one of `ACTIVATIONS`; for weights without a config beside them,
        since no tensor shows it. OpenAI's own files need none.
      head_width: channels of an attention head of the image tower; likewise.
      expected: as for `check_architecture`, checked before any tensor is read.
      download: whether weights that are not on this machine may be downloaded, see `resolve`.

    Returns:
      The configuration, sizes read off the shapes as OpenAI's loader does, and float32 arrays of
      the shapes of `vtd_jax.clip.weights.tensor_names.tensor_shapes`.

    Raises:
      UserError: no checkpoint, a truncated or damaged one, one that carries code, or one whose
        tensors are missing, surplus, misshapen or not finite; a config beside it with a setting
        that is not supported; an unknown activation or head width, or an argument that contradicts
        the known one.
    """
    with _opened(path, activation, head_width, expected, download) as (config, tensors, where):
        state = {
            name: check_finite(tensor.read(), f"{where}: tensor {name}", _DIVERGED)
            for name, tensor in tensors.items()
        }
    check_logit_scale(state["logit_scale"], where)
    check_logit_bias(state.get("logit_bias", np.zeros(())), where)
    return config, state


def read_config(
    path: str | os.PathLike,
    *,
    activation: str | None = None,
    head_width: int | None = None,
    download: bool | None = None,
) -> CLIPConfig:
    """The configuration of a checkpoint, without reading its tensors; as for `read_checkpoint`."""
    with _opened(path, activation, head_width, "", download) as (config, _, _):
        return config


@contextlib.contextmanager
def _opened(
    path: str | os.PathLike,
    activation: str | None,
    head_width: int | None,
    expected: str,
    download: bool | None,
) -> Iterator[tuple[CLIPConfig, Mapping[str, LazyTensor], str]]:
    """The configuration, the tensors under OpenAI's names, unread, and the file for messages."""
    if activation is not None and (
        not isinstance(activation, str) or activation not in ACTIVATIONS
    ):
        raise UserError(f"activation {brief(activation)}, expected one of {', '.join(ACTIVATIONS)}")
    if head_width is not None:
        head_width = check_whole("head_width", head_width, "1 or more channels")
    found = _found(path, download)
    asked = {
        "activation": activation or found.activation,
        "vision_head_width": head_width or found.head_width,
    }
    where = str(found.path)
    with contextlib.ExitStack() as stack:
        weights = open_weights(found.path, stack)
        named = strip_wrappers(weights.tensors, where)
        if is_hugging_face(named):
            check_model_type(weights.folder)
        tensors = to_openai_names(named, where)
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        config = _config(weights, named, shapes, asked, where)
        # before any tensor is read
        check_shapes(config, shapes, where)
        check_architecture(config, expected, where)
        yield config, tensors, where


def read_tokenizer(
    config: CLIPConfig, path: str | os.PathLike, *, download: bool | None = None
) -> GemmaTokenizer | None:
    """The tokenizer that comes with a checkpoint; None where it is CLIP's own.

    Args:
      config: of the checkpoint.
      path, download: as for `read_checkpoint`.

    Raises:
      UserError: as for `tokenizer_of`, or a name that cannot be resolved.
    """
    if config.design.tokenizer == "clip":
        return None
    return tokenizer_of(config, _found(path, download).path)


def holds_clip(path: str | os.PathLike) -> bool:
    """Whether a file, or what a name stands for, holds a CLIP's own tensors, not what was learnt on
    top of one.

    Raises:
      UserError: it cannot be opened, or the name cannot be resolved.
    """
    path = _found(path, None).path
    with contextlib.ExitStack() as stack:
        return is_clip(open_weights(path, stack, skip_foreign=True).tensors)


def save_clip(
    path: str | os.PathLike,
    config: CLIPConfig,
    state: Mapping[str, np.ndarray],
    dtype: str = "float32",
    tokenizer: GemmaTokenizer | None = None,
) -> None:
    """Writes safetensors under OpenAI's names, with the configuration as JSON in the metadata.

    Args:
      path: ends in `.safetensors`; written whole or not at all.
      config: the sizes.
      state: as `read_checkpoint` returns it.
      dtype: "float32", or "float16" for half the size (OpenAI's own files are float16).
      tokenizer: that comes with the CLIP, `CLIP.tokenizer`; it is written beside, as
        `NAME.tokenizer.json`.

    Raises:
      UserError: another suffix or dtype, tensors that do not fit `config`, no tokenizer where one
        is needed, values beyond float16, or a failed write.
    """
    path = Path(path)
    check_suffix(path, ".safetensors")
    if dtype not in ("float32", "float16"):
        raise UserError(f"{path}: dtype {dtype!r}, expected float32 or float16")
    if (config.design.tokenizer != "clip") != (tokenizer is not None):
        needs = "its tokenizer, which is not given" if tokenizer is None else "no tokenizer"
        raise UserError(f"{path}: a CLIP {config.architecture} is saved with {needs}")
    check_state(config, state, str(path))
    # an overflow becomes inf, which is reported below
    with np.errstate(over="ignore"):
        arrays = {name: np.asarray(array, dtype, order="C") for name, array in state.items()}
    for name, array in arrays.items():
        check_finite(array, f"{path}: tensor {name}", f"what {dtype} cannot hold is not saved")
    if tokenizer is not None:
        content = tokenizer.content
        _write(own_tokenizer_file(path), lambda file: Path(file).write_bytes(content))
    _write(path, lambda file: save_file(arrays, file, {CONFIG_KEY: json.dumps(config.to_dict())}))


def _found(path: str | os.PathLike, download: bool | None) -> Found:
    return Found(TINY_CLIP) if os.fspath(path) == TINY else resolve(path, download)


def _config(
    weights: Weights,
    named: Mapping[str, LazyTensor],
    shapes: Mapping[str, tuple],
    asked: dict[str, Any],
    where: str,
) -> CLIPConfig:
    """Sizes from the shapes, the rest from what comes with the weights or from the caller."""
    sizes = sizes_of(shapes, where)
    if CONFIG_KEY not in weights.metadata:
        return config_of(sizes | settle(weights, named, sizes, asked, where), where)
    config = _own_config(weights.metadata[CONFIG_KEY], sizes, where)
    asked = {name: value for name, value in asked.items() if value is not None}
    check_asked(Facts(dataclasses.asdict(config), "what the file says of itself"), asked, where)
    return config


def _own_config(text: str, sizes: dict[str, Any], where: str) -> CLIPConfig:
    """The configuration that `save_clip` wrote, which must agree with the shapes."""
    try:
        config = CLIPConfig.from_dict(parse_json(text, "metadata", dict[str, Any]))
    except UserError as error:
        raise UserError(f"{where}: damaged: its {CONFIG_KEY} cannot be read: {error}") from None
    seen = sizes["seen"].items()
    sizes = {name: size for name, size in sizes.items() if name != "seen"}
    if config.filled == sizes["image_resolution"]:
        # the rest of an image that no patch sees is in no shape
        sizes["image_resolution"] = config.image_resolution
    pairs = [(name, getattr(config, name), size) for name, size in sizes.items()]
    pairs += [(f"design.{name}", getattr(config.design, name), value) for name, value in seen]
    wrong = [f"{name} {ours}, not {theirs}" for name, ours, theirs in pairs if ours != theirs]
    if wrong:
        raise UserError(
            f"{where}: damaged: its {CONFIG_KEY} is not that of its tensors: {', '.join(wrong)}"
        )
    return dataclasses.replace(config, **sizes)


def _write(path: Path, write: Callable[[str], object]) -> None:
    """Runs `write` on a temporary sibling, then moves it into place: no partial file appears."""
    try:
        with replacing(path) as temporary:
            write(str(temporary))
            # safetensors creates files that only their owner may read
            temporary.chmod(0o666 & ~_umask())
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be written: {error}") from None


def _umask() -> int:
    """The process's file-mode mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
