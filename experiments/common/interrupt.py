"""Ctrl-C in commands: the first one ends the work in order, a second one ends the process."""

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from vtd_jax.console import status
from vtd_jax.parallel.preemption import INTERRUPTED, TWICE

_WATCHING = threading.Lock()
# not a signal's number: stands for a KeyboardInterrupt that Python dropped
_LOST = 0
# seconds until the callback that dropped it is over
_OVER = 0.01


def watch() -> None:
    """Makes the first Ctrl-C raise KeyboardInterrupt and a second one end the process at once.

    A handler that is set later replaces the first. The second needs a thread of its own: Python's
    handlers run only after XLA has compiled, which may take minutes.
    """
    if threading.current_thread() is not threading.main_thread() or not _WATCHING.acquire(
        blocking=False
    ):
        return
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # in the background of a shell without job control, or under nohup: stay ignored
        return
    signal.signal(signal.SIGINT, _raise)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    # Python's handler in C writes every signal's number there as it arrives
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    sys.unraisablehook = _heeding(writing, sys.unraisablehook)
    threading.Thread(target=_read, args=(reading,), daemon=True, name="vtd-ctrl-c").start()


def ignore() -> None:
    """Ignores Ctrl-C from now on: only Python's own exit is left, whose status must stay."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _raise(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _heeding(
    writing: int, before: Callable[["sys.UnraisableHookArgs"], object]
) -> Callable[..., None]:
    """A hook for exceptions in garbage collector callbacks, such as JAX's, which Python drops."""

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            os.write(writing, bytes([_LOST]))
        else:
            before(unraisable)

    return hook


def _read(reading: int) -> None:
    first, own = None, 0
    while True:
        numbers = os.read(reading, 64)
        now = time.monotonic()
        if _LOST in numbers:
            time.sleep(_OVER)
            own += 1
            # calls the current handler again, and its signal is written here too
            _thread.interrupt_main(signal.SIGINT)
        pressed = numbers.count(signal.SIGINT)
        repeated = min(own, pressed)
        own -= repeated
        if pressed == repeated:
            continue
        if first is None:
            first = now
        elif now - first > TWICE:
            _stop()


def _stop() -> None:
    """Exits at once. Worker processes follow; half-written files have names of their own."""
    status.leave()
    sys.__stdout__.flush()
    os.write(
        2,
        b"interrupted twice: stopped at once; "
        b"the same command resumes from what was saved before\n",
    )
    os._exit(INTERRUPTED)
