"""A live line at the bottom of the terminal that shows what a command is doing.

Other output goes above the line, and the line disappears at the end. Without a terminal, in a pipe,
a file or a CI log, nothing is written; nor where the library is used without a command, whose user
did not ask for it.
"""

import atexit
import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import rich.cells
import rich.console
import rich.live
import rich.spinner
import rich.text

from vtd_jax.printable import printable
from vtd_jax.terminal import is_printed

# spinner and blank before the text, and a free column after it: some terminals wrap a full line
_MARGIN = 3
# rank of the texts of `within`
_AROUND = 2
# seconds after which a line shows how long it has been open
_SLOW = 1.0


class Part(NamedTuple):
    """A part of a line. If there is no room, the highest `rank` is dropped first, None never."""

    text: str
    rank: int | None = None


class Line:
    """A live line while it is open (`with`, or `open` and `close`); the last one opened is shown.

    Attributes:
      clock: whether to show the seconds since it was opened.
    """

    def __init__(self, *parts: str | Part, clock: bool = True):
        self.clock, self._start = clock, time.monotonic()
        self.show(*parts)

    def show(self, *parts: str | Part) -> None:
        """Sets the text of the line; does not open it."""
        self._parts = tuple(Part(part) if isinstance(part, str) else part for part in parts)

    def open(self) -> "Line":
        """Shows the line instead of earlier ones, and starts its clock."""
        self._start = time.monotonic()
        _SHOWN.add(self)
        return self

    def close(self) -> None:
        """Removes the line; may be called again."""
        _SHOWN.remove(self)

    def parts(self) -> tuple[Part, ...]:
        """The parts of the line now."""
        seconds = time.monotonic() - self._start
        if self.clock and seconds >= _SLOW:
            return *self._parts, Part(f"… {seconds:.0f} s")
        return self._parts

    def __enter__(self) -> "Line":
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def within(text: str) -> Iterator[None]:
    """Every line in the block begins with `text`, if there is room."""
    _SHOWN.around.append(text)
    try:
        yield
    finally:
        _SHOWN.around.remove(text)


def note(text: str) -> None:
    """Adds a remark to all lines of this process; signal handlers may call it."""
    _SHOWN.noted = text


def clear() -> None:
    """Removes all open lines, as after an error."""
    for line in tuple(_SHOWN.lines):
        line.close()


def is_visible() -> bool:
    """Whether an open line is shown: in a command, not in a pipe, on a dumb terminal or after
    `silence`.
    """
    return _SHOWN.console() is not None


def silence() -> None:
    """Shows nothing any more: for all processes but rank 0."""
    _SHOWN.silent = True


def leave() -> None:
    """Restores the terminal, for a process that ends without its `finally` clauses."""
    if _SHOWN.live is not None:
        with contextlib.suppress(OSError):
            _SHOWN.live.console.file.write("\r\033[K\033[?25h")
            _SHOWN.live.console.file.flush()


def fit(parts: tuple[Part, ...], width: int) -> str:
    """The parts that fit into `width` columns, joined by two blanks; parts without rank are cut."""
    left = [Part(printable(part.text), part.rank) for part in parts]
    while True:
        text = "  ".join(part.text for part in left)
        ranks = [part.rank for part in left if part.rank is not None]
        if rich.cells.cell_len(text) <= width or not ranks:
            break
        last = max(place for place, part in enumerate(left) if part.rank == max(ranks))
        del left[last]
    if rich.cells.cell_len(text) > width:
        text = rich.cells.set_cell_size(text, max(width - 1, 0)).rstrip(" …") + "…" * (width > 0)
    return text


class _Shown:
    """The open lines, and rich's live display of the last one."""

    def __init__(self):
        self.lines: list[Line] = []
        self.around: list[str] = []
        self.noted = ""
        self.silent = False
        self.live: rich.live.Live | None = None
        self._spinner = rich.spinner.Spinner("dots")
        self._lock = threading.RLock()

    def add(self, line: Line) -> None:
        with self._lock:
            self.remove(line)
            self.lines.append(line)
            if self.live is not None or (console := self.console()) is None:
                return
            # output that goes into a file must not be shown on the terminal
            self.live = rich.live.Live(
                self, console=console, transient=True, refresh_per_second=8,
                redirect_stdout=sys.stdout.isatty(), redirect_stderr=sys.stderr.isatty(),
            )  # fmt: skip
            self.live.start()

    def console(self) -> rich.console.Console | None:
        """Where lines are shown; None if they cannot be."""
        if self.silent or not is_printed() or (stream := self._terminal()) is None:
            return None
        console = rich.console.Console(file=stream, highlight=False, soft_wrap=True)
        return None if not console.is_terminal or console.is_dumb_terminal else console

    def remove(self, line: Line) -> None:
        with self._lock:
            if line in self.lines:
                self.lines.remove(line)
            if not self.lines and self.live is not None:
                live, self.live = self.live, None
                live.stop()

    def __rich_console__(self, console: rich.console.Console, options: rich.console.ConsoleOptions):
        # rich calls this in a thread, while others open and close lines
        lines = self.lines[-1:]
        if not lines:
            return
        around = tuple(Part(text, _AROUND) for text in self.around)
        noted = (Part(self.noted),) if self.noted else ()
        text = fit((*noted, *around, *lines[0].parts()), options.max_width - _MARGIN)
        spin = self._spinner.render(time.monotonic())
        yield rich.text.Text.assemble(spin, " ", text, no_wrap=True, overflow="crop", end="")

    @staticmethod
    def _terminal():
        """stderr if it is a terminal, else stdout if that is one, else None."""
        # Python has no streams in a process without a console
        streams = [stream for stream in (sys.stderr, sys.stdout) if stream is not None]
        return next((stream for stream in streams if stream.isatty()), None)


# one for the process: a terminal can have one live display
_SHOWN = _Shown()
atexit.register(clear)
