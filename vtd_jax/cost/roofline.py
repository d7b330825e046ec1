"""The least time that a program compiled for a GPU can take: a bound, nothing was run for it."""

import functools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from jax.extend import core

from vtd_jax.cost.frames import Namer
from vtd_jax.cost.hlo import (
    Instruction,
    Program,
    array_bytes,
    grid_steps,
    pallas_calls,
    traced_work,
)
from vtd_jax.cost.kernels import name_of
from vtd_jax.cost.peaks import Peak
from vtd_jax.cost.timed import ROOFLINE, Part, Timed
from vtd_jax.terminal import counted

# instructions that start no kernel
_FREE = (
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
    "replica-id",
)  # fmt: skip
# instructions that read only what they return of their first operand
_SLICES = ("dynamic-slice", "slice", "gather")
_ARRAY = re.compile(r"\b[a-z]\w*\[([\d,]*)\]")
_PALLAS = 'custom_call_target="__gpu$xla.gpu.triton"'
# memory that a library may use for itself, the last result of its call
_SCRATCH = re.compile(r", (?:/\*index=\d+\*/)?[su]8\[\d+\]\{0\}\)$")


class _Kernel(NamedTuple):
    """A kernel and how often it runs.

    Attributes:
      instruction: that starts it.
      bytes: read and written in one run.
      flops: of its products in one run; None if unknown.
      times: in one call of the program.
    """

    instruction: Instruction
    bytes: int
    flops: int | None
    times: int


def roofline(text: str, peak: Peak, dtype: str, products: Mapping[str, int] | None = None) -> Timed:
    """Adds up the least times of a program's kernels.

    A kernel takes at least the larger of its bytes / bandwidth and its FLOPs / peak. FLOPs are
    those of matrix products, convolutions and attention. Of a collective, bytes in memory count,
    not those between devices. A loop counts as often as it runs (once if that is unknown), of a
    condition the slowest branch, and of a slice only what it reads or replaces.

    Args:
      text: of a program compiled for CUDA (`compiled.as_text()`).
      peak: of the device.
      dtype: of the products, "bfloat16" or "float32".
      products: name of a Pallas kernel -> its FLOPs, see `pallas_products`. Others count by their
        bytes, and are in `missing`.

    Returns:
      `parts` are of one operation in one place of the source.
    """
    reader = _Reader(Program(text), peak.bandwidth, getattr(peak, dtype), products or {})
    namer, parts, unknown = Namer(text), [], Counter()
    kernels = reader.kernels(reader.program.entry, 1)
    for kernel in kernels:
        name = namer.name(kernel.instruction)
        if _PALLAS in kernel.instruction.attributes:
            name = f"{name_of(kernel.instruction)}, Pallas"
        if kernel.flops is None:
            unknown[name] += kernel.times
        parts.append(Part(name, kernel.times * reader.seconds(kernel), kernel.times))
    missing = (f"products in {name} ({counted(unknown[name], 'run')})" for name in sorted(unknown))
    return Timed.of(parts, sum(kernel.times for kernel in kernels), ROOFLINE, tuple(missing))


def traffic(text: str) -> int:
    """Bytes that the kernels of a program for CUDA read and write, counted as by `roofline`."""
    reader = _Reader(Program(text), 1.0, math.inf, {})
    kernels = reader.kernels(reader.program.entry, 1)
    return sum(kernel.times * kernel.bytes for kernel in kernels)


def pallas_products(jaxpr: core.ClosedJaxpr) -> dict[str, int]:
    """Name of a Pallas kernel in a traced program -> FLOPs of its products in one call.

    Of several kernels of one name it is the least.
    """
    found: dict[str, int] = {}
    for equation in pallas_calls(jaxpr):
        inside = core.ClosedJaxpr(equation.params["jaxpr"], ())
        flops = grid_steps(equation) * traced_work(inside).flops
        name = str(equation.params.get("name") or "kernel")
        found[name] = min(flops, found.get(name, flops))
    return found


