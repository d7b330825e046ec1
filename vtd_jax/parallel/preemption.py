"""A machine that is taken away gives notice: a signal. The run saves at the next step and ends with
its own status.

Ctrl-C is such a notice too, once there is something to save: before the first step it ends a run as
any other command.

One process listens itself. Where several train together they have to stop at the same step, which
JAX's preemption service agrees on; it hears SIGTERM through a handler of its own, which must stay
in place.
"""

import os
import signal
import threading
import time
from types import TracebackType

from vtd_jax.console import status

# EX_TEMPFAIL: try again later; schedulers can tell it from success, a bad setting (2) and a crash
EXIT_STATUS = 75
# what shells tell of a command that Ctrl-C ended
INTERRUPTED = 130
# seconds within which two Ctrl-C are one: a terminal and a wrapper, as `make` or `uv run`, may both
# pass one on
TWICE = 0.3
# what clusters send, and what `sbatch --signal=USR1@60` sends before that
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Preempted(Exception):
    """The run was asked to stop and did; the message, one line, says at which step and what resumes
    from there.

    Attributes:
      word: what the message begins with.
      status: the exit status.
    """

    word, status = "preempted", EXIT_STATUS


class Interrupted(Preempted):
    """The same, asked for with Ctrl-C."""

    word, status = "interrupted", INTERRUPTED


class BrokenOff(Exception):
    """An evaluation was broken off for a notice; it is made when the run resumes."""


class Preemption:
    """Listens for a notice while its `with` block runs; the handlers of before come back at its
    end.

    Outside the main thread, where Python allows no handlers, it hears nothing. A second signal
    changes nothing, but for Ctrl-C, which then raises KeyboardInterrupt as ever.
    """

    def __init__(self):
        self._heard = threading.Event()
        self._before: dict[int, object] = {}
        self._together = False
        # whether Ctrl-C is a notice by now, and was one
        self._saves, self._interrupted, self._first = False, False, 0.0
        self._begun: int | None = None

    def __enter__(self) -> "Preemption":
        import jax  # every command imports this module, to know `Preempted`

        # not process_count(), which would start the backend here
        self._together = jax.distributed.is_initialized()
        if threading.current_thread() is threading.main_thread():
            for number in (*SIGNALS, signal.SIGINT):
                if self._together and number == signal.SIGTERM:
                    continue
                if number == signal.SIGINT and signal.getsignal(number) is signal.SIG_IGN:
                    # in the background of a script: Ctrl-C is meant for others
                    continue
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            # None: a handler that was not set from Python, and cannot be from here
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()
        status.note("")

    @property
    def heard(self) -> bool:
        """Whether this process was told; others may not know yet."""
        return self._heard.is_set()

    def asked(self, step: int) -> bool:
        """Whether to save and stop after `step` steps; to be called before the first step and after
        every one, by all processes alike. Once a step was made Ctrl-C is a notice."""
        self._saves = self._saves or self._begun not in (None, step)
        self._begun = step
        if not self._together:
            return self.heard
        from jax.experimental import multihost_utils

        return multihost_utils.reached_preemption_sync_point(step)

    @property
    def breaks_off(self) -> bool:
        """Whether work that no step counts, as an evaluation, is to be broken off: never where all
        must agree.
        """
        return self.heard and not self._together

    def saves(self) -> None:
        """From here on Ctrl-C is a notice, whatever was done: there is something that its message
        should tell.
        """
        self._saves = True

    def stopped(self, told: str) -> Preempted:
        """What to raise when all is saved: `Interrupted` where it was Ctrl-C that this process
        heard.
        """
        return (Interrupted if self._interrupted else Preempted)(told)

    def _hear(self, number: int, frame: object) -> None:
        del frame
        if number == signal.SIGINT:
            now = time.monotonic()
            if not self._saves or (self._interrupted and now - self._first > TWICE):
                raise KeyboardInterrupt
            if self._interrupted:
                return
            self._interrupted, self._first = True, now
            status.note("stopping once all is saved (Ctrl-C: at once)")
        self._heard.set()
        if self._together:
            # JAX's service listens for this one
            os.kill(os.getpid(), signal.SIGTERM)
