"""Log lines, warnings and tracebacks of others: a name in them does nothing to a terminal."""

import io
import logging
import sys
import warnings

import pytest
from absl import logging as absl_logging

from experiments.common import cli
from vtd_jax.console.library_output import EscapedLines, escape_library_output

NAME = "\x1b]0;x\x07\x1b[31m\u202e\x9b31m\nerror: forged"
ESCAPED = r"\x1b]0;x\x07\x1b[31m\u202e\x9b31m\nerror: forged"


@pytest.fixture
def escaped(monkeypatch):
    """The house's output, and everything as it was afterwards."""
    handler = absl_logging.get_absl_handler()
    before = handler.python_handler.formatter
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    escape_library_output()
    escape_library_output()
    yield handler
    handler.setFormatter(before)


def test_log_lines(escaped):
    inner = escaped.python_handler.formatter
    assert isinstance(inner, EscapedLines)
    record = logging.LogRecord("orbax", logging.ERROR, "x.py", 3, "cannot read %s", (NAME,), None)
    line = inner.format(record)
    assert line.endswith(f"cannot read {ESCAPED}")
    assert line.count("\n") == 0
    # the record is another handler's, too
    assert record.args == (NAME,)
    try:
        raise ValueError(NAME)
    except ValueError:
        record = logging.LogRecord("orbax", logging.ERROR, "x.py", 3, "failed", (), sys.exc_info())
    text = inner.format(record)
    assert "Traceback" in text
    assert not set("\x1b\x07\x9b\u202e") & set(text)


def test_warnings(escaped):
    line = warnings.formatwarning(UserWarning(NAME), UserWarning, f"{NAME}.py", 7)
    assert line == f"{ESCAPED}.py:7: UserWarning: {ESCAPED}\n"


def test_tracebacks(escaped, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    try:
        raise ValueError("\x1b[31m" * 1_000_000)
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    text = sys.stderr.getvalue()
    assert text.startswith("Traceback (most recent call last):\n")
    assert "characters left out" in text
    assert "\x1b" not in text
    assert len(text) < 12_000


def test_every_command_begins_with_it():
    assert "escape_library_output" in cli.run.__code__.co_names