class _Reader:
    """Kernels of a program, with their bytes and FLOPs, for a device's bandwidth and peak."""

    def __init__(
        self, program: Program, bandwidth: float, peak: float, products: Mapping[str, int]
    ):
        self.program, self._products = program, products
        self._bandwidth, self._peak = bandwidth, peak

    def seconds(self, kernel: _Kernel) -> float:
        """Of one run, at least."""
        return max(kernel.bytes / self._bandwidth, (kernel.flops or 0) / self._peak)

    def kernels(self, computation: str, times: int) -> list[_Kernel]:
        """All kernels that a computation starts when it runs `times` times."""
        found: list[_Kernel] = []
        for instruction in self.program.computations.get(computation, ()):
            kind = instruction.kind
            if kind in ("while", "call", "async-start"):
                rounds = times * self.program.rounds(instruction)
                for called in instruction.called:
                    found += self.kernels(called, rounds)
            elif kind == "conditional":
                branches = [self.kernels(called, times) for called in instruction.called]
                found += max(branches, key=self._total, default=[])
            elif kind not in _FREE and not kind.endswith(("-done", "-update")):
                found.append(self._kernel(instruction, times))
        return found

    def _total(self, kernels: list[_Kernel]) -> float:
        return sum(kernel.times * self.seconds(kernel) for kernel in kernels)

    def _kernel(self, instruction: Instruction, times: int) -> _Kernel:
        body = [instruction]
        if instruction.kind == "fusion":
            body = self.program.computations.get(instruction.called[0], body)
        if _PALLAS in instruction.attributes:
            flops = self._products.get(name_of(instruction))
        else:
            flops = sum(self._flops(inside) for inside in body)
        return _Kernel(instruction, self._moved(instruction, body), flops, times)

    def _moved(self, instruction: Instruction, body: list[Instruction]) -> int:
        """Bytes that a kernel reads and writes.

        Args:
          instruction: that starts it.
          body: what is fused in it; the instruction itself if it is no fusion.
        """
        if body == [instruction]:
            reads = (
                self._read(instruction, place, self._sizes.get(name, 0))
                for place, name in enumerate(instruction.operands)
            )
            return sum(reads) + self._written(instruction)
        users: dict[str, list[tuple[Instruction, int]]] = defaultdict(list)
        for inside in body:
            for place, name in enumerate(inside.operands):
                users[name].append((inside, place))
        parameters = [inside.name for inside in body if inside.kind == "parameter"]
        # the result is the last line
        return sum(self._reads(name, users) for name in parameters) + self._written(body[-1])

    def _reads(self, name: str, users: dict[str, list[tuple[Instruction, int]]]) -> int:
        """Bytes that the users of an array inside a fusion read of it."""
        whole, total = self._sizes[name], 0
        for user, place in users[name]:
            if user.kind == "bitcast":
                total += self._reads(user.name, users)
            else:
                total += self._read(user, place, whole)
        return min(total, whole)

    def _read(self, user: Instruction, place: int, whole: int) -> int:
        """Bytes that an instruction reads of an operand of `whole` bytes."""
        if user.kind == "tuple":
            return 0
        if place == 0 and user.kind in _SLICES:
            return min(array_bytes(user.shape), whole)
        return 0 if place == 0 and user.kind == "dynamic-update-slice" else whole

    def _written(self, instruction: Instruction) -> int:
        """Bytes of a result that are written; an update in place writes the update."""
        kind, operands = instruction.kind, instruction.operands
        if kind == "dynamic-update-slice":
            return self._sizes[operands[1]]
        if kind in ("tuple", "bitcast"):
            return sum(self._written(self._by_name[name]) for name in operands)
        return array_bytes(_SCRATCH.sub(")", instruction.shape))

    def _flops(self, instruction: Instruction) -> int:
        """FLOPs of one product, convolution or attention; 0 of anything else."""
        target = re.search(r'custom_call_target="([^"]*)"', instruction.attributes)
        kind = target[1] if target else instruction.kind
        shapes = [_axes(self._by_name[name].shape) for name in instruction.operands]
        if kind == "dot" or "cublas" in kind:
            found = re.search(
                r'lhs_contracting_dim(?:ension)?s(?:"?[:=])[\[{]([^\]}]*)', instruction.attributes
            )
            over = (int(axis) for axis in re.findall(r"\d+", found[1] if found else ""))
            return 2 * math.prod(_axes(instruction.shape)) * math.prod(shapes[0][a] for a in over)
        if "fmha" in kind:
            # two products of the queries forward, five backward: [B, T, heads, width], [B, S, …]
            return (10 if "Backward" in kind else 4) * math.prod(shapes[0]) * shapes[1][1]
        if kind == "convolution" or "$conv" in kind:
            return _convolution(kind, instruction, shapes)
        return 0

    @functools.cached_property
    def _by_name(self) -> dict[str, Instruction]:
        every = (found for lines in self.program.computations.values() for found in lines)
        return {found.name: found for found in every}

    @functools.cached_property
    def _sizes(self) -> dict[str, int]:
        return {name: array_bytes(found.shape) for name, found in self._by_name.items()}


def _convolution(kind: str, instruction: Instruction, shapes: list[list[int]]) -> int:
    """FLOPs of a convolution or of a gradient of one."""
    result = _axes(instruction.shape)
    outputs, kernel = result, shapes[1]
    if "BackwardInput" in kind:
        outputs = shapes[0]
    elif "BackwardFilter" in kind:
        outputs, kernel = shapes[1], result
    labels = re.search(r"dim_labels=\w+_(\w+)->", instruction.attributes)
    features = kernel[labels[1].index("o")] if labels else 1
    return 2 * math.prod(outputs) * math.prod(kernel) // features


def _axes(shape: str) -> list[int]:
    """Axes of an array, or of the first one of a tuple."""
    found = _ARRAY.search(shape)
    return [int(axis) for axis in found[1].split(",") if axis] if found else []
