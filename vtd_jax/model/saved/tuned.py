"""A tuned model as one safetensors file: the learnt arrays, and which CLIP they belong to.

model, info = load_tuned("hmdb51.safetensors", clip="ViT-B-16.pt")
codebook = model.encode_classes(model.class_tokens(info.class_names))
logits = model(frames, codebook).logits
"""

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError
from safetensors.numpy import save

import vtd_jax
from vtd_jax.clip.config import MOST_RESOLUTION, CLIPConfig
from vtd_jax.clip.hub.names import TINY, is_name
from vtd_jax.clip.source import ClipSource
from vtd_jax.clip.weights.checkpoints import DTYPES, load_clip
from vtd_jax.clip.weights.params import LOGIT_SCALE_OVERFLOW, check_logit_scale
from vtd_jax.clip.weights.safetensors_files import open_safetensors, safetensors_metadata
from vtd_jax.console.consent import found_in
from vtd_jax.errors import UserError, function, setting
from vtd_jax.fields import build
from vtd_jax.files import replacing
from vtd_jax.finite import check_finite
from vtd_jax.model.config import ModelConfig, saved_fields
from vtd_jax.model.preprocess import check_preprocess
from vtd_jax.model.saved.fingerprint import are_weights, weights_fingerprint
from vtd_jax.model.vtd_clip import VTDCLIP, learnable
from vtd_jax.outputs import check_suffix
from vtd_jax.printable import brief
from vtd_jax.trees import flatten_arrays, unflatten_arrays
from vtd_jax.untrusted.json_text import parse_json
from vtd_jax.untrusted.limits import MOST_FRAMES_OF_A_VIDEO

METADATA_KEY = "vtd_jax.tuned"
FORMAT = 1
SUFFIX = ".safetensors"


@dataclasses.dataclass(frozen=True)
class ClipReference:
    """The frozen CLIP that a tuned model belongs to.

    Attributes:
      architecture: e.g. "ViT-B/16".
      weights: fingerprint of its weights; another CLIP is refused by it.
      resolution: side of its frames in pixels.
      dtype: that the towers computed in, "float32" or "bfloat16".
      path: where it was when the file was written.
      settings: `VTDCLIP.clip_settings`; "" in older files.
      activation, head_width: as the run gave them, for a CLIP whose files lack them; else "" and 0.
    """

    architecture: str
    weights: str
    resolution: int
    dtype: str
    path: str
    settings: str = ""
    activation: str = ""
    head_width: int = 0

    def __post_init__(self):
        # activation and head width are checked as a run's are
        ClipSource(activation=self.activation, head_width=self.head_width)
        if self.dtype not in DTYPES:
            raise UserError(f"clip.dtype: {brief(self.dtype)}, expected one of {', '.join(DTYPES)}")
        if not 1 <= self.resolution <= MOST_RESOLUTION:
            raise UserError(
                f"clip.resolution: {brief(self.resolution)}, expected 1 to {MOST_RESOLUTION:,}"
            )


@dataclasses.dataclass(frozen=True)
class TunedInfo:
    """The facts in an exported file.

    Attributes:
      model: the method's settings.
      clip: which CLIP.
      frames: T, frames of a video in training.
      class_names: that were learnt on, in their order; () where the export did not know them.
      run: the run's name.
      fingerprint: of the run's settings.
      step: micro-batches learnt; None where that is not known.
      learnt_on: of the training list its `origin`, and its description as `told`; {} where that is
        not known.
      settings: all of the run's settings, as the version that wrote the file saved them.
      version: of the vtd_jax that wrote it.
      preprocess: how frames were scaled in training, see `VTDCLIP`; older files: "release".
    """

    model: ModelConfig
    clip: ClipReference
    frames: int
    class_names: tuple[str, ...]
    run: str
    fingerprint: str
    step: int | None
    learnt_on: Mapping[str, str]
    settings: Mapping[str, Any]
    version: str = vtd_jax.__version__
    preprocess: str = "release"

    def __post_init__(self):
        check_preprocess(self.preprocess, self.model.normalization)
        if not 1 <= self.frames <= MOST_FRAMES_OF_A_VIDEO:
            raise UserError(
                f"frames: {brief(self.frames)}, expected 1 to {MOST_FRAMES_OF_A_VIDEO:,}"
            )
        if self.step is not None and not 0 <= self.step < 2**63:
            raise UserError(f"step: {brief(self.step)}, expected 0 or more")

    @property
    def origin(self) -> str:
        """Run and step, for tables."""
        step = "an unknown step" if self.step is None else f"step {self.step}"
        return f"{step} of {self.run}, config {self.fingerprint}"


