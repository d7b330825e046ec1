"""Lines that the library logs: records of `logging`, which commands print as they are.

As in other libraries a program decides what becomes of them: `logging.getLogger("vtd_jax")` is the
parent of all loggers here, warnings reach stderr by default, and everything else is silent.

    logging.basicConfig(level=logging.INFO)  # shows all lines

Texts are escaped here, so that no handler can send control characters to a terminal.
"""

import contextlib
import logging
import sys
from collections.abc import Iterator

from vtd_jax.printable import shown

_ROOT = "vtd_jax"


def log(text: object) -> None:
    """Logs a line at level INFO; commands print it on stderr."""
    _emit(logging.INFO, text, False)


def log_result(text: object) -> None:
    """Logs a line at level INFO; commands print it on stdout, as what they were asked for."""
    _emit(logging.INFO, text, True)


def warn(text: object) -> None:
    """Logs a line at level WARNING; commands print `warning: …` on stderr."""
    _emit(logging.WARNING, text, False)


def print_lines() -> None:
    """Prints all lines from now on, and no longer passes them to other handlers: for commands."""
    logger = logging.getLogger(_ROOT)
    if not _is_printed():
        logger.addHandler(_Printer())
        logger.setLevel(logging.INFO)
        # absl's handler would print them again
        logger.propagate = False


@contextlib.contextmanager
def printed() -> Iterator[None]:
    """Prints all lines until the block ends, see `print_lines`."""
    if _is_printed():
        yield
        return
    logger = logging.getLogger(_ROOT)
    level, propagate = logger.level, logger.propagate
    print_lines()
    try:
        yield
    finally:
        for handler in [one for one in logger.handlers if isinstance(one, _Printer)]:
            logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


class _Printer(logging.Handler):
    """Prints the message alone; the streams are those of the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a record and flushes; an error of the stream is raised, not swallowed."""
        text = record.getMessage()
        # shortened texts are not shortened again
        text = text if getattr(record, "is_shown", False) else shown(text)
        before = "warning: " if record.levelno >= logging.WARNING else ""
        stream = sys.stdout if getattr(record, "on_stdout", False) else sys.stderr
        print(f"{before}{text}", file=stream, flush=True)


def _emit(level: int, text: object, on_stdout: bool) -> None:
    # the module that logs, as `getLogger(__name__)` there would say; a command has no logger here
    caller = sys._getframe(2).f_globals.get("__name__", _ROOT)
    logger = logging.getLogger(caller if f"{caller}.".startswith(f"{_ROOT}.") else _ROOT)
    if logger.isEnabledFor(level):
        extra = {"is_shown": True, "on_stdout": on_stdout}
        logger.log(level, "%s", shown(text), stacklevel=3, extra=extra)


def _is_printed() -> bool:
    return any(isinstance(one, _Printer) for one in logging.getLogger(_ROOT).handlers)
