"""Compiles programs for absent devices and reports what they cost."""

import dataclasses
import math
import time
from collections.abc import Mapping
from typing import Any

import jax
from jax.extend import core
from jax.sharding import NamedSharding

from vtd_jax.cost import cuda, kernels, roofline, schedule
from vtd_jax.cost.cuda import FRACTIONS, MOST
from vtd_jax.cost.gpus import GPUS, Gpu
from vtd_jax.cost.hlo import Program, Sent, traced_work
from vtd_jax.cost.peaks import DEVICES, known_device
from vtd_jax.cost.programs import Step
from vtd_jax.cost.timed import Part, Timed
from vtd_jax.cost.topology import GIB, SMALLEST, Target, refused
from vtd_jax.errors import setting
from vtd_jax.train.config import RunConfig

# calls of attention by cuDNN that are lowered where that is installed; only their size counts here
_OF_CUDNN = ("LayoutConstraint", "__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward")


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
      traffic: bytes read and written by XLA's analysis, with all rounds of loops; of a GPU, for
        which XLA has none, by `roofline.traffic`. None if not compiled.
      collectives: by kind; as traced if not compiled.
      xla_flops: by XLA's analysis, which counts one round of a loop; None if not compiled, and of
        a GPU.
      text: bytes of the exported StableHLO; None if not exported.
      seconds: for tracing, lowering and compiling.
      seconds_estimated: of one call, by the compiler, not run; None without an estimate.
      share: of the device's peak in `dtype`: `flops` / `seconds_estimated` / peak.
      dtype: of the matrix products.
      remat: what the backward pass computes again, as it was chosen; "" without one.
      largest: parts of the estimate, the largest first.
      kernels: how many programs of the device run in one call; None without an estimate.
      estimated_by: where the estimate is from, see `Timed`.
      without: what has no estimate and is missing in `seconds_estimated`.
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
    seconds_estimated: float | None = None
    share: float | None = None
    dtype: str = "bfloat16"
    remat: str = ""
    largest: tuple[Part, ...] = ()
    kernels: int | None = None
    estimated_by: str = ""
    without: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able fields."""
        sent = {kind: found._asdict() for kind, found in self.collectives.items()}
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        largest = [part._asdict() for part in self.largest]
        return fields | {"parts": dict(self.parts), "collectives": sent, "largest": largest}


def examine(step: Step, target: Target, run: str) -> Report:
    """Compiles a program, or lowers it for GPUs that have no compiler here; reports its cost.

    A program that does not fit into memory is not an error: its report says what it needs.
    """
    start = time.perf_counter()
    traced = step.mapped.jitted.trace(*step.arguments)
    work = traced_work(traced.jaxpr)
    found: dict[str, Any] = dict.fromkeys(("fits", "memory", "traffic", "xla_flops", "text"))
    found |= {"parts": {}, "collectives": work.collectives}
    timed = None
    # GPUs that are only simulated are CPUs
    if target.platform == "tpu" or target.devices[0].platform == "gpu":
        compiled, timed = _compiled(traced, target, step.dtype)
        found |= compiled
    else:
        found |= _exported(step)
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
        dtype=step.dtype,
        remat=step.remat,
        flops=work.flops,
        seconds=time.perf_counter() - start,
        **found,
        **_estimate(timed, work.flops, peak(target, step.dtype)),
    )


def peak(target: Target, dtype: str) -> float | None:
    """FLOP/s of one of a target's devices in matrix products of a dtype; None if unknown."""
    device = target.devices[0]
    name = known_device(device.device_kind)
    if name is None:
        return None
    known, found = DEVICES[name], schedule.core_of(device)
    if found is None:
        return getattr(known, dtype)
    one, cores = found
    # of its cores: libtpu may make a device of each core, while `DEVICES` are chips
    return one.clock * one.flops * cores * getattr(known, dtype) / known.bfloat16


