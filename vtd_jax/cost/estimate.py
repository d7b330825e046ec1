"""What a run costs before it starts: steps and FLOPs exactly, hours on a device by what is assumed
of it.
"""

import dataclasses
import functools
import statistics
import time
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vtd_jax.cost.hlo import traced_work
from vtd_jax.cost.peaks import DEVICES, Peak
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
# side of the matrices that this machine multiplies, how often it is timed, and seconds of one
# timing
_SIDE, _ROUNDS, _SECONDS = 1024, 5, 0.2


class RunCost(NamedTuple):
    """What a run does.

    Attributes:
      steps: micro-batches.
      updates: of the parameters.
      training_flops: of matrix products in all steps, recomputation included.
      evaluation_flops: of all evaluations: those while training with one view, the last with all,
        codebooks included.
    """

    steps: int
    updates: int
    training_flops: int
    evaluation_flops: int

    @property
    def flops(self) -> int:
        """All of them."""
        return self.training_flops + self.evaluation_flops


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """A row of a plan: the run's name, the videos that it learns on (0: none), its epochs, cost and
    hours.
    """

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
    """Counts a run's work as one device would do it; traces programs, and compiles and reads
    nothing.

    Several devices share the work; what they do twice (a codebook on each, padding to equal parts)
    is not counted.

    Args:
      config: of the run.
      learnt: videos and class names of the training list; None where nothing is learnt.
      evaluated: split -> its videos and class names.

    Raises:
      UserError: a batch that is larger than the list with `drop_remainder`, or a config without an
        architecture.
    """
    views = config.evaluate.temporal_views * config.evaluate.spatial_views
    score = codebook = 0
    for videos, names in evaluated.values():
        batch, encoding = _evaluation_flops(_counted(config, config.evaluate.batch_size), names)
        score += batch * BatchSpec(
            "eval", config.data.frames, 1, config.evaluate.batch_size
        ).per_epoch(videos)
        codebook += encoding
    if learnt is None:
        return RunCost(0, 0, 0, views * score + codebook)
    videos, names = learnt
    spec = BatchSpec(
        "train",
        config.data.frames,
        1,
        config.data.batch_size,
        drop_remainder=config.data.drop_remainder,
    )
    spec.check(videos)
    steps = spec.per_epoch(videos) * config.optimizer.epochs
    every = config.evaluate.every_epochs
    # the last epoch's evaluation is the one with all views
    early = (config.optimizer.epochs - 1) // every if every else 0
    counted = _counted(config, config.data.batch_size, config.on_nonfinite)
    training = _training_flops(counted, names)
    return RunCost(
        steps,
        steps // config.optimizer.gradient_accumulation_steps,
        steps * training,
        (early + views) * score + (early + 1) * codebook,
    )


def hours(cost: RunCost, device: str, count: int, utilization: float, dtype: str) -> float:
    """Hours that a run takes if devices reach this share of their peak all the time; reading videos
    is not part of it.

    Args:
      cost: of the run.
      device: a key of `DEVICES`, or "here" for this machine, whose peak is measured.
      count: devices. Of "here", devices that are there: simulated ones share a processor, so they
        count as 1.
      utilization: share of the peak that is reached, above 0 and up to 1; an assumption, to be told
        with the hours.
      dtype: "float32" or "bfloat16", the config's `clip.dtype`.

    Raises:
      UserError: an unknown device or type, or numbers out of their range.
    """
    return cost.flops / (_rate(device, count, utilization, dtype) * 3600)


def assumptions(device: str, count: int, utilization: float, dtype: str) -> str:
    """What `hours` assumes, in one line; the same arguments."""
    _rate(device, count, utilization, dtype)
    source = "measured on this machine" if device == HERE else "the vendor's peak"
    if (
        device in DEVICES
        and dtype == "float32"
        and DEVICES[device].float32 < DEVICES[device].bfloat16
    ):
        source += " outside the tensor cores; in TF32 it would be faster"
    return (
        f"an estimate for {count} × {device}: {peak(device, dtype) / 1e12:.3g} TFLOP/s each in "
        f"{dtype} ({source}), {100 * utilization:g} % of it reached (assumed); reading videos and "
        "compiling are not part of it"
    )


