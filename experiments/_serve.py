"""`experiments.export`: where a model comes from; the flags of a .served, and what its folder says of the model."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from flax import nnx
from safetensors import SafetensorError, safe_open

from experiments import _config
from vtd_jax.clip.checkpoints import load_clip
from vtd_jax.errors import UserError
from vtd_jax.evaluate.report import read_training_list
from vtd_jax.explain.serve import PLATFORMS, SUFFIX, check_labels, check_served, write_served
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.train import build
from vtd_jax.train.checkpoint import clip_fingerprint
from vtd_jax.train.config import RunConfig
from vtd_jax.train.export import METADATA_KEY

LABELS = flags.DEFINE_string(
    "labels", None, "of a .served: texts with commas between them, or a file with one a line; default: the names learnt"
)
FRAMES = flags.DEFINE_integer("frames", None, "of a .served: frames a video; default: the run's, 16 for a bare CLIP")
TARGETS = flags.DEFINE_list("platforms", list(PLATFORMS), "of a .served: what it can run on")
# CLIP as it is: bare labels, its own normalisation, the confidence as pooling
_ZERO_SHOT = ModelConfig(
    text_prompts=0, text_depth=0, visual_prompts=0, visual_depth=0, fusion=False, normalization="clip"
)
_ZERO_SHOT_FRAMES = 16


class Source(NamedTuple):
    """A model to serve: what was loaded, the frames and labels it goes with, and what to say of it."""

    model: VTDCLIP
    frames: int
    class_names: tuple[str, ...]
    about: Mapping[str, Any]


def is_clip(source: str) -> bool:
    """Whether `--checkpoint` names a CLIP, to be served as it is, and no checkpoint of a run nor a tuned model."""
    path = Path(source)
    if source in ("last", "best") or source.isdigit() or path.suffix == ".pth":
        return False
    if path.suffix == ".safetensors" and path.is_file():
        try:
            with safe_open(path, "numpy") as file:
                return METADATA_KEY not in (file.metadata() or {})
        except (SafetensorError, OSError, ValueError):
            return False
    return source == "tiny" or path.suffix in (".pt", ".bin") or path.is_dir()


def use_saved() -> None:
    """As `_config.use_saved`, but a CLIP has no settings to take."""
    serves = Path(_config.argument("out") or "").suffix == SUFFIX
    if not serves or not is_clip(_config.argument("checkpoint") or "last"):
        _config.use_saved()


def check_flags(out: Path) -> None:
    """Refuses flags that will not do, before anything is read.

    Raises:
      UserError: says which; of another `--out` than a .served, any flag that only a .served has.
    """
    if out.suffix == SUFFIX:
        check_served(out, 1 if FRAMES.value is None else FRAMES.value, TARGETS.value)
        if LABELS.value is not None:
            check_labels(read_words(LABELS.value, "--labels"))
        return
    for name in ("labels", "frames", "platforms"):
        if flags.FLAGS[name].present:
            raise UserError(f"--{name} is for --out=NAME{SUFFIX}, and --out={out} is a file of what was learnt")


def read_words(value: str, flag: str) -> tuple[str, ...]:
    """Labels of a flag: a file with one a line, or texts with commas between them."""
    path = Path(value)
    if path.is_file():
        try:
            words = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise UserError(f"{flag}={value}: is not UTF-8 text, expected one label a line") from None
    elif path.suffix in (".txt", ".csv") and "," not in value:
        raise UserError(f"{flag}={value}: no such file; expected one label a line, or labels with commas between them")
    else:
        words = value.split(",")
    return tuple(word.strip() for word in words if word.strip())


def zero_shot(checkpoint: str, workdir: str | None, config: RunConfig | None) -> Source | None:
    """A CLIP as it is, where the flags ask for one: `--checkpoint=CLIP`, or a `--config` that learns nothing.

    Raises:
      UserError: a CLIP and a run, or settings that would not be used.
    """
    if is_clip(checkpoint):
        if workdir is not None or config is not None:
            raise UserError(
                f"--checkpoint={checkpoint}: is a CLIP, served as it is; leave --workdir and --config out (with "
                "settings: --config=experiments/configs/zero_shot.py:… --config.clip.path=CLIP, and no --checkpoint)"
            )
        model = VTDCLIP(load_clip(checkpoint), _ZERO_SHOT, rngs=nnx.Rngs(0))
        return Source(model, _ZERO_SHOT_FRAMES, (), {"source": f"{checkpoint}, zero-shot"} | _fingerprint(model))
    if config is not None and workdir is None and checkpoint == "last" and not config.data.train:
        return configured(config, build.build_model(config), None)
    return None


def load(model: VTDCLIP, config: RunConfig, source: Path, which: str) -> build.Learnt:
    """Puts what was learnt into the model, and tells where it is from.

    Args:
      model: of the config, changed in place.
      config: a run's.
      source: a tuned file, or the workdir of a run.
      which: "last", "best" or a step, of a workdir.
    """
    if build.checkpoint_file(which) is not None:
        return build.load_file(model, source)
    step, names = build.load_learnt(model, source, which), ()
    try:
        names = build.learnt_names(config, source, step)
    except UserError as error:
        if LABELS.value is None:
            print(f"warning: the class names are not known: {error}", file=sys.stderr, flush=True)
    return build.Learnt(f"step {step} of {source}", step, names, read_training_list(source))


def configured(config: RunConfig, model: VTDCLIP, learnt: build.Learnt | None) -> Source:
    """A model that was built by a config, with what it learnt; None where nothing is learnt."""
    about: dict[str, Any] = {
        "source": f"zero-shot, {config.name}" if learnt is None else learnt.told,
        "run": config.name,
        "settings": config.fingerprint,
        "step": None if learnt is None else learnt.step,
        "learnt_on": {} if learnt is None else dict(learnt.learnt_on),
    }
    names = () if learnt is None else learnt.class_names
    return Source(model, config.data.frames, names, about | _fingerprint(model))


def write(out: Path, source: Source) -> str:
    """Writes the folder with the labels, frames and platforms of the flags; returns the command's closing line.

    Raises:
      UserError: no labels are known, or as for `write_served`.
    """
    labels = source.class_names if LABELS.value is None else read_words(LABELS.value, "--labels")
    if not labels:
        raise UserError("--labels is needed: the names that were learnt are not known; e.g. --labels='hugging,dancing'")
    frames = source.frames if FRAMES.value is None else FRAMES.value
    told = write_served(out, source.model, labels, frames, about=source.about, platforms=TARGETS.value)
    size, side = sum(file.stat().st_size for file in out.iterdir()) / 1e6, told["size"]
    return (
        f"wrote {out}: {source.about['source']}, {len(labels)} labels, {frames} frames of {side}×{side}, "
        f"for {', '.join(told['platforms'])}, {size:.1f} MB; try it: python {out}/predict.py VIDEO"
    )


def _fingerprint(model: VTDCLIP) -> dict[str, str]:
    """Which CLIP it is."""
    return {"clip_weights": clip_fingerprint(nnx.state(model, nnx.Not(nnx.Param)))}
