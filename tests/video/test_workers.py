"""Work in threads and in processes: order, bounds, mistakes, and processes that die."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vtd_jax.errors import UserError
from vtd_jax.video.decode import VideoError
from vtd_jax.video.workers import ordered_map, process_map

ROOT = Path(__file__).resolve().parents[2]


def test_ordered_map_keeps_order_bounds_what_is_ahead_and_catches_user_errors_only():
    running, most, lock = [0], [0], threading.Lock()

    def work(item):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        if item == 3:
            raise VideoError("three")
        return item * 2

    results = []
    for outcome in ordered_map(work, list(range(20)), threads=2):
        with lock:
            running[0] -= 1
        results.append(
            (outcome.item, outcome.result if outcome.error is None else str(outcome.error))
        )
    assert results == [(i, "three" if i == 3 else 2 * i) for i in range(20)]
    assert most[0] <= 5  # four handed out, one being looked at

    with pytest.raises(ZeroDivisionError):
        list(ordered_map(lambda item: 1 // item, [1, 0], threads=1))


def act(item, report):
    """What the processes of these tests do."""
    if item == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "exit":
        os._exit(7)
    if item == "bad":
        raise UserError("a bad one")
    report(f"at {item}")
    return os.getpid()


def test_process_map_survives_processes_that_die():
    items, message = [1, "kill", 2, "bad", 3, "exit", 4, 5], []
    outcomes = {o.item: o for o in process_map(act, items, 2, message.append)}
    assert set(outcomes) == set(items)
    assert outcomes["kill"].exit_code == -signal.SIGKILL
    assert outcomes["exit"].exit_code == 7
    assert str(outcomes["bad"].error) == "a bad one"
    numbers = [outcomes[i] for i in (1, 2, 3, 4, 5)]
    assert all(o.error is None and o.exit_code is None for o in numbers)
    assert os.getpid() not in {o.result for o in numbers}
    assert sorted(message) == [f"at {i}" for i in (1, 2, 3, 4, 5)]


def test_process_map_of_nothing():
    assert list(process_map(act, [], 2)) == []


def test_stopping_early_ends_the_processes():
    outcomes = process_map(act, list(range(1000)), 2)
    pids = {next(outcomes).result for _ in range(4)}
    outcomes.close()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


PARENT = """
import sys
sys.path.insert(0, "tests")
from video.test_workers import sleep_long
from vtd_jax.video.workers import process_map
if __name__ == "__main__":
    list(process_map(sleep_long, [1, 2], 2, lambda pid: print(pid, flush=True)))
"""


def sleep_long(item, report):
    """Works for a minute."""
    report(os.getpid())
    time.sleep(60)


@pytest.mark.killed
def test_processes_end_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    with subprocess.Popen(
        [sys.executable, str(script)], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True
    ) as parent:
        pids = [int(parent.stdout.readline()) for _ in range(2)]
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
