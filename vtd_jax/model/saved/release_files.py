"""Reads and writes the authors' checkpoints (`.pth`), without PyTorch and without running code."""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from flax import nnx

from vtd_jax.clip.weights.files import open_weights
from vtd_jax.clip.weights.foreign import is_clip
from vtd_jax.clip.weights.lazy import LazyTensor
from vtd_jax.clip.weights.params import LOGIT_SCALE_OVERFLOW, check_logit_scale, state_from_clip
from vtd_jax.clip.weights.pytorch.write import write_torch_archive
from vtd_jax.errors import UserError, function, setting
from vtd_jax.finite import check_finite
from vtd_jax.model.codebook import class_tokens
from vtd_jax.model.saved.release_names import (
    class_buffers,
    from_release,
    frozen_name,
    is_buffer,
    release_settings,
    to_release,
)
from vtd_jax.model.vtd_clip import VTDCLIP, learnable
from vtd_jax.outputs import check_suffix
from vtd_jax.printable import listed

_SOURCES = (
    "Expected what the authors' training script writes: torch.save({'model': model.state_dict(), "
    "…}, FILE)"
)
_MODULE = "module."
# how far a stored CLIP tensor may be from the original, relative to its largest entry: twice the
# rounding of the 16-bit dtypes; other dtypes are as exact as float32
_CLOSE = {"f2": 1e-3, "bfloat16": 1e-2}
_CLOSE_ELSE = 1e-6


