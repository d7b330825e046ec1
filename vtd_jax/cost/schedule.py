"""The time of a program compiled for a TPU, by its compiler's schedule. Nothing was run for it."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import jax

from vtd_jax.cost import kernels as pallas
from vtd_jax.cost.frames import Namer
from vtd_jax.cost.hlo import COLLECTIVES, Instruction, Program, array_bytes
from vtd_jax.cost.kernels import Kernel
from vtd_jax.cost.timed import SCHEDULE, Part, Timed
from vtd_jax.terminal import counted

# what a device does not run itself, but what is in it
_AROUND = ("while", "call", "conditional", "async-start")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
# bytes of a reshape that is worth a line: smaller ones take a few microseconds
_LARGE = 2**20
_MOVED = "bytes of reshapes"
# how `Timed.missing` begins for a Pallas kernel
NO_KERNEL = "no estimate for kernel"

Launched = list[tuple[Instruction, int]]


class Core(NamedTuple):
    """A core of a TPU.

    Attributes:
      clock: cycles/s.
      flops: of matrix products in bfloat16, in a cycle.
    """

    clock: float
    flops: int


# JAX's `device_kind` -> its cores. FLOPs a cycle: 4 matrix units of 128² (v4, v5e, v5p), or four
# times that (v6e, TPU7x); clock: the vendor's peak over them. Checked with libtpu 0.0.52: with
# these clocks, its estimate for a product of 4096² is 89, 97, 96, 87 and 81 % of the peak, and that
# for adding 1 to 2**28 numbers 77, 81, 72, 81 and 76 % of the memory's bandwidth.
CORES: Mapping[str, Core] = {
    "TPU v4": Core(1.05e9, 131_072),
    "TPU v5 lite": Core(1.5e9, 131_072),
    "TPU v5": Core(1.75e9, 131_072),
    "TPU v6 lite": Core(1.75e9, 524_288),
    "TPU7x": Core(2.2e9, 524_288),
}


def core_of(device: jax.Device) -> tuple[Core, int] | None:
    """A device's cores and their number; None if its kind is not in `CORES`."""
    if device.device_kind not in CORES:
        return None
    # a device of v5p (and v4, unless libtpu splits it) is two cores
    return CORES[device.device_kind], getattr(device, "num_cores", None) or 1


def schedule(
    text: str,
    core: Core,
    cores: int = 1,
    *,
    known: Sequence[Kernel] = (),
) -> Timed | None:
    """Adds up the cycles that the compiler writes beside the instructions of a program.

    Loops count as often as they run (once if that is unknown), of a conditional the branch that
    takes longest. A Pallas kernel takes its compiled length times the steps of its grid, without
    stalls. What has no estimate is named in `missing`; copies that run beside other work are not.

    Args:
      text: of a program compiled for a TPU (`compiled.as_text()`).
      core: of the device.
      cores: of the device.
      known: Pallas kernels of the traced program, see `kernels.kernels`.

    Returns:
      Parts are of one operation in one place of the source. None if the text has no estimates.
    """
    launched = _launched(Program(text))
    if not any(_cycles(instruction) for instruction, _ in launched):
        return None
    namer = Namer(text)
    parts, missing, count = [], Counter(), 0
    for instruction, times in launched:
        cycles, name = _cycles(instruction), ""
        if pallas.PALLAS in instruction.attributes:
            cycles, name = _kernel_cycles(instruction, known, cores)
            if cycles is None:
                missing[f"{NO_KERNEL} {name}"] += times
        elif cycles is None:
            missing.update(_untimed(instruction, times))
        else:
            name = namer.name(instruction)
        if cycles is not None:
            count += times
            parts.append(Part(name, times * cycles / core.clock, times))
    return Timed.of(parts, count, SCHEDULE, _summary(missing))


def _launched(program: Program) -> Launched:
    """What a device runs in one call, and how often."""

    def inside(computation: str, times: int) -> Iterator[tuple[Instruction, int]]:
        for instruction in program.computations.get(computation, ()):
            if instruction.kind not in _AROUND or _cycles(instruction) is not None:
                yield instruction, times
                continue
            rounds = times * program.rounds(instruction)
            parts = [list(inside(called, rounds)) for called in instruction.called]
            if instruction.kind == "conditional" and parts:
                parts = [max(parts, key=_total)]
            yield from chain.from_iterable(parts)

    return list(inside(program.entry, 1))


def _cycles(instruction: Instruction) -> int | None:
    found = _CYCLES.search(instruction.attributes)
    return int(found[1]) if found else None


def _total(launched: Launched) -> int:
    return sum(times * (_cycles(instruction) or 0) for instruction, times in launched)


def _kernel_cycles(
    instruction: Instruction, known: Sequence[Kernel], cores: int
) -> tuple[int | None, str]:
    """Cycles of a Pallas kernel, None if unknown, and its name."""
    kernel = pallas.called(instruction, known)
    if kernel is None or kernel.length is None:
        return None, pallas.name_of(instruction)
    once = " (loops counted once)" if kernel.loops else ""
    return kernel.length * kernel.steps_on(cores), f"{kernel.name}, Pallas{once}"


def _untimed(instruction: Instruction, times: int) -> Mapping[str, int]:
    """What of an instruction without an estimate takes time: its name, and times or bytes."""
    kind = instruction.kind.removesuffix("-start")
    if kind == "sort" or (kind in COLLECTIVES and not instruction.alone):
        return {kind: times}
    moved = array_bytes(instruction.shape)
    if kind == "reshape" and moved >= _LARGE:
        # between layouts that differ: read and written
        return {_MOVED: 2 * times * moved, "reshape": times}
    return {}


def _summary(missing: Counter) -> tuple[str, ...]:
    found = []
    for name, times in sorted(missing.items()):
        if name == "reshape":
            moved = f"{missing[_MOVED] / 1e9:.3g} GB"
            found.append(f"reshape ({counted(times, 'run')}, moving {moved})")
        elif name != _MOVED:
            found.append(f"{name} ({counted(times, 'run')})")
    return tuple(found)
