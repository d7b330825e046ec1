"""The programs of a run, compiled for devices that need not be there: from a config to a report,
without a weight.
"""

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

# micro-batches an epoch: a number in the program that changes nothing of what it costs
_STEPS_PER_EPOCH = 100


class Names(NamedTuple):
    """All that a program depends on of class names: how many, positions of the longest prompt,
      texts a class.

    `templates` is 0 where a class has one text, as it is without templates.
    """

    classes: int
    tokens: int
    templates: int = 0

    @classmethod
    def of(cls, tokens: np.ndarray) -> "Names":
        """Those of `VTDCLIP.class_tokens`, `[K, L]` or with M templates `[K, M, L]`."""
        return cls(tokens.shape[0], tokens.shape[-1], tokens.shape[1] if tokens.ndim == 3 else 0)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the class tokens."""
        return (
            (self.classes, self.templates, self.tokens)
            if self.templates
            else (self.classes, self.tokens)
        )


class Step(NamedTuple):
    """A program of a run before it is compiled.

    Attributes:
      kind: "training", "evaluation" or "codebook".
      mapped: the program.
      arguments: abstract, with shardings.
      videos: of the global batch.
      frames: of a view of a video.
      names: of its codebook.
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
      target, devices: what it was made for.
      fits: whether it can run; None where nothing was compiled.
      memory: bytes needed; None where nothing was compiled.
      available: bytes a device has; None where that is not known.
      parts: of `memory`: arguments, outputs, outputs that take the place of arguments, temporaries,
        code. Where nothing was compiled, arguments and outputs alone.
      flops: of matrix products as traced, recomputation included, loops as often as they run.
      traffic: bytes read and written by XLA's analysis, loops as often as they run; None without a
        compiled program.
      collectives: kind -> what the device sends; of the compiled program, or as traced where there
        is none.
      xla_flops: by XLA's analysis, which counts the body of a loop once; None without a compiled
        program.
      text: bytes of the portable program (StableHLO) where it was exported; else None.
      seconds: that tracing, lowering and compiling took.
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
    """The model of `build.build_model` as its programs take it, as shapes, with layers laid out for
    a platform.

    A checkpoint is read only where no architecture is named.

    Raises:
      UserError: the config names neither.
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
      UserError: the codebook cannot be split so over these devices, or the config asks for `pmap`.
    """
    if config.parallel != "shard_map":
        raise UserError(
            f"parallel={config.parallel}: is compiled as it first runs; set "
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
    """The training step as `Trainer` runs it, at the config's batch padded to equal parts."""
    mesh, model = mesh_of(config, target), abstract_model(config, target.platform)
    parts = steps.split(model)
    settings = StepSettings.of(config, _STEPS_PER_EPOCH, names.classes)
    optimizer, mapped = compiled_step(parts.graphdef, settings, mesh, config.parallel)
    videos = global_batch(config, mesh)
    width = model.clip.config.embed_dim
    shown = {
        "frames": abstract_frames(model, videos, config.data.frames),
        "features": jax.ShapeDtypeStruct((videos, config.data.frames, width), jnp.float32),
    }
    kind = "features" if settings.stored else "frames"
    batch = {
        kind: shown[kind],
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
    """Compiles a program for a TPU, or lowers it for GPUs, and reads off what it costs.

    A program that does not fit is no error: its report says what it needs.
    """
    start = time.perf_counter()
    traced = step.mapped.jitted.trace(*step.arguments)
    work = traced_work(traced.jaxpr)
    found = {
        "fits": None,
        "memory": None,
        "traffic": None,
        "xla_flops": None,
        "text": None,
        "parts": {},
    }
    found |= {"collectives": work.collectives}
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
    """Fields of a report that the compiled program tells, or XLA's refusal."""
    try:
        compiled = traced.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        needs = refused(error)
        if needs is None:
            raise
        return {"fits": False, "memory": needs[0]}
    sizes, analysis, program = (
        compiled.memory_analysis(),
        compiled.cost_analysis(),
        Program(compiled.as_text()),
    )
    parts = {
        "arguments": sizes.argument_size_in_bytes,
        "outputs": sizes.output_size_in_bytes,
        "in place": sizes.alias_size_in_bytes,
        "temporaries": sizes.temp_size_in_bytes,
        "code": sizes.generated_code_size_in_bytes,
    }
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
    """Fields of a report that lowering for GPUs tells."""
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
    """Bytes on one device of abstract arrays with shardings."""
    shapes = ((x.sharding.shard_shape(x.shape), x.dtype.itemsize) for x in jax.tree.leaves(tree))
    return sum(math.prod(shape) * size for shape, size in shapes)


def complaint(report: Report, config: RunConfig) -> str:
    """One line for a program that does not fit: what it needs, what there is, and what to change."""
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
        # as many videos an update, fewer of them at a time
        smaller = (
            f"lower {setting('data.batch_size', batch)} and raise "
            f"{setting('optimizer.gradient_accumulation_steps', steps)} by as much"
        )
        changes += [smaller] * (videos > 1)
    elif report.kind == "evaluation":
        changes += [f"lower {setting('evaluate.batch_size', config.evaluate.batch_size)}"] * (
            videos > 1
        )
    # frames in parts is what is left where a device has one video
    in_parts = report.kind == "evaluation" or (report.kind == "training" and videos == 1)
    if in_parts and memory.frame_chunks * shards < report.frames:
        changes.append(f"raise {setting('memory.frame_chunks', memory.frame_chunks)}")
    more = "use larger chips" if videos == 1 else "use more chips"
    return f"{', '.join(changes)} or {more}" if changes else more
