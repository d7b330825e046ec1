"""FLOPs, memory traffic and collectives of a program, from its jaxpr or HLO text."""

import functools
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jax.extend import core
from jax.interpreters import partial_eval

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
# JAX's primitives of cuDNN's attention -> products in it; backwards the scores are computed again
_ATTENTION = {"dot_product_attention_fwd_wrapper": 2, "dot_product_attention_bwd_wrapper": 5}
# JAX's primitives -> collectives
_PRIMITIVES = {
    "psum": "all-reduce",
    "psum_invariant": "all-reduce",
    "pmax": "all-reduce",
    "pmin": "all-reduce",
    "all_gather": "all-gather",
    "all_gather_invariant": "all-gather",
    "reduce_scatter": "reduce-scatter",
    "ppermute": "collective-permute",
    "all_to_all": "all-to-all",
}
_BITS = {"pred": 8, "token": 0, "c64": 64, "c128": 128, "bf16": 16}
# instructions that move nothing
_FREE = (
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "while", "call",
    "conditional",
)  # fmt: skip
_INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<shape>.*?) (?P<kind>[a-z][\w\-]*)\((?P<rest>.*)$"
)
# groups of one device each: nothing is sent
_ALONE = re.compile(r"\breplica_groups=(?:\{\{\d+\}(?:,\{\d+\})*\}|\[\d+,1\])")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")


class Sent(NamedTuple):
    """Collectives of one kind: their number, and bytes of their results on a device."""

    count: int
    bytes: int


class Work(NamedTuple):
    """Work of one device in one call.

    Attributes:
      flops: of matrix products and convolutions as traced, with recomputation.
      collectives: by kind, as traced; XLA may combine some.
    """

    flops: int
    collectives: Mapping[str, Sent]


def traced_work(jaxpr: core.ClosedJaxpr) -> Work:
    """Counts the work of a traced program; loops as often as they run, once if unknown."""
    flops, found = 0, []
    for equation, times, sizes in _equations(jaxpr.jaxpr, 1, {}):
        name = equation.primitive.name
        if name == "dot_general":
            flops += times * _product(equation)
        elif name == "pallas_call" and _known_flops(equation) is not None:
            flops += times * (_known_flops(equation) or 0)
        elif name in _ATTENTION:
            flops += times * _ATTENTION[name] * _scores(equation)
        elif name == "conv_general_dilated":
            flops += times * _convolution(equation)
        elif name in _PRIMITIVES and _parties(equation, sizes) > 1:
            size = sum(out.aval.size * out.aval.dtype.itemsize for out in equation.outvars)
            found.append((_PRIMITIVES[name], times, size))
    return Work(flops, _sum_up(found))


def needed(jaxpr: core.ClosedJaxpr) -> core.ClosedJaxpr:
    """A traced program without dead code, which XLA removes, such as unused gradients."""
    kept, _ = partial_eval.dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars))
    return core.ClosedJaxpr(kept, jaxpr.consts)


def _equations(
    jaxpr: core.Jaxpr, times: int, sizes: Mapping[str, int]
) -> Iterator[tuple[Any, int, Mapping[str, int]]]:
    """All nested equations, how often each runs, and the sizes of its named axes."""
    for equation in jaxpr.eqns:
        yield equation, times, sizes
        if _known_flops(equation) is not None:
            continue
        inner = [sub for value in equation.params.values() for sub in _jaxprs(value)]
        if equation.primitive.name == "cond":
            # one branch runs: count the most expensive one
            inner = [max(inner, key=lambda sub: traced_work(core.ClosedJaxpr(sub, ())).flops)]
        is_mapped = equation.primitive.name == "shard_map"
        axes = dict(equation.params["mesh"].shape) if is_mapped else sizes
        for sub in inner:
            yield from _equations(sub, times * _rounds_of(equation), axes)


def _rounds_of(equation: Any) -> int:
    """How often what is in an equation runs: rounds of a loop, steps of a Pallas kernel's grid."""
    if equation.primitive.name == "scan":
        return equation.params["length"]
    return grid_steps(equation) if equation.primitive.name == "pallas_call" else 1


def _known_flops(equation: Any) -> int | None:
    """FLOPs that a Pallas kernel's author gives: without its products with zeros."""
    estimate = equation.params.get("cost_estimate")
    return None if estimate is None else estimate.flops


