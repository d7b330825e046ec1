"""How long a run takes by what a compiler says of its programs. Nothing is run."""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

from vtd_jax.cost.cuda import one_gpu
from vtd_jax.cost.estimate import Counted, counted, program, run_calls
from vtd_jax.cost.examine import Report, examine, peak
from vtd_jax.cost.peaks import DEVICES
from vtd_jax.cost.programs import Names
from vtd_jax.cost.topology import GIB, Target, one_tpu
from vtd_jax.train.config import RunConfig


class Chip(NamedTuple):
    """What a compiler compiles for.

    Attributes:
      kind: a key of `DEVICES`.
      target: one device.
      parts: devices of `target` that make one of `DEVICES`.
    """

    kind: str
    target: Target
    parts: int


class CompiledTime(NamedTuple):
    """Seconds of a run, None without an estimate; why not, or where they are from; what they lack.

    Attributes:
      seconds: of all calls of its programs; None without an estimate.
      source: where they are from, or why there are none.
      without: what of the programs has no estimate.
    """

    seconds: float | None
    source: str
    without: tuple[str, ...] = ()


def chip_of(kind: str) -> Chip | None:
    """A device whose compiler is installed here; None for others."""
    target = one_tpu(kind) or one_gpu(kind)
    if target is None:
        return None
    known = peak(target, "bfloat16")
    return Chip(kind, target, round(DEVICES[kind].bfloat16 / known) if known else 1)


def run_time(
    config: RunConfig,
    chip: Chip,
    devices: int,
    *,
    learnt: tuple[int, Names] | None,
    evaluated: Mapping[str, tuple[int, Names]],
    show: Callable[[str], None] = lambda kind: None,
) -> CompiledTime:
    """Compiles the programs of a run for one device with its share of the videos.

    Programs that another run has too are compiled once. What devices send each other is not part
    of it.

    Args:
      config: of the run.
      chip: to compile for.
      devices: how many of them share a batch.
      learnt: videos and class names of the training list; None if nothing is learnt.
      evaluated: split -> its videos and class names.
      show: called with the kind of each program before it is compiled.

    Raises:
      UserError: as `estimate.run_cost`.
    """
    seconds, source, without = 0.0, "", []
    for call in run_calls(config, learnt=learnt, evaluated=evaluated):
        show(call.kind)
        run = counted(config, call.kind, devices * chip.parts)
        report = _report(call.kind, run, call.names, chip)
        if report.fits is False:
            needs = f"{(report.memory or 0) / GIB:.1f} of {(report.available or 0) / GIB:.2f} GiB"
            return CompiledTime(None, f"{call.kind} does not fit a {chip.kind} ({needs})")
        if report.seconds_estimated is None:
            return CompiledTime(None, f"the compiler has no estimate for {call.kind}")
        seconds += call.times * report.seconds_estimated
        source = report.estimated_by
        without += report.without
    return CompiledTime(seconds, source, tuple(dict.fromkeys(without)))


@functools.lru_cache(maxsize=256)
def _report(kind: str, run: Counted, names: Names, chip: Chip) -> Report:
    return examine(program(kind, run.config, chip.target, names), chip.target, run.config.name)
