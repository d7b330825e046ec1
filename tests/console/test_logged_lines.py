"""The library logs and does not print; commands print what it logs, on the streams they had."""

import ast
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from vtd_jax import terminal
from vtd_jax.console.progress import Progress

ROOT = Path(__file__).resolve().parents[2]
_LOGGER = logging.getLogger("vtd_jax")


@pytest.fixture
def as_library():
    """As in a program that is no command: tests/conftest.py prints lines."""
    before = _LOGGER.handlers[:], _LOGGER.level, _LOGGER.propagate
    _LOGGER.handlers, _LOGGER.propagate = [], True
    _LOGGER.setLevel(logging.NOTSET)
    yield
    _LOGGER.handlers, level, _LOGGER.propagate = before
    _LOGGER.setLevel(level)


def test_commands_print_lines_as_they_are(capsys):
    terminal.log("a line\x1b[31m")
    terminal.log_result("50 % of %s")
    terminal.warn("a\nb")
    logging.getLogger("vtd_jax.other").info("not %s", "shown\x1b")
    logging.getLogger("vtd_jax.other").debug("nothing")
    shown = capsys.readouterr()
    assert shown.out == "50 % of %s\n"
    assert shown.err == "a line\\x1b[31m\nwarning: a\\nb\nnot shown\\x1b\n"


def test_a_long_line_is_shortened_once(capsys):
    terminal.log("a " * 10_000)
    assert capsys.readouterr().err.count("characters left out") == 1


def test_an_error_of_the_stream_is_raised(monkeypatch):
    class Full:
        def write(self, text):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(OSError, match="No space left"):
        terminal.log_result("x")


def test_printing_is_not_doubled_and_ends_with_its_block(as_library, capsys):
    with terminal.printed(), terminal.printed():
        terminal.print_lines()
        terminal.log("once")
        assert not _LOGGER.propagate
    terminal.log("silent")
    assert capsys.readouterr().err == "once\n"
    assert (_LOGGER.handlers, _LOGGER.level, _LOGGER.propagate) == ([], logging.NOTSET, True)


def test_a_program_gets_escaped_records(as_library, caplog, capsys):
    with caplog.at_level(logging.INFO):
        terminal.log("a\x1b 100 %")
        terminal.warn("b")
        Progress("check", 2, "video", every=0).add()
    assert capsys.readouterr() == ("", "")
    found = [(one.levelname, one.getMessage()) for one in caplog.records]
    assert found == [
        ("INFO", "a\\x1b 100 %"),
        ("WARNING", "b"),
        ("INFO", "check: 1 of 2 videos"),
    ]


def test_the_logger_is_that_of_the_module():
    # in a process of its own, without the frames of the type checker of these tests
    code = (
        "import logging\nfrom vtd_jax.console.progress import Progress\n"
        "from vtd_jax.terminal import log\n"
        "logging.basicConfig(level='INFO', format='%(name)s %(module)s: %(message)s')\n"
        "log('a')\nProgress('check', 2, 'video', every=0).add()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines() == [
        "vtd_jax <string>: a",
        "vtd_jax.console.progress progress: check: 1 of 2 videos",
    ]


def test_info_is_silent_by_default_and_a_warning_is_not():
    code = "import vtd_jax.terminal as t; t.log('a'); t.log_result('b'); t.warn('c\\x1b')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "c\\x1b\n")


@pytest.mark.slow
def test_the_library_prints_nothing_itself():
    # tables of commands, questions, and the last words of a process that ends at once
    allowed = {
        "vtd_jax/evaluate/tables.py": {"show_table"},
        "vtd_jax/console/consent.py": {"asked"},
        "vtd_jax/parallel/watch.py": {"say"},
    }
    for path in (ROOT / "vtd_jax").rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "vtd_jax.terminal":
                names = {one.name for one in node.names}
                printing = names & {"asked", "say", "show_table"}
                assert printing <= allowed.get(name, set()), f"{name}: use log or warn"
