"""Ctrl-C in commands: the first one ends what is done in order, a second one ends the process at
once.
"""

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
# stands among the numbers of signals for a KeyboardInterrupt that was lost
_LOST = 0
# seconds until a callback that lost one is over
_OVER = 0.01


def watch() -> None:
    """From here on the first Ctrl-C raises KeyboardInterrupt, or does what a handler set later
    does, and a second one ends this process, whatever it is doing: Python's own handlers wait until
    XLA has compiled, for minutes maybe."""
    if threading.current_thread() is not threading.main_thread() or not _WATCHING.acquire(
        blocking=False
    ):
        return
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # in the background of a shell without job control, or under nohup
        return
    signal.signal(signal.SIGINT, _raise)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    # every signal's number is written there as it comes, by Python's handler in C
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    sys.unraisablehook = _heeding(writing, sys.unraisablehook)
    threading.Thread(target=_read, args=(reading,), daemon=True, name="vtd-ctrl-c").start()


def ignore() -> None:
    """From here on all is told and only Python's end is left, whose status Ctrl-C must not change."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _raise(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _heeding(
    writing: int, before: Callable[["sys.UnraisableHookArgs"], object]
) -> Callable[..., None]:
    """A hook for what is raised in callbacks of the garbage collector, where JAX has one: Python
    would pass over it.
    """

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
            # the handler of now is called once more, and its signal is written here too
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
    """Worker processes follow this one; what was half written has a name of its own, as after
    SIGKILL.
    """
    status.leave()
    sys.__stdout__.flush()
    os.write(
        2,
        b"interrupted twice: stopped at once; the same command resumes from what was saved before\n",
    )
    os._exit(INTERRUPTED)
