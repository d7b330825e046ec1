"""Compiles the programs of a run for absent devices, without weights: from a config to a report."""

import dataclasses
import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding

from vtd_jax.clip.compute import Compute
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.model import CLIP
from vtd_jax.clip.stack import layout
from vtd_jax.clip.weights.checkpoints import read_checkpoint
from vtd_jax.cost.hlo import Program, Sent, traced_work
from vtd_jax.cost.topology import GIB, Target, refused
from vtd_jax.errors import UserError, setting
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.parallel.mesh import DeviceMesh, Mapped
from vtd_jax.train import step as steps
from vtd_jax.train.config import RunConfig
from vtd_jax.train.trainer import StepSettings, compiled_step, global_batch

# micro-batches of an epoch: a constant of the program that does not change its cost
_STEPS_PER_EPOCH = 100


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
    """

    kind: str
    mapped: Mapped
    arguments: tuple[Any, ...]
    videos: int
    frames: int
    names: Names
    views: int = 1


@dataclasses.dataclass(frozen=True)
class Report:
    """What one program costs on one device; bytes and FLOPs are those of one call.

    Attributes:
      run: the config's name.
      kind, videos, frames, views, classes, tokens, templates: as of `Step` and its names.
      target, devices: that it was compiled for.
      fits: whether it fits into memory; None if not compiled.
      memory: bytes needed; None if not compiled.
      available: bytes of a device; None if unknown.
      parts: of `memory`: arguments, outputs, outputs in the place of arguments, temporaries, code.
        Only arguments and outputs if not compiled.
      flops: of matrix products as traced, with recomputation and all rounds of loops.
      traffic: bytes read and written by XLA's analysis, with all rounds of loops; None if not
        compiled.
      collectives: by kind; as traced if not compiled.
      xla_flops: by XLA's analysis, which counts one round of a loop; None if not compiled.
      text: bytes of the exported StableHLO; None if not exported.
      seconds: for tracing, lowering and compiling.
    """

    run: str
    kind: str
    target: str
    devices: int
    videos: int
    frames: int
    views: int
    classes: int
    tokens: int
    fits: bool | None
    memory: int | None
    available: int | None
    parts: Mapping[str, int]
    flops: int
    traffic: int | None
    collectives: Mapping[str, Sent]
    xla_flops: int | None
    text: int | None
    seconds: float
    templates: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able fields."""
        sent = {kind: found._asdict() for kind, found in self.collectives.items()}
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fields | {"parts": dict(self.parts), "collectives": sent}


def abstract_model(config: RunConfig, platform: str = "cpu") -> VTDCLIP:
    """The shapes of a config's model, with the layout of layers for a platform.

    A checkpoint is read only if the config has no architecture.

    Raises:
      UserError: the config has neither.
    """
    if config.clip.architecture:
        clip = CLIPConfig.named(config.clip.architecture)
    elif config.clip.path:
        clip = read_checkpoint(config.clip.path, **config.clip.asked)[0]
    else:
        raise UserError(
            "clip.architecture: empty; say which CLIP, e.g. "
            f"{setting('clip.architecture', 'ViT-B/16')}"
        )
    layers = layout(config.memory.layers, platform)
    compute = Compute(remat=config.memory.remat, frame_chunks=config.memory.frame_chunks)

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
    mesh, model = mesh_of(config, target), abstract_model(config, target.platform)
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
    return Step("training", mapped, arguments, videos, config.data.frames, names)


def examine(step: Step, target: Target, run: str) -> Report:
    """Compiles a program for a TPU, or lowers it for GPUs, and reports its cost.

    A program that does not fit into memory is not an error: its report says what it needs.
    """
    start = time.perf_counter()
    traced = step.mapped.jitted.trace(*step.arguments)
    work = traced_work(traced.jaxpr)
    found: dict[str, Any] = dict.fromkeys(("fits", "memory", "traffic", "xla_flops", "text"))
    found |= {"parts": {}, "collectives": work.collectives}
    found |= _compiled(traced, target) if target.platform == "tpu" else _exported(step)
    return Report(
        run=run,
        kind=step.kind,
        target=target.name,
        devices=len(target.devices),
        videos=step.videos,
        frames=step.frames,
        views=step.views,
        classes=step.names.classes,
        tokens=step.names.tokens,
        templates=step.names.templates,
        available=target.memory,
        flops=work.flops,
        seconds=time.perf_counter() - start,
        **found,
    )


