"""What every command shares: absl start-up, one-line errors, exit codes."""

import signal
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from experiments._flags import parse, steady_output
from vtd_jax.compile_cache import keep_programs
from vtd_jax.errors import UserError
from vtd_jax.files import remedy
from vtd_jax.terminal import say
from vtd_jax.train.preemption import EXIT_STATUS, SIGNALS, Preempted


def run(
    main: Callable[..., str],
    usage: str,
    positional: Sequence[str] = (),
    needed: int = 0,
    *,
    keeps_programs: bool = True,
) -> None:
    """Runs a command: parses absl flags, calls `main`, prints its closing line.

    Args:
      main: does the work and returns one line that says what was written.
      usage: the command's docstring, shown by `--help`.
      positional: names of the arguments without a flag, which `main` is called with; the first `needed` must be given.
      keeps_programs: whether what it compiles is kept on disk for its next start; not where compiling is measured.

    A `UserError` becomes `error: …` on stderr with exit status 2, without a traceback; so do a bad flag and what the
    system refuses (no permission, no space). Ctrl-C ends with status 130, a run that was preempted and saved with 75.
    """

    steady_output()

    def guarded(argv: list[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            # libraries would print their search for accelerators and settings; --verbosity=0 brings that back
            logging.set_verbosity(logging.ERROR)
        try:
            _check_count(argv[1:], positional, needed)
            if keeps_programs:
                keep_programs()
            say(main(*argv[1:]))
        except Preempted as stopped:
            for number in SIGNALS:
                # everything is saved: one more notice must not change the status
                signal.signal(number, signal.SIG_IGN)
            say(f"preempted: {stopped}", sys.stderr)
            sys.exit(EXIT_STATUS)
        except UserError as error:
            say(f"error: {error}", sys.stderr)
            sys.exit(2)
        except OSError as error:
            if error.strerror is None:
                raise
            what = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
            say(f"error: {what}{remedy(error)}", sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            say("error: interrupted", sys.stderr)
            sys.exit(130)

    sys.modules["__main__"].__doc__ = usage
    # flags may also stand behind the arguments
    flags.FLAGS.set_gnu_getopt(bool(positional))
    app.run(guarded, flags_parser=parse)


def _check_count(arguments: Sequence[str], positional: Sequence[str], needed: int) -> None:
    """Refuses too few and too many arguments."""
    if not positional and arguments:
        raise UserError(f"unexpected argument {arguments[0]!r}: options are written --name=value, see --help")
    if not needed <= len(arguments) <= len(positional):
        told = " ".join([*positional[:needed], *(f"[{name}]" for name in positional[needed:])])
        raise UserError(f"expected {told}, got {' '.join(arguments) or 'nothing'}; see --help")