class Tuned(NamedTuple):
    """A tuned model and the facts in its file."""

    model: VTDCLIP
    info: TunedInfo


def save_tuned(path: str | os.PathLike, model: VTDCLIP, info: TunedInfo) -> None:
    """Writes what is learnable, float32, and `info`, as one safetensors file.

    Args:
      path: ends in `.safetensors`; written whole or not at all.
      model: the tuned model.
      info: what the file says of itself.

    Raises:
      UserError: another suffix, values that are not finite, or the file cannot be written.
    """
    path = Path(path)
    check_suffix(path, SUFFIX)
    arrays = {
        name: np.array(array, np.float32, order="C")
        for name, array in flatten_arrays(learnable(model)).items()
    }
    for name, array in arrays.items():
        check_finite(array, f"{path}: {name}", "nothing worth exporting was learnt")
    fields = dataclasses.asdict(info)
    # earlier versions, which prepare frames as the release does, refuse fields that they lack
    if info.preprocess == "release":
        del fields["preprocess"]
    header = {METADATA_KEY: json.dumps({"format": FORMAT, **fields})}
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(save(arrays, header))
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None


def load_tuned(
    path: str | os.PathLike,
    clip: str | os.PathLike | None = None,
    *,
    dtype: str | None = None,
    activation: str | None = None,
    head_width: int | None = None,
    download: bool | None = None,
) -> Tuned:
    """The model of an exported file, ready for frames, and the facts in the file.

    Args:
      path: what `experiments.export` wrote, `.safetensors`.
      clip: its CLIP, any published checkpoint or "tiny"; None tries the path or name that the file
        notes.
      dtype: compute dtype of the towers, "float32" or "bfloat16"; None is that of training.
      activation, head_width: as for `load_clip`; None is what the run was given.
      download: whether a CLIP that is not on this machine may be downloaded, as for `load_clip`.

    Raises:
      UserError: no such file, a damaged one or one of another kind; no CLIP, or another one than
        was learnt on.
    """
    info = read_tuned(path)
    given = info.clip.path if clip is None else clip
    is_there = given == TINY or is_name(given) or os.path.exists(given)
    if clip is None and not is_there:
        raise UserError(
            f"{path}: its CLIP ({info.clip.architecture}, weights {info.clip.weights}) was "
            f"{given or 'not noted'}, which is not there; say where it is: load_tuned(FILE, "
            "clip=PATH)"
        )
    asked = ClipSource(
        activation=activation or info.clip.activation, head_width=head_width or info.clip.head_width
    )
    # consent to download is not for a name that only the file says
    named = found_in(path, given) if clip is None else contextlib.nullcontext()
    try:
        with named:
            tower = load_clip(
                given, dtype=dtype or info.clip.dtype, download=download, **asked.asked
            )
    except UserError as error:
        if clip is not None:
            raise
        raise UserError(
            f"{path}: notes that its CLIP is {given}, but {error}; say which it is: clip=PATH"
        ) from None
    if tower.config.architecture != info.clip.architecture:
        raise UserError(
            f"{path}: was learnt on another CLIP ({info.clip.architecture}; {given} is "
            f"{tower.config.architecture})"
        )
    _check_prompts(info.model, tower.config, Path(path))
    model = VTDCLIP(tower, info.model, rngs=nnx.Rngs(0), preprocess=info.preprocess)
    fill_tuned(model, path, info)
    return Tuned(model, info)


