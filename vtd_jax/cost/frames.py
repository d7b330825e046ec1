"""Where in the Python source an instruction of HLO text comes from."""

import re
from typing import NamedTuple

_TABLES = ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
_ROW = re.compile(r"^(\d+) (.*)$")
_NUMBER = re.compile(r"=(\d+)")
# they stand between a layer and its product, and say nothing of which it is
_BETWEEN = ("matmul.py",)
_LAYERS = ("Linear.__call__",)


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
