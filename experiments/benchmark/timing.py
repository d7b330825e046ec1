"""Timing of jobs that run in turn, round by round, and facts about the machine."""

import dataclasses
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import jax

from vtd_jax.durations import timespan
from vtd_jax.terminal import log

# seconds for which nobody waits without a line
_LONG = 20.0
# the last two where they are installed
VERSIONS = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "transformers")
# parts of a processor that decide how fast it multiplies
_UNITS = [
    "avx2",
    "fma",
    "avx512f",
    "avx512_bf16",
    "avx512_fp16",
    "amx_bf16",
    "amx_fp16",
    "sve",
    "bf16",
    "asimd",
]


class Job(NamedTuple):
    """Something to measure.

    Attributes:
      task: what is computed; jobs of one task are compared.
      variant: who computes it, and in which type.
      run: does it once and returns when the result is there.
      flops: of matrix products and convolutions in one run; None where they are not counted.
      clips: that one run processes; 0 where it has none.
    """

    task: str
    variant: str
    run: Callable[[], Any]
    flops: int | None = None
    clips: int = 0


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of one run of a job in every round; see `Job` for the rest."""

    task: str
    variant: str
    seconds: tuple[float, ...]
    flops: int | None = None
    clips: int = 0

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)

    @property
    def rates(self) -> tuple[float, ...]:
        """FLOP/s of every round; only of a job whose FLOPs are known."""
        return tuple(self.flops / seconds for seconds in self.seconds)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able fields."""
        return dataclasses.asdict(self) | {"median_seconds": self.median}


class Ratio(NamedTuple):
    """A ratio over rounds."""

    median: float
    low: float
    high: float


def ratio(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """Median and range of `above / below` of the same round, so that drift cancels."""
    pairs = [a / b for a, b in zip(above, below, strict=True)]
    return Ratio(statistics.median(pairs), min(pairs), max(pairs))


def best_rates(timings: Iterable[Timing]) -> tuple[float, ...]:
    """The largest FLOP/s of each round, over jobs of the same rounds."""
    return tuple(max(rates) for rates in zip(*(timing.rates for timing in timings), strict=True))


def interleaved(
    jobs: Sequence[Job],
    rounds: int,
    *,
    at_least: float = 0.02,
    pause: float = 0.02,
    known: Sequence[float] | None = None,
) -> list[Timing]:
    """Runs all jobs in turn, round after round, so that other load affects all of them equally.

    Args:
      jobs: in the order in which they run; those to be compared side by side.
      rounds: measured ones. Before them every job runs once unmeasured, and, if that was fast, once
        more.
      at_least: seconds: a job that is faster is repeated within a round, and its seconds are
        divided.
      pause: seconds before each job, in which threads of the last one stop spinning.
      known: seconds of a run of each job, if all have run unmeasured already; they do not again.

    Returns:
      Timings in the order of `jobs`.
    """
    if known is None:
        known = [_warmed_up(job.run, at_least) for job in jobs]
    # rounded up; the clock may not see a very short job at all
    repeats = [min(1000, max(1, round(at_least / max(once, 1e-9) + 0.5))) for once in known]
    seconds: list[list[float]] = [[] for _ in jobs]
    for turn in range(rounds):
        for job, count, found in zip(jobs, repeats, seconds):
            time.sleep(pause)
            found.append(_seconds(job.run, count))
        if turn == 0:
            once = sum(count * found[0] for count, found in zip(repeats, seconds))
            log_wait(once + len(jobs) * pause, rounds)
    return [
        Timing(job.task, job.variant, tuple(found), job.flops, job.clips)
        for job, found in zip(jobs, seconds)
    ]


def log_wait(first: float, rounds: int) -> None:
    """Logs how long the rounds after the first take, if anybody would wonder.

    Args:
      first: seconds of the first.
      rounds: of all.
    """
    if (left := (rounds - 1) * first) > _LONG:
        log(f"round 1 of {rounds} took {timespan(first)}; the others take about {timespan(left)}")


def _seconds(run: Callable[[], Any], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - start) / count


def _warmed_up(run: Callable[[], Any], at_least: float) -> float:
    """Runs a job once or twice; seconds of the last run."""
    # the first run includes one-time costs, so a later one shows how long it takes
    taken = _seconds(run, 1)
    if taken < 10 * at_least or taken < 1:
        taken = _seconds(run, 1)
    return taken


def machine() -> dict[str, Any]:
    """Devices, cores, the processor's units, and versions of Python and libraries."""
    device = jax.devices()[0]
    return {
        "device": f"{jax.device_count()} × {device.device_kind}",
        "platform": device.platform,
        "processor": processor(),
        "cores": len(cores()),
        "python": platform.python_version(),
        **{name: found for name in VERSIONS if (found := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def cores() -> set[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def processor() -> str:
    """The processor's name and its units for fast products, from /proc/cpuinfo."""
    fields: dict[str, str] = {}
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                name, _, value = line.partition(":")
                fields.setdefault(name.strip(), value.strip())
    except OSError:
        return platform.processor() or "unknown"
    there = set((fields.get("flags") or fields.get("Features") or "").split())
    units = " ".join(unit for unit in _UNITS if unit in there)
    return fields.get("model name", "unknown") + (f" ({units})" if units else "")
