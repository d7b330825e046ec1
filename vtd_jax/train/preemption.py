"""A machine that is taken away gives notice: a signal. The run saves at the next step and ends with its own status.

One process listens itself. Where several train together they have to stop at the same step, which JAX's preemption
service agrees on; it hears SIGTERM through a handler of its own, which must stay in place.
"""

import os
import signal
import threading
from types import TracebackType

# EX_TEMPFAIL: try again later; schedulers can tell it from success, a bad setting (2) and a crash
EXIT_STATUS = 75
# what clusters send, and what `sbatch --signal=USR1@60` sends before that
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Preempted(Exception):
    """The run was asked to stop and did; the message, one line, says at which step and what goes on from there."""


class BrokenOff(Exception):
    """An evaluation was broken off for a notice; it is made when the run goes on."""


class Preemption:
    """Listens for a notice while its `with` block runs; the handlers of before come back at its end.

    Outside the main thread, where Python allows no handlers, it hears nothing. A second signal changes nothing.
    """

    def __init__(self):
        self._heard = threading.Event()
        self._before: dict[int, object] = {}
        self._together = False

    def __enter__(self) -> "Preemption":
        import jax  # every command imports this module, to know `Preempted`

        # not process_count(), which would start the backend here
        self._together = jax.distributed.is_initialized()
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if self._together and number == signal.SIGTERM:
                    continue
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            # None: a handler that was not set from Python, and cannot be from here
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    @property
    def heard(self) -> bool:
        """Whether this process was told; others may not know yet."""
        return self._heard.is_set()

    def asked(self, step: int) -> bool:
        """Whether to save and stop after `step` steps; to be called after every step, by all processes alike."""
        if not self._together:
            return self.heard
        from jax.experimental import multihost_utils

        return multihost_utils.reached_preemption_sync_point(step)

    @property
    def breaks_off(self) -> bool:
        """Whether work that no step counts, as an evaluation, is to be broken off: never where all must agree."""
        return self.heard and not self._together

    def _hear(self, number: int, frame: object) -> None:
        del frame
        self._heard.set()
        if self._together:
            # JAX's service listens for this one
            os.kill(os.getpid(), signal.SIGTERM)
