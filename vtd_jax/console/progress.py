"""A line that says how far a long job is."""

import sys
import time

from vtd_jax.console.status import Line, Part
from vtd_jax.terminal import counted, say


class Progress:
    """How many videos, how fast, how long still, how many bad: the terminal's line, or one on
    stderr every 10 s where that is no terminal. Lines about single videos go above it."""

    def __init__(self, total: int, label: str):
        self.total, self.label, self.done, self.bad = total, label, 0, 0
        self.terminal = sys.stderr.isatty()
        self.start = self.shown = time.monotonic()
        self.line, self.shows = Line(clock=False), False
        self.every = 0.2 if self.terminal else 10.0

    def add(self, message: tuple[int, int, str]) -> None:
        """Counts `(videos, bad ones, a line about them or "")`."""
        videos, bad, line = message
        self.done, self.bad = self.done + videos, self.bad + bad
        if line:
            say(f"skipped {line}", sys.stderr)
        self.show()

    def show(self) -> None:
        """Shows the line where it is due."""
        now, whole = time.monotonic(), self.done >= self.total
        if not self.done or not (
            now - self.shown >= self.every or (whole and self.shown > self.start)
        ):
            return
        self.shown = now
        rate = self.done / max(now - self.start, 1e-9)
        parts = (
            Part(f"{self.label}: {self.done}/{counted(self.total, 'video')}"),
            Part(f"{rate:.1f} videos/s", 3),
            Part(f"{_time((self.total - self.done) / rate)} left", 1),
            Part(f"{self.bad} bad", 2),
        )
        if self.terminal and not whole:
            self.line.show(*parts)
            if not self.shows:
                self.line.open()
                self.shows = True
            return
        self.line.close()
        say(", ".join(part.text for part in parts), sys.stderr)


def _time(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
