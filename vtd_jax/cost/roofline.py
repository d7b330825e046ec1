"""The least time that a program compiled for a GPU can take: a bound, nothing was run for it."""

import functools
import math
import re
from collections import defaultdict
from typing import NamedTuple

from vtd_jax.cost.hlo import Instruction, Program, array_bytes
from vtd_jax.cost.peaks import Peak
from vtd_jax.cost.timed import ROOFLINE, Part, Timed

# instructions that start no kernel
_FREE = (
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
    "replica-id",
)  # fmt: skip
# instructions that read only what they return of their first operand
_SLICES = ("dynamic-slice", "slice", "gather")
_ARRAY = re.compile(r"\b[a-z]\w*\[([\d,]*)\]")
# memory that a library may use for itself, the last result of its call
_SCRATCH = re.compile(r", (?:/\*index=\d+\*/)?[su]8\[\d+\]\{0\}\)$")
# in op_name: what wraps the name of a function, and parts that say nothing
_WRAPPED = re.compile(r"\b(?:jit|jvp|transpose|vmap)\(([^()]*)\)")
_SILENT = re.compile(
    "|while|body|cond|branch_[0-9]+_fun|closed_call|checkpoint|shard_map|rematted_computation"
)


class _Kernel(NamedTuple):
    """A kernel and how often it runs.

    Attributes:
      name: its operation and shape.
      bytes: read and written in one run.
      flops: of its products in one run.
      times: in one call of the program.
    """

    name: str
    bytes: int
    flops: int
    times: int


def roofline(text: str, peak: Peak, dtype: str) -> Timed:
    """Adds up the least times of a program's kernels.

    A kernel takes at least the larger of its bytes / bandwidth and its FLOPs / peak. FLOPs are
    those of matrix products, convolutions and attention, but not inside kernels written in Pallas
    or Triton, whose names say so. Of a collective, bytes in memory count, not those between
    devices. A loop counts as often as it runs (once if that is unknown), of a condition the slowest
    branch, and of a slice only what it reads or replaces.

    Args:
      text: of a program compiled for CUDA (`compiled.as_text()`).
      peak: of the device.
      dtype: of the products, "bfloat16" or "float32".

    Returns:
      `parts` are of equal operations and shapes.
    """
    reader = _Reader(Program(text), peak.bandwidth, getattr(peak, dtype))
    kernels = reader.kernels(reader.program.entry, 1)
    parts = (
        Part(found.name, found.times * reader.seconds(found), found.times) for found in kernels
    )
    return Timed.of(parts, sum(found.times for found in kernels), ROOFLINE)


class _Reader:
    """Kernels of a program, with their bytes and FLOPs, for a device's bandwidth and peak."""

    def __init__(self, program: Program, bandwidth: float, peak: float):
        self.program, self._bandwidth, self._peak = program, bandwidth, peak

    def seconds(self, kernel: _Kernel) -> float:
        """Of one run, at least."""
        return max(kernel.bytes / self._bandwidth, kernel.flops / self._peak)

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
        flops = sum(self._flops(inside) for inside in body)
        return _Kernel(_name(instruction), self._moved(instruction, body), flops, times)

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


def _name(instruction: Instruction) -> str:
    """Operation, result, and the pass: "mo,io->mi/dot_general f32[8,64] (backward)"."""
    found = re.search(r'op_name="([^"]*)"', instruction.attributes)
    path = found[1].split(";")[0] if found else ""
    where = ""
    if "transpose(" in path:
        where = " (recomputed)" if "rematted_computation" in path else " (backward)"
    while (shorter := _WRAPPED.sub(r"\1", path)) != path:
        path = shorter
    # the first part is the name of the program
    words = [word for word in path.split("/")[1:] if not _SILENT.fullmatch(word)]
    array = _ARRAY.search(instruction.shape)
    what = "/".join(words[-2:]) or instruction.kind
    if "triton" in instruction.attributes and instruction.kind == "custom-call":
        what += " without its products"
    return what + (f" {array[0]}" if array else "") + where
