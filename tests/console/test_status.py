"""The terminal's line: it fits, it is gone when it is over, and without a terminal nothing is
written.
"""

import io
import logging
import sys
import time

import pytest
import rich.cells
import rich.console

from experiments.common.evaluation import _counted
from support.terminal import Terminal
from vtd_jax.console import status
from vtd_jax.console.progress import Progress
from vtd_jax.console.status import Line, Part, fit, within

PARTS = (Part("step 1/2"), Part("epoch 3", 4), Part("12.5 videos/s", 5), Part("1:02 left", 1))


@pytest.fixture
def start(monkeypatch):
    """Puts a terminal of 40 columns in the place of stderr; in the test, as pytest puts its own
    there before.
    """

    def begin():
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("COLUMNS", "40")
        monkeypatch.setattr(sys, "stderr", Terminal())
        return sys.stderr

    yield begin
    status.clear()
    status.note("")


@pytest.mark.parametrize(
    "width, message",
    [
        (60, "step 1/2  epoch 3  12.5 videos/s  1:02 left"),
        (43, "step 1/2  epoch 3  12.5 videos/s  1:02 left"),
        (42, "step 1/2  epoch 3  1:02 left"),
        (27, "step 1/2  1:02 left"),
        (18, "step 1/2"),
        (5, "step…"),
        (1, "…"),
        (0, ""),
    ],
)
def test_the_least_important_goes_first(width, message):
    assert fit(PARTS, width) == message


@pytest.mark.parametrize("width", range(12))
def test_wide_letters_count_twice(width):
    assert rich.cells.cell_len(fit((Part("綱引き 綱引き"),), width)) <= width


def test_control_characters_do_not_reach_the_terminal():
    assert fit((Part("a\x1b[2Jb\nc"),), 40) == r"a\x1b[2Jb\nc"


@pytest.mark.parametrize("width", [100, 40, 20, 7])
def test_a_line_is_measured_again_each_time(width, start):
    start()
    # what a live display does with the width of the moment
    with Line(*PARTS):
        console = rich.console.Console(file=io.StringIO(), width=width)
        [line] = console.render_lines(
            status._SHOWN, console.options.update(max_width=width), pad=False
        )
    text = "".join(segment.text for segment in line)
    assert rich.cells.cell_len(text) < width
    assert "step" in text or width < 8


def test_the_last_line_opened_is_shown_and_nothing_is_left(start):
    terminal = start()
    with Line("training [red]x[/red] :car:", clock=False):
        status._SHOWN.live.refresh()
        with Line("evaluating"), within("[1/2]"):
            status._SHOWN.live.refresh()
            print("above the line", file=sys.stderr)
        status._SHOWN.live.refresh()
    assert status._SHOWN.live is None
    assert sys.stderr is terminal
    shown = [line.strip(" ⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏") for line in terminal.lines()]
    assert (
        shown.index("training [red]x[/red] :car:")
        < shown.index("[1/2]  evaluating")
        < shown.index("above the line")
    )
    assert shown[-1] == "training [red]x[/red] :car:"
    # the line is erased, and the cursor back
    assert terminal.getvalue().rstrip("\r").endswith("\x1b[2K\x1b[?25h")
    assert all(rich.cells.cell_len(line) < 40 for line in terminal.lines())


def test_seconds_and_remarks(start, monkeypatch):
    terminal = start()
    now = time.monotonic()
    with Line("compiling") as line:
        assert line.parts() == (Part("compiling"),)
        monkeypatch.setattr(time, "monotonic", lambda: now + 12.3)
        assert [part.text for part in line.parts()] == ["compiling", "… 12 s"]
        status.note("stopping")
        status._SHOWN.live.refresh()
    assert any(shown.endswith("stopping  compiling  … 12 s") for shown in terminal.lines())


def test_what_is_printed_into_a_file_stays_out_of_the_terminal(start, monkeypatch):
    terminal = start()
    log = io.StringIO()
    monkeypatch.setattr(sys, "stdout", log)
    with Line("at work"):
        print("for the file")
    assert log.getvalue() == "for the file\n"
    assert "for the file" not in terminal.getvalue()


def test_without_a_terminal_nothing_is_written(capfd):
    with Line("at work"):
        pass
    status.clear()
    assert capfd.readouterr() == ("", "")


def test_a_dumb_terminal_and_all_but_the_first_process_are_left_alone(start, monkeypatch):
    terminal = start()
    monkeypatch.setattr(status._SHOWN, "silent", True)
    with Line("at work"):
        pass
    monkeypatch.setattr(status._SHOWN, "silent", False)
    monkeypatch.setenv("TERM", "dumb")
    with Line("at work"):
        pass
    assert terminal.getvalue() == ""


def test_what_is_open_after_an_error_is_taken_away(start):
    start()
    Line("at work").open()
    assert status._SHOWN.live is not None
    status.clear()
    assert (status._SHOWN.live, status._SHOWN.lines) == (None, [])


def test_an_evaluation_counts_its_batches():
    checks, line = [], Line(clock=False)
    check = _counted(line, {"base": range(5), "novel": range(4)}, 4, lambda: checks.append(1))
    message = [line.parts()]
    for _ in range(3):
        check()
        message.append(line.parts())
    assert len(checks) == 3
    assert [[part.text for part in parts] for parts in message] == [
        ["evaluating base, novel", "compiling"],
        ["evaluating base, novel", "batch 1 of 3", "compiling"],
        ["evaluating base, novel", "batch 2 of 3"],
        ["evaluating base, novel", "batch 3 of 3"],
    ]
    # where frame features are kept it is not known how many must be made
    _counted(line, {"val": range(5)}, None, None)()
    assert [part.text for part in line.parts()][1] == "batch 1"


def test_the_library_alone_shows_nothing(start, monkeypatch):
    terminal = start()
    logger = logging.getLogger("vtd_jax")
    monkeypatch.setattr(logger, "handlers", [])
    with Progress("copying", 3, every=0.0) as progress, Line("at work"):
        progress.add()
    assert terminal.getvalue() == ""
    assert not status.is_visible()
