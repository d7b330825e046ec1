"""The commands: `python -m experiments.NAME`."""

import os
import signal
import sys


def _command() -> str:
    """The command that this process begins as, as `train`; "" for any other use of this package."""
    # only here has `python -m` not put a file in the place of its own name yet
    if sys.argv[:1] != ["-m"] or "-m" not in sys.orig_argv:
        return ""
    package, _, name = sys.orig_argv[sys.orig_argv.index("-m") + 1].partition(".")
    return name if package == "experiments" else ""


def _leave(number: int, frame: object) -> None:
    """Ctrl-C while a command imports its libraries, which takes seconds: nothing was begun, nothing
    has to end.
    """
    del number, frame
    os.write(2, b"interrupted: nothing was begun; the same command starts again\n")
    os._exit(130)


# the processes that `benchmark` starts are modules of its folder: they end as any other, without a
# word
if (_NAME := _command()) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL if "." in _NAME else _leave)
