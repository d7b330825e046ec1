"""Progress of long jobs: live on a terminal, rate-limited log lines elsewhere."""

import io
import sys

import pytest

from support.terminal import Terminal
from vtd_jax.console import progress as progress_module
from vtd_jax.console import status
from vtd_jax.console.progress import Progress
from vtd_jax.console.status import Part
from vtd_jax.durations import position


@pytest.fixture
def seconds(monkeypatch):
    """What the clock of the progress shows, in a list of one."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_lines_are_logged_now_and_then(seconds, capsys):
    progress, logged = Progress("check", 10, "video", log=lambda line: lines.append(line)), []
    lines = logged
    progress.show()
    for _ in range(10):
        seconds[0] += 4
        progress.add()
        progress.show()
    # the first video is the start of the clock; every third one comes 10 s after a line
    assert lines == [
        "check: 3 of 10 videos, 0.25 videos/s, 0:28 left",
        "check: 6 of 10 videos, 0.25 videos/s, 0:16 left",
        "check: 9 of 10 videos, 0.25 videos/s, 0:04 left",
        "check: 10 of 10 videos, 0.25 videos/s, 0:00 left",
    ]
    assert capsys.readouterr() == ("", "")


def test_bad_items_are_counted_and_skipped_ones_logged(seconds, capsys):
    progress = Progress("check", 4, "video", every=0)
    progress.add(1, bad=1)
    seconds[0] += 2
    progress.add(1, 1, "a.mp4: no frames")
    assert capsys.readouterr().err.splitlines() == [
        "check: 1 of 4 videos, 1 bad",
        "skipped a.mp4: no frames",
        "check: 2 of 4 videos, 0.50 videos/s, 0:04 left, 2 bad",
    ]


def test_a_short_job_logs_nothing(seconds, capsys):
    with Progress("check", 3, "video") as progress:
        for _ in range(3):
            seconds[0] += 1
            progress.add()
    assert capsys.readouterr() == ("", "")


def test_other_units_details_and_an_unknown_total(seconds):
    lines = []
    progress = Progress("a.mp4", form=position, every=0, log=lines.append)
    progress.update(0, 0)
    progress.update(6.04, 0, details=(Part("loss 1.5"),))
    seconds[0] += 3
    progress.update(12, 30)
    assert lines == ["a.mp4: 0:06.0, loss 1.5", "a.mp4: 0:12.0 of 0:30.0, 0:09 left"]


def _terminal(monkeypatch) -> Terminal:
    """Makes stderr a terminal; not a fixture, since pytest sets stderr after those."""
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    return terminal


@pytest.mark.parametrize("stderr", [None, io.StringIO()])
def test_without_a_terminal_nothing_is_live(monkeypatch, stderr):
    monkeypatch.setattr(sys, "stderr", stderr)
    lines = []
    with Progress("check", 2, "video", every=0, log=lines.append) as progress:
        progress.add(2)
    assert lines == ["check: 2 of 2 videos"]


def test_a_dumb_terminal_gets_lines(monkeypatch):
    terminal = _terminal(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    with Progress("check", 2, "video", every=0) as progress:
        progress.add(1)
    assert any(line.startswith("check: 1 of 2 videos") for line in terminal.lines())


def test_a_short_job_leaves_no_line_on_a_terminal(monkeypatch):
    terminal = _terminal(monkeypatch)
    with Progress("check", 2, "video") as progress:
        progress.add(2)
    assert not any("check" in line for line in terminal.lines())


def test_a_log_of_the_callers_own_gets_lines_beside_a_terminal(monkeypatch):
    _terminal(monkeypatch)
    lines = []
    with Progress("check", 4, "video", every=0, log=lines.append) as progress:
        progress.add(2)
    assert lines == ["check: 2 of 4 videos"]


def test_a_terminal_shows_a_live_line_and_keeps_the_last_one(monkeypatch):
    terminal = _terminal(monkeypatch)
    monkeypatch.setattr(progress_module, "SHORT", 0.0)
    with Progress("check", 3, "video") as progress:
        for _ in range(3):
            progress.add()
            if status._SHOWN.live is not None:
                status._SHOWN.live.refresh()
    shown = [line.strip(" ⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏") for line in terminal.lines()]
    assert any(line.startswith("check: 2 of 3 videos  ") for line in shown)
    assert shown[-1].startswith("check: 3 of 3 videos, ")
    assert status._SHOWN.lines == []