def grid_steps(equation: Any) -> int:
    """Steps of a `pallas_call`'s grid; a size that is known only when it runs counts as 1."""
    grid = equation.params["grid_mapping"].grid
    return math.prod(size for size in grid if isinstance(size, int))


def pallas_calls(jaxpr: core.ClosedJaxpr) -> list[Any]:
    """The equations of a traced program that call a Pallas kernel."""
    every = (equation for equation, _, _ in _equations(jaxpr.jaxpr, 1, {}))
    return [equation for equation in every if equation.primitive.name == "pallas_call"]


def _parties(equation: Any, sizes: Mapping[str, int]) -> int:
    """Number of devices in a collective."""
    axes = equation.params.get("axes", equation.params.get("axis_name"))
    axes = axes if isinstance(axes, tuple) else (axes,)
    return math.prod(sizes.get(axis, 1) for axis in axes)


def _jaxprs(value: Any) -> list[core.Jaxpr]:
    if isinstance(value, core.ClosedJaxpr):
        return [value.jaxpr]
    if isinstance(value, core.Jaxpr):
        return [value]
    return (
        [sub for item in value for sub in _jaxprs(item)] if isinstance(value, (tuple, list)) else []
    )


def _scores(equation: Any) -> int:
    """FLOPs of one product of cuDNN's attention, of queries with keys: `[B, N, H, C]` each."""
    queries, keys = (variable.aval.shape for variable in equation.invars[:2])
    return 2 * math.prod(queries) * keys[1]


def _product(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2 * equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)


def _convolution(equation: Any) -> int:
    kernel, spec = equation.invars[1].aval.shape, equation.params["dimension_numbers"].rhs_spec
    # every output needs the whole kernel of its channel: input channels (of one group) times area
    return 2 * equation.outvars[0].aval.size * math.prod(kernel) // kernel[spec[0]]


class Instruction(NamedTuple):
    """A line of HLO text.

    Attributes:
      name, kind: of the instruction; names are unique in a program.
      shape: of its result, `bf16[8,16]{1,0}` or a tuple of such.
      operands: names of instructions.
      literal: of a constant whole number; of a parameter its place.
      called: computations inside, such as that of a fusion, the body of a loop, or branches.
      condition: the computation that ends a loop.
      rounds: of a loop, where XLA knows them.
      chain: of one asynchronous collective, the same in all its parts.
      alone: whether a collective has one device only.
      attributes: what follows the operands, as text.
    """

    name: str
    shape: str
    kind: str
    operands: tuple[str, ...]
    literal: int | None
    called: tuple[str, ...]
    condition: str
    rounds: int | None
    chain: str
    alone: bool
    attributes: str


class Program:
    """The text of a compiled program (`compiled.as_text()`).

    Attributes:
      computations: name -> its instructions, in order.
      entry: name of the computation that a call runs.
    """

    def __init__(self, text: str):
        self.computations, self.entry = _parse(text)

    def collectives(self) -> dict[str, Sent]:
        """Collectives of one device in one call; all parts of an asynchronous one count as one."""
        found, chains = [], set()
        for instruction, times, _ in self._running(self.entry, 1):
            kind, chain = (
                instruction.kind.removesuffix("-start"),
                (instruction.kind, instruction.chain),
            )
            # XLA for TPUs repeats an asynchronous collective in every fusion that it overlaps
            is_repeated = instruction.chain and chain in chains
            if kind in COLLECTIVES and not instruction.alone and not is_repeated:
                chains.add(chain)
                size = _result_bytes(instruction.shape, kind, kind != instruction.kind)
                found.append((kind, times, size))
        return _sum_up(found)

    def bytes_of_repeats(self) -> int:
        """Bytes that loops read and write after their first round, which XLA does not count."""
        total = 0
        for instruction, times, fused in self._running(self.entry, 1):
            if times > 1 and not fused and instruction.kind not in _FREE:
                total += (times - 1) * self._moved(instruction)
        return total

    def _moved(self, instruction: Instruction) -> int:
        return array_bytes(instruction.shape) + sum(
            self._sizes.get(name, 0) for name in instruction.operands
        )

    @functools.cached_property
    def _sizes(self) -> dict[str, int]:
        every = itertools.chain.from_iterable(self.computations.values())
        return {instruction.name: array_bytes(instruction.shape) for instruction in every}

    def _running(
        self, computation: str, times: int, fused: bool = False
    ) -> Iterator[tuple[Instruction, int, bool]]:
        """All instructions of a computation, how often each runs, and whether it is in a fusion."""
        for instruction in self.computations.get(computation, ()):
            yield instruction, times, fused
            inside = fused or instruction.kind not in ("while", "call", "conditional")
            for called in instruction.called:
                yield from self._running(called, times * self.rounds(instruction), inside)

    def rounds(self, instruction: Instruction) -> int:
        """Rounds of a loop: from XLA's annotation, else the only constant of its condition."""
        if instruction.kind != "while" or instruction.rounds is not None:
            return instruction.rounds or 1
        limits = {
            found.literal
            for found, _, _ in self._running(instruction.condition, 1)
            if found.kind == "constant" and found.literal is not None
        }
        return limits.pop() if len(limits) == 1 else 1


