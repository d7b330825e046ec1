"""Training that is killed at any time resumes with the same command as if nothing had happened."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from support import small_run, warm
from vtd_jax.train.checkpoints import integrity
from vtd_jax.train.checkpoints.checkpoint import Checkpoints

pytestmark = pytest.mark.killed

EPOCHS, STEPS = 30, 90
FIELDS = {
    "optimizer.epochs": EPOCHS,
    "log_every": 1,
    "checkpoint.every_steps": 1,
    "evaluate.every_epochs": 4,
}
TIMED = ("videos_per_second", "memory_gib", "input_wait")


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    folder = small_run.build(tmp_path_factory.mktemp("small"))
    return [
        *small_run.flags(folder),
        *(f"--config.{name}={value}" for name, value in FIELDS.items()),
    ]


class Run:
    """The training command in a process of its own, and what its folder shows of it."""

    def __init__(self, flags, workdir, log):
        self.workdir, self.log = workdir, log
        environment = dict(
            os.environ, XLA_FLAGS=warm.xla_flags(), JAX_PLATFORMS="cpu", COLUMNS="120"
        )
        # the first run compiles, the others find the same programs here: seconds for each of them
        environment["JAX_COMPILATION_CACHE_DIR"] = str(workdir.parent / "cache")
        environment |= dict(
            JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
            JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES="-1",
        )
        call = [sys.executable, "-m", "experiments.train", *flags, f"--workdir={workdir}"]
        with log.open("w") as out:
            self.process = subprocess.Popen(
                call, cwd=small_run.ROOT, env=environment, stdout=out, stderr=out
            )

    def wait_until(self, condition, seconds=120):
        """Looks very often: what is waited for may be there for milliseconds only."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.0005)

    def end(self, number):
        """Sends a signal; returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)

    def begun(self):
        """Steps whose checkpoint was begun and is not whole."""
        names = (
            os.listdir(self.workdir / "checkpoints")
            if (self.workdir / "checkpoints").is_dir()
            else []
        )
        return [int(name.split(".")[0]) for name in names if name.endswith(".orbax-checkpoint-tmp")]

    def last_line(self):
        return self.log.read_text().splitlines()[-1]


def _last(workdir):
    return max(Checkpoints(workdir).steps, default=0)


def _killed_at_writing(run, after):
    """Dead while a checkpoint was being written; whether half of it is still there."""
    run.wait_until(lambda: max(run.begun(), default=0) > after)
    assert run.end(signal.SIGKILL) == -signal.SIGKILL
    return bool(run.begun())


def _killed_any_time(run, after, seconds):
    run.wait_until(lambda: _last(run.workdir) > after)
    time.sleep(seconds)
    assert run.end(signal.SIGKILL) == -signal.SIGKILL


def _rows(workdir):
    with (workdir / "metrics.csv").open(newline="") as file:
        return [
            {key: value for key, value in row.items() if key not in TIMED}
            for row in csv.DictReader(file)
        ]


def test_killed_again_and_again_is_bit_for_bit_uninterrupted(flags, tmp_path):
    whole = Run(flags, tmp_path / "whole", tmp_path / "whole.log")
    assert whole.process.wait(timeout=300) == 0, whole.log.read_text()

    workdir, rng, halves = tmp_path / "run", np.random.default_rng(4), 0

    def start(number):
        return Run(flags, workdir, tmp_path / f"{number}.log")

    # before the first step, or while it is compiled
    run = start(0)
    run.wait_until((workdir / "config.json").is_file)
    assert run.end(signal.SIGTERM) == 75
    assert re.match(r"preempted: (no step was made|saved step \d+ of 90)", run.last_line())
    for number in range(1, 6):
        run, before = start(number), _last(workdir)
        if number % 2:
            halves += _killed_at_writing(run, before + int(rng.integers(1, 9)))
        else:
            _killed_any_time(run, before, float(rng.uniform(0, 0.4)))
        assert before <= _last(workdir) < STEPS
    assert halves > 0
    run, before = start(6), _last(workdir)
    run.wait_until(lambda: _last(workdir) > before)
    assert run.end(signal.SIGTERM) == 75
    assert run.last_line() == (
        f"preempted: saved step {_last(workdir)} of {STEPS} in {workdir}; the same command "
        "resumes from there"
    )
    assert before < _last(workdir) < STEPS
    run = start(7)
    assert run.process.wait(timeout=300) == 0, run.log.read_text()

    assert run.begun() == []
    assert sorted(path.name for path in workdir.iterdir()) == sorted(
        path.name for path in whole.workdir.iterdir()
    )
    assert Checkpoints(workdir).steps == Checkpoints(whole.workdir).steps
    ours, theirs = (
        integrity.read(each / "checkpoints" / str(STEPS)) for each in (workdir, whole.workdir)
    )
    assert integrity.digest(ours) == integrity.digest(theirs)
    for mine, other in ((ours.learnable, theirs.learnable), (ours.optimizer, theirs.optimizer)):
        assert mine.keys() == other.keys()
        for name, value in other.items():
            np.testing.assert_array_equal(mine[name], value, err_msg=name)
    assert _rows(workdir) == _rows(whole.workdir)
    tables = [json.loads((each / "results.json").read_text()) for each in (workdir, whole.workdir)]
    assert tables[0]["rows"] == tables[1]["rows"]
