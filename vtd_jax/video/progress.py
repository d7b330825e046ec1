"""A line that says how far a long job is."""

import sys
import time

from vtd_jax.printable import printable
from vtd_jax.terminal import counted


class Progress:
    """A line on stderr: how many videos, how fast, how long still, how many bad; rewritten on a terminal, every 10 s
    elsewhere. Lines about single videos go above it."""

    def __init__(self, total: int, label: str):
        self.total, self.label, self.done, self.bad = total, label, 0, 0
        self.terminal = sys.stderr.isatty()
        self.start = self.shown = time.monotonic()
        self.every = 0.5 if self.terminal else 10.0

    def add(self, message: tuple[int, int, str]) -> None:
        """Counts `(videos, bad ones, a line about them or "")`."""
        videos, bad, line = message
        self.done, self.bad = self.done + videos, self.bad + bad
        if line:
            line = printable(line)
            print(f"\r\033[Kskipped {line}" if self.terminal else f"skipped {line}", file=sys.stderr, flush=True)
        self.show()

    def show(self) -> None:
        """Shows the line where it is due."""
        now, whole = time.monotonic(), self.done >= self.total
        if not self.done or not (now - self.shown >= self.every or (whole and self.shown > self.start)):
            return
        self.shown = now
        rate = self.done / max(now - self.start, 1e-9)
        left = _time((self.total - self.done) / rate)
        count = f"{self.done}/{counted(self.total, 'video')}"
        text = f"{self.label}: {count}, {rate:.1f} videos/s, {left} left, {self.bad} bad"
        end = "\r" if self.terminal and not whole else "\n"
        print(f"\033[K{text}" if self.terminal else text, end=end, file=sys.stderr, flush=True)


def _time(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
