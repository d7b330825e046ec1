"""Escapes what libraries and Python print: log lines, warnings and tracebacks."""

import logging
import sys
import traceback
import warnings
from types import TracebackType
from typing import Any

from absl import logging as absl_logging

from vtd_jax.printable import shown


def escape_library_output() -> None:
    """Escapes control characters in all log lines, warnings and tracebacks from now on."""
    handler = absl_logging.get_absl_handler()
    # tests call this twice: do not escape twice
    inner = handler.python_handler.formatter
    if not isinstance(inner, EscapedLines):
        handler.setFormatter(EscapedLines(inner))
    warnings.formatwarning = _format_warning
    sys.excepthook = _show_exception


class EscapedLines(logging.Formatter):
    """Wraps a formatter: escapes the message into one line, and each line of a traceback."""

    def __init__(self, inner: logging.Formatter | None):
        super().__init__()
        self._inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record."""
        one = logging.makeLogRecord(record.__dict__)
        one.msg, one.args = shown(record.getMessage()), None
        return _by_line(self._inner.format(one))


def _format_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """`file:line: Category: message`, as Python does, without the line of code."""
    return f"{shown(filename)}:{lineno}: {category.__name__}: {shown(message)}\n"


def _show_exception(
    kind: type[BaseException], error: BaseException, at: TracebackType | None
) -> None:
    text = "".join(traceback.format_exception(kind, error, at))
    stream: Any = sys.stderr
    if stream is not None:
        stream.write(f"{_by_line(text)}\n")
        stream.flush()


def _by_line(text: str) -> str:
    return "\n".join(map(shown, text.rstrip("\n").split("\n")))
