"""One line at the bottom of the terminal that says what is being done and since when; nothing where
there is none.

Whatever else is printed meanwhile goes above the line, and the line is gone when what it tells of
is over. In a pipe, a file or a CI log nothing is written.
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

# spinner and a space before the text, and a column that stays free: a full line would wrap on some
# terminals
_MARGIN = 3
# rank of what lines are shown within
_AROUND = 2
# seconds from which a line tells how long it has been there
_SLOW = 1.0


class Part(NamedTuple):
    """A part of a line: of those with a `rank`, the highest goes first where there is no room; None
    stays.
    """

    text: str
    rank: int | None = None


class Line:
    """What the terminal's line tells while this is open (`with`, or `open` and `close`); the last
    one opened is shown.

    Attributes:
      clock: whether the seconds since it was opened are told.
    """

    def __init__(self, *parts: str | Part, clock: bool = True):
        self.clock, self._start = clock, time.monotonic()
        self.show(*parts)

    def show(self, *parts: str | Part) -> None:
        """What the line tells from here on; does not open it."""
        self._parts = tuple(Part(part) if isinstance(part, str) else part for part in parts)

    def open(self) -> "Line":
        """Shows it, in the place of those that were opened before; its clock starts."""
        self._start = time.monotonic()
        _SHOWN.add(self)
        return self

    def close(self) -> None:
        """Takes it away; may be called again."""
        _SHOWN.remove(self)

    def parts(self) -> tuple[Part, ...]:
        """What it tells now."""
        seconds = time.monotonic() - self._start
        return (
            (*self._parts, Part(f"… {seconds:.0f} s"))
            if self.clock and seconds >= _SLOW
            else self._parts
        )

    def __enter__(self) -> "Line":
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def within(text: str) -> Iterator[None]:
    """Every line that is shown in here begins with `text`, where there is room."""
    _SHOWN.around.append(text)
    try:
        yield
    finally:
        _SHOWN.around.remove(text)


def note(text: str) -> None:
    """Adds a remark to whatever line is there, for as long as this process runs; a signal handler
    may call it.
    """
    _SHOWN.noted = text


def clear() -> None:
    """Takes all lines away that are open still, as after an error."""
    for line in tuple(_SHOWN.lines):
        line.close()


def silence() -> None:
    """From here on nothing is shown: for all but the first of several processes."""
    _SHOWN.silent = True


def leave() -> None:
    """Gives the terminal back, for a process that ends without its `finally` clauses."""
    if _SHOWN.live is not None:
        with contextlib.suppress(OSError):
            _SHOWN.live.console.file.write("\r\033[K\033[?25h")
            _SHOWN.live.console.file.flush()


def fit(parts: tuple[Part, ...], width: int) -> str:
    """The parts that fit into so many columns, two spaces between them; what cannot go is cut."""
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
    """The lines that are open, and rich's live display of the last one."""

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
            stream = self._terminal()
            if self.live is not None or stream is None or self.silent:
                return
            console = rich.console.Console(file=stream, highlight=False, soft_wrap=True)
            if not console.is_terminal or console.is_dumb_terminal:
                return
            # what is printed into a file must stay out of the terminal
            self.live = rich.live.Live(
                self, console=console, transient=True, refresh_per_second=8,
                redirect_stdout=sys.stdout.isatty(), redirect_stderr=sys.stderr.isatty(),
            )  # fmt: skip
            self.live.start()

    def remove(self, line: Line) -> None:
        with self._lock:
            if line in self.lines:
                self.lines.remove(line)
            if not self.lines and self.live is not None:
                live, self.live = self.live, None
                live.stop()

    def __rich_console__(self, console: rich.console.Console, options: rich.console.ConsoleOptions):
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
        """stderr where it is a terminal, else stdout where that is one."""
        return next(
            (
                stream
                for stream in (sys.stderr, sys.stdout)
                if stream is not None and stream.isatty()
            ),
            None,
        )


_SHOWN = _Shown()
atexit.register(clear)