def _estimate(timed: Timed | None, flops: int, peak: float | None) -> dict[str, Any]:
    """Fields of a report from an estimate of its time."""
    if timed is None:
        return {}
    return {
        "seconds_estimated": timed.seconds,
        "share": None if peak is None else timed.share(flops, peak),
        "largest": timed.parts,
        "kernels": timed.kernels,
        "estimated_by": timed.source,
        "without": timed.missing,
    }


def _compiled(traced: Any, target: Target, dtype: str) -> tuple[dict[str, Any], Timed | None]:
    """Fields of a report from the compiled program, or from XLA's error that it does not fit."""
    options = dict(cuda.OPTIONS) if target.platform == "cuda" else None
    try:
        compiled = traced.lower().compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as error:
        needs = refused(error)
        if needs is None:
            raise
        return {"fits": False, "memory": needs[0]}, None
    sizes, text = compiled.memory_analysis(), compiled.as_text()
    program, analysis = Program(text), compiled.cost_analysis()
    # XLA for CUDA analyses nothing
    moved = (
        roofline.traffic(text)
        if analysis is None
        else round(analysis["bytes accessed"]) + program.bytes_of_repeats()
    )
    parts = {
        "arguments": sizes.argument_size_in_bytes,
        "outputs": sizes.output_size_in_bytes,
        "in place": sizes.alias_size_in_bytes,
        "temporaries": sizes.temp_size_in_bytes,
        "code": sizes.generated_code_size_in_bytes,
    }
    # outputs in place are counted three times, as arguments, as outputs and for themselves
    memory = sum(parts.values()) - 2 * parts["in place"]
    found = {
        "fits": target.memory is None or memory <= target.memory,
        "memory": memory,
        "parts": parts,
        "traffic": moved,
        "xla_flops": None if analysis is None else round(analysis.get("flops", 0)),
        "collectives": program.collectives(),
    }
    return found, _timed(text, traced.jaxpr, target, dtype)


def _timed(text: str, jaxpr: core.ClosedJaxpr, target: Target, dtype: str) -> Timed | None:
    """The estimated time of a compiled program; None if its compiler gives none."""
    device = target.devices[0]
    if target.platform == "cuda":
        name = known_device(device.device_kind)
        products = roofline.pallas_products(jaxpr)
        return roofline.roofline(text, DEVICES[name], dtype, products) if name else None
    found = schedule.core_of(device)
    if found is None:
        return None
    one, cores = found
    topology = SMALLEST.get(known_device(target.devices[0].device_kind) or "")
    return schedule.schedule(text, one, cores, known=kernels.kernels(jaxpr, topology))


def _exported(step: Step) -> dict[str, Any]:
    """Fields of a report from lowering for GPUs."""
    unchecked = [jax.export.DisabledSafetyCheck.custom_call(name) for name in _OF_CUDNN]
    export = jax.export.export(step.mapped.jitted, platforms=["cuda"], disabled_checks=unchecked)
    exported = export(*step.arguments)
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
    needs, there = f"{(report.memory or 0) / GIB:.1f} GiB", f"{(report.available or 0) / GIB:.2f}"
    has = f"of its memory JAX allocates {there}" if _gpu(report) else f"a chip has {there}"
    return (
        f"{report.run} on {report.target}: {report.kind} needs {needs} a device, {has}; "
        f"{_remedy(report, config)}"
    )


def _gpu(report: Report) -> Gpu | None:
    return GPUS.get(report.target.partition(":")[0])


def _remedy(report: Report, config: RunConfig) -> str:
    memory, shards = config.memory, config.codebook_shards if report.kind == "training" else 1
    videos = -(-report.videos * shards // report.devices)
    changes, gpu = [], _gpu(report)
    if gpu is not None and (report.memory or 0) < MOST * gpu.memory_bytes:
        changes.append(f"set {FRACTIONS[0]}={MOST:g} in the environment")
    if report.kind == "training":
        changes += [f"set {setting('memory.remat', 'block')}"] * (report.remat != "block")
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
    noun = "chips" if gpu is None else "GPUs"
    more = f"use larger {noun}" if videos == 1 else f"use more {noun}"
    return f"{', '.join(changes)} or {more}" if changes else more
