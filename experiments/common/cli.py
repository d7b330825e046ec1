"""What every command shares: absl start-up, one-line errors, exit codes."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import app, flags, logging

from experiments.common import interrupt, program
from experiments.common.command_line import parse, steady_output
from experiments.common.spelling import flag_names
from vtd_jax.backend import check_backend, no_backend
from vtd_jax.cache.programs import keep_programs
from vtd_jax.console import status
from vtd_jax.console.consent import VARIABLE as DOWNLOAD
from vtd_jax.console.library_output import escape_library_output
from vtd_jax.errors import UserError, named_by
from vtd_jax.files import remedy
from vtd_jax.parallel.preemption import INTERRUPTED, SIGNALS, Preempted
from vtd_jax.terminal import printed, say
from vtd_jax.untrusted.raised import RAISED

STARTS_AGAIN = "nothing was written; the same command starts again"


def run(
    main: Callable[..., str],
    usage: str | None,
    positional: Sequence[str] = (),
    needed: int = 0,
    *,
    keeps_programs: bool = True,
    device: bool = False,
    resumes: str = STARTS_AGAIN,
) -> None:
    """Runs a command: parses absl flags, calls `main`, prints its closing line.

    Args:
      main: does the work and returns one line that says what was written.
      usage: the command's docstring, shown by `--help`.
      positional: names of the arguments without a flag, which `main` is called with; the first
        `needed` must be given. With "…" as the last one there may be any number.
      keeps_programs: whether what it compiles is kept on disk for its next start; not where
        compiling is measured.
      device: whether JAX's devices are started first, so that a missing one is reported at once.
      resumes: what Ctrl-C leaves behind; used where `main` raises KeyboardInterrupt without a
        message.

    What the library logs is printed, see `vtd_jax.terminal`.
    The commands and configs in `usage` are spelled as this one was started, see `program`.
    A `UserError` becomes `error: …` on stderr with exit status 2, without a traceback. So do a bad
    flag and an OSError (no permission, no space). Ctrl-C ends with status 130, a preempted run that
    was saved with 75. A second Ctrl-C ends the process at once.
    """

    steady_output()
    escape_library_output()

    def guarded(argv: list[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            # libraries log their search for accelerators; --verbosity=0 brings that back
            logging.set_verbosity(logging.ERROR)
        try:
            interrupt.watch()
            _check_count(argv[1:], positional, needed)
            program.check_needs()
            for limit in RAISED:
                limit.set(flags.FLAGS[limit.flag].value if limit.flag in flags.FLAGS else None)
            _pass_on_consent()
            if keeps_programs:
                keep_programs()
            if device:
                check_backend()
            closing = main(*argv[1:])
            status.clear()
            say(closing)
        except Preempted as stopped:
            for number in SIGNALS:
                # everything is saved: another signal must not change the exit status
                signal.signal(number, signal.SIG_IGN)
            _end(f"{stopped.word}: {stopped}", stopped.status)
        except UserError as error:
            _end(f"error: {error}", 2)
        except ModuleNotFoundError as error:
            if (lacking := program.lacking(error, program.running())) is None:
                raise
            _end(f"error: {lacking}", 2)
        except OSError as error:
            if error.strerror is None:
                raise
            where = "" if error.filename is None else f"{error.filename}: "
            _end(f"error: {where}{error.strerror}{remedy(error)}", 2)
        except (RuntimeError, AssertionError) as error:
            if (message := no_backend(error)) is None:
                raise
            _end(f"error: {message}", 2)
        except KeyboardInterrupt as stopped:
            _end(f"interrupted: {str(stopped) or resumes}", INTERRUPTED)

    sys.modules["__main__"].__doc__ = program.respelled(usage or "")
    # flags may also stand behind the arguments
    flags.FLAGS.set_gnu_getopt(bool(positional))
    with named_by(flag_names(frozenset(flags.FLAGS))), printed():
        app.run(guarded, flags_parser=parse)


def _pass_on_consent() -> None:
    """Sets the variable of `--download`, for this process and those that it starts."""
    if "download" in flags.FLAGS and (allowed := flags.FLAGS["download"].value) is not None:
        os.environ[DOWNLOAD] = "1" if allowed else "0"


def _end(line: str, code: int) -> NoReturn:
    """Prints the last line and exits; Ctrl-C no longer changes the exit status."""
    interrupt.ignore()
    status.clear()
    say(line, sys.stderr)
    sys.exit(code)


def _check_count(arguments: Sequence[str], positional: Sequence[str], needed: int) -> None:
    """Refuses too few and too many arguments."""
    if not positional and arguments:
        raise UserError(
            f"unexpected argument {arguments[0]!r}: options are written --name=value, see --help"
        )
    many = positional[-1:] == ("…",)
    if len(arguments) < needed or (len(arguments) > len(positional) and not many):
        expected = " ".join([*positional[:needed], *(f"[{name}]" for name in positional[needed:])])
        raise UserError(f"expected {expected}, got {' '.join(arguments) or 'nothing'}; see --help")
