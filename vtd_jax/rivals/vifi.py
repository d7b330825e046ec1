"""ViFi-CLIP (arXiv 2212.03640): a CLIP tuned whole, and prompts that were learnt on one.

`logits = exp(logit_scale) · cos(mean over frames of raw frame features, text feature)`, on frames
that are scaled and normalised as VTD-CLIP's release does, which descends from ViFi-CLIP. The text
is "a photo of a NAME.", or NAME behind learnt tokens. Its files hold both towers and the logit
scale, but not CLIP's token embeddings, which it never tunes: these stay those of the CLIP given.
Its authors compute in half precision, which is not imitated.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.tokenizer import SOT
from vtd_jax.clip.weights.lazy import LazyTensor
from vtd_jax.clip.weights.params import LOGIT_SCALE_OVERFLOW, check_logit_scale, fill_clip
from vtd_jax.clip.weights.tensor_names import tensor_shapes
from vtd_jax.errors import UserError, setting
from vtd_jax.finite import check_finite
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.saved.release_files import check_tensor_names
from vtd_jax.model.saved.release_names import (
    from_release,
    frozen_name,
    is_buffer,
    release_settings,
    to_release,
)
from vtd_jax.model.vtd_clip import VTDCLIP, learnable

TEMPLATE = "a photo of a {}."
_TABLE, _SCALE = "token_embedding.weight", "logit_scale"
# stored class names are token embeddings in half precision
_CLOSE = 2e-3


def settings(shapes: Mapping[str, tuple[int, ...]]) -> ModelConfig:
    """The model of a file whose tensors, without buffers, have these names and shapes.

    Raises:
      UserError: prompts of no possible size.
    """
    sizes: dict[str, Any] = {**release_settings(shapes), "fusion": False}
    templates = () if sizes["text_prompts"] else (TEMPLATE,)
    return ModelConfig(
        **sizes, pooling="mean", normalization="imagenet", dropout=0.0, templates=templates
    )


def fill(model: VTDCLIP, tensors: Mapping[str, LazyTensor], where: str) -> None:
    """Puts the towers, prompts and logit scale of a file into a model, in place; all or nothing.

    Args:
      model: of `settings`, on the CLIP that the file was tuned from.
      tensors: all of the file, without `module.`.
      where: the file, for messages.

    Raises:
      UserError: another CLIP, or missing, surplus, misshapen or not finite tensors.
    """
    ours = {release: name for name in _frozen(model.clip.config) if (release := frozen_name(name))}
    learnt = to_release(learnable(model))
    given = {name: tensor for name, tensor in tensors.items() if not is_buffer(name)}
    _check_shapes(model.clip.config, learnt, given, where)
    check_tensor_names([*ours, *learnt], given, where, "of a ViFi-CLIP")
    table = np.asarray(model.clip.text.token_embedding[...])
    for name, tensor in tensors.items():
        if name not in given and not name.endswith(".num_batches_tracked"):
            _check_buffer(name, tensor, model, table, where)
    arrays = {
        name: check_finite(tensor.read(), f"{where}: tensor {name}")
        for name, tensor in given.items()
    }
    check_logit_scale(arrays[_SCALE], where, LOGIT_SCALE_OVERFLOW)
    state = {name: arrays[release] for release, name in ours.items()}
    fill_clip(model.clip, state | {_TABLE: table, _SCALE: arrays[_SCALE]})
    named = {name: arrays[name] for name in learnt}
    nnx.update(model, from_release(learnable(model), named, where))


def _frozen(config: CLIPConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of OpenAI's tensors that are in a file, by OpenAI's names."""
    shapes = tensor_shapes(config)
    return {name: shape for name, shape in shapes.items() if name not in (_TABLE, _SCALE)}


def _check_shapes(
    config: CLIPConfig,
    learnt: Mapping[str, np.ndarray],
    given: Mapping[str, LazyTensor],
    where: str,
) -> None:
    shapes = {frozen_name(name): shape for name, shape in _frozen(config).items()}
    for name, tensor in given.items():
        if name in shapes and tensor.shape != shapes[name]:
            raise UserError(
                f"{where}: was tuned from another CLIP: {name} is {tensor.shape} there, "
                f"{shapes[name]} in a {config.architecture}; give that one as "
                f"{setting('clip.path')}"
            )
        if name in learnt and tensor.shape != learnt[name].shape:
            raise UserError(f"{where}: {name} is {tensor.shape}, expected {learnt[name].shape}")


def _check_buffer(
    name: str, tensor: LazyTensor, model: VTDCLIP, table: np.ndarray, where: str
) -> None:
    """Checks embedded class names, which are made anew for other names, but show whose table it
    was: the first position of a text is the start token.
    """
    config, prompts = model.clip.config, model.config.text_prompts
    lengths = {
        "prompt_learner.complete_text_embeddings": config.context_length,
        "prompt_learner.token_prefix": 1,
        "prompt_learner.token_suffix": config.context_length - 1 - prompts,
    }
    shape = (lengths[name], config.text_width)
    if len(tensor.shape) != 3 or tensor.shape[1:] != shape:
        raise UserError(f"{where}: {name} is {tensor.shape}, expected (classes, {shape[0]}, "
                        f"{shape[1]})")  # fmt: skip
    found = check_finite(tensor.read(), f"{where}: tensor {name}")
    if name.endswith("suffix") or not len(found) or len(table) <= SOT:
        return
    # a CLIP of a stranger's may have zeros there
    largest = float(np.abs(table[SOT]).max()) or 1.0
    apart = float(np.abs(found[:, 0] - table[SOT]).max()) / largest
    if apart > _CLOSE:
        raise UserError(
            f"{where}: was tuned from another CLIP: the start token in {name} differs from that of "
            f"the one given by {apart:.1e} of its largest entry; the file has no token embeddings "
            f"of its own, so give the CLIP that it was tuned from as {setting('clip.path')}"
        )