def array_bytes(shape: str) -> int:
    """Bytes of a shape of HLO text, `f32[8,16]{1,0}` or a tuple of such, without padding."""
    return sum(_sizes_of(shape))


def _sizes_of(shape: str) -> list[int]:
    sizes = []
    for kind, axes in _ARRAY.findall(shape):
        count = math.prod(int(axis) for axis in axes.split(",") if axis)
        sizes.append((count * _bits(kind) + 7) // 8)
    return sizes


def _bits(kind: str) -> int:
    if kind in _BITS:
        return _BITS[kind]
    digits = re.search(r"\d+", kind)
    return int(digits[0]) if digits else 0


def _result_bytes(shape: str, kind: str, start: bool) -> int:
    """Bytes of a collective's result; some `-start` shapes also have operands and counters."""
    sizes = _sizes_of(shape)
    if start and kind == "all-gather":
        return sum(sizes[len(sizes) // 2 :])
    return sizes[1] if start and kind == "collective-permute" else sum(sizes)


def _sum_up(found: list[tuple[str, int, int]]) -> dict[str, Sent]:
    counts, sizes = Counter(), Counter()
    for kind, times, size in found:
        counts[kind] += times
        sizes[kind] += times * size
    return {kind: Sent(counts[kind], sizes[kind]) for kind in COLLECTIVES if kind in counts}


def _parse(text: str) -> tuple[dict[str, list[Instruction]], str]:
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if line.endswith("{") and line.startswith(("%", "ENTRY ")):
            name = line.removeprefix("ENTRY ").split(" ", 1)[0].lstrip("%")
            current = computations[name] = []
            entry = name if line.startswith("ENTRY ") else entry
        elif current is not None and (found := _INSTRUCTION.match(line)):
            current.append(_instruction(found))
    return computations, entry


def _instruction(found: re.Match) -> Instruction:
    operands, _, attributes = found["rest"].partition(")")
    if found["kind"].endswith(("-done", "-update")):
        # their computations are counted at the start
        attributes = ""
    trips = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', attributes)
    condition = re.search(r"\bcondition=%?([\w.\-]+)", attributes)
    chain = re.search(r'\bchain_id="(\w+)"', attributes)
    # `to_apply` is a computation only of a call; of a reduction it is its arithmetic
    called = re.findall(r"\b(?:calls|body|called_computation)=%?([\w.\-]+)", attributes)
    for group in re.findall(r"branch_computations=\{([^}]*)\}", attributes):
        called += [name.strip().lstrip("%") for name in group.split(",")]
    called += re.findall(r"\b(?:true|false)_computation=%?([\w.\-]+)", attributes)
    if found["kind"] == "call":
        called += re.findall(r"\bto_apply=%?([\w.\-]+)", attributes)
    return Instruction(
        found["name"],
        found["shape"],
        found["kind"],
        tuple(re.findall(r"%([\w.\-]+)", operands)),
        int(operands)
        if found["kind"] in ("constant", "parameter") and re.fullmatch(r"\d+", operands)
        else None,
        tuple(called),
        condition[1] if condition else "",
        int(trips[1]) if trips else None,
        chain[1] if chain else "",
        _ALONE.search(attributes) is not None,
        attributes,
    )
