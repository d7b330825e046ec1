"""Pallas kernels of a program for TPUs: their grids as traced, and their length as compiled."""

import math
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.extend import core

from vtd_jax.cost.hlo import Instruction, grid_steps, pallas_calls
from vtd_jax.installed.python_processes import isolated

# libtpu reads these when it is loaded: write the length of each program, nothing else. They make
# compiling half as long again, so kernels are compiled alone, in a process of their own.
_DUMP = "--xla_jf_dump_to={} --xla_jf_dump_llo_text=true --xla_jf_dump_llo_pass_label_regex={}"
_PASS = "final_bundles"
_LENGTH = re.compile(r"total scheduled bundles:\s+(\d+)")
_ARRAY = re.compile(r"\b[a-z]\w*\[([\d,]*)\]")
# an instruction's attributes have it if it calls a Pallas kernel
PALLAS = '"tpu_custom_call"'
_LOOPS = ("scan", "while")
_RUN, _SECONDS = "from vtd_jax.cost.kernel_lengths import report; report(*sys.argv[1:])", 600
# (kernel, topology) -> its length
_known: dict[tuple[str, str | None], int | None] = {}

Shapes = tuple[tuple[int, ...], ...]


class Kernel(NamedTuple):
    """A Pallas kernel of a traced program.

    Attributes:
      name: as `pallas_call` was given it.
      steps: of its grid.
      parallel: steps that may run on several cores; 1 if the grid has no parallel axis.
      loops: whether loops inside it are left, whose rounds the compiled length does not show.
      shapes: of operands and results.
      length: bundles of one step, which are cycles without stalls; None if unknown.
    """

    name: str
    steps: int
    parallel: int
    loops: bool
    shapes: Shapes
    length: int | None = None

    def steps_on(self, cores: int) -> int:
        """Steps of the core with the most of them."""
        return self.steps // self.parallel * -(-self.parallel // cores)


def kernels(jaxpr: core.ClosedJaxpr, topology: str | None = None) -> tuple[Kernel, ...]:
    """The different Pallas kernels of a traced program.

    Args:
      jaxpr: the program.
      topology: of TPUs, to compile the kernels for; None leaves their lengths unknown.
    """
    # equal text, equal kernels
    equations = {str(equation): equation for equation in pallas_calls(jaxpr)}
    new = [] if topology is None else [text for text in equations if (text, topology) not in _known]
    if new and topology is not None:
        lengths = _lengths([_exported(equations[text]) for text in new], topology)
        _known.update({(text, topology): length for text, length in zip(new, lengths)})
    found = (
        _kernel(equation)._replace(length=_known.get((text, topology)))
        for text, equation in equations.items()
    )
    return tuple(dict.fromkeys(found))


def _exported(equation: Any) -> bytes:
    """One call of a kernel as a program for TPUs; empty if it cannot be one."""
    # what varies over a mesh around the call does not in a call alone
    avals = [_alone(variable.aval) for variable in equation.outvars]
    params = equation.params | {"out_avals": tuple(avals)}
    operands = [_alone(variable.aval) for variable in equation.invars]
    called = jax.jit(lambda *arrays: equation.primitive.bind(*arrays, **params))
    try:
        return bytes(jax.export.export(called, platforms=["tpu"])(*operands).serialize())
    except (ValueError, TypeError, NotImplementedError):
        return b""


def _alone(aval: Any) -> Any:
    return type(aval)(aval.shape, aval.dtype)


def _lengths(exported: Sequence[bytes], topology: str) -> Sequence[int | None]:
    """Bundles of each program's kernel; None where the compiler writes none."""
    with tempfile.TemporaryDirectory(prefix="vtd_jax_kernels_") as folder:
        for number, content in enumerate(exported):
            (Path(folder) / f"{number}.exported").write_bytes(content)
        dumped = Path(folder) / "dumped"
        dumped.mkdir()
        given = os.environ.get("LIBTPU_INIT_ARGS", "")
        arguments = f"{given} {_DUMP.format(dumped, _PASS)}".strip()
        try:
            done = subprocess.run(
                isolated(_RUN, folder, topology),
                env=os.environ | {"LIBTPU_INIT_ARGS": arguments, "JAX_PLATFORMS": "cpu"},
                capture_output=True,
                text=True,
                timeout=_SECONDS,
            )
            lines = done.stdout.split("\n") if done.returncode == 0 else []
        except subprocess.TimeoutExpired:
            lines = []
    # lines of a number and a length, among what libtpu may print
    found = {m[1]: int(m[2]) for line in lines if (m := re.fullmatch(r"(\d+): (\d+)", line))}
    return [found.get(str(number)) for number in range(len(exported))]


def _kernel(equation: Any) -> Kernel:
    grid = equation.params["grid_mapping"].grid
    semantics = getattr(equation.params.get("compiler_params"), "dimension_semantics", None) or ()
    sizes = [
        size
        for size, kind in zip(grid, semantics)
        if "parallel" in str(kind).lower() and isinstance(size, int)
    ]
    variables = (*equation.invars, *equation.outvars)
    return Kernel(
        str(equation.params.get("name") or "kernel"),
        grid_steps(equation),
        math.prod(sizes),
        _has_loops(equation.params["jaxpr"]),
        tuple(tuple(variable.aval.shape) for variable in variables),
    )


def _has_loops(jaxpr: core.Jaxpr) -> bool:
    """Whether loops are left after unrolling."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in _LOOPS:
            unrolled = equation.params.get("unroll", 1)
            if unrolled is not True and unrolled < equation.params.get("length", math.inf):
                return True
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if isinstance(inner, core.Jaxpr) and _has_loops(inner):
                    return True
    return False


def called(instruction: Instruction, known: Sequence[Kernel]) -> Kernel | None:
    """The kernel that an instruction calls; None if unknown, or if several could be meant."""
    name = name_of(instruction)
    found = [kernel for kernel in known if kernel.name == name]
    if len(found) > 1:
        shapes = shapes_of(instruction)
        found = [kernel for kernel in found if kernel.shapes == shapes]
    return found[0] if len(found) == 1 else None


def name_of(instruction: Instruction) -> str:
    """The name of the kernel that an instruction calls."""
    found = re.search(r'\bop_name="(?:[^"]*/)?([^"/]+)/pallas_call"', instruction.attributes)
    return found[1] if found else instruction.name.partition(".")[0]


def shapes_of(instruction: Instruction) -> Shapes:
    """Shapes of an instruction's operands and results, where the text has both."""
    layouts = re.search(
        r"\boperand_layout_constraints=\{((?:[^{}]|\{[^{}]*\})*)\}", instruction.attributes
    )
    return _dimensions(layouts[1] if layouts else "") + _dimensions(instruction.shape)


def _dimensions(text: str) -> Shapes:
    return tuple(
        tuple(int(size) for size in axes.split(",") if size) for axes in _ARRAY.findall(text)
    )


def dumped_length(folder: Path, name: str) -> int | None:
    """Bundles of an instruction, from what libtpu wrote; None if it wrote nothing of it."""
    for path in folder.glob(f"*-{name}-*-schedule-analysis_{_PASS}.txt"):
        if found := _LENGTH.search(path.read_text(errors="replace")):
            return int(found[1])
    return None
