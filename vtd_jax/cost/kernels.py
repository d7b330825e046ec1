"""Pallas kernels of a program for TPUs: their grids as traced, and their length as compiled."""

import atexit
import math
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jax.extend import core

from vtd_jax.cost.hlo import Instruction, grid_steps, pallas_calls

# libtpu reads these when it is loaded: write the length of each kernel's program, nothing else
_DUMP = "--xla_jf_dump_to={} --xla_jf_dump_llo_text=true --xla_jf_dump_llo_pass_label_regex={}"
_PASS = "final_bundles"
_FILE = re.compile(rf"^\d+-(?P<name>.+)-\d+-schedule-analysis_{_PASS}\.txt$")
_LENGTH = re.compile(r"total scheduled bundles:\s+(\d+)")
_ARRAY = re.compile(r"\b[a-z]\w*\[([\d,]*)\]")
_LOOPS = ("scan", "while")
_PREFIX = "vtd_jax_bundles_"
_folders: list[Path] = []

Shapes = tuple[tuple[int, ...], ...]


class Kernel(NamedTuple):
    """A Pallas kernel of a traced program.

    Attributes:
      name: as `pallas_call` was given it.
      steps: of its grid.
      parallel: steps that may run on several cores; 1 if the grid has no parallel axis.
      loops: whether loops inside it are left, whose rounds the compiled length does not show.
      shapes: of operands and results.
    """

    name: str
    steps: int
    parallel: int
    loops: bool
    shapes: Shapes

    def steps_on(self, cores: int) -> int:
        """Steps of the core with the most of them."""
        return self.steps // self.parallel * -(-self.parallel // cores)


def kernels(jaxpr: core.ClosedJaxpr) -> tuple[Kernel, ...]:
    """The different Pallas kernels of a traced program."""
    return tuple(dict.fromkeys(_kernel(equation) for equation in pallas_calls(jaxpr)))


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


def dump() -> None:
    """Lets libtpu write the lengths of kernels; call it before libtpu is loaded.

    They go to a temporary folder, which is emptied by `lengths` and removed at exit.
    """
    if _folders:
        return
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _folders.append(folder)
    given = os.environ.get("LIBTPU_INIT_ARGS", "")
    os.environ["LIBTPU_INIT_ARGS"] = f"{given} {_DUMP.format(folder, _PASS)}".strip()


def _sweep() -> None:
    """Removes the folders of processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).partition("_")[0]
        if owner.isdecimal() and not _is_alive(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        # another user's
        return True
    return True


def lengths() -> Mapping[str, int]:
    """Bundles (cycles without stalls) of each instruction compiled since the last call.

    Loops inside it count once. Empty if libtpu was loaded before `dump`.
    """
    found = {}
    for folder in _folders:
        for path in folder.iterdir():
            name, length = _FILE.match(path.name), None
            if name:
                length = _LENGTH.search(path.read_text(errors="replace"))
            if name and length:
                found[name["name"]] = int(length[1])
            path.unlink(missing_ok=True)
    return found
