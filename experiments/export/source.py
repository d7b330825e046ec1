"""Sources of `experiments.export`: a run, a file or a CLIP, and the metadata of a .served."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flax import nnx

from experiments.common import config_flag, program
from experiments.common.word_flags import given_words
from vtd_jax.clip.hub.names import is_name
from vtd_jax.clip.weights.checkpoints import holds_clip, load_clip
from vtd_jax.clip.weights.safetensors_files import safetensors_metadata
from vtd_jax.errors import UserError
from vtd_jax.locks import locked_outputs
from vtd_jax.model.saved.fingerprint import weights_fingerprint
from vtd_jax.model.saved.tuned import METADATA_KEY, save_tuned
from vtd_jax.model.saved.tuned import SUFFIX as SUFFIX_OF_TUNED
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.predict.loading import ZERO_SHOT, ZERO_SHOT_FRAMES, ZERO_SHOT_PREPROCESS
from vtd_jax.predict.serve import SUFFIX, check_served, write_served
from vtd_jax.terminal import counted, warn
from vtd_jax.train import from_config
from vtd_jax.train.config import RunConfig
from vtd_jax.train.learnt import (
    Learnt,
    checkpoint_file,
    describe,
    learnt_names,
    learnt_on,
    load_file,
    load_learnt,
)
from vtd_jax.train.workdir import read_training_list
from vtd_jax.untrusted.regular_files import open_regular


class Source(NamedTuple):
    """A model to serve, its number of frames, its labels, and its metadata."""

    model: VTDCLIP
    frames: int
    class_names: tuple[str, ...]
    about: Mapping[str, Any]


class Wanted(NamedTuple):
    """The folder to write; labels and frames that are None come from the source."""

    out: Path
    labels: tuple[str, ...] | None
    frames: int | None
    platforms: tuple[str, ...]


def is_clip(source: str) -> bool:
    """Whether `--checkpoint` names a plain CLIP, not a run's checkpoint or a tuned model."""
    if is_name(source):
        return True
    path = Path(source)
    if source in ("last", "best") or source.isdigit():
        return False
    if path.suffix == ".pth":
        try:
            return path.is_file() and holds_clip(path)
        except UserError:
            return False
    if path.suffix == ".safetensors" and path.is_file():
        try:
            return METADATA_KEY not in safetensors_metadata(path)
        except UserError:
            return False
    return source == "tiny" or path.suffix in (".pt", ".bin") or path.is_dir()


def is_exported(path: Path) -> bool:
    """Whether `experiments.export` wrote this file; any .pth counts, as it has no mark."""
    if path.suffix != SUFFIX_OF_TUNED:
        return path.suffix == ".pth"
    try:
        with open_regular(path) as file:
            # safetensors begin with their metadata
            return METADATA_KEY.encode() in file.read(2**16)
    except (OSError, UserError):
        return False


def use_saved() -> None:
    """As `config_flag.use_saved`, except for a CLIP, which has no settings."""
    serves = Path(config_flag.argument("out") or "").suffix == SUFFIX
    if not serves or not is_clip(config_flag.argument("checkpoint") or "last"):
        config_flag.use_saved()


def wanted(out: Path, labels: str | None, frames: int | None, platforms: Sequence[str]) -> Wanted:
    """The flags of a .served, checked before anything is read.

    Raises:
      UserError: names the bad flag and what was expected.
    """
    check_served(out, 1 if frames is None else frames, platforms)
    return Wanted(out, given_words(labels, "--labels"), frames, tuple(platforms))


def zero_shot(
    checkpoint: str, workdir: str | None, config: RunConfig | None, preprocess: str | None = None
) -> Source | None:
    """A plain CLIP, if `--checkpoint` or a `--config` that trains nothing names one.

    A config has its own preprocessing.

    Raises:
      UserError: a CLIP with a run, or with settings that would not be used.
    """
    if is_clip(checkpoint):
        if workdir is not None or config is not None:
            raise UserError(
                f"--checkpoint={checkpoint}: is a CLIP, served as it is; leave --workdir and "
                f"--config out (with settings: --config={program.config('zero_shot:…')} "
                "--config.clip.path=CLIP, and no --checkpoint)"
            )
        preprocess = preprocess or ZERO_SHOT_PREPROCESS
        clip = load_clip(checkpoint)
        model = VTDCLIP(clip, ZERO_SHOT, rngs=nnx.Rngs(0), preprocess=preprocess)
        about = {"source": f"{checkpoint}, zero-shot"} | _fingerprint(model)
        return Source(model, ZERO_SHOT_FRAMES, (), about)
    if preprocess is not None or workdir is not None or checkpoint != "last":
        return None
    if config is not None and not config.data.train:
        return configured(config, from_config.build_model(config), None)
    return None


