"""Two processes of four devices train, save, stop, resume, evaluate and write tables as one process
of eight does.
"""

import json
import os
import re
import shutil
import signal
import time

import numpy as np
import pytest

from support import small_run, warm
from support.hosts import two_processes
from vtd_jax.train.checkpoints import integrity
from vtd_jax.train.workdir import WorkdirLock

pytestmark = pytest.mark.hosts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_run.build(tmp_path_factory.mktemp("small"))


# Adam makes full steps of the rounding of tiny gradients; a large eps keeps steps proportional to
# gradients
GENTLE = (
    "optimizer.eps=1e3",
    "optimizer.lr=10.0",
    "optimizer.warmup_epochs=0.0",
    "optimizer.epochs=2",
)


def _flags(folder, workdir, *fields):
    fields = (
        *GENTLE,
        "data.frames=4",
        "data.batch_size=4",
        "log_every=1",
        "evaluate.every_epochs=1",
        *fields,
    )
    return [
        *small_run.flags(folder),
        f"--workdir={workdir}",
        *(f"--config.{field}" for field in fields),
    ]


def _one(name, *arguments):
    """The command in one process of eight devices."""
    environment = dict(os.environ, XLA_FLAGS=warm.xla_flags(8), JAX_PLATFORMS="cpu")
    done = warm.run(["-m", f"experiments.{name}", *arguments], environment)
    assert done.returncode == 0, done.stderr
    return done


def _two(name, *arguments, status=0):
    done = two_processes.run_two(f"experiments.{name}", *arguments, by_flags=True, timeout=240)
    assert [one.returncode for one in done] == [status] * 2, done[0].stderr + done[1].stderr
    # only host 0 prints
    assert done[1].stdout == ""
    return done


def _assert_same_run(there, here, step=6, rtol=1e-5):
    """Losses, rates, parameters, optimizer and tables of two runs' folders."""
    rows = [small_run.rows(folder) for folder in (there, here)]
    assert {row["step"] for row in rows[0]} == {row["step"] for row in rows[1]}
    # one of them may have been evaluated more often
    rows = [[row for row in part if row["loss"]] for part in rows]
    for one, two in zip(*rows, strict=True):
        for key in ("loss", "accuracy", "lr", "grad_norm"):
            np.testing.assert_allclose(
                float(one[key]), float(two[key]), rtol=rtol, err_msg=f"{key} {one['step']}"
            )
    stored = [integrity.read(folder / "checkpoints" / str(step)) for folder in (there, here)]
    for name, value in stored[0].learnable.items():
        np.testing.assert_allclose(
            stored[1].learnable[name], value, rtol=rtol, atol=rtol, err_msg=name
        )
    # scores differ in their last bits, and so does what is computed from more than their order
    tables = [json.loads((folder / "results.json").read_text())["rows"] for folder in (there, here)]
    errors = [[row.pop("ECE") for row in table if row["ECE"] is not None] for table in tables]
    np.testing.assert_allclose(errors[1], errors[0], rtol=1e-4, atol=1e-5)
    assert tables[0] == tables[1]


@pytest.fixture(scope="module")
def one(folder, tmp_path_factory):
    """The folder of a run in one process."""
    workdir = tmp_path_factory.mktemp("one") / "run"
    _one("train", *_flags(folder, workdir))
    return workdir


@pytest.mark.parametrize(
    "fields",
    [(), ("codebook_shards=2", "memory.remat=block"), ("parallel=pmap",)],
    ids=["data", "codebook", "pmap"],
)
def test_two_processes_are_as_one(folder, one, tmp_path, fields):
    done = _two("train", *_flags(folder, tmp_path / "run", *fields))
    assert "on 8 × cpu of 2 processes" in done[0].stdout
    assert done[0].stdout.splitlines()[-1].startswith("trained to step 6: val ")
    assert [process.stderr for process in done] == ["", ""]
    _assert_same_run(one, tmp_path / "run")