def load_release(model: VTDCLIP, path: Path) -> bool:
    """Puts what the authors' code learnt into a model of the same CLIP and settings.

    Args:
      model: changed in place.
      path: a `.pth`: a state dict under `model` (or bare), its names with or without `module.`;
        whatever lies beside it (optimizer, scheduler, settings) is passed over. The frozen CLIP may
        be in it.

    Returns:
      Whether the frozen CLIP was in the file, and so was compared with the model's.

    Raises:
      UserError: another CLIP or other settings, missing, surplus, misshapen or not finite tensors,
        no such file or a damaged one.
    """
    where = str(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected a .pth file")
    with contextlib.ExitStack() as stack:
        tensors = open_weights(path, stack, skip_foreign=True, sources=_SOURCES).tensors
        if is_clip(tensors):
            raise UserError(
                f"{path}: a CLIP itself, nothing that was learnt on one: give it as "
                f"{setting('clip.path')}, or to {function('load')}"
            )
        if all(name.startswith(_MODULE) for name in tensors):
            tensors = {name.removeprefix(_MODULE): tensor for name, tensor in tensors.items()}
        expected = to_release(learnable(model))
        frozen = _frozen(model)
        here = {name: tensor for name, tensor in tensors.items() if name in frozen}
        _check_shapes(frozen, here, where)
        learnt = {
            name: tensor
            for name, tensor in tensors.items()
            if name not in frozen and not is_buffer(name)
        }
        if "logit_scale" in learnt:
            # without one it is no model of ours, so naming settings would mislead
            _check_settings(expected, learnt, where)
        check_tensor_names(expected, learnt, where, "that VTD-CLIP learns")
        _check_values(frozen, here, where)
        arrays = {
            name: check_finite(tensor.read(), f"{where}: tensor {name}")
            for name, tensor in learnt.items()
        }
    check_logit_scale(arrays["logit_scale"], where, LOGIT_SCALE_OVERFLOW)
    nnx.update(model, from_release(learnable(model), arrays, where))
    return bool(here)


def save_release(
    path: Path,
    model: VTDCLIP,
    *,
    with_clip: bool = False,
    class_names: Sequence[str] = (),
) -> int:
    """Writes what was learnt as the authors' code does: `{"model": state dict}`, PyTorch's layouts,
    float32, names after `module.`, since their script saves a model wrapped for parallel training.

    Args:
      path: ends in `.pth`; written whole or not at all.
      model: the tuned model.
      with_clip: whether the frozen CLIP is written as well, and the embeddings of the class names,
        so that the state dict is whole.
      class_names: needed with `with_clip`.

    Returns:
      How many tensors were written.

    Raises:
      UserError: another suffix, a model with templates, no class names where they are needed, or
        the file cannot be written.
    """
    check_suffix(path, ".pth")
    if templates := model.config.templates:
        raise UserError(
            f"{path}: the authors' format has one text a class, this model averages "
            f"{len(templates)} (model.templates); export it as .safetensors"
        )
    if with_clip and not class_names:
        raise UserError(
            f"{path}: with the CLIP go the embeddings of the class names, and these are not known"
        )
    named = to_release(learnable(model))
    if with_clip:
        prompts, table = model.config.text_prompts, model.clip.text.token_embedding[...]
        tokens = class_tokens(class_names, prompts)
        named |= class_buffers(tokens, np.asarray(table), prompts) | _frozen(model)
    write_torch_archive(path, {_MODULE + name: array for name, array in named.items()})
    return len(named)


def _frozen(model: VTDCLIP) -> dict[str, np.ndarray]:
    """The frozen CLIP by the release's names."""
    return {
        release: array
        for name, array in state_from_clip(model.clip).items()
        if (release := frozen_name(name)) is not None
    }


def _check_shapes(
    frozen: Mapping[str, np.ndarray], here: Mapping[str, LazyTensor], where: str
) -> None:
    for name, tensor in here.items():
        if tensor.shape != frozen[name].shape:
            raise UserError(
                f"{where}: was learnt on another CLIP: {name} is {tensor.shape} there, "
                f"{frozen[name].shape} in the one given; give that one"
            )


def _check_values(
    frozen: Mapping[str, np.ndarray], here: Mapping[str, LazyTensor], where: str
) -> None:
    """Raises at the first tensor that differs by more than the rounding of its stored dtype."""
    for name, tensor in here.items():
        ours = frozen[name]
        theirs = check_finite(tensor.read(), f"{where}: tensor {name}")
        largest = max(float(np.abs(ours).max(initial=0)), 1e-30)
        apart = float(np.abs(ours - theirs).max(initial=0)) / largest
        if apart > _CLOSE.get(tensor.dtype, _CLOSE_ELSE):
            raise UserError(
                f"{where}: was learnt on another CLIP: {name} differs from the one given by "
                f"{apart:.1e} of its largest entry; give that one (one whose own weights were "
                "trained as well is not supported)"
            )


def _check_settings(
    expected: Mapping[str, np.ndarray], learnt: Mapping[str, LazyTensor], where: str
) -> None:
    """Raises where names and shapes imply other settings than the model's; names the fields."""
    ours = release_settings({name: array.shape for name, array in expected.items()})
    theirs = release_settings({name: tensor.shape for name, tensor in learnt.items()})
    wrong = [
        f"{setting(f'model.{key}', theirs[key])} (here {ours[key]})"
        for key in ours
        if ours[key] != theirs[key]
    ]
    if wrong:
        raise UserError(f"{where}: was learnt with other settings, give {', '.join(wrong)}")


def check_tensor_names(
    expected: Collection[str], given: Mapping[str, LazyTensor], where: str, whose: str
) -> None:
    """Refuses a file whose tensors have other names.

    Args:
      expected: names of all tensors that must be there.
      given: those that are.
      where: the file, for messages.
      whose: what the tensors are, as "of a ViFi-CLIP".

    Raises:
      UserError: names that are missing or surplus.
    """
    problems = {
        "missing": [name for name in expected if name not in given],
        "surplus": [name for name in given if name not in expected],
    }
    if any(problems.values()):
        lists = [f"{kind}: {listed(names, 4)}" for kind, names in problems.items() if names]
        raise UserError(f"{where}: not the tensors {whose}; {'; '.join(lists)}")