def _check_prompts(model: ModelConfig, clip: CLIPConfig, path: Path) -> None:
    """Refuses prompts that the file does not hold, before memory is allocated for them."""
    asked = model.text_prompts * max(model.text_depth, 1) * clip.text_width
    asked += model.visual_prompts * model.visual_depth * clip.vision_width
    with contextlib.ExitStack() as stack:
        file = open_safetensors(path, stack)
        there = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    if asked > there:
        raise UserError(
            f"{path}: damaged: model.text_prompts={model.text_prompts} and "
            f"model.visual_prompts={model.visual_prompts} are {asked:,} numbers with this CLIP, "
            f"the file holds {there:,}"
        )


def fill_tuned(model: VTDCLIP, path: str | os.PathLike, info: TunedInfo) -> None:
    """Puts an exported file's learnable arrays into a model of the same CLIP and settings, in
    place.

    Raises:
      UserError: another CLIP, or arrays that are not the model's by name or shape, or damaged.
    """
    if not are_weights(info.clip.weights, frozen(model)):
        raise UserError(
            f"{path}: was learnt on another CLIP ({info.clip.architecture}, weights "
            f"{info.clip.weights}; here {weights_fingerprint(frozen(model))})"
        )
    settings = info.clip.settings
    if settings and info.preprocess == model.preprocess and settings != model.clip_settings:
        raise UserError(
            f"{path}: was learnt on a CLIP with {info.clip.settings}; the one given has "
            f"{model.clip_settings}"
        )
    if info.preprocess != model.preprocess:
        raise UserError(
            f"{path}: was learnt on frames of preprocess={info.preprocess}, here it is "
            f"{model.preprocess}; set "
            f"{setting('data.preprocess', info.preprocess)}"
        )
    with contextlib.ExitStack() as stack:
        file = open_safetensors(Path(path), stack)
        try:
            arrays = {name: file.get_tensor(name) for name in list(file.keys())}
        except (SafetensorError, OSError, ValueError, TypeError) as error:
            raise UserError(f"{path}: truncated or damaged ({error}); copy it again") from None
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise UserError(
                f"{path}: damaged: {name} holds {array.dtype}, expected float32; export the run "
                "again"
            )
        check_finite(array, f"{path}: damaged: {name}", "export the run again")
    check_logit_scale(arrays.get("logit_scale", np.float32(0)), str(path), LOGIT_SCALE_OVERFLOW)
    nnx.update(
        model, jax.tree.map(jnp.asarray, unflatten_arrays(learnable(model), arrays, str(path)))
    )


def read_tuned(path: str | os.PathLike) -> TunedInfo:
    """The facts in an exported file; no array is read.

    Raises:
      UserError: no such file, a damaged one, one of another kind, or one that a later vtd_jax
        wrote.
    """
    path = Path(path)
    check_suffix(path, SUFFIX)
    if not path.exists():
        raise UserError(f"{path}: no such file, expected what {function('save_tuned')} wrote")
    metadata = safetensors_metadata(path)
    if METADATA_KEY not in metadata:
        raise UserError(
            f"{path}: not an exported model but other tensors; expected what "
            f"{function('save_tuned')} wrote"
        )
    return _parse(metadata[METADATA_KEY], path)


def _parse(text: str, path: Path) -> TunedInfo:
    damaged = f"{path}: damaged: its {METADATA_KEY} cannot be read"
    fields = parse_json(text, damaged, dict[str, Any])
    form, version = fields.pop("format", None), fields.get("version")
    if form != FORMAT:
        raise UserError(
            f"{path}: its {METADATA_KEY} has format {brief(form)}, expected {FORMAT}: vtd_jax "
            f"{brief(version)} wrote it, this is {vtd_jax.__version__}; take the version that "
            "wrote it, or export the run with this one"
        )
    if isinstance(model := fields.get("model"), dict):
        if unknown := set(model) - {field.name for field in dataclasses.fields(ModelConfig)}:
            raise UserError(
                f"{path}: vtd_jax {version} wrote it and knows model settings "
                f"({', '.join(sorted(unknown))}) that this version, {vtd_jax.__version__}, does "
                "not: update it"
            )
        fields["model"] = saved_fields(model)
    try:
        return build(TunedInfo, fields)
    except UserError as error:
        raise UserError(f"{damaged}: {error}") from None


def frozen(model: VTDCLIP) -> nnx.State:
    """The arrays of a model that are not learnt: those of its CLIP."""
    return nnx.state(model, nnx.Not(nnx.Param))
