"""CSV without doubled rows, event files that TensorBoard reads, a progress line with rate and time
left.
"""

import csv
import io
import math
import os
import re
import sys

import numpy as np
import pytest
from rich.console import Console
from tensorboardX.proto.event_pb2 import Event

from support.terminal import Terminal
from vtd_jax.console import status
from vtd_jax.errors import UserError
from vtd_jax.train.logging import BASE_COLUMNS, CsvLog, Pace, RunLog, Window, memory


def _rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_rows_are_there_at_once(tmp_path):
    log = CsvLog(tmp_path / "m.csv", ("step", "loss"))
    log.write({"step": 1, "loss": 0.5})
    log.write({"step": 2})
    assert _rows(tmp_path / "m.csv") == [{"step": "1", "loss": "0.5"}, {"step": "2", "loss": ""}]
    log.close()


def test_csv_resumed_drops_later_and_broken_rows(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("step,loss\n1,0.5\n2,0.4\n3,0.3\n4")
    log = CsvLog(path, ("step", "loss"), step=2)
    log.write({"step": 3, "loss": 0.25})
    log.close()
    assert path.read_text() == "step,loss\n1,0.5\n2,0.4\n3,0.25\n"


def test_csv_drops_an_evaluation_that_is_made_again(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("step,loss,val\n1,0.5,\n1,,0.9\n2,0.4,\n2,,0.8\n3,0.3,\n")
    CsvLog(path, ("step", "loss", "val"), step=2, evaluated=False).close()
    assert path.read_text() == "step,loss,val\n1,0.5,\n1,,0.9\n2,0.4,\n"


def test_csv_from_the_start_replaces_an_old_file(tmp_path):
    (tmp_path / "m.csv").write_text("step,loss\n1,0.5\n")
    CsvLog(tmp_path / "m.csv", ("step", "loss")).close()
    assert (tmp_path / "m.csv").read_text() == "step,loss\n"


def test_csv_of_before_a_column_came_continues_with_it_empty(tmp_path):
    path, columns = tmp_path / "m.csv", ("step", "loss", "input_wait", "val")
    path.write_text("step,loss,val\n1,0.5,\n1,,0.9\n2,0.4,\n3,0.3,\n")
    log = CsvLog(path, columns, step=2)
    log.write({"step": 3, "loss": 0.25, "input_wait": 0.5})
    log.close()
    assert path.read_text() == "step,loss,input_wait,val\n1,0.5,,\n1,,,0.9\n2,0.4,,\n3,0.25,0.5,\n"
    CsvLog(path, columns, step=3, evaluated=False).close()
    assert path.read_text() == "step,loss,input_wait,val\n1,0.5,,\n1,,,0.9\n2,0.4,,\n3,0.25,0.5,\n"


def test_csv_of_other_columns_is_refused_and_kept(tmp_path):
    (tmp_path / "m.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"m\.csv: line 1: columns"):
        CsvLog(tmp_path / "m.csv", ("step", "loss"), step=1)
    assert (tmp_path / "m.csv").read_text() == "a,b\n1,2\n"


def _resumed(path, content, **settings):
    path.write_bytes(content)
    CsvLog(path, ("step", "loss"), step=3, **settings).close()
    return path.read_text()


def test_csv_rows_that_are_lost_are_said_and_cost_nothing(tmp_path, capsys):
    assert (
        _resumed(tmp_path / "m.csv", b"step,loss\n1,0.5\n3,0.3\n", rows=3)
        == "step,loss\n1,0.5\n3,0.3\n"
    )
    message = capsys.readouterr().err
    assert message.startswith(f"warning: {tmp_path}/m.csv: has 2 of 3 rows up to step 3")
    assert message.count("\n") == 1
    (tmp_path / "m.csv").unlink()
    log = CsvLog(tmp_path / "m.csv", ("step", "loss"), step=3, rows=3)
    assert "0 of 3 rows" in capsys.readouterr().err
    log.write({"step": 4})
    assert log.rows == 1
    log.close()


@pytest.mark.parametrize(
    "content, kept, aside, message",
    [
        # a line that a crash cut off is no damage
        (b"step,loss\n1,0.5\n2,0.4\n3,0.", "1,0.5\n2,0.4\n", False, ""),
        (b"step,loss\r\n1,0.5\r\n", "1,0.5\n", False, ""),
        (
            "step,loss\n1,0.5\n²,0.4\n٣,0.4\n3,0.3\n".encode(),
            "1,0.5\n3,0.3\n",
            True,
            "m.csv:3: no row of numbers",
        ),
        (b"step,loss\n1,0.5\n02,0.4\n3,0.3\n", "1,0.5\n3,0.3\n", True, "m.csv:3: no row"),
        (b'step,loss\n1,"0.5\n2,0.4\n3,0.3\n', "2,0.4\n3,0.3\n", True, "m.csv:2: no row"),
        (
            b"step,loss\n1,0.5,7\n2,=A1\n3,nan\n",
            "3,nan\n",
            True,
            "m.csv:2: no row of numbers; it and 1 more are left out",
        ),
        (b"step,loss\n" + b"9" * 10_000 + b",1\n3,0.3\n", "3,0.3\n", True, "m.csv:2: no row"),
        ("step,loss\n1,0.5\n".encode("utf-16"), "", True, "m.csv: byte 0 is not UTF-8"),
        (b"step,loss\n1,\x000.5\n", "", True, "m.csv:2: a zero byte"),
        (bytes(range(128, 256)), "", True, "m.csv: byte 0 is not UTF-8"),
    ],
)
def test_csv_that_is_damaged_is_kept_aside(tmp_path, capsys, content, kept, aside, message):
    assert _resumed(tmp_path / "m.csv", content) == "step,loss\n" + kept
    errors = capsys.readouterr().err
    assert (message in errors, errors.count("\n")) == (True, bool(message))
    assert [path.name for path in tmp_path.glob("*.damaged*")] == (
        ["m.csv.damaged"] if aside else []
    )
    if aside:
        assert (tmp_path / "m.csv.damaged").read_bytes() == content


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_csv_that_is_no_file_is_moved_away(tmp_path, capsys, make):
    make(tmp_path / "m.csv")
    CsvLog(tmp_path / "m.csv", ("step", "loss"), step=3).close()
    assert (tmp_path / "m.csv").read_text() == "step,loss\n"
    assert re.fullmatch(
        r"warning: .*m\.csv: a (pipe|folder), expected .*damaged, starting a new one\n",
        capsys.readouterr().err,
    )


def test_pace_leaves_the_compiling_window_out():
    pace = Pace(total_steps=100)
    assert math.isnan(pace.seconds_left)
    pace.window(10, 10, 40.0, 60.0)
    assert pace.seconds_left == pytest.approx(90 * 6)
    pace.window(20, 10, 40.0, 10.0)
    pace.window(30, 10, 40.0, 20.0)
    assert pace.videos_per_second == pytest.approx(2.0)
    assert pace.seconds_left == pytest.approx(70 * 1.5)


def test_run_log_writes_everywhere(tmp_path):
    out = io.StringIO()
    log = RunLog(
        tmp_path,
        total_steps=4,
        splits=("val",),
        console=Console(file=out, soft_wrap=True, highlight=False),
    )
    log.start_timing()
    log.train(2, 1.0, Window(2, 8.0, 1.5, 0.25, 0.125, 1e-3, 0))
    log.evaluation(2, 1.0, {"val_top1": 0.5, "val_top5": None}, (0.5, 2))
    log.train(4, 2.0, Window(2, 8.0, 1.5, 0.25, 0.125, 1e-3, 3))
    log.evaluation(4, 2.0, {"val_top1": 0.25, "val_top5": None}, (0.5, 2))
    log.close()
    first, second, third, fourth = out.getvalue().splitlines()
    assert first.startswith("step 2/4  epoch 1.00  loss 1.5000  accuracy 25.0  lr 1.00e-03  ")
    assert "videos/s" in first
    assert re.search(r" left  host mem \d+\.\d GiB$", first)
    assert second == "step 2/4  epoch 1.00  evaluated: val top1 50.00"
    assert third.endswith(" GiB  3 skipped")
    assert (
        fourth == "step 4/4  epoch 2.00  evaluated: val top1 25.00  (best val top1 50.00 at step 2)"
    )
    trained, evaluated, later, _ = _rows(tmp_path / "metrics.csv")
    assert tuple(trained) == (*BASE_COLUMNS, "val_top1", "val_top5")
    assert (trained["loss"], trained["lr"], trained["val_top1"]) == ("1.5", "0.001", "")
    assert (trained["grad_norm"], trained["skipped"], later["skipped"]) == ("0.125", "0", "3")
    assert float(trained["memory_gib"]) > 0.05
    assert (evaluated["loss"], evaluated["val_top1"], evaluated["val_top5"]) == ("", "0.5", "")
    message = {("loss", 2, 1.5), ("grad_norm", 2, 0.125), ("skipped", 4, 3.0), ("val_top1", 2, 0.5)}
    assert message <= set(_events(tmp_path / "events"))


def test_the_share_of_time_spent_waiting_for_input(tmp_path):
    out = io.StringIO()
    log = RunLog(
        tmp_path,
        total_steps=4,
        splits=(),
        console=Console(file=out, soft_wrap=True, highlight=False),
    )
    window = Window(1, 4.0, 1.0, 0.5, 0.5, 0.1, 0)
    # an hour before, and none of it since
    log.start_timing(waited=3600.0)
    log.train(1, 0.25, window, waited=3600.0)
    # more than the window has: all of it
    log.train(2, 0.5, window, waited=7200.0)
    log.close()
    assert [float(row["input_wait"]) for row in _rows(tmp_path / "metrics.csv")] == [0.0, 1.0]
    first, second = out.getvalue().splitlines()
    assert "waiting" not in first
    assert " videos/s (100 % of the time waiting for input)  " in second


def test_a_window_leaves_skipped_updates_out_of_its_means():
    good = {"loss": 6.0, "correct": 1.0, "count": 4.0, "grad_norm": 0.5, "lr": 0.1, "skipped": 0.0}
    fewer = {"loss": 1.0, "correct": 2.0, "count": 1.0, "grad_norm": 1.5, "lr": 0.2, "skipped": 0.0}
    bad = {
        "loss": math.nan,
        "correct": 0.0,
        "count": 4.0,
        "grad_norm": math.nan,
        "lr": 0.3,
        "skipped": 1.0,
    }
    assert Window.of([good, bad, fewer], 7) == Window(3, 9.0, 7 / 5, 3 / 5, 1.0, 0.2, 7)
    alone = Window.of([bad], 1)
    assert (alone.videos, alone.lr) == (4.0, 0.3)
    assert all(math.isnan(value) for value in (alone.loss, alone.accuracy, alone.grad_norm))


class Device:
    """Stands for an accelerator, or for a CPU, which reports nothing."""

    def __init__(self, stats):
        self.stats = stats

    def memory_stats(self):
        return self.stats


@pytest.mark.slow
def test_memory_is_the_fullest_devices_or_this_processs():
    devices = [
        Device({"peak_bytes_in_use": 2**30}),
        Device({"peak_bytes_in_use": 3 * 2**30}),
        Device(None),
    ]
    assert memory(devices) == ("mem", 3.0)
    array = np.ones(2**25)
    name, gib = memory([Device(None), Device({"bytes_in_use": 5})])
    assert name == "host mem"
    assert array.nbytes / 2**30 < gib < 64


def test_events_are_there_at_once(tmp_path):
    log = RunLog(tmp_path, total_steps=4, splits=())
    log.train(1, 0.5, Window(1, 4.0, 1.25, 0.5, 0.5, 0.1, 0))
    assert ("loss", 1, 1.25) in _events(tmp_path / "events")
    log.close()


@pytest.mark.parametrize("columns", [60, 100, 160])
def test_run_log_on_a_terminal_redraws_one_line_that_fits(tmp_path, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    log = RunLog(
        tmp_path, total_steps=100, splits=(), console=Console(file=terminal, soft_wrap=True)
    )
    log.begun(1)
    window = Window(1, 4.0, 1.0, 0.5, 0.5, 0.1, 3)
    log.train(1, 0.5, window)
    log.train(50, 1.0, window, waited=3600.0)
    log.line("[red]a line[/red] that stays :car:")
    log.begun(51)
    status._SHOWN.live.refresh()
    log.close()
    lines = terminal.lines()
    assert "[red]a line[/red] that stays :car:" in lines
    assert all(len(line) < columns for line in lines)
    last = lines[-1]
    assert "step 51/100  " in last
    # time left stays longest; memory, input wait and rates go first
    assert re.search(r"loss 1\.0000  .*\d left", last)
    assert ("waiting for input)" in last, " videos/s  " in last) == (columns >= 160, columns >= 100)
    assert status._SHOWN.live is None


def test_a_line_that_stays_goes_above_the_one_that_is_redrawn(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    log = RunLog(tmp_path, total_steps=4, splits=("val",))
    log.begun(3)
    status._SHOWN.live.refresh()
    log.evaluation(3, 1.0, {"val_top1": 0.5})
    log.close()
    [message] = [line for line in terminal.lines() if "evaluated" in line]
    assert message == "step 3/4  epoch 1.00  evaluated: val top1 50.00"


def _events(folder):
    """(name, step, value) of every scalar: records are length, two checksums and an Event."""
    found = []
    for path in folder.iterdir():
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + size])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            data = data[16 + size :]
    return found


def test_events_are_standard_files(tmp_path):
    RunLog(tmp_path, total_steps=1, splits=()).close()
    assert all(
        path.name.startswith("events.out.tfevents.") for path in (tmp_path / "events").iterdir()
    )


def test_names_in_lines_are_verbatim(tmp_path):
    out = io.StringIO()
    log = RunLog(
        tmp_path,
        total_steps=4,
        splits=(),
        console=Console(file=out, soft_wrap=True, highlight=False),
    )
    log.line("and[/or] this, [red]names[/red], :car:, \x1b[31m")
    log.evaluation(4, 1.0, {"[/b]_top1": 0.5})
    log.close()
    first, second = out.getvalue().splitlines()
    assert first == "and[/or] this, [red]names[/red], :car:, \\x1b[31m"
    assert "evaluated: [/b] top1 50.00" in second