def test_stopped_as_one_and_resumed(folder, tmp_path):
    workdir = tmp_path / "run"
    rarely = ("evaluate.every_epochs=0", "checkpoint.every_epochs=9999", "data.batch_size=8")
    endless = _flags(folder, workdir, "optimizer.epochs=9999", *rarely)
    started = two_processes.start("experiments.train", *endless, by_flags=True)
    # the second process alone is given notice
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not (workdir / "metrics.csv").is_file():
        time.sleep(0.02)
    started[1].send_signal(signal.SIGTERM)
    done = two_processes.finish(started, timeout=200)
    assert [process.returncode for process in done] == [75, 75], done[0].stderr + done[1].stderr
    step = int(re.search(r"preempted: saved step (\d+) of 19998 in ", done[0].stderr)[1])
    assert "preempted" not in done[1].stderr
    # two batches an epoch
    epochs = f"optimizer.epochs={step // 2 + 1}"
    message = _two("train", *_flags(folder, workdir, epochs, *rarely))[0].stdout
    assert f"resuming from step {step} of " in message
    _one("train", *_flags(folder, tmp_path / "one", epochs, *rarely))
    # rounding grows over so many updates
    _assert_same_run(tmp_path / "one", workdir, 2 * (step // 2 + 1), rtol=1e-3)


def test_evaluated_and_gone_on_with_by_any_number(folder, one, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(one, workdir)
    (workdir / "results.json").unlink()
    message = _two("evaluate", f"--workdir={workdir}", "--checkpoint=last")
    assert "learnt: checkpoint of step 6 (last)" in message[0].stdout
    tables = [json.loads((folder / "results.json").read_text()) for folder in (one, workdir)]
    assert tables[0]["rows"] == tables[1]["rows"]
    assert tables[0]["facts"]["data"] == tables[1]["facts"]["data"]
    assert message[0].stdout.count("data of val: fingerprint ") == 1
    # what one process began, two continue
    message = _two("train", *_flags(folder, workdir, "optimizer.epochs=3"))[0].stdout
    assert "resuming from step 6 of 9" in message
    assert (
        "was at step 9 already"
        in _one("train", *_flags(folder, workdir, "optimizer.epochs=3")).stdout
    )


COPIES = """
import sys
from experiments.common.evaluation import copies_of
from vtd_jax.errors import UserError
from vtd_jax.parallel import joining
from vtd_jax.video.records import open_records
joining.initialize()
try:
    copies_of({"val": open_records(sys.argv[1], "base_val")})
except UserError as error:
    print(error, file=sys.stderr)
"""


def test_processes_that_see_other_data_stop(folder, tmp_path):
    for place in range(2):
        shutil.copytree(folder / "records", tmp_path / f"records{place}")
    path = tmp_path / "records1/video_folder/base_val/1.0.0/lists/base_val.json"
    path.write_text(path.read_text().replace('"green"', '"purple"'))
    done = two_processes.run_two(COPIES, f"{tmp_path}/recordsPLACE")
    assert [process.returncode for process in done] == [0, 0], done[0].stderr + done[1].stderr
    assert done[0].stderr.startswith("process 1: its data of split val differ from those of proc")
    assert done[0].stderr == done[1].stderr


def test_what_cannot_be_is_reported_once(folder, tmp_path):
    done = _two("train", *_flags(folder, tmp_path / "run", "data.batch_size=5"), status=2)
    message = [line for process in done for line in process.stderr.splitlines()]
    assert message == ["error: batch_size=5 cannot be split evenly over 2 hosts"]
    done = _two("train", *_flags(folder, tmp_path / "other", "data.train=nothing"), status=2)
    message = [line for process in done for line in process.stderr.splitlines()]
    assert len(message) == 1
    assert message[0].startswith("error: ")
    assert not (tmp_path / "other").exists()
    with WorkdirLock(tmp_path / "run") as hold:
        hold.take()
        done = _two("train", *_flags(folder, tmp_path / "run"), status=2)
    message = [line for process in done for line in process.stderr.splitlines()]
    assert len(message) == 1
    assert re.match(
        rf"error: --workdir={tmp_path}/run: process {os.getpid()} on .* is writing there; "
        r"wait for it",
        message[0],
    )
    done = _two("train", *_flags(folder, tmp_path / "run", "seed=PLACE"), status=2)
    message = [line for process in done for line in process.stderr.splitlines()]
    # before they join each has an output of its own
    assert len(message) == 2
    assert message[0] == message[1]
    assert message[0].startswith("error: process 1 (")
    assert message[0].endswith(
        "): --config.seed=1, but process 0 has --config.seed=0; give all processes the same command"
    )
