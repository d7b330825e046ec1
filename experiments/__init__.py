"""The commands: `vtd NAME`, or `python -m experiments.NAME` in a checkout."""

import functools
import os
import signal
import sys
from types import TracebackType

from vtd_jax.terminal import print_lines


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


def _report_missing(
    name: str, kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """An import that fails for want of an extra: a line, or the help that is asked for; everything
    else as Python does.
    """
    if isinstance(error, ModuleNotFoundError):
        from experiments.common.program import lacking

        if (line := lacking(error, name)) is not None:
            from experiments.common.bare_help import bare_help, is_wanted

            if is_wanted():
                print(bare_help(name, line))
                sys.exit(0)
            print(f"error: {line}", file=sys.stderr)
            sys.exit(2)
    sys.__excepthook__(kind, error, trace)


def begin(name: str) -> None:
    """How a command ends while it imports its libraries, by Ctrl-C or for want of one; and that it
    prints what the library logs.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # modules of a command's folder, which `benchmark` starts as processes, end silently
        signal.signal(signal.SIGINT, signal.SIG_DFL if "." in name else _leave)
    sys.excepthook = functools.partial(_report_missing, name)
    print_lines()


if _NAME := _command():
    begin(_NAME)
