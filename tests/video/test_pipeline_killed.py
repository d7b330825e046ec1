"""Processes: killed workers are replaced, a killed reader leaves nothing behind, and workers touch
no device.
"""

import contextlib
import hashlib
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grain
import numpy as np
import orbax.checkpoint as ocp
import pytest

from vtd_jax.errors import UserError
from vtd_jax.video import pipeline
from vtd_jax.video.augment import Augment
from vtd_jax.video.pipeline import train_batches
from vtd_jax.video.records import open_records

pytestmark = pytest.mark.killed

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {"frames": 4, "size": 16, "batch_size": 2, "seed": 3, "augment": Augment()}
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def jpeg(built):
    return open_records(built, "jpeg")


def digest(batch) -> str:
    """One word for all that is in a batch."""
    return hashlib.sha256(
        b"".join(np.ascontiguousarray(batch[key]).tobytes() for key in sorted(batch))
    ).hexdigest()


def digests(jpeg, count: int) -> list[str]:
    """The first batches, made in this process."""
    with contextlib.closing(train_batches(jpeg, **SETTINGS)) as batches:
        return [digest(batch) for batch in itertools.islice(batches, count)]


def start(jpeg, workers: int):
    """A reader that has given two batches, and its worker processes."""
    before = {process.pid for process in multiprocessing.active_children()}
    batches = train_batches(jpeg, **SETTINGS, workers=workers)
    first = [digest(next(batches)) for _ in range(2)]
    return batches, first, [p for p in multiprocessing.active_children() if p.pid not in before]


def test_a_killed_worker_is_replaced_and_no_batch_changes(jpeg, capfd):
    batches, found, workers = start(jpeg, 2)
    with contextlib.closing(batches):
        assert len(workers) == 2
        os.kill(workers[0].pid, signal.SIGKILL)
        began = time.monotonic()
        # more than were made ahead, so that the dead worker is missed
        found += [digest(batch) for batch in itertools.islice(batches, 18)]
        assert time.monotonic() - began < 60
        assert batches.get_state()["batch"] == 20
    assert found == digests(jpeg, 20)
    message = capfd.readouterr().err
    assert "warning: a data worker died (SIGKILL) at batch" in message
    assert (
        "1 of at most 3 times; the machine was probably out of memory: lower data.workers"
        in message
    )


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (
            signal.SIGKILL,
            r"died \(SIGKILL\) at batch .*out of memory: lower data.workers or the batch size",
        ),
        (signal.SIGBUS, r"died \(SIGBUS\) at batch .*/dev/shm is probably full"),
        (signal.SIGSEGV, r"died \(SIGSEGV\) at batch .*may crash the decoder"),
    ],
)
def test_one_death_too_many_is_one_line(jpeg, monkeypatch, number, words):
    monkeypatch.setattr(pipeline, "RESTARTS", 0)
    batches, _, workers = start(jpeg, 1)
    with contextlib.closing(batches):
        os.kill(workers[0].pid, number)
        workers[0].join(60)
        with pytest.raises(UserError, match=words):
            list(itertools.islice(batches, 20))


SCRIPT = """
import os, sys, time
from vtd_jax.errors import UserError
from vtd_jax.video.pipeline import eval_batches
from vtd_jax.video.records import open_records

class Probe:
    def __init__(self, data_dir, log, mode):
        inner = open_records(data_dir, "jpeg")
        self.inner, self.log, self.mode = inner, log, mode
        self.name, self.info, self.class_names = inner.name, inner.info, inner.class_names
    def __len__(self):
        return len(self.inner)
    def __getitem__(self, index):
        with open(self.log, "a") as file:
            print(index, self.look() if self.mode == "look" else os.getpid(), file=file)
        if self.mode == "crash" and index == 2:
            # the batches before it have come
            while not os.path.exists(self.log + ".2"):
                time.sleep(0.01)
            os.kill(os.getpid(), 11)
        return self.inner[index]
    def look(self):
        from jax._src import xla_bridge
        assert os.getpid() != int(os.environ["READER"])
        heavy = ("tensorflow", "torch", "flax", "transformers",\
 "vtd_jax.model", "vtd_jax.clip", "vtd_jax.train")
        return xla_bridge.backends_are_initialized(),\
 [name for name in heavy if name in sys.modules]

def main():
    os.environ["READER"] = str(os.getpid())
    _, data_dir, log, mode = sys.argv
    batches = eval_batches(Probe(data_dir, log, mode), frames=2, size=16, batch_size=1, workers=1)
    try:
        count = 0
        for count, _ in enumerate(batches, 1):
            open(f"{log}.{count}", "w").close()
        print(count, "batches")
    except UserError as error:
        print("error:", error)
    finally:
        batches.close()
"""
GUARD = "if __name__ == '__main__':\n    main()\n"


def script(tmp_path, built, mode: str, ending: str = GUARD) -> subprocess.CompletedProcess:
    """Runs the script above in a process of its own; what its workers saw is in tmp_path/log."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT + ending)
    command = [sys.executable, str(path), str(built), str(tmp_path / "log"), mode]
    return subprocess.run(command, env=ENV, capture_output=True, text=True, timeout=120)


def test_workers_touch_no_device_and_load_no_model_code(built, tmp_path):
    done = script(tmp_path, built, "look")
    assert done.stdout.strip() == "5 batches", done.stderr
    seen = (tmp_path / "log").read_text().splitlines()
    assert seen == [f"{index} (False, [])" for index in range(5)]


def test_workers_run_ahead_but_not_far(built, tmp_path):
    ending = """
