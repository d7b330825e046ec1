"""Shared memory of worker processes: none is left behind, and Python has nothing to warn of,
however a reader ends.
"""

import gc
import os
import subprocess
import sys
import weakref
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import pytest

from vtd_jax.video import prefetch

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SHM = Path("/dev/shm")

SCRIPT = """
import multiprocessing, os, signal, sys, time
from pathlib import Path
from vtd_jax.video.augment import Augment
from vtd_jax.video.pipeline import eval_batches, train_batches
from vtd_jax.video.records import open_records

KEPT = []
SETTINGS = {"frames": 8, "size": 96, "batch_size": 5, "workers": 2}

def segments():
    return len(list(Path("/dev/shm").glob(f"vtd_{os.getpid()}_*")))

def training(records, count):
    batches = train_batches(records, **SETTINGS, seed=3, augment=Augment())
    return batches, [next(batches) for _ in range(count)]

def made_ahead():
    end = time.monotonic() + 60
    while segments() < 4 and time.monotonic() < end:
        time.sleep(0.02)
    assert segments() >= 4, "nothing was made ahead"

def ended():
    assert not segments(), "shared memory after the end"
    assert not multiprocessing.active_children(), "workers after the end"

def closed(records):
    batches, _ = training(records, 3)
    made_ahead()
    batches.close()
    ended()

def closed_before_each_worker_was_read(records):
    batches, _ = training(records, 1)
    batches.close()
    ended()

def set_back(records):
    batches, found = training(records, 3)
    state = dict(batches.get_state(), batch=1)
    made_ahead()
    batches.set_state(state)
    ended()
    assert (next(batches)["frames"] == found[1]["frames"]).all()
    batches.close()
    ended()

def closed_with_batches_in_use(records):
    batches, found = training(records, 3)
    KEPT.extend(found)
    batches.close()
    ended()
    found[1]["frames"] += 1

def closed_as_a_worker_is_killed(records):
    batches, _ = training(records, 3)
    made_ahead()
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    batches.close()
    ended()

def collected(records):
    batches, _ = training(records, 3)
    made_ahead()
    del batches
    ended()

def left_open(records):
    KEPT.extend(training(records, 3))
    made_ahead()

def left_open_by_a_mistake(records):
    batches, _ = training(records, 3)
    sys.exit()

def exhausted(records):
    batches = eval_batches(records, **{**SETTINGS, "batch_size": 1})
    KEPT.extend([batches, *batches])
    assert len(KEPT) == 6
    ended()

if __name__ == "__main__":
    globals()[sys.argv[2]](open_records(sys.argv[1], "jpeg"))
"""
WAYS = [
    line.split()[1].removesuffix("(records):")
    for line in SCRIPT.splitlines()
    if line.endswith("(records):")
]


@pytest.mark.skipif(not SHM.is_dir(), reason="looks at Linux's /dev/shm")
@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_left_and_nothing_is_said(built, tmp_path, way):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    env = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    command = [sys.executable, str(path), str(built), way]
    with subprocess.Popen(
        command,
        env=env | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as reader:
        # its end is that of Python's resource tracker, which reports what it found
        expected_text, _ = reader.communicate(timeout=120)
    assert (reader.returncode, expected_text) == (0, "")
    assert not list(SHM.glob(f"vtd_{reader.pid}_*"))


def share(name: str):
    """A batch, and what a worker would send for it."""
    rng = np.random.default_rng(0)
    batch = {
        "frames": rng.integers(0, 255, (3, 2, 5, 5, 3), np.uint8),
        "label": np.arange(3, dtype=np.int32),
        "weight": np.ones(3, np.float32),
        "index": np.arange(3, dtype=np.int64),
    }
    return batch, prefetch._share(batch, name)


def is_there(name: str) -> bool:
    try:
        SharedMemory(name).close()
    except FileNotFoundError:
        return False
    return True


def test_a_batch_that_is_read_is_whole_and_has_no_name():
    batch, message = share(name := f"vtd_test_{os.getpid()}")
    assert is_there(name)
    found = message.open()
    assert not is_there(name)
    assert found.keys() == batch.keys()
    for key, array in found.items():
        assert type(array) is np.ndarray
        assert array.dtype == batch[key].dtype
        assert np.array_equal(array, batch[key])
        assert array.flags.writeable
    assert found["frames"].ctypes.data % 64 == 0


def test_frames_live_as_long_as_a_view_of_them_and_labels_do_not_keep_them():
    batch, message = share(f"vtd_test_{os.getpid()}")
    found = message.open()
    memory = weakref.ref(found["frames"].base)
    view, label = found["frames"][1:].reshape(-1), found["label"]
    del found
    gc.collect()
    assert memory() is not None
    assert np.array_equal(view, batch["frames"][1:].reshape(-1))
    del view
    gc.collect()
    assert memory() is None
    assert label.tolist() == [0, 1, 2]


def test_unread_batches_are_removed_whole_or_not():
    _, message = share(name := f"vtd_test_{os.getpid()}")
    prefetch._remove(name)
    assert not is_there(message.name)
    prefetch._remove(name)  # one that is not there is no mistake


@pytest.mark.skipif(not SHM.is_dir(), reason="writes to Linux's /dev/shm")
def test_a_segment_whose_worker_was_killed_before_it_had_a_size_is_removed():
    path = SHM / f"vtd_test_{os.getpid()}"
    path.touch()
    prefetch._remove(path.name)
    assert not path.exists()
