"""One process at a time."""

import errno
import os
import signal
import subprocess
import sys

import filelock
import pytest

from vtd_jax.errors import UserError
from vtd_jax.locks import locked

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


def test_the_second_is_told_who_has_it(tmp_path, holder):
    with pytest.raises(UserError, match=rf"--workdir=runs/a: process {holder.pid} on .* is writing there; wait"):
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
    with pytest.raises(UserError, match="a link in the place of a lock"), locked(tmp_path / "lock", "x"):
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
