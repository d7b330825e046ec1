"""Reads checkpoints of other methods: told by their tensors, and used whole or refused by name.

settings = read_settings("vifi.pth", "vifi")
model = VTDCLIP(load_clip("ViT-B/16"), settings, rngs=nnx.Rngs(0))
load_rival(model, "vifi.pth", "vifi")
"""

import contextlib
import os
from pathlib import Path

from vtd_jax.clip.weights.files import open_weights
from vtd_jax.clip.weights.foreign import is_clip
from vtd_jax.clip.weights.lazy import LazyTensor
from vtd_jax.errors import UserError, function, setting
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.saved.release_names import is_buffer
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.rivals import vifi
from vtd_jax.rivals.kinds import RIVALS, WRAPPER, Rival, recognised, refusal
from vtd_jax.terminal import counted

# what PySlowFast's checkpoints, those of Open-VCLIP and FROSTER, call their state dict
_ALSO = ("model_state",)


def read_settings(path: str | os.PathLike, name: str) -> ModelConfig:
    """The settings that the model of a rival's file needs; no tensor is read.

    Args:
      path: what its authors' script wrote, a PyTorch archive.
      name: which rival it is, one of `kinds.COMPUTED`.

    Raises:
      UserError: no such file, a damaged one, or one of another method, by its name.
    """
    with contextlib.ExitStack() as stack:
        return _settings(_open(Path(path), name, stack), str(path))


def load_rival(model: VTDCLIP, path: str | os.PathLike, name: str) -> str:
    """Puts a rival's checkpoint into a model, in place: every tensor of the file is used, is an
    embedded class name, which the model makes anew, or ends in an error.

    Args:
      model: made with `read_settings`, on the CLIP that the rival was tuned from; its frames are
        scaled with `preprocess="release"`.
      path, name: as for `read_settings`.

    Returns:
      What was loaded, for tables.

    Raises:
      UserError: as `read_settings`; or another CLIP, other settings, missing, surplus, misshapen or
        not finite tensors.
    """
    where = str(path)
    with contextlib.ExitStack() as stack:
        tensors = _open(Path(path), name, stack)
        if model.config != _settings(tensors, where) or model.preprocess != "release":
            raise UserError(
                f"{where}: the model has other settings than the file; make it with those of "
                f"{function('read_settings')} and preprocess=release"
            )
        vifi.fill(model, tensors, where)
    return f"{where} ({_title(name)}, its authors' format: {_what(model.config)})"


def method_of(path: str | os.PathLike) -> Rival | None:
    """The method whose file this is, by the names of its tensors; None if none is known, or the
    file cannot be read.
    """
    with contextlib.suppress(UserError), contextlib.ExitStack() as stack:
        return recognised(_tensors(Path(path), stack, ""))
    return None


def _tensors(path: Path, stack: contextlib.ExitStack, sources: str) -> dict[str, LazyTensor]:
    tensors = open_weights(path, stack, skip_foreign=True, sources=sources, also=_ALSO).tensors
    if all(tensor.startswith(WRAPPER) for tensor in tensors):
        tensors = {each.removeprefix(WRAPPER): tensor for each, tensor in tensors.items()}
    return tensors


def _title(name: str) -> str:
    return next(one.title for one in RIVALS if one.name == name)


def _what(config: ModelConfig) -> str:
    prompts = [
        counted(count * depth, f"learnt {tower} token")
        for tower, count, depth in (
            ("text", config.text_prompts, config.text_depth),
            ("visual", config.visual_prompts, config.visual_depth),
        )
        if count
    ]
    texts = [f"texts {template!r}" for template in config.templates]
    return ", ".join(["CLIP tuned whole", "mean of frame features", *texts, *prompts])


def _settings(tensors: dict[str, LazyTensor], where: str) -> ModelConfig:
    shapes = {name: tensor.shape for name, tensor in tensors.items() if not is_buffer(name)}
    try:
        return vifi.settings(shapes)
    except UserError as error:
        raise UserError(f"{where}: its prompts: {error}") from None


def _open(path: Path, name: str, stack: contextlib.ExitStack) -> dict[str, LazyTensor]:
    """The tensors of a file of this rival, without `module.`; any other is refused by name."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected a .pth file")
    sources = f"Expected a checkpoint of {_title(name)} as its authors publish it"
    tensors = _tensors(path, stack, sources)
    found = recognised(tensors)
    if found is None and is_clip(tensors):
        raise UserError(
            f"{path}: a CLIP itself, nothing that was tuned on videos by {_title(name)}; give it "
            f"as {setting('clip.path')}"
        )
    if found is None:
        raise UserError(f"{path}: no method that is known here. {sources}")
    if found.lacking:
        raise UserError(f"{path}: is of {refusal(found)}")
    if found.name != name:
        raise UserError(
            f"{path}: is of {found.title}, not of {_title(name)}; its name here is {found.name}"
        )
    return tensors