def load(model: VTDCLIP, config: RunConfig, source: Path, which: str) -> Learnt:
    """Loads trained parameters into the model; returns where they are from.

    Args:
      model: of the config, changed in place.
      config: a run's.
      source: a tuned file, or the workdir of a run.
      which: "last", "best" or a step, of a workdir.
    """
    if checkpoint_file(which) is not None:
        return load_file(model, source)
    step, names = load_learnt(model, source, which), ()
    try:
        names = learnt_names(config, source, step)
    except UserError as error:
        warn(f"the class names are not known: {error}")
    training = learnt_on(source, step, read_training_list(source))
    return Learnt(f"step {step} of {source}", step, names, training)


def configured(config: RunConfig, model: VTDCLIP, learnt: Learnt | None) -> Source:
    """A model that a config built, to serve; `learnt` is None if it is not trained."""
    about: dict[str, Any] = {
        "source": f"zero-shot, {config.name}" if learnt is None else learnt.description,
        "run": config.name,
        "settings": config.fingerprint,
        "step": None if learnt is None else learnt.step,
        "learnt_on": {} if learnt is None else dict(learnt.learnt_on),
    }
    names = () if learnt is None else learnt.class_names
    return Source(model, config.data.frames, names, about | _fingerprint(model))


def write(wanted: Wanted, source: Source) -> str:
    """Writes the folder; returns the command's closing line.

    Raises:
      UserError: no labels are known, or as for `write_served`.
    """
    out, labels = wanted.out, source.class_names if wanted.labels is None else wanted.labels
    if not labels:
        raise UserError(
            "--labels is needed: the names of the training classes are not known; e.g. "
            "--labels='hugging,dancing'"
        )
    frames = source.frames if wanted.frames is None else wanted.frames
    with locked_outputs([("--out", out, False)]):
        served = write_served(
            out, source.model, labels, frames, about=source.about, platforms=wanted.platforms
        )
    holds = f"{counted(len(labels), 'label')}, {counted(frames, 'frame')}"
    size, side = sum(file.stat().st_size for file in out.iterdir()) / 1e6, served["size"]
    way = served["preprocessing"]["preprocess"]
    return (
        f"wrote {out}: {source.about['source']}, {holds} of {side}×{side}, preprocess={way}, "
        f"for {', '.join(served['platforms'])}, {size:.1f} MB; "
        f"try it: python {out}/predict.py VIDEO"
    )


def write_tuned(out: Path, model: VTDCLIP, config: RunConfig, learnt: Learnt) -> str:
    """Writes a .safetensors of what was learnt; returns what it holds."""
    names, training = learnt.class_names, dict(learnt.learnt_on)
    about = describe(model, config, step=learnt.step, class_names=names, learnt_on=training)
    save_tuned(out, model, about)
    classes = counted(len(about.class_names), "class", "classes")
    return f"{about.clip.architecture} (weights {about.clip.weights}) is its CLIP, {classes}"


def note_preprocess(out: Path, model: VTDCLIP) -> None:
    """Warns that the authors' format does not say that frames were prepared as CLIP's images."""
    if model.preprocess != "release":
        warn(
            f"{out}: was learnt with preprocess={model.preprocess}, which this format does not "
            f"say: give --config.data.preprocess={model.preprocess} "
            f"--config.model.normalization={model.config.normalization} where it is evaluated; the "
            "authors' code prepares frames in another way"
        )


def _fingerprint(model: VTDCLIP) -> dict[str, str]:
    """The fingerprint of the CLIP, for the metadata."""
    return {"clip_weights": weights_fingerprint(nnx.state(model, nnx.Not(nnx.Param)))}
