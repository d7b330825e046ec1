"""How far a long job is: live where a terminal watches, in log lines elsewhere."""

import time
from collections.abc import Callable

from vtd_jax.console.status import Line, Part, is_visible
from vtd_jax.durations import clock
from vtd_jax.terminal import counted, log

# seconds; a job that takes less leaves no line on a terminal
SHORT = 1.0
_STDERR = log


class Progress:
    """Reports count, rate and time left of a long job.

    A terminal shows them in its live line (`rich.progress` cannot drop columns by their rank where
    the terminal is narrow). Elsewhere, and to a `log` of the caller's own, a line is logged every
    few seconds. A last line stays when the job is finished, unless it was too short.
    """

    def __init__(
        self,
        label: str,
        total: float = 0,
        noun: str = "",
        *,
        form: Callable[[float], str] = "{:.0f}".format,
        every: float = 10.0,
        log: Callable[[str], None] = log,
    ):
        """
        Args:
          label: begins every line.
          total: count of the whole job; 0 if unknown.
          noun: what is counted, in the singular; without it no rate is shown.
          form: formats `done` and `total`.
          every: seconds between two logged lines.
          log: called with these lines; the log by default.
        """
        self.total, self.done, self.bad = total, 0.0, 0
        self._label, self._noun, self._form = label, noun, form
        self._every, self._log = every, log
        self._details: tuple[Part, ...] = ()
        self._visible, self._line = is_visible(), Line(label)
        self._begun = self._logged = time.monotonic()
        self._opened = self._has_logged = self._finished = False
        # the rate counts from the first update: compiling or starting workers comes before it
        self._first: tuple[float, float] | None = None

    def __enter__(self) -> "Progress":
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()

    def add(self, count: float = 1, bad: int = 0, skipped: str = "") -> None:
        """Counts finished items, how many of them were bad, and logs what was skipped."""
        self.bad += bad
        if skipped:
            log(f"skipped {skipped}")
        self.update(self.done + count)

    def update(
        self, done: float, total: float | None = None, details: tuple[Part, ...] = ()
    ) -> None:
        """Sets the count, and what else to show beside it.

        Args:
          done: items finished so far.
          total: replaces the total of the job.
          details: shown after the count.
        """
        now = time.monotonic()
        if self._first is None and done:
            self._first = now, done
        self.done, self._details = done, details
        self.total = self.total if total is None else total
        self.show()

    def show(self) -> None:
        """Shows the current state; a log line only if one is due."""
        if not self.done or self._finished:
            return
        now = time.monotonic()
        self._finished = bool(self.total) and self.done >= self.total
        if self._finished:
            self._line.close()
        elif self._visible:
            self._line.clock = False
            self._line.show(*self._parts(now))
            self._open()
        # what the live line shows needs no lines on the same terminal
        logs = not self._visible or self._log is not _STDERR
        is_long = self._has_logged or (self._opened and now - self._begun >= SHORT)
        if (logs and now - self._logged >= self._every) or (self._finished and is_long):
            self._logged, self._has_logged = now, True
            self._log(", ".join(part.text for part in self._parts(now)))

    def _open(self) -> None:
        if self._visible and not self._opened:
            self._line.open()
            self._opened = True

    def _parts(self, now: float) -> tuple[Part, ...]:
        whole = counted(round(self.total), self._noun) if self._noun else self._form(self.total)
        count = f"{self._form(self.done)} of {whole}" if self.total else self._form(self.done)
        parts = [Part(f"{self._label}: {count}"), *self._details]
        start, before = self._first or (now, 0)
        if self.done > before and now > start:
            rate = (self.done - before) / (now - start)
            if self._noun:
                parts.append(Part(f"{rate:.{1 if rate >= 1 else 2}f} {self._noun}s/s", 3))
            if self.total:
                parts.append(Part(f"{clock((self.total - self.done) / rate)} left", 1))
        return (*parts, Part(f"{self.bad} bad", 2)) if self.bad else tuple(parts)
