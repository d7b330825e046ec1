"""What a run costs before it starts: exact steps and FLOPs, and estimated hours on a device."""

import dataclasses
import functools
import statistics
import time
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vtd_jax.cost.hlo import traced_work
from vtd_jax.cost.peaks import DEVICES, DTYPES, float32_note
from vtd_jax.cost.programs import Names, Step, training_step
from vtd_jax.cost.tables import evaluation_steps
from vtd_jax.cost.topology import Target
from vtd_jax.durations import timespan
from vtd_jax.errors import UserError
from vtd_jax.evaluate.tables import Table
from vtd_jax.train.config import RunConfig
from vtd_jax.video.batches import BatchSpec

HERE = "here"
_ON = "learns on (videos)"
# measurement of this machine: side of the matrices, number of timings, seconds of one timing
_SIDE, _ROUNDS, _SECONDS = 1024, 5, 0.2


class RunCost(NamedTuple):
    """Work of a run.

    Attributes:
      steps: micro-batches.
      updates: of the parameters.
      training_flops: of matrix products in all steps, with recomputation.
      evaluation_flops: of all evaluations, with codebooks: those during training have one view, the
        last one all views.
    """

    steps: int
    updates: int
    training_flops: int
    evaluation_flops: int

    @property
    def flops(self) -> int:
        """All of them."""
        return self.training_flops + self.evaluation_flops


class Call(NamedTuple):
    """A program of a run: "training", "evaluation" (of one view) or "codebook", and its calls."""

    kind: str
    times: int
    names: Names


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """A row of a plan: name of the run, training videos (0 for none), epochs, cost and hours."""

    name: str
    videos: int
    epochs: int
    cost: RunCost
    hours: float


def run_cost(
    config: RunConfig,
    *,
    learnt: tuple[int, Names] | None,
    evaluated: Mapping[str, tuple[int, Names]],
) -> RunCost:
    """Counts the work of a run on one device. Traces programs, but compiles and reads nothing.

    The redundant work of several devices (a codebook on each, padding) is not counted.

    Args:
      config: of the run.
      learnt: videos and class names of the training list; None if nothing is learnt.
      evaluated: split -> its videos and class names.

    Raises:
      UserError: a batch larger than the list with `drop_remainder`, or a config without an
        architecture.
    """
    steps = training = evaluation = 0
    for call in run_calls(config, learnt=learnt, evaluated=evaluated):
        flops = call.times * _call_flops(call.kind, counted(config, call.kind), call.names)
        if call.kind == "training":
            steps, training = call.times, flops
        else:
            evaluation += flops
    return RunCost(
        steps, steps // config.optimizer.gradient_accumulation_steps, training, evaluation
    )


def run_calls(
    config: RunConfig,
    *,
    learnt: tuple[int, Names] | None,
    evaluated: Mapping[str, tuple[int, Names]],
) -> tuple[Call, ...]:
    """The programs that a run calls: its steps, views of batches to score, and codebooks.

    Arguments and errors are those of `run_cost`.
    """
    found, early = [], 0
    if learnt is not None:
        (videos, names), data = learnt, config.data
        spec = BatchSpec(
            "train", data.frames, 1, data.batch_size, drop_remainder=data.drop_remainder
        )
        spec.check(videos)
        found.append(Call("training", spec.per_epoch(videos) * config.optimizer.epochs, names))
        every = config.evaluate.every_epochs
        # the evaluation of the last epoch has all views
        early = (config.optimizer.epochs - 1) // every if every else 0
    views = config.evaluate.temporal_views * config.evaluate.spatial_views
    scored = BatchSpec("eval", config.data.frames, 1, config.evaluate.batch_size)
    for videos, names in evaluated.values():
        found.append(Call("evaluation", (early + views) * scored.per_epoch(videos), names))
        found.append(Call("codebook", early + 1, names))
    return tuple(found)


def hours(cost: RunCost, device: str, count: int, utilization: float, dtype: str) -> float:
    """Hours of a run at a constant share of the devices' peak, without reading videos.

    Args:
      cost: of the run.
      device: a key of `DEVICES`, or "here" for this machine, whose peak is measured.
      count: number of devices. For "here", simulated devices share a processor and count as 1.
      utilization: assumed share of the peak, above 0 and up to 1.
      dtype: "float32" or "bfloat16", the config's `clip.dtype`.

    Raises:
      UserError: an unknown device or dtype, or numbers out of range.
    """
    return cost.flops / (_rate(device, count, utilization, dtype) * 3600)


def assumptions(device: str, count: int, utilization: float, dtype: str) -> str:
    """The assumptions of `hours` in one line; the same arguments."""
    _rate(device, count, utilization, dtype)
    source = "measured on this machine" if device == HERE else "the vendor's peak"
    if dtype == "float32" and device != HERE:
        source += f" {float32_note(device)}"
    return (
        f"an estimate for {count} × {device}: {peak(device, dtype) / 1e12:.3g} TFLOP/s each in "
        f"{dtype} ({source}), {100 * utilization:g} % of it reached (assumed); reading videos and "
        "compiling are not part of it"
    )


