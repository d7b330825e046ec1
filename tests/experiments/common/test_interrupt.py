"""Ctrl-C in commands, which a terminal sends to all of their processes: one line, status 130, and
what resumes.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support import small_run, warm
from support.holds import held_import, held_workers

pytestmark = pytest.mark.killed

# a process group of its own, as a terminal gives to a command
OWN_GROUP = """
import os, runpy, sys
os.setsid()
name = sys.argv.pop(1)
runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_run.build(tmp_path_factory.mktemp("small"))


def _start(name, *arguments, environment=os.environ):
    environment = dict(environment, XLA_FLAGS=warm.xla_flags(), JAX_PLATFORMS="cpu", COLUMNS="120")
    return warm.Started(["-c", OWN_GROUP, name, *arguments], environment)


def _wait(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _children(pid):
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").glob("*")
        for child in _read(task / "children").split()
    ]


def _read(path):
    try:
        return path.read_text()
    except OSError:
        return ""


def _workers(pid):
    return [
        child for child in _children(pid) if "spawn_main" in _read(Path(f"/proc/{child}/cmdline"))
    ]


def _ended(process, hold=None):
    """Status and lines on stderr, when all of its processes are gone; those that were held continue
    meanwhile.
    """
    workers = _children(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    if hold:
        (hold / "held").unlink()
    _, errors = process.communicate(60)
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process.returncode, errors.splitlines()


def test_training_while_its_workers_start_and_while_it_learns(folder, tmp_path):
    flags = [*small_run.flags(folder), f"--workdir={tmp_path / 'run'}", "--config.data.workers=2"]
    flags += ["--config.optimizer.epochs=2000", "--config.log_every=1"]
    process = _start("train", *flags, environment=held_workers(tmp_path / "hold"))
    # they have not ignored it themselves yet
    _wait(lambda: _workers(process.pid), process)
    ended = _ended(process, tmp_path / "hold")
    assert ended == (130, ["interrupted: no step was made; the same command resumes"])

    process, metrics = _start("train", *flags), tmp_path / "run" / "metrics.csv"
    _wait(lambda: _read(metrics).count("\n") > 2, process)
    status, [line] = _ended(process)
    assert status == 130
    assert line.startswith("interrupted: saved step ")
    assert line.endswith(f" of 6000 in {tmp_path / 'run'}; the same command resumes from there")
    saved = line.split()[3]
    assert (tmp_path / "run" / "checkpoints" / saved).is_dir()


@pytest.mark.parametrize("name", [["experiments.train"], ["vtd_jax.installed.vtd", "train"]])
def test_while_libraries_are_imported(name, tmp_path):
    call = [sys.executable, "-m", *name, "--help"]
    options = dict(
        cwd=small_run.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    process = subprocess.Popen(
        call, text=True, env=held_import(tmp_path / "hold", "jax.numpy"), **options
    )
    _wait(lambda: "numpy" in _read(Path(f"/proc/{process.pid}/maps")), process)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "")
    assert errors == "interrupted: nothing was begun; the same command starts again\n"


STUCK = """
import ctypes, signal
from types import SimpleNamespace
from experiments.common import cli, interrupt

# the second one is the first one again, as a wrapper passes it on; the third is another
times = iter((0, 0.9, 1.1))

def monotonic():
    time = next(times)
    print(f"heard at {time}", flush=True)
    return time * interrupt.TWICE

def main():
    interrupt.time = SimpleNamespace(monotonic=monotonic)
    # one that comes before the next line changes nothing
    signal.signal(signal.SIGINT, lambda *_: None)
    print("at work", flush=True)
    # stands for a program that XLA compiles: Python's handlers wait
    lock = ctypes.create_string_buffer(64)
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(lock)

cli.run(main, "usage")
"""


def test_a_second_one_stops_at_once():
    process = warm.Started(["-c", STUCK])
    process.wait_until_it_says("at work")
    for heard in (0, 0.9):
        process.send_signal(signal.SIGINT)
        process.wait_until_it_says(f"heard at {heard}")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(60)
    assert output.endswith("heard at 1.1\n")
    message = (
        "interrupted twice: stopped at once; the same command resumes from what was saved before\n"
    )
    assert (process.returncode, errors) == (130, message)


LOST = """
import gc, signal, sys, time
from experiments.common import cli

def callback(phase, info):
    if phase == "start" and asked:
        asked.clear()
        signal.raise_signal(signal.SIGINT)

def main():
    gc.callbacks.append(callback)
    asked.append(True)
    gc.collect()
    for _ in range(3000):
        time.sleep(0.01)
    return "never interrupted"

asked = []
cli.run(main, "usage")
"""


def test_one_that_is_raised_in_a_callback_whose_errors_python_passes_over():
    process = warm.Started(["-c", LOST])
    _, errors = process.communicate(60)
    assert (process.returncode, errors) == (
        130,
        "interrupted: nothing was written; the same command starts again\n",
    )


def test_rendering_in_processes(tmp_path):
    environment = held_workers(tmp_path / "hold")
    process = _start("demo", f"--out={tmp_path / 'demo'}", "--seeds=1", environment=environment)
    _wait(lambda: _workers(process.pid), process)
    assert _ended(process, tmp_path / "hold") == (
        130,
        ["interrupted: the same command starts again"],
    )
