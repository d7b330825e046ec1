"""The commands: `python -m experiments.NAME`."""

import os
import signal
import sys


def _command() -> str:
    """The command that `python -m` starts, such as `train`; "" for any other import."""
    # while the package is imported, argv[0] is still "-m"; later it is the module's file
    if sys.argv[:1] != ["-m"] or "-m" not in sys.orig_argv:
        return ""
    package, _, name = sys.orig_argv[sys.orig_argv.index("-m") + 1].partition(".")
    return name if package == "experiments" else ""


def _leave(number: int, frame: object) -> None:
    """Ctrl-C while a command imports its libraries: nothing to clean up, so exit at once."""
    del number, frame
    os.write(2, b"interrupted: nothing was begun; the same command starts again\n")
    os._exit(130)


# modules of a command's folder, which `benchmark` starts as processes, end silently
if (_NAME := _command()) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL if "." in _NAME else _leave)
