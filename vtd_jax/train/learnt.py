"""Loads learnt parameters, their settings and class names, from a checkpoint or a file."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from vtd_jax.errors import UserError, function, setting
from vtd_jax.model.saved.fingerprint import are_weights, weights_fingerprint
from vtd_jax.model.saved.release_files import load_release
from vtd_jax.model.saved.tuned import ClipReference, TunedInfo, fill_tuned, frozen, read_tuned
from vtd_jax.model.vtd_clip import VTDCLIP, learnable
from vtd_jax.parallel.processes import is_first
from vtd_jax.terminal import warn
from vtd_jax.train.checkpoints.stored_checkpoints import (
    StoredCheckpoints,
    names_fingerprint,
    same_names,
)
from vtd_jax.train.config import CONFIG_FILE, RunConfig
from vtd_jax.train.resume import same_settings, settings_fingerprint
from vtd_jax.train.workdir import config_file
from vtd_jax.untrusted.json_text import convert
from vtd_jax.video.records import names_of_classes


def load_learnt(model: VTDCLIP, workdir: Path, which: str = "last") -> int:
    """Loads a run's learnt parameters into a model of the same CLIP and settings.

    Args:
      model: changed in place.
      workdir: of the run.
      which: "last", "best" or a step.

    Returns:
      The checkpoint's step.

    Raises:
      UserError: there is no such checkpoint, or it is of other CLIP weights or settings.
    """
    checkpoints = StoredCheckpoints(workdir)
    step = checkpoints.choose(which)
    noted = checkpoints.identity(step)
    settings = noted.get("clip_settings")
    if not are_weights(noted["clip"], frozen(model)):
        raise UserError(
            f"{checkpoints.folder / str(step)}: was learnt on another CLIP (weights "
            f"{noted['clip']}, here {weights_fingerprint(frozen(model))})"
        )
    # earlier versions note nothing of it, and have the release's way only
    theirs = "clip" if settings and ", preprocess=clip" in settings else "release"
    if theirs != model.preprocess:
        raise UserError(
            f"{checkpoints.folder / str(step)}: was learnt on frames of preprocess={theirs}, here "
            f"it is {model.preprocess}; set {setting('data.preprocess', theirs)}"
        )
    if settings not in (None, model.clip_settings):
        raise UserError(
            f"{checkpoints.folder / str(step)}: was learnt on a CLIP with {settings}; here it has "
            f"{model.clip_settings}"
        )
    nnx.update(model, jax.tree.map(jnp.asarray, checkpoints.learnable(step, learnable(model))))
    _check_settings(checkpoints, step)
    return step


def _check_settings(checkpoints: StoredCheckpoints, step: int) -> None:
    """Warns if the config.json beside a checkpoint has other settings; old ones have no record."""
    file, noted = checkpoints.workdir / CONFIG_FILE, checkpoints.progress(step).get("settings")
    if noted is None or not is_first():
        return
    # an unreadable file is reported by the code that needs its settings
    with contextlib.suppress(UserError):
        if not same_settings(noted, settings_fingerprint(config_file(file))):
            warn(f"{file}: differs from the settings of the checkpoint of step {step}")


def learnt_on(workdir: Path, step: int, noted: Mapping[str, str]) -> Mapping[str, str]:
    """`origin` and `told` of the list that a run's checkpoint learnt on.

    Args:
      workdir: of the run.
      step: of the checkpoint.
      noted: the workdir's training_list.json, used for checkpoints of earlier versions, which lack
        the list.

    Raises:
      UserError: the checkpoint is damaged.
    """
    checkpoints = StoredCheckpoints(workdir)
    sealed = checkpoints.progress(step).get("learnt_on", dict(noted))
    sealed = convert(sealed, f"{checkpoints.folder / str(step)}: learnt_on", dict[str, str])
    if sealed != noted and is_first():
        warn(
            f"{Path(workdir) / 'training_list.json'}: {'wrong' if noted else 'missing'}; tables "
            f"will name the list in the checkpoint of step {step}: {sealed.get('told')}"
        )
    return sealed


class Learnt(NamedTuple):
    """Where a file's parameters come from.

    Attributes:
      description: of the file and its contents, for tables.
      step: micro-batches of training; None if unknown.
      class_names: of the training; () if unknown.
      learnt_on: `origin` and `told` of the training list.
    """

    description: str
    step: int | None
    class_names: tuple[str, ...]
    learnt_on: Mapping[str, str]


def checkpoint_file(which: str) -> Path | None:
    """The file that the setting `checkpoint` names; None for "last", "best" or a step.

    Raises:
      UserError: a file of another kind.
    """
    path = Path(which)
    if not path.suffix and path.name == which:
        return None
    if path.suffix not in (".safetensors", ".pth"):
        raise UserError(
            f"{setting('checkpoint', which)}: expected last, best, a step, or a file: .safetensors "
            f"(from {function('save_tuned')}) or .pth (from the authors' code); a run's folder is "
            f"{setting('workdir')}"
        )
    return path


def load_file(model: VTDCLIP, path: Path) -> Learnt:
    """Loads an exported file or a `.pth` of the authors into a model of the same CLIP and settings.

    Raises:
      UserError: no such file, a damaged one, another CLIP or other settings.
    """
    if path.suffix == ".pth":
        compared = load_release(model, path)
        clip = "its CLIP is the one used" if compared else "without a CLIP to compare"
        unknown = {"told": f"not known, {path.name} does not say"}
        return Learnt(f"{path} (the authors' format, {clip})", None, (), unknown)
    info = read_tuned(path)
    fill_tuned(model, path, info)
    return Learnt(f"{path} ({info.origin})", info.step, info.class_names, info.learnt_on)


def learnt_names(config: RunConfig, workdir: Path, step: int) -> tuple[str, ...]:
    """The class names of a run's checkpoint, in their order, from the training records.

    Raises:
      UserError: the records are missing, or have other names now.
    """
    names = names_of_classes(config.data.data_dir, config.data.train)
    checkpoints = StoredCheckpoints(workdir)
    noted = checkpoints.identity(step)["names"]
    if not same_names(noted, names_fingerprint(names)):
        raise UserError(
            f"{checkpoints.folder / str(step)}: was learnt on other class names than "
            f"data.train={config.data.train} of {config.data.data_dir} has now"
        )
    return names


def exported_config(info: TunedInfo, path: str | os.PathLike = "") -> RunConfig:
    """The settings of the run of an exported file; `path` is the file's, for messages.

    Raises:
      UserError: unknown fields, or invalid values.
    """
    settings = dict(info.settings)
    if isinstance(memory := settings.get("memory"), Mapping):
        # a field of earlier versions; no result of an exported file depends on it
        settings["memory"] = {key: memory[key] for key in memory if key != "microbatches"}
    try:
        return RunConfig.from_saved(settings)
    except UserError as error:
        raise UserError(f"{path}: its settings: {error}" if path else str(error)) from None


def describe(
    model: VTDCLIP,
    config: RunConfig,
    *,
    step: int | None,
    class_names: Sequence[str],
    learnt_on: Mapping[str, str],
) -> TunedInfo:
    """The description in an exported file of this model; arguments are fields of `TunedInfo`."""
    clip = ClipReference(
        architecture=model.clip.config.architecture,
        weights=weights_fingerprint(frozen(model)),
        resolution=model.clip.config.image_resolution,
        dtype=config.clip.dtype,
        path=config.clip.path,
        settings=model.clip_settings,
        activation=config.clip.activation,
        head_width=config.clip.head_width,
    )
    return TunedInfo(
        model=model.config,
        clip=clip,
        frames=config.data.frames,
        class_names=tuple(class_names),
        run=config.name,
        fingerprint=config.fingerprint,
        step=step,
        learnt_on=dict(learnt_on),
        settings=config.to_dict(),
        preprocess=model.preprocess,
    )
