"""From a config to the things a run works on: model and records, checked against each other."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vtd_jax.clip.compute import Compute
from vtd_jax.clip.weights.checkpoints import load_clip
from vtd_jax.errors import UserError
from vtd_jax.model.saved.fingerprint import weights_fingerprint
from vtd_jax.model.saved.release_files import load_release
from vtd_jax.model.saved.tuned import fill_tuned, read_tuned
from vtd_jax.model.vtd_clip import VTDCLIP, learnable
from vtd_jax.parallel.processes import is_first
from vtd_jax.terminal import counted, warn
from vtd_jax.train.checkpoints.checkpoint import Checkpoints, names_fingerprint
from vtd_jax.train.config import RunConfig
from vtd_jax.train.resume import settings_fingerprint
from vtd_jax.train.workdir import CONFIG_FILE, config_file
from vtd_jax.untrusted.json_text import convert
from vtd_jax.video.records import Records, open_records


def build_model(config: RunConfig) -> VTDCLIP:
    """The model at its start: CLIP from its checkpoint, what is learnable from the seed.

    Raises:
      UserError: no checkpoint given, an unreadable one, or one of another architecture than the
        config's.
    """
    if not config.clip.path:
        raise UserError(
            "clip.path: empty; give a CLIP checkpoint with --config.clip.path=FILE (OpenAI's "
            ".pt, a Hugging Face or open_clip file or folder, or what experiments.convert "
            "wrote), or 'tiny' for the small one that ships"
        )
    source = config.clip
    clip = load_clip(
        source.path,
        dtype=source.dtype,
        expected=source.architecture,
        layers=config.memory.layers,
        **source.asked,
    )
    compute = Compute(remat=config.memory.remat, frame_chunks=config.memory.frame_chunks)
    return VTDCLIP(clip, config.model, rngs=nnx.Rngs(config.seed), compute=compute)


def open_training(config: RunConfig) -> Records:
    """The training records.

    Raises:
      UserError: the config learns nothing, or there are no such records.
    """
    if not config.data.train:
        raise UserError(
            f"data.train: empty, {config.name} learns nothing; use experiments.evaluate, or set "
            "data.train"
        )
    return open_records(config.data.data_dir, config.data.train)


def open_splits(config: RunConfig) -> dict[str, Records]:
    """The records to evaluate, split by split."""
    return {
        split: open_records(config.data.data_dir, name)
        for split, name in config.data.evaluate.items()
    }


def load_learnt(model: VTDCLIP, workdir: Path, which: str = "last") -> int:
    """Puts what a run learnt into a model of the same CLIP and settings.

    Args:
      model: changed in place.
      workdir: of the run.
      which: "last", "best" or a step.

    Returns:
      The checkpoint's step.

    Raises:
      UserError: there is no such checkpoint, or it was learnt on other CLIP weights or with other
        settings.
    """
    checkpoints = Checkpoints(workdir)
    step = checkpoints.choose(which)
    noted = checkpoints.identity(step)
    there, here = noted["clip"], weights_fingerprint(nnx.state(model, nnx.Not(nnx.Param)))
    settings = noted.get("clip_settings", model.clip_settings)
    if there == here and settings != model.clip_settings:
        raise UserError(
            f"{checkpoints.folder / str(step)}: was learnt on a CLIP with {settings}; here it has "
            f"{model.clip_settings}"
        )
    if there != here:
        raise UserError(
            f"{checkpoints.folder / str(step)}: was learnt on another CLIP (weights {there}, here "
            f"{here})"
        )
    nnx.update(model, jax.tree.map(jnp.asarray, checkpoints.learnable(step, learnable(model))))
    _check_settings(checkpoints, step)
    checkpoints.close()
    return step


def _check_settings(checkpoints: Checkpoints, step: int) -> None:
    """Warns where the config.json beside a checkpoint is of other settings; old checkpoints do not
    tell theirs.
    """
    file, noted = checkpoints.workdir / CONFIG_FILE, checkpoints.progress(step).get("settings")
    if noted is None or not is_first():
        return
    # whoever needs the settings reads the file, and says what is wrong with it
    with contextlib.suppress(UserError):
        if noted != settings_fingerprint(config_file(file)):
            warn(f"{file} is not what the checkpoint of step {step} was trained with")


def learnt_on(workdir: Path, step: int, noted: Mapping[str, str]) -> Mapping[str, str]:
    """`origin` and `told` of the list that a run's checkpoint learnt on: the checkpoint's word,
    where it has it sealed.

    Checkpoints of earlier versions do not: what the workdir's training_list.json `noted` is all
    that is known.

    Raises:
      UserError: the checkpoint is damaged.
    """
    checkpoints = Checkpoints(workdir)
    sealed = checkpoints.progress(step).get("learnt_on", dict(noted))
    checkpoints.close()
    sealed = convert(sealed, f"{checkpoints.folder / str(step)}: learnt_on", dict[str, str])
    if sealed != noted and is_first():
        told = f"the checkpoint of step {step} learnt on: {sealed.get('told')}; tables say that"
        warn(
            f"{Path(workdir) / 'training_list.json'} "
            f"{'does not say what' if noted else 'is missing;'} {told}"
        )
    return sealed


class Learnt(NamedTuple):
    """Where a file's parameters come from.

    Attributes:
      told: the file, and what it says of itself, for tables.
      step: micro-batches learnt; None where the file does not say.
      class_names: that were learnt on; () where it does not say.
      learnt_on: `origin` and `told` of the training list.
    """

    told: str
    step: int | None
    class_names: tuple[str, ...]
    learnt_on: Mapping[str, str]


def checkpoint_file(which: str) -> Path | None:
    """The file that `--checkpoint` names; None where it is "last", "best" or a step.

    Raises:
      UserError: a file of another kind.
    """
    path = Path(which)
    if not path.suffix:
        return None
    if path.suffix not in (".safetensors", ".pth"):
        raise UserError(
            f"--checkpoint={which}: expected last, best, a step, or a file: .safetensors "
            "(experiments.export wrote it) or .pth (of the authors' code)"
        )
    return path


def load_file(model: VTDCLIP, path: Path) -> Learnt:
    """Puts an exported file's parameters, or those of an authors' `.pth`, into a model of the same
    CLIP and settings.

    Raises:
      UserError: no such file, a damaged one, another CLIP or other settings.
    """
    if path.suffix == ".pth":
        compared = load_release(model, path)
        clip = "its CLIP is the one used" if compared else "without a CLIP to compare"
        return Learnt(
            f"{path} (the authors' format, {clip})",
            None,
            (),
            {"told": f"not known, {path.name} does not say"},
        )
    info = read_tuned(path)
    fill_tuned(model, path, info)
    return Learnt(f"{path} ({info.told})", info.step, info.class_names, info.learnt_on)


def learnt_names(config: RunConfig, workdir: Path, step: int) -> tuple[str, ...]:
    """The class names that a run's checkpoint was learnt on, in their order, from the records.

    Raises:
      UserError: the training records are not there, or have other names by now.
    """
    names = tuple(open_training(config).class_names)
    checkpoints = Checkpoints(workdir)
    noted = checkpoints.identity(step)["names"]
    checkpoints.close()
    if noted != names_fingerprint(names):
        raise UserError(
            f"{checkpoints.folder / str(step)}: was learnt on other class names than "
            f"data.train={config.data.train} of {config.data.data_dir} has now"
        )
    return names


def shared_videos(training: Records, splits: Mapping[str, Records]) -> list[str]:
    """A line for every split that is evaluated on videos learnt from."""
    lines = []
    for split, records in splits.items():
        same = np.intersect1d(training.stored.records, records.stored.records).size
        if training.path == records.path and same:
            verb = "is" if same == 1 else "are"
            of = counted(len(records), "video")
            lines.append(
                f"{same} of the {of} of split {split} ({records.name}) {verb} learnt from as well"
            )
    return lines


def check_splits(
    config: RunConfig, training: Records | None, splits: Mapping[str, Records]
) -> None:
    """Refuses class names that make the protocol's numbers meaningless.

    Raises:
      UserError: a novel class is a base class too, or a split that is evaluated on the classes
        learnt has others.
    """
    if config.protocol == "base_to_novel":
        both = sorted(set(splits["base"].class_names) & set(splits["novel"].class_names))
        if both:
            raise UserError(
                f"data.evaluate.novel={config.data.evaluate['novel']}: {len(both)} of its classes "
                f"are base classes too ({', '.join(both[:3])}); novel names must be names that "
                "were not learnt"
            )
    if training is None or config.protocol == "zero_shot":
        return
    for split, records in splits.items():
        if split != "novel" and tuple(records.class_names) != tuple(training.class_names):
            raise UserError(
                f"data.evaluate.{split}={config.data.evaluate[split]}: its class names are not "
                f"those of data.train={config.data.train}; build both lists with the same --labels"
            )
