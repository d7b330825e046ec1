"""Reads checkpoints of OpenAI, Hugging Face, open_clip and our own, without PyTorch; writes ours.

All become one form, the "state": float32 NumPy arrays under OpenAI's names in PyTorch's layouts.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from vtd_jax.clip.config import ACTIVATIONS, CLIPConfig
from vtd_jax.clip.model import CLIP
from vtd_jax.clip.weights.architecture import check_architecture, config_of, sizes_of
from vtd_jax.clip.weights.facts import Facts, check_asked, settle
from vtd_jax.clip.weights.files import Weights, open_weights
from vtd_jax.clip.weights.foreign import is_clip, is_hugging_face, strip_wrappers, to_openai_names
from vtd_jax.clip.weights.hugging_face_config import check_model_type
from vtd_jax.clip.weights.lazy import LazyTensor
from vtd_jax.clip.weights.params import (
    check_logit_scale,
    check_shapes,
    check_state,
    clip_from_state,
)
from vtd_jax.errors import UserError
from vtd_jax.files import replacing
from vtd_jax.finite import check_finite
from vtd_jax.outputs import check_suffix
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
      activation: of both towers, one of `ACTIVATIONS`; for weights without a config beside them,
        since no tensor shows it. OpenAI's own files need none.
      head_width: channels of an attention head of the image tower; likewise.
      expected: as for `check_architecture`, checked before any tensor is read.

    Returns:
      The configuration, sizes read off the shapes as OpenAI's loader does, and float32 arrays of
      the shapes of `vtd_jax.clip.weights.tensor_names.tensor_shapes`.

    Raises:
      UserError: no checkpoint, a truncated or damaged one, one that carries code, or one whose
        tensors are missing, surplus, misshapen or not finite; a config beside it with a setting
        that is not supported; an unknown activation or head width, or an argument that contradicts
        the known one.
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
        state = {
            name: check_finite(tensor.read(), f"{where}: tensor {name}", _DIVERGED)
            for name, tensor in tensors.items()
        }
    check_logit_scale(state["logit_scale"], where)
    return config, state


def holds_clip(path: str | os.PathLike) -> bool:
    """Whether an existing file holds a CLIP's own tensors, not what was learnt on top of one.

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
    check_suffix(path, ".safetensors")
    if dtype not in ("float32", "float16"):
        raise UserError(f"{path}: dtype {dtype!r}, expected float32 or float16")
    check_state(config, state, str(path))
    # an overflow becomes inf, which is reported below
    with np.errstate(over="ignore"):
        arrays = {name: np.asarray(array, dtype, order="C") for name, array in state.items()}
    for name, array in arrays.items():
        check_finite(array, f"{path}: tensor {name}", f"what {dtype} cannot hold is not saved")
    _write(path, lambda file: save_file(arrays, file, {CONFIG_KEY: json.dumps(config.to_dict())}))


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


def _write(path: Path, write: Callable[[str], None]) -> None:
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
