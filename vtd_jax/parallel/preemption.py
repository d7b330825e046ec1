"""Preemption: a signal, after which a run saves at the next step and ends with its own status.

Ctrl-C counts as a notice too, once there is a step to save.

A single process handles the signals itself. Several processes must stop at the same step, which
JAX's preemption service agrees on; it catches SIGTERM with a handler that must stay in place.
"""

import os
import signal
import threading
import time
from typing import Any

from vtd_jax.console import status

# EX_TEMPFAIL, try again later: schedulers can distinguish it from success, a bad setting (2) and a
# crash
EXIT_STATUS = 75
# the status that shells report for a command ended by Ctrl-C
INTERRUPTED = 130
# seconds within which two Ctrl-C count as one: the terminal and a wrapper such as `make` or
# `uv run` may both pass it on
TWICE = 0.3
# what clusters send; `sbatch --signal=USR1@60` sends the second one earlier
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Preempted(Exception):
    """A notice stopped the run; the message says at which step, and how to resume.

    Attributes:
      word: the start of the message.
      status: the exit status.
    """

    word, status = "preempted", EXIT_STATUS


class Interrupted(Preempted):
    """Ctrl-C stopped the run."""

    word, status = "interrupted", INTERRUPTED


class EvaluationInterrupted(Exception):
    """A notice interrupted an evaluation, which the resumed run makes again."""


class Preemption:
    """Catches notices while its `with` block runs, and then restores the signal handlers.

    Outside the main thread, where Python allows no handlers, it catches none. A second signal has
    no effect, except Ctrl-C, which then raises KeyboardInterrupt.
    """

    def __init__(self):
        self._notified = threading.Event()
        self._before: dict[int, Any] = {}
        self._several = False
        # whether Ctrl-C counts as a notice now, whether there was one, and when
        self._saves, self._interrupted, self._first = False, False, 0.0
        self._begun: int | None = None

    def __enter__(self) -> "Preemption":
        import jax  # here, because every command imports this module for `Preempted`

        # not process_count(), which would start the backend here
        self._several = jax.distributed.is_initialized()
        if threading.current_thread() is threading.main_thread():
            for number in (*SIGNALS, signal.SIGINT):
                if self._several and number == signal.SIGTERM:
                    continue
                if number == signal.SIGINT and signal.getsignal(number) is signal.SIG_IGN:
                    # in the background of a script: Ctrl-C is not meant for this process
                    continue
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            # None: a handler that was not set from Python, which Python cannot restore
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()
        status.note("")

    @property
    def notified(self) -> bool:
        """Whether this process got a notice; others may not know of it yet."""
        return self._notified.is_set()

    def should_stop(self, step: int) -> bool:
        """Whether to save and stop after `step` steps.

        All processes must call it, before the first step and after every step. After the first
        step, Ctrl-C counts as a notice.
        """
        self._saves = self._saves or self._begun not in (None, step)
        self._begun = step
        if not self._several:
            return self.notified
        from jax.experimental import multihost_utils

        return multihost_utils.reached_preemption_sync_point(step)

    @property
    def interrupts(self) -> bool:
        """Whether to interrupt work between steps, such as an evaluation; never with several
        processes, which must agree.
        """
        return self.notified and not self._several

    def catch_ctrl_c(self) -> None:
        """From here on Ctrl-C counts as a notice, even before the first step."""
        self._saves = True

    def stopped(self, message: str) -> Preempted:
        """The exception to raise when all is saved; `Interrupted` after Ctrl-C."""
        return (Interrupted if self._interrupted else Preempted)(message)

    def _handle(self, number: int, frame: object) -> None:
        del frame
        if number == signal.SIGINT:
            now = time.monotonic()
            if not self._saves or (self._interrupted and now - self._first > TWICE):
                raise KeyboardInterrupt
            if self._interrupted:
                return
            self._interrupted, self._first = True, now
            status.note("stopping once all is saved (Ctrl-C: at once)")
        self._notified.set()
        if self._several:
            # JAX's preemption service catches this signal only
            os.kill(os.getpid(), signal.SIGTERM)
