"""`vtd_jax.load`: makes a predictor of a CLIP, a tuned model or the workdir of a run."""

import dataclasses
import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from vtd_jax.backend import check_backend
from vtd_jax.cache.text_features import TextCache
from vtd_jax.clip.hub.names import TINY
from vtd_jax.clip.hub.resolve import resolve
from vtd_jax.clip.weights.checkpoints import holds_clip, load_clip
from vtd_jax.clip.weights.safetensors_files import safetensors_metadata
from vtd_jax.console.consent import found_in, given
from vtd_jax.errors import UserError, function
from vtd_jax.fields import check_choice, check_listed, check_path, check_switch, check_whole
from vtd_jax.files import is_possible
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.preprocess import PREPROCESS
from vtd_jax.model.saved.fingerprint import weights_fingerprint
from vtd_jax.model.saved.tuned import METADATA_KEY, load_tuned
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.predict.device_model import check_devices
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
# as its own images were prepared: published numbers are of this
ZERO_SHOT_PREPROCESS = "clip"


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
    checkpoint: str | int = "last",
    dtype: str | None = None,
    activation: str | None = None,
    head_width: int | None = None,
    templates: Sequence[str] = (),
    pooling: str | None = None,
    preprocess: str | None = None,
    cache: str | os.PathLike | None = None,
    devices: Sequence[jax.Device] | None = None,
    download: bool | None = None,
) -> Predictor:
    """Loads a model that predicts labels of videos.

        vtd_jax.load("ViT-B/16", download=True)                 # OpenAI's, zero-shot, any labels
        vtd_jax.load("ViT-B-16.pt")                             # the same from a file
        vtd_jax.load("hmdb51.safetensors", clip="ViT-B-16.pt")  # an exported tuned model
        vtd_jax.load("runs/hmdb51")                             # the workdir of a run
        vtd_jax.load("tiny")                                    # in the package; coloured shapes

    Example:
      >>> import numpy as np
      >>> import vtd_jax
      >>> model = vtd_jax.load("tiny")
      >>> video = np.full((8, 64, 64, 3), (200, 30, 30), np.uint8)
      >>> model.predict(video, ["red", "blue"]).label
      'red'

    Args:
      source: a CLIP checkpoint (OpenAI, Hugging Face, open_clip, ours; file or folder) for
        zero-shot, a tuned `.safetensors`, the workdir of a run, or "tiny". All of them may be given
        by name, as `vtd_jax.clip.hub.resolve.resolve` takes it: `ViT-B/16`, `hf:ORG/MODEL`,
        `gs://…`.
      clip: the CLIP of a tuned file or run; None for the path or name that it had in training.
      checkpoint: of a workdir: "last", "best" or a step.
      dtype: of the towers, "float32" or "bfloat16"; None for that of training, float32 for
        zero-shot.
      activation, head_width: of the CLIP, for weights that do not specify them, see
        `vtd_jax.clip.weights.checkpoints.read_checkpoint`; None for those of the weights or run.
      templates: for zero-shot: texts with `{}` in the place of a label, e.g. "a video of a person
        {}."; the label's code is the mean over them. () uses labels alone.
      pooling: how frames become scores: "confidence" (the method), "mean" or "softmax_mean"; None
        for that of training, "confidence" for zero-shot.
      preprocess: how frames are scaled: "clip", as the CLIP's own images were, or "release"
        (docs/method.md, section 6). None for that of training, "clip" for zero-shot. A tuned model
        takes no other than that of its training.
      cache: folder for text features of long lists of words; None for `$VTD_JAX_CACHE`, or
        `~/.cache/vtd_jax`.
      devices: to encode frames on; None for all local ones.
      download: whether weights that are not on this machine may be downloaded; None asks
        `$VTD_JAX_DOWNLOAD`, then the terminal if there is one.

    Raises:
      UserError: a missing or damaged file, another CLIP than in training, an option that does not
        apply, a name that cannot be resolved, or a missing platform of `JAX_PLATFORMS`.
    """
    check_path("source", source, "a CLIP, a tuned model, a workdir or 'tiny'")
    if clip is not None:
        check_path("clip", clip, "the path or name of a CLIP")
    if not isinstance(cache, str | None):
        check_path("cache", cache, "a folder")
    if dtype is not None and not (isinstance(dtype, str) and dtype in ("float32", "bfloat16")):
        raise UserError(f"dtype={dtype}: expected float32 or bfloat16")
    if preprocess is not None:
        check_choice("preprocess", preprocess, PREPROCESS)
    if not isinstance(checkpoint, str):
        checkpoint = str(check_whole("checkpoint", checkpoint, "last, best or a step", least=0))
    templates = check_listed("templates", templates, 'a list of texts as "a video of a {}."')
    if devices is not None:
        check_devices(devices)
    if download is not None:
        download = check_switch("download", download)
    asked = {"activation": activation, "head_width": head_width}
    with given(download):
        model, frames, names, description = _model(
            source, clip, checkpoint, dtype, asked, tuple(templates), preprocess
        )
    if preprocess not in (None, model.preprocess):
        raise UserError(
            f"preprocess={preprocess}: {source} was learnt with {model.preprocess}, and its scores "
            "mean nothing with frames prepared in another way; leave it out"
        )
    if pooling is not None:
        model = model.with_pooling(pooling)
    weights = weights_fingerprint(nnx.state(model))
    return Predictor(
        model,
        frames=frames,
        class_names=names,
        description=description,
        weights=weights,
        source=os.fspath(source),
        cache=TextCache(cache),
        devices=devices,
    )


def _model(
    source: str | os.PathLike,
    clip: str | os.PathLike | None,
    checkpoint: str,
    dtype: str | None,
    asked: dict[str, Any],
    templates: tuple[str, ...],
    preprocess: str | None,
):
    """Model, frames, class names and description of any source."""
    path = Path(source)
    if not is_possible(path):
        raise UserError(
            f"{str(path)!r:.80}: is not a file name; expected a CLIP, a tuned model, a workdir "
            "or 'tiny'"
        )
    if os.fspath(source) != TINY:
        path = resolve(source).path
    kind = _kind(path)
    check_backend()
    if kind != "zero-shot" and templates:
        raise UserError(
            f"{source}: templates are for zero-shot; this model uses learnt prompts instead"
        )
    if kind == "zero-shot" and clip is not None:
        raise UserError(
            f"{source}: is a CLIP itself; leave out clip={os.fspath(clip)}, it would not be used"
        )
    if kind == "run":
        return _run(path, clip, checkpoint, dtype, asked)
    if kind == "tuned":
        model, info = load_tuned(path, clip, dtype=dtype, **asked)
        return model, info.frames, info.class_names, f"{source} ({info.origin})"
    config = dataclasses.replace(ZERO_SHOT, templates=templates)
    # the source, not the path: more may be known of a name than of its files
    tower = load_clip(source, dtype=dtype or "float32", **asked)
    preprocess = preprocess or ZERO_SHOT_PREPROCESS
    model = VTDCLIP(tower, config, rngs=nnx.Rngs(0), preprocess=preprocess)
    # a CLIP's name is that of its architecture, often
    description = ", ".join(
        dict.fromkeys((os.fspath(source), model.clip.config.architecture, "zero-shot"))
    )
    return model, ZERO_SHOT_FRAMES, (), description


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
    config_here = config.with_changes({"memory.attention": "auto", "memory.remat": "block"})
    # consent to download the run is not for the name that it says
    named = found_in(path / CONFIG_FILE, config.clip.path) if clip is None else nullcontext()
    with named:
        model = build_model(config_here)
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
