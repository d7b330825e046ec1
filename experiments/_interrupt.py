"""Ctrl-C in commands: the first one ends what is done in order, a second one ends the process at once."""

import os
import signal
import sys
import threading
import time

from vtd_jax import status
from vtd_jax.train.preemption import INTERRUPTED, TWICE

_WATCHING = threading.Lock()


def watch() -> None:
    """From here on the first Ctrl-C raises KeyboardInterrupt, or does what a handler set later does, and a second one
    ends this process, whatever it is doing: Python's own handlers wait until XLA has compiled, for minutes maybe."""
    if threading.current_thread() is not threading.main_thread() or not _WATCHING.acquire(blocking=False):
        return
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # in the background of a shell without job control, or under nohup
        return
    signal.signal(signal.SIGINT, _raise)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    # every signal's number is written there as it comes, by Python's handler in C
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_read, args=(reading,), daemon=True, name="vtd-ctrl-c").start()


def ignore() -> None:
    """From here on all is told and only Python's end is left, whose status Ctrl-C must not change."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _raise(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _read(reading: int) -> None:
    first = None
    while True:
        numbers = os.read(reading, 64)
        now = time.monotonic()
        if signal.SIGINT not in numbers:
            continue
        if first is None:
            first = now
        elif now - first > TWICE:
            _stop()


def _stop() -> None:
    """Worker processes follow this one; what was half written has a name of its own, as after SIGKILL."""
    status.leave()
    sys.__stdout__.flush()
    os.write(2, b"interrupted twice: stopped at once; the same command resumes from what was saved before\n")
    os._exit(INTERRUPTED)
