"""Two processes of four devices train, save, stop, go on, evaluate and write tables as one process of eight does."""

import json
import os
import signal
import subprocess
import time

import numpy as np
import pytest

import small_run
import two_processes
from vtd_jax.train import integrity


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_run.build(tmp_path_factory.mktemp("small"))


# Adam makes full steps of the rounding of tiny gradients; a large eps keeps steps proportional to gradients
GENTLE = ("optimizer.eps=1e3", "optimizer.lr=10.0", "optimizer.warmup_epochs=0.0", "optimizer.epochs=2")


def _flags(folder, workdir, *fields):
    fields = (*GENTLE, "data.frames=4", "data.batch_size=4", "log_every=1", "evaluate.every_epochs=1", *fields)
    return [*small_run.flags(folder), f"--workdir={workdir}", *(f"--config.{field}" for field in fields)]


def _one(name, *arguments):
    """The command in one process of eight devices."""
    environment = dict(os.environ, XLA_FLAGS="--xla_force_host_platform_device_count=8", JAX_PLATFORMS="cpu")
    call = [two_processes.sys.executable, "-m", f"experiments.{name}", *arguments]
    done = subprocess.run(call, capture_output=True, text=True, env=environment, cwd=small_run.ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done


def _two(name, *arguments, status=0):
    done = two_processes.run_two(f"experiments.{name}", *arguments, by_flags=True, timeout=240)
    assert [one.returncode for one in done] == [status] * 2, done[0].stderr + done[1].stderr
    # only host 0 prints
    assert done[1].stdout == ""
    return done


def _assert_same_run(there, here, rtol=1e-5):
    """Losses, rates, parameters, optimizer and tables of two runs' folders."""
    rows = [small_run.rows(folder) for folder in (there, here)]
    assert [row["step"] for row in rows[0]] == [row["step"] for row in rows[1]]
    for one, two in zip(*rows):
        for key in ("loss", "accuracy", "lr", "grad_norm", "val_top1"):
            assert bool(one[key]) == bool(two[key])
            if one[key]:
                np.testing.assert_allclose(float(one[key]), float(two[key]), rtol=rtol, err_msg=f"{key} {one['step']}")
    stored = [integrity.read(folder / "checkpoints" / "6") for folder in (there, here)]
    for name, value in stored[0].learnable.items():
        np.testing.assert_allclose(stored[1].learnable[name], value, rtol=rtol, atol=rtol, err_msg=name)
    tables = [json.loads((folder / "results.json").read_text())["rows"] for folder in (there, here)]
    assert tables[0] == tables[1]


@pytest.fixture(scope="module")
def one(folder, tmp_path_factory):
    """The folder of a run in one process."""
    workdir = tmp_path_factory.mktemp("one") / "run"
    _one("train", *_flags(folder, workdir))
    return workdir


@pytest.mark.parametrize(
    "fields",
    [(), ("codebook_shards=2", "memory.microbatches=2", "memory.remat=block"), ("parallel=pmap",)],
    ids=["data", "codebook", "pmap"],
)
def test_two_processes_are_as_one(folder, one, tmp_path, fields):
    done = _two("train", *_flags(folder, tmp_path / "run", *fields))
    assert "on 8 cpu device(s) of 2 processes" in done[0].stdout
    assert done[0].stdout.splitlines()[-1].startswith("trained to step 6: val ")
    assert [process.stderr for process in done] == ["", ""]
    _assert_same_run(one, tmp_path / "run")


def test_stopped_together_evaluated_and_gone_on_with(folder, one, tmp_path):
    workdir = tmp_path / "run"
    flags = _flags(folder, workdir)
    started = two_processes.start("experiments.train", *flags, by_flags=True)
    # the second process alone is given notice, while the first steps are made
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not (workdir / "checkpoints" / "3").is_dir():
        time.sleep(0.02)
    started[1].send_signal(signal.SIGTERM)
    done = two_processes.finish(started, timeout=200)
    # two epochs may be over before the notice comes through, which takes JAX a second
    statuses = {process.returncode for process in done}
    assert statuses in ({75}, {0}), done[0].stderr + done[1].stderr
    if statuses == {75}:
        assert "preempted: saved step " in done[0].stderr
        assert "preempted" not in done[1].stderr
    _two("train", *flags)
    _assert_same_run(one, workdir)
    table = json.loads((workdir / "results.json").read_text())["rows"]
    told = _two("evaluate", f"--workdir={workdir}", "--checkpoint=last")
    assert "learnt: checkpoint of step 6 (last)" in told[0].stdout
    assert json.loads((workdir / "results.json").read_text())["rows"] == table
    # a run of two processes is gone on with by one, and there is nothing left to do
    assert "was at step 6 already" in _one("train", *flags).stdout


def test_what_cannot_be_is_told_once(folder, tmp_path):
    done = _two("train", *_flags(folder, tmp_path / "run", "data.batch_size=5"), status=2)
    told = [line for process in done for line in process.stderr.splitlines()]
    assert told == ["error: batch_size=5 cannot be split evenly over 2 hosts"]
    done = _two("train", *_flags(folder, tmp_path / "run", "data.train=nothing"), status=2)
    told = [line for process in done for line in process.stderr.splitlines()]
    assert len(told) == 1
    assert told[0].startswith("error: ")
    assert not (tmp_path / "run").exists()
