"""Compiles programs and measures them in turn, within a number of minutes."""

import dataclasses
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from experiments.benchmark.device.build import Built
from experiments.benchmark.device.choices import Choice
from experiments.benchmark.timing import Job, Timing, interleaved
from vtd_jax.cost.timed import Timed
from vtd_jax.cost.topology import GIB, first_line, refused
from vtd_jax.terminal import log

# seconds of a fast job in a round, and before each job
_AT_LEAST, _PAUSE = 0.02, 0.02


@dataclasses.dataclass
class Row:
    """A program and what was found; None for what was not.

    Attributes:
      choice: the program.
      built: compiled.
      timing: of its runs.
      estimate: of its time, by the compiler.
      problem: why it was not measured, such as too little memory; "" if it was.
    """

    choice: Choice
    built: Built | None = None
    timing: Timing | None = None
    estimate: Timed | None = None
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Found:
    """What was measured.

    Attributes:
      rows: in the order of the choices.
      left_out: choices for which there was no time.
      unestimated: choices that were measured, and for whose estimates there was no time.
      rounds: measured ones.
      compiling: (choice, seconds) in order.
    """

    rows: tuple[Row, ...]
    left_out: tuple[Choice, ...]
    rounds: int
    compiling: tuple[tuple[Choice, float], ...]
    unestimated: tuple[Choice, ...] = ()


class Budget:
    """A number of seconds, and what is left of them."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic):
        """`clock` gives seconds."""
        self._clock, self._end = clock, clock() + seconds

    @property
    def left(self) -> float:
        """Seconds; negative where they are over."""
        return self._end - self._clock()


def measured(
    choices: Sequence[Choice],
    build: Callable[[Choice], Built],
    rounds: int,
    budget: Budget,
    clock: Callable[[], float] = time.monotonic,
    *,
    spare: float = 0.0,
) -> Found:
    """Compiles what there is time for, then measures it in interleaved rounds.

    A program that fails is a row with its problem. The first choice is always compiled, another one
    if there is time for all rounds and for compiling as long as the longest of its task so far (of
    all tasks, if it is the first of its task). What was measured is estimated after that.

    Args:
      choices: the most important first.
      build: compiles one.
      rounds: at most.
      budget: for all of it but the estimates.
      clock: seconds.
      spare: seconds for estimates, beside what is left of the budget.
    """
    rows: list[Row] = []
    compiling: list[tuple[Choice, float]] = []
    left_out: list[Choice] = []
    longest: dict[str, float] = {}
    known: list[float] = []
    once = 0.0
    for choice in choices:
        expected = longest.get(choice.task, max(longest.values(), default=0.0))
        if rows and budget.left < expected + rounds * once:
            left_out.append(choice)
            continue
        start = clock()
        row, seconds = _prepared(choice, build, clock)
        taken = clock() - start
        rows.append(row)
        known += [] if row.problem else [seconds]
        longest[choice.task] = max(longest.get(choice.task, 0.0), taken)
        once += 0.0 if row.problem else max(seconds, _AT_LEAST) + _PAUSE
        compiling.append((choice, taken))
        log(f"{choice.name}: {row.problem or 'ready'} after {taken:.1f} s")
    guarded = [_Guarded(row) for row in rows if not row.problem]
    # as many rounds as there is time for
    fit = int(budget.left / once) if once else rounds
    rounds = max(1, min(rounds, fit))
    log(f"{len(guarded)} programs, {rounds} rounds")
    jobs = [Job(g.row.choice.task, g.row.choice.variant, g.run) for g in guarded]
    timings = interleaved(jobs, rounds, at_least=_AT_LEAST, pause=_PAUSE, known=known)
    unestimated = []
    for one, timing in zip(guarded, timings, strict=True):
        if one.row.problem or one.row.built is None:
            continue
        one.row.timing = timing
        if budget.left + spare > 0:
            one.row.estimate = one.row.built.estimate()
        else:
            unestimated.append(one.row.choice)
    return Found(tuple(rows), tuple(left_out), rounds, tuple(compiling), tuple(unestimated))


def problem(error: Exception) -> str:
    """Why a program cannot run, in one line; of memory how much it needs where XLA says so."""
    text = str(error)
    if not re.search(r"RESOURCE_EXHAUSTED|out of memory", text, re.I):
        return f"failed: {first_line(error)}"
    if (sizes := refused(error)) is None:
        return "out of memory"
    needs, there = (size / GIB for size in sizes)
    return f"out of memory: needs {needs:.1f} of {there:.2f} GiB"


def _prepared(
    choice: Choice, build: Callable[[Choice], Built], clock: Callable[[], float]
) -> tuple[Row, float]:
    """A row, compiled and run twice, and the seconds of its second run."""
    try:
        built = build(choice)
        built.run()
        start = clock()
        built.run()
    # whatever is wrong with one program on a new device, the others are worth measuring
    except Exception as error:
        return Row(choice, problem=problem(error)), 0.0
    return Row(choice, built), clock() - start


class _Guarded:
    """Runs a row's program until it fails, then does nothing."""

    def __init__(self, row: Row):
        self.row = row

    def run(self) -> Any:
        if self.row.problem or self.row.built is None:
            return None
        try:
            return self.row.built.run()
        # memory may be too small only beside the other programs
        except Exception as error:
            self.row.problem = problem(error)
            return None