def peak(device: str, dtype: str) -> float:
    """FLOP/s of one device: of `DEVICES`, or measured for "here".

    Raises:
      UserError: an unknown device or dtype.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    if device == HERE:
        return _measured(dtype)
    if device not in DEVICES:
        known = ", ".join((*DEVICES, HERE))
        raise UserError(f"device {device!r}: unknown peak, expected one of {known}")
    return getattr(DEVICES[device], dtype)


def plan_table(rows: Sequence[PlannedRun], assumed: str = "") -> Table:
    """One row a run, and their total.

    Args:
      rows: at least one.
      assumed: see `assumptions`; a line below the table.

    Raises:
      UserError: no rows.
    """
    if not rows:
        raise UserError("plan: no runs in it, expected at least one")
    cells = [
        _cells(row.name, row.cost, row.hours)
        | {_ON: row.videos or None, "epochs": row.epochs if row.videos else None}
        for row in rows
    ]
    total = RunCost(*(sum(column) for column in zip(*(row.cost for row in rows), strict=True)))
    cells.append(_cells("total", total, sum(row.hours for row in rows)))
    about = {
        "FLOPs": (
            "of the matrix products of all steps and evaluations, traced on one device, "
            "recomputation included"
        )
    }
    if assumed:
        about["time"] = assumed
    columns = ("run", _ON, "epochs", "steps", "training TFLOP", "evaluation TFLOP", "time")
    # names of runs are copied into commands, so they are never wrapped
    less = ("epochs", _ON, "steps", "evaluation TFLOP", "training TFLOP")
    return Table(
        "Plan: what the runs cost", columns, tuple(cells), about, whole=("run",), less=less
    )


def _cells(name: str, cost: RunCost, time_taken: float) -> dict[str, str | int | None]:
    return {
        "run": name,
        "steps": cost.steps or None,
        "training TFLOP": _rounded(cost.training_flops / 1e12) if cost.steps else None,
        "evaluation TFLOP": _rounded(cost.evaluation_flops / 1e12),
        "time": timespan(3600 * time_taken),
    }


def _rounded(value: float) -> str:
    """Three significant digits, but no exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _rate(device: str, count: int, utilization: float, dtype: str) -> float:
    """FLOP/s of all devices."""
    if count < 1:
        raise UserError(f"devices {count}: expected 1 or more")
    if not 0 < utilization <= 1:
        raise UserError(
            f"utilization {utilization:g}: expected a share of the peak, above 0 and up to 1"
        )
    return peak(device, dtype) * count * utilization


@functools.lru_cache(maxsize=2)
def _measured(dtype: str) -> float:
    """FLOP/s of the first device in matrix products, a median; takes about a second."""
    matrix = jax.device_put(jnp.full((_SIDE, _SIDE), 1 / _SIDE, dtype), jax.local_devices()[0])
    multiply = jax.jit(jnp.matmul)
    # compiles
    multiply(matrix, matrix).block_until_ready()
    rates = []
    for _ in range(_ROUNDS):
        done, start = 0, time.perf_counter()
        while (taken := time.perf_counter() - start) < _SECONDS:
            # several at once keep a fast device busy
            jax.block_until_ready([multiply(matrix, matrix) for _ in range(4)])
            done += 4
        rates.append(2 * _SIDE**3 * done / taken)
    return statistics.median(rates)


@dataclasses.dataclass(frozen=True)
class Counted:
    """A config, equal to others with the same work: different learning rates or seeds are ignored,
    so that such runs are traced once.
    """

    depends_on: tuple[Hashable, ...]
    config: RunConfig = dataclasses.field(compare=False)


def counted(config: RunConfig, kind: str, devices: int = 1) -> Counted:
    """The run on one device, from frames, with one view.

    Args:
      config: of the run.
      kind: of the program, see `Call`.
      devices: that share a batch, of which this is one.
    """
    training, evaluation = (
        -(-size // devices) for size in (config.data.batch_size, config.evaluate.batch_size)
    )
    # settings that the work depends on, beside those of the model
    depends_on = (training, config.on_nonfinite) if kind == "training" else (evaluation,)
    # with an architecture, nothing is read from the path
    path = "" if config.clip.architecture else config.clip.path
    config = dataclasses.replace(
        config,
        parallel="shard_map",
        devices=1,
        codebook_shards=1,
        clip=dataclasses.replace(config.clip, path=path),
        data=dataclasses.replace(config.data, features="", stored_views=0, batch_size=training),
        evaluate=dataclasses.replace(
            config.evaluate, temporal_views=1, spatial_views=1, batch_size=evaluation
        ),
    )
    parts = (config.clip, config.model, config.memory, config.data.frames)
    return Counted((*parts, *depends_on), config)


@functools.lru_cache(maxsize=256)
def _call_flops(kind: str, run: Counted, names: Names) -> int:
    """FLOPs of one call."""
    return _flops(program(kind, run.config, _one_device(), names))


def program(kind: str, config: RunConfig, target: Target, names: Names) -> Step:
    """The program of a `Call`."""
    if kind == "training":
        return training_step(config, target, names)
    return {step.kind: step for step in evaluation_steps(config, target, names)}[kind]


def _one_device() -> Target:
    device = jax.local_devices()[0]
    return Target("one device", device.platform, (device,), None)


def _flops(step: Step) -> int:
    return traced_work(step.mapped.jitted.trace(*step.arguments).jaxpr).flops
