"""`vtd_jax.load`: makes a predictor of a CLIP, a tuned model or the workdir of a run."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from vtd_jax.backend import check_backend
from vtd_jax.cache.text_features import TextCache
from vtd_jax.clip.weights.checkpoints import holds_clip, load_clip
from vtd_jax.clip.weights.safetensors_files import safetensors_metadata
from vtd_jax.errors import UserError, function
from vtd_jax.files import is_possible
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.saved.fingerprint import weights_fingerprint
from vtd_jax.model.saved.tuned import METADATA_KEY, load_tuned
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.predict.predictor import Predictor
from vtd_jax.train.config import CONFIG_FILE

# nothing is learnt: class names or templates, no fusion, CLIP's own normalisation
# (docs/method.md, sections 1 and 2)
ZERO_SHOT = ModelConfig(
    text_prompts=0,
    text_depth=0,
    visual_prompts=0,
    visual_depth=0,
    fusion=False,
    normalization="clip",
)
ZERO_SHOT_FRAMES = 16


class WithoutSettings(UserError):
    """A file in the authors' format, which has no settings of its model.

    Attributes:
      path: of the file.
    """

    def __init__(self, path: Path):
        super().__init__(
            f"{path}: the authors' format has no settings; write a file that has them with "
            f"{function('save_tuned')}"
        )
        self.path = path


def load(
    source: str | os.PathLike,
    *,
    clip: str | os.PathLike | None = None,
    checkpoint: str = "last",
    dtype: str | None = None,
    activation: str | None = None,
    head_width: int | None = None,
    templates: Sequence[str] = (),
    pooling: str | None = None,
    cache: str | os.PathLike | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Predictor:
    """Loads a model that predicts labels of videos.

        vtd_jax.load("ViT-B-16.pt")                             # zero-shot, any labels
        vtd_jax.load("hmdb51.safetensors", clip="ViT-B-16.pt")  # an exported tuned model
        vtd_jax.load("runs/hmdb51")                             # the workdir of a run
        vtd_jax.load("tiny")                                    # in the package; coloured shapes

    Args:
      source: a CLIP checkpoint (OpenAI, Hugging Face, open_clip, ours; file or folder) for
        zero-shot, a tuned `.safetensors`, the workdir of a run, or "tiny".
      clip: the CLIP of a tuned file or run; None for the path that it had in training.
      checkpoint: of a workdir: "last", "best" or a step.
      dtype: of the towers, "float32" or "bfloat16"; None for that of training, float32 for
        zero-shot.
      activation, head_width: of the CLIP, for weights that do not specify them, see
        `vtd_jax.clip.weights.checkpoints.read_checkpoint`; None for those of the weights or run.
      templates: for zero-shot: texts with `{}` in the place of a label, e.g. "a video of a person
        {}."; the label's code is the mean over them. () uses labels alone.
      pooling: how frames become scores: "confidence" (the method), "mean" or "softmax_mean"; None
        for that of training, "confidence" for zero-shot.
      cache: folder for text features of long lists of words; None for `$VTD_JAX_CACHE`, or
        `~/.cache/vtd_jax`.
      devices: to encode frames on; None for all local ones.

    Raises:
      UserError: a missing or damaged file, another CLIP than in training, an option that does not
        apply, or a missing platform of `JAX_PLATFORMS`.
    """
    path = Path(source)
    if not is_possible(path):
        raise UserError(
            f"{str(path)!r:.80}: is not a file name; expected a CLIP, a tuned model, a workdir "
            "or 'tiny'"
        )
    kind = _kind(path)
    check_backend()
    if kind != "zero-shot" and templates:
        raise UserError(
            f"{path}: templates are for zero-shot; this model uses learnt prompts instead"
        )
    if kind == "zero-shot" and clip is not None:
        raise UserError(
            f"{path}: is a CLIP itself; leave out clip={os.fspath(clip)}, it would not be used"
        )
    if dtype not in (None, "float32", "bfloat16"):
        raise UserError(f"dtype={dtype}: expected float32 or bfloat16")
    asked = {"activation": activation, "head_width": head_width}
    if kind == "run":
        model, frames, names, description = _run(path, clip, checkpoint, dtype, asked)
    elif kind == "tuned":
        model, info = load_tuned(path, clip, dtype=dtype, **asked)
        frames, names, description = info.frames, info.class_names, f"{path} ({info.origin})"
    else:
        config = dataclasses.replace(ZERO_SHOT, templates=tuple(templates))
        model = VTDCLIP(
            load_clip(path, dtype=dtype or "float32", **asked), config, rngs=nnx.Rngs(0)
        )
        description = f"{path}, {model.clip.config.architecture}, zero-shot"
        frames, names = ZERO_SHOT_FRAMES, ()
    if pooling is not None:
        model = model.with_pooling(pooling)
    weights = weights_fingerprint(nnx.state(model))
    return Predictor(
        model,
        frames=frames,
        class_names=names,
        description=description,
        weights=weights,
        cache=TextCache(cache),
        devices=devices,
    )


def _kind(path: Path) -> str:
    """The kind of source: "run", "tuned" or "zero-shot"."""
    if (path / CONFIG_FILE).is_file() and (path / "checkpoints").is_dir():
        return "run"
    if path.suffix == ".pth" and not holds_clip(path):
        raise WithoutSettings(path)
    if path.suffix == ".safetensors" and path.is_file():
        return "tuned" if METADATA_KEY in safetensors_metadata(path) else "zero-shot"
    return "zero-shot"


def _run(
    path: Path,
    clip: str | os.PathLike | None,
    checkpoint: str,
    dtype: str | None,
    asked: dict[str, Any],
):
    """Model, frames, class names (() if the records are missing) and description of a workdir."""
    # imported here: they import orbax and data libraries, which only a workdir needs
    from vtd_jax.train.from_config import build_model
    from vtd_jax.train.learnt import learnt_names, load_learnt
    from vtd_jax.train.workdir import read_config

    config = read_config(path)
    changes = {} if clip is None else {"clip.path": os.fspath(clip)}
    changes |= {} if dtype is None else {"clip.dtype": dtype}
    changes |= {f"clip.{name}": value for name, value in asked.items() if value is not None}
    config = config.with_changes(changes) if changes else config
    # nothing is learnt here, and the device may be of another kind than in training
    model = build_model(config.with_changes({"memory.attention": "auto", "memory.remat": "block"}))
    step = load_learnt(model, path, checkpoint)
    try:
        names = learnt_names(config, path, step)
    except UserError:
        names = ()
    return (
        model,
        config.data.frames,
        names,
        f"{path} (step {step} of {config.name}, config {config.fingerprint})",
    )