if __name__ == "__main__":
    from vtd_jax.video.augment import Augment
    from vtd_jax.video.pipeline import train_batches
    records = Probe(*sys.argv[1:])
    batches = train_batches(records, frames=2, size=16, batch_size=1,\
 seed=0, augment=Augment(), workers=2)
    for taken in (1, 2, 3):
        next(batches)
        ahead = lambda: len(open(sys.argv[2]).readlines()) - taken
        end = time.monotonic() + 60
        while ahead() < 2 and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(1)
        print(ahead())
    batches.close()
"""
    done = script(tmp_path, built, "plain", ending)
    ahead = [int(line) for line in done.stdout.split()]
    assert len(ahead) == 3, done.stderr
    # `train_batches` promises 4 a worker; one that stops reading ahead would give less than one a
    # worker
    assert all(2 <= count <= 8 for count in ahead), ahead


def test_a_record_that_crashes_its_worker_ends_the_run_and_is_named(built, tmp_path):
    done = script(tmp_path, built, "crash")
    warnings, (error,) = done.stderr.count("a data worker died"), done.stdout.splitlines()
    assert warnings == pipeline.RESTARTS
    assert error.startswith(
        "error: a data worker died (SIGSEGV) at batch 2 (records 2) or soon after; that was death 4"
    )
    seen = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert [index for index, _ in seen] == ["0", "1", "2", "2", "2", "2"]
    assert len({worker for _, worker in seen}) == 1 + pipeline.RESTARTS


def test_a_script_that_cannot_be_imported_is_reported_what_to_write(built, tmp_path):
    done = script(tmp_path, built, "plain", ending="main()\n")
    assert done.stdout.splitlines()[-1].startswith(
        "error: a data worker died (exit code 1) at batch 0"
    )
    assert 'must do its work below if __name__ == "__main__":' in done.stdout


def test_program_flags_unknown_to_workers_do_no_harm(built, tmp_path):
    ending = """
from absl import app, flags
WHERE = flags.DEFINE_string("where", None, "a folder", required=True)
def with_flags(argv):
    sys.argv[1:] = [WHERE.value, *argv[1:]]
    main()
if __name__ == "__main__":
    sys.argv[1:2] = [f"--where={sys.argv[1]}"]
    app.run(with_flags)
"""
    done = script(tmp_path, built, "plain", ending)
    assert done.stdout.strip() == "5 batches", done.stderr


READER = """
import multiprocessing, sys

def main():
    import grain
    import orbax.checkpoint as ocp
    from test_pipeline_killed import SETTINGS, digest, open_records, train_batches
    batches = train_batches(open_records(sys.argv[1], "jpeg"), **SETTINGS, workers=2)
    manager = ocp.CheckpointManager(sys.argv[2])
    for step in range(1, 1000):
        found = digest(next(batches))
        manager.save(step, args=ocp.args.Composite(data=grain.checkpoint.CheckpointSave(batches)))
        manager.wait_until_finished()
        print(found, *[process.pid for process in multiprocessing.active_children()], flush=True)

if __name__ == "__main__":
    main()
"""


def shared_memory(reader: int) -> list[str]:
    return [path.name for path in Path("/dev/shm").glob(f"vtd_{reader}_*")]


def running(pid: int) -> bool:
    """Whether a process is there and not only waiting to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition, seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="looks at Linux's /proc and /dev/shm")
def test_a_killed_reader_leaves_nothing_behind_and_another_resumes(built, jpeg, tmp_path):
    (tmp_path / "reader.py").write_text(READER)
    command = [sys.executable, str(tmp_path / "reader.py"), str(built), str(tmp_path / "saved")]
    env = {**ENV, "PYTHONPATH": f"{ROOT}:{ROOT}/tests:{Path(__file__).parent}"}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as reader:
        lines = [reader.stdout.readline().split() for _ in range(4)]
        workers = [int(pid) for pid in lines[-1][1:]]
        assert len(workers) == 2, lines
        assert all(map(running, workers))
        assert wait_for(lambda: shared_memory(reader.pid))
        reader.kill()
    assert wait_for(lambda: not any(map(running, workers))), "workers outlived their reader"
    assert wait_for(lambda: not shared_memory(reader.pid)), "shared memory was left behind"
    expected = digests(jpeg, 60)
    assert [line[0] for line in lines] == expected[:4]
    # another number of workers resumes where the last whole checkpoint is
    with ocp.CheckpointManager(tmp_path / "saved") as manager:
        step = manager.latest_step()
        assert 4 <= step < 50
        fresh = train_batches(jpeg, **SETTINGS, workers=1)
        manager.restore(
            step, args=ocp.args.Composite(data=grain.checkpoint.CheckpointRestore(fresh))
        )
    with contextlib.closing(fresh):
        assert [digest(batch) for batch in itertools.islice(fresh, 5)] == expected[step : step + 5]
