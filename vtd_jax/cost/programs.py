"""The programs of a run before they are compiled, without weights: from a config to shapes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.model import CLIP
from vtd_jax.clip.stack import layout
from vtd_jax.clip.weights.planned import planned_config
from vtd_jax.cost.topology import Target
from vtd_jax.errors import UserError, setting
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.parallel.mesh import DeviceMesh, Mapped
from vtd_jax.train import step as steps
from vtd_jax.train.config import RunConfig
from vtd_jax.train.from_config import compute_of
from vtd_jax.train.trainer import StepSettings, compiled_step, global_batch

# micro-batches of an epoch: a constant of the program that does not change its cost
_STEPS_PER_EPOCH = 100
# bytes
_ENOUGH = 2**60


class Names(NamedTuple):
    """What a program depends on of class names: their number, tokens of the longest prompt, and
    texts of a class (`templates`, 0 without templates).
    """

    classes: int
    tokens: int
    templates: int = 0

    @classmethod
    def of(cls, tokens: np.ndarray) -> "Names":
        """From `VTDCLIP.class_tokens`, `[K, L]` or with M templates `[K, M, L]`."""
        return cls(tokens.shape[0], tokens.shape[-1], tokens.shape[1] if tokens.ndim == 3 else 0)

    @classmethod
    def of_classes(cls, model: VTDCLIP, class_names: Sequence[str]) -> "Names":
        """Of an abstract model, which has no tokenizer but CLIP's own: a text tower that is not
        causal takes all its positions, whatever the names are.
        """
        clip = model.clip.config
        if clip.design.causal:
            return cls.of(model.class_tokens(class_names))
        return cls(len(class_names), clip.context_length, len(model.config.templates))

    def fitted(self, clip: CLIPConfig) -> "Names":
        """The same in the positions that a CLIP's text tower takes."""
        return self if clip.design.causal else self._replace(tokens=clip.context_length)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the class tokens."""
        middle = (self.templates,) if self.templates else ()
        return (self.classes, *middle, self.tokens)


class Step(NamedTuple):
    """A program of a run before it is compiled.

    Attributes:
      kind: "training", "evaluation" or "codebook".
      mapped: the program.
      arguments: abstract, with shardings.
      videos: of the global batch.
      frames: of a view.
      names: of the codebook.
      views: of a video.
      dtype: of its matrix products, "float32" or "bfloat16".
      remat: what its backward pass computes again, see `Compute`; "" if it has none.
    """

    kind: str
    mapped: Mapped
    arguments: tuple[Any, ...]
    videos: int
    frames: int
    names: Names
    views: int = 1
    dtype: str = "bfloat16"
    remat: str = ""


def abstract_model(config: RunConfig, target: Target | None = None) -> VTDCLIP:
    """The shapes of a config's model, with layouts and kernels for a target; None for a CPU.

    Without an architecture in the config it is that of `clip.path`, see `planned_config`.
    `memory.remat=auto` is chosen for the memory of the target; where that is unknown, as if there
    were enough.

    Raises:
      UserError: the config has neither.
    """
    if config.clip.architecture:
        clip = CLIPConfig.named(config.clip.architecture)
    elif config.clip.path:
        clip = planned_config(config.clip.path, **config.clip.asked)[0]
    else:
        raise UserError(
            "clip.architecture: empty; say which CLIP, e.g. "
            f"{setting('clip.architecture', 'ViT-B/16')}"
        )
    platform, memory, devices = "cpu", None, 1
    if target is not None:
        platform, memory, devices = target.platform, target.memory, len(target.devices)
    layers = layout(config.memory.layers, platform)
    compute = compute_of(
        config,
        clip,
        platform=platform,
        memory=_ENOUGH if memory is None else memory,
        devices=devices,
    )

    def build() -> VTDCLIP:
        tower = CLIP(clip, dtype=config.clip.dtype, layers=layers)
        return VTDCLIP(tower, config.model, rngs=nnx.Rngs(0), compute=compute).rounded()

    return nnx.eval_shape(build)


def mesh_of(config: RunConfig, target: Target) -> DeviceMesh:
    """The devices of a training step.

    Raises:
      UserError: the codebook cannot be split over these devices, or the config uses `pmap`.
    """
    if config.parallel != "shard_map":
        raise UserError(
            f"parallel={config.parallel}: cannot be compiled ahead of time; set "
            f"{setting('parallel', 'shard_map')}"
        )
    return DeviceMesh(target.devices, config.codebook_shards)


def abstract_frames(model: VTDCLIP, *axes: int) -> jax.ShapeDtypeStruct:
    """uint8 frames `[*axes, H, W, 3]` at the resolution of the model's tower."""
    side = model.clip.config.image_resolution
    return jax.ShapeDtypeStruct((*axes, side, side, 3), jnp.uint8)


def abstract_tokens(mesh: DeviceMesh, names: Names) -> jax.ShapeDtypeStruct:
    """Class tokens as they are laid out over the devices."""
    laid_out = mesh.lay_out(np.zeros(names.shape, np.int32))
    return jax.ShapeDtypeStruct(laid_out.shape, laid_out.dtype)


def training_step(config: RunConfig, target: Target, names: Names) -> Step:
    """The training step of `Trainer`, with a padded batch of the config's size."""
    mesh, model = mesh_of(config, target), abstract_model(config, target)
    names = names.fitted(model.clip.config)
    parts = steps.split(model)
    settings = StepSettings.of(config, _STEPS_PER_EPOCH, names.classes)
    optimizer, mapped = compiled_step(parts.graphdef, settings, mesh, config.parallel)
    videos = global_batch(config, mesh)
    width = model.clip.config.embed_dim
    if settings.stored:
        shape = (videos, config.data.frames, width)
        clips = {"features": jax.ShapeDtypeStruct(shape, jnp.float32)}
    else:
        clips = {"frames": abstract_frames(model, videos, config.data.frames)}
    batch = clips | {
        "label": jax.ShapeDtypeStruct((videos,), jnp.int32),
        "weight": jax.ShapeDtypeStruct((videos,), jnp.float32),
        "index": jax.ShapeDtypeStruct((videos,), jnp.int32),
    }
    arguments = mapped.abstract(
        parts.learnable,
        jax.eval_shape(optimizer.init, parts.learnable),
        parts.frozen,
        batch,
        abstract_tokens(mesh, names),
        jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))),
        jax.ShapeDtypeStruct((), jnp.int32),
    )
    frames, dtype, remat = config.data.frames, config.clip.dtype, model.compute.remat
    return Step("training", mapped, arguments, videos, frames, names, dtype=dtype, remat=remat)
