"""One process at a time."""

import errno
import os
import signal
import subprocess
import sys
import threading

import filelock
import pytest

from vtd_jax.errors import UserError
from vtd_jax.locks import locked, locked_outputs

_HOLD = "import sys, time; from pathlib import Path; from vtd_jax.locks import locked\n"
_HOLD += "with locked(Path(sys.argv[1]), 'x'): print('held', flush=True); time.sleep(60)"


def _take(folder, what="x"):
    with locked(folder / "lock", what):
        pass


@pytest.fixture
def holder(tmp_path):
    command = [sys.executable, "-c", _HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_second_is_reported_who_has_it(tmp_path, holder):
    with pytest.raises(
        UserError, match=rf"--workdir=runs/a: process {holder.pid} on .* is writing there; wait"
    ):
        _take(tmp_path, "--workdir=runs/a")


def test_a_killed_owner_leaves_nothing(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with locked(tmp_path / "lock", "x"):
        assert str(os.getpid()) in (tmp_path / "lock").read_text()
    assert (tmp_path / "lock").read_text() == ""
    with locked(tmp_path / "lock", "x"):
        pass


def test_a_link_in_its_place_is_not_followed(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / "victim")
    with (
        pytest.raises(UserError, match="a link in the place of a lock"),
        locked(tmp_path / "lock", "x"),
    ):
        pass
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_file_system_without_locks_uses_the_file(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", no_locks)
    with locked(tmp_path / "lock", "x"):
        assert (tmp_path / "lock.soft").exists()
        with pytest.raises(UserError, match=r"if it is gone, remove .*lock\.soft"):
            _take(tmp_path)
    assert not (tmp_path / "lock.soft").exists()
    with pytest.raises(KeyError), locked(tmp_path / "lock", "x"):
        raise KeyError
    assert not (tmp_path / "lock.soft").exists()


def test_who_waits_on_such_a_file_system_says_what_to_remove(tmp_path, monkeypatch, capsys):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", no_locks)
    soft = tmp_path / "lock.soft"
    # of another host, whose processes nobody here can ask about
    soft.write_text("1\nelsewhere\n")
    cleaner = threading.Timer(0.5, soft.unlink)
    cleaner.start()
    with locked(tmp_path / "lock", "weights", waits=True):
        assert soft.exists()
    cleaner.join()
    line = f"weights: waiting for a process; if it is gone, remove {soft}\n"
    assert capsys.readouterr().err == line


def test_outputs_are_held_and_no_lock_file_stays(tmp_path):
    outputs = [("--json", tmp_path / "new/o.json", False), ("--report", tmp_path / "r", True)]
    code = "import sys, time; from pathlib import Path; from vtd_jax.locks import locked_outputs\n"
    code += (
        "with locked_outputs([(a, Path(b), c == '1') for a, b, c in zip(*[iter(sys.argv[1:])] * "
        "3)]):\n"
    )
    code += "    print('held', flush=True); sys.stdin.read()"
    words = [word for flag, path, folder in outputs for word in (flag, str(path), str(int(folder)))]
    command = [sys.executable, "-c", code, *words]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        for flag, path, folder in outputs:
            wanted = [("--csv", tmp_path / "free.csv", False), (flag, path, folder)]
            message = rf"^{flag}={path}: process {process.pid} on .* is writing there; wait"
            with pytest.raises(UserError, match=message), locked_outputs(wanted):
                pass
        assert not (tmp_path / ".free.csv.lock").exists()
        process.stdin.close()
        process.wait()
    with locked_outputs([*outputs, outputs[0]]):
        assert sorted(path.name for path in tmp_path.rglob("*")) == [
            ".o.json.lock",
            ".vtd_jax.lock",
            "new",
            "r",
        ]
    # what stayed empty goes
    assert sorted(path.name for path in tmp_path.rglob("*")) == []


def test_a_killed_owners_lock_file_is_taken_and_removed(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "lock").exists()
    with locked(tmp_path / "lock", "x", stays=False):
        pass
    assert not (tmp_path / "lock").exists()


def test_a_folder_in_its_place_is_reported(tmp_path):
    (tmp_path / "lock").mkdir()
    with pytest.raises(UserError, match=r"lock: .*folder.*; move it away"):
        _take(tmp_path)
