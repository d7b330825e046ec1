"""Where in the Python source an instruction of HLO text comes from, and names after that."""

import re
from typing import NamedTuple

from vtd_jax.cost.hlo import Instruction

_TABLES = ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
_ROW = re.compile(r"^(\d+) (.*)$")
_NUMBER = re.compile(r"=(\d+)")
# they stand between a layer and its product, and say nothing of which it is
_BETWEEN = ("matmul.py",)
_LAYERS = ("Linear.__call__",)
_OP_NAME = re.compile(r'\bop_name="([^"]*)"')
_FRAME = re.compile(r"\bstack_frame_id=(\d+)")
# in op_name, what stands around the name of a function
_WRAPPED = re.compile(r"\b(?:jit|jvp|transpose|vmap)\(([^()]*)\)")


class Frame(NamedTuple):
    """A call in the source: file (without folders), line, and the function around it."""

    file: str
    line: int
    function: str

    @property
    def between(self) -> bool:
        """Whether the call around it says more."""
        nameless = self.function.rpartition(".")[2].startswith("<")
        return nameless or self.file in _BETWEEN or self.function in _LAYERS


class Frames:
    """The stack frames at the head of HLO text; empty where XLA wrote none."""

    def __init__(self, text: str):
        tables: dict[str, dict[int, str]] = {}
        rows: dict[int, str] = {}
        for line in text.splitlines():
            if line in _TABLES:
                rows = tables[line] = {}
            elif found := _ROW.match(line):
                rows[int(found[1])] = found[2]
            elif line.startswith(("%", "ENTRY ")):
                break
        files, functions, locations, stacks = (tables.get(name, {}) for name in _TABLES)
        self._locations: dict[int, Frame] = {}
        for place, row in locations.items():
            file, function, line, *_ = map(int, _NUMBER.findall(row))
            name = files.get(file, "").strip('"').rpartition("/")[2]
            self._locations[place] = Frame(name, line, functions.get(function, "").strip('"'))
        self._stacks = {
            place: tuple(map(int, _NUMBER.findall(row))) for place, row in stacks.items()
        }
        # some versions count the outer frames from 1 more, so that the outermost is its own
        self._shift = int(any(outer == place for place, (_, outer) in self._stacks.items()))

    def layer(self, frame: int) -> Frame | None:
        """The innermost call of a frame, but of a product, the call of its layer."""
        seen = 0
        while frame in self._stacks and seen < len(self._stacks):
            place, outer = self._stacks[frame]
            found = self._locations.get(place)
            if found is None or not found.between:
                return found
            frame, seen = outer - self._shift, seen + 1
        return None


class Namer:
    """Names of parts: the place in the source, the operation, and the pass."""

    def __init__(self, text: str):
        self._frames = Frames(text)

    def name(self, instruction: Instruction) -> str:
        """As "Block.__call__:160 mi,io->mo, backward"; equal for the same place in all layers."""
        op = _OP_NAME.search(instruction.attributes)
        path = op[1] if op else ""
        frame = _FRAME.search(instruction.attributes)
        layer = self._frames.layer(int(frame[1])) if frame else None
        place = f"{layer.function.rpartition('<locals>.')[2]}:{layer.line} " if layer else ""
        return place + _operation(instruction, path) + _pass(path)


def _operation(instruction: Instruction, path: str) -> str:
    if instruction.kind == "copy":
        return "copy"
    parts = path.split("/")
    if len(parts) > 1 and "->" in parts[-2]:
        return _unwrapped(parts[-2])
    # without a place in the program, the instruction's name without its number
    return parts[-1] or re.sub(r"[\d.]+$", "", instruction.name)


def _pass(path: str) -> str:
    if "rematted_computation" in path:
        return ", recomputed"
    return ", backward" if "transpose(" in path else ""


def _unwrapped(path: str) -> str:
    while (inside := _WRAPPED.sub(r"\1", path)) != path:
        path = inside
    return path