def _compiled(traced: Any, target: Target) -> dict[str, Any]:
    """Fields of a report from the compiled program, or from XLA's error that it does not fit."""
    try:
        compiled = traced.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        needs = refused(error)
        if needs is None:
            raise
        return {"fits": False, "memory": needs[0]}
    sizes, analysis = compiled.memory_analysis(), compiled.cost_analysis()
    program = Program(compiled.as_text())
    parts = {
        "arguments": sizes.argument_size_in_bytes,
        "outputs": sizes.output_size_in_bytes,
        "in place": sizes.alias_size_in_bytes,
        "temporaries": sizes.temp_size_in_bytes,
        "code": sizes.generated_code_size_in_bytes,
    }
    # outputs in place are counted three times, as arguments, as outputs and for themselves
    memory = sum(parts.values()) - 2 * parts["in place"]
    return {
        "fits": target.memory is None or memory <= target.memory,
        "memory": memory,
        "parts": parts,
        "traffic": round(analysis["bytes accessed"]) + program.bytes_of_repeats(),
        "xla_flops": round(analysis["flops"]),
        "collectives": program.collectives(),
    }


def _exported(step: Step) -> dict[str, Any]:
    """Fields of a report from lowering for GPUs."""
    exported = jax.export.export(step.mapped.jitted, platforms=["cuda"])(*step.arguments)
    outputs, mesh = jax.eval_shape(step.mapped.jitted, *step.arguments), step.mapped.mesh.mesh
    placed = jax.tree.map(
        lambda over, part: _placed(part, NamedSharding(mesh, over.value)), step.mapped.outs, outputs
    )
    parts = {"arguments": _local_bytes(step.arguments), "outputs": _local_bytes(placed)}
    return {"text": len(exported.mlir_module_serialized), "parts": parts}


def _placed(tree: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _local_bytes(tree: Any) -> int:
    """Bytes of sharded abstract arrays on one device."""
    shapes = ((x.sharding.shard_shape(x.shape), x.dtype.itemsize) for x in jax.tree.leaves(tree))
    return sum(math.prod(shape) * size for shape, size in shapes)


def complaint(report: Report, config: RunConfig) -> str:
    """The message for a program that does not fit: needed and available memory, what to change."""
    needs, there = f"{report.memory / GIB:.1f} GiB", f"{report.available / GIB:.2f}"
    return (
        f"{report.run} on {report.target}: {report.kind} needs {needs} a device, a chip has "
        f"{there}; {_remedy(report, config)}"
    )


def _remedy(report: Report, config: RunConfig) -> str:
    memory, shards = config.memory, config.codebook_shards if report.kind == "training" else 1
    videos = -(-report.videos * shards // report.devices)
    changes = []
    if report.kind == "training":
        changes += [f"set {setting('memory.remat', 'block')}"] * (memory.remat != "block")
        steps, batch = config.optimizer.gradient_accumulation_steps, config.data.batch_size
        # the same number of videos in an update, fewer at a time
        smaller = (
            f"lower {setting('data.batch_size', batch)} and raise "
            f"{setting('optimizer.gradient_accumulation_steps', steps)} by as much"
        )
        changes += [smaller] * (videos > 1)
    elif report.kind == "evaluation":
        changes += [f"lower {setting('evaluate.batch_size', config.evaluate.batch_size)}"] * (
            videos > 1
        )
    # with one video on a device, only its frames can still be split
    in_parts = report.kind == "evaluation" or (report.kind == "training" and videos == 1)
    if in_parts and memory.frame_chunks * shards < report.frames:
        changes.append(f"raise {setting('memory.frame_chunks', memory.frame_chunks)}")
    more = "use larger chips" if videos == 1 else "use more chips"
    return f"{', '.join(changes)} or {more}" if changes else more