def peak(device: str, dtype: str) -> float:
    """FLOP/s of one device: of `DEVICES`, or measured for "here".

    Raises:
      UserError: an unknown device or type.
    """
    if dtype not in Peak._fields:
        raise UserError(f"dtype {dtype!r}: expected one of {', '.join(Peak._fields)}")
    if device == HERE:
        return _measured(dtype)
    if device not in DEVICES:
        raise UserError(
            f"device {device!r}: its peak is not known, expected one of "
            f"{', '.join((*DEVICES, HERE))}"
        )
    return getattr(DEVICES[device], dtype)


def plan_table(rows: Sequence[PlannedRun], assumed: str = "") -> Table:
    """One row a run, and their total.

    Args:
      rows: at least one.
      assumed: what the times rest on, see `assumptions`; told below the table.

    Raises:
      UserError: no rows.
    """
    if not rows:
        raise UserError("plan: no runs in it, expected at least one")
    cells = [
        _cells(row.name, row.cost, row.hours) | {_ON: row.videos or None, "epochs": _epochs(row)}
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
    # --only takes the names of runs, so they are never wrapped
    less = ("epochs", _ON, "steps", "evaluation TFLOP", "training TFLOP")
    return Table(
        "Plan: what the runs cost", columns, tuple(cells), about, whole=("run",), less=less
    )


def _epochs(row: PlannedRun) -> int | None:
    return row.epochs if row.videos else None


def _cells(name: str, cost: RunCost, time_taken: float) -> dict[str, str | int | None]:
    return {
        "run": name,
        "steps": cost.steps or None,
        "training TFLOP": _rounded(cost.training_flops / 1e12) if cost.steps else None,
        "evaluation TFLOP": _rounded(cost.evaluation_flops / 1e12),
        "time": timespan(3600 * time_taken),
    }


def _rounded(value: float) -> str:
    """Three digits, and all of those before the point."""
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
    """FLOP/s of this process's first device, the median of some rounds of matrix products; takes
    about a second.
    """
    matrix = jax.device_put(jnp.full((_SIDE, _SIDE), 1 / _SIDE, dtype), jax.local_devices()[0])
    multiply = jax.jit(jnp.matmul)
    multiply(matrix, matrix).block_until_ready()
    rates = []
    for _ in range(_ROUNDS):
        done, start = 0, time.perf_counter()
        while (taken := time.perf_counter() - start) < _SECONDS:
            # a few at once, so that a fast device is kept busy
            jax.block_until_ready([multiply(matrix, matrix) for _ in range(4)])
            done += 4
        rates.append(2 * _SIDE**3 * done / taken)
    return statistics.median(rates)


@dataclasses.dataclass(frozen=True)
class _Counted:
    """A config whose work is counted.

    Two are equal where all that the work depends on is equal: runs that differ in rates, seeds or
    videos share one tracing.
    """

    depends_on: tuple[Hashable, ...]
    config: RunConfig = dataclasses.field(compare=False)


def _counted(config: RunConfig, *depends_on: Hashable) -> _Counted:
    """The same run on one device, of frames, with one view.

    Args:
      config: of the run.
      *depends_on: settings that the work depends on, besides the model's.
    """
    # where an architecture is named, nothing is read from the path
    path = "" if config.clip.architecture else config.clip.path
    config = dataclasses.replace(
        config,
        parallel="shard_map",
        devices=1,
        codebook_shards=1,
        clip=dataclasses.replace(config.clip, path=path),
        data=dataclasses.replace(config.data, stored_views=0),
        evaluate=dataclasses.replace(config.evaluate, temporal_views=1, spatial_views=1),
    )
    parts = (config.clip, config.model, config.memory, config.data.frames)
    return _Counted((*parts, *depends_on), config)


@functools.lru_cache(maxsize=256)
def _training_flops(run: _Counted, names: Names) -> int:
    """Of one step."""
    return _flops(training_step(run.config, _one_device(), names))


@functools.lru_cache(maxsize=256)
def _evaluation_flops(run: _Counted, names: Names) -> tuple[int, int]:
    """Of scoring one view of a batch (views go one after another), and of a codebook."""
    score, codebook = evaluation_steps(run.config, _one_device(), names)
    return _flops(score), _flops(codebook)


def _one_device() -> Target:
    device = jax.local_devices()[0]
    return Target("one device", device.platform, (device,), None)


def _flops(step: Step) -> int:
    return traced_work(step.mapped.jitted.trace(*step.arguments).jaxpr).flops
