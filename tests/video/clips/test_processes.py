"""Worker processes: the function's results and errors, and no process that outlives its use."""

import functools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from vtd_jax.errors import Names, UserError, named_by, setting
from vtd_jax.untrusted.raised import MAX_FRAME_PIXELS
from vtd_jax.video.clip import read_clip
from vtd_jax.video.clips.processes import Processes
from vtd_jax.video.decode import VideoError
from vtd_jax.video.lists.addresses import Copy
from vtd_jax.video.read_ahead import read_ahead

pytestmark = pytest.mark.slow


def about(item: str, *, times: int = 1) -> tuple:
    """Where an item is worked on; some end badly."""
    if os.path.basename(item) == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == "wrong":
        raise UserError(f"{setting('frames')}: wrong")
    if item == "bug":
        raise ZeroDivisionError("a bug")
    return item * times, os.getpid(), MAX_FRAME_PIXELS.value


def test_results_errors_and_deaths(monkeypatch, capfd):
    monkeypatch.setenv(MAX_FRAME_PIXELS.variable, "12345")
    with (
        named_by(Names({"frames": "--frames"})),
        Processes(functools.partial(about, times=2), 0) as processes,
    ):
        text, first, limit = processes("a")
        # limits and names of settings are those of this process
        assert (text, limit) == ("aa", 12345)
        assert first != os.getpid()
        assert processes("b")[1] == first
        with pytest.raises(UserError, match=r"^--frames: wrong$"):
            processes("wrong")
        with pytest.raises(UserError, match="bug: ZeroDivisionError: a bug"):
            processes("bug")
        assert processes("c")[1] == first
        with pytest.raises(VideoError, match=r"dies: the process that decoded it died .*SIGSEGV"):
            processes("dies")
        with pytest.raises(VideoError, match=r"^https://a.b/dies: the process that decoded it"):
            processes(Copy.of("https://a.b/dies"))
        second = processes("d")[1]
        assert second not in (first, os.getpid())
        # one that was killed while it was idle costs nothing
        os.kill(second, signal.SIGKILL)
        time.sleep(0.2)
        third = processes("e")[1]
    assert not running(first, second, third)
    assert "ZeroDivisionError" in capfd.readouterr().err


def running(*processes: int) -> list[int]:
    """Those that run, or are not waited for."""
    return [one for one in processes if os.path.exists(f"/proc/{one}")]


def test_the_first_ones_are_worked_on_here():
    with Processes(about, 2) as processes:
        where = [processes("a")[1] for _ in range(4)]
    assert [one == os.getpid() for one in where] == [True, True, False, False]
    with Processes(about, None) as processes:
        assert {processes("a")[1] for _ in range(4)} == {os.getpid()}


def test_threads_have_a_process_each_and_keep_the_order():
    with Processes(about, 0) as processes:
        found = list(read_ahead("abcdefgh", processes, 2))
        assert [item for item, *_ in found] == list("abcdefgh")
        used = {one for _, one, _ in found}
        assert len(used) <= 2
    assert not running(*used)


SCRIPT = """
import os, sys
from vtd_jax.video.clips.processes import Processes
from clips_about import about
# no `if __name__`: workers do not run this script
processes = Processes(about, 0)
print(processes("a")[1], flush=True)
sys.stdin.read(1)
if sys.argv[1] == "kill":
    os.kill(os.getpid(), 9)
"""
ABOUT = """
import os
def about(item):
    return item, os.getpid()
"""


@pytest.mark.killed
@pytest.mark.parametrize("how", ["kill", "end"])
def test_workers_end_with_their_process(tmp_path, how):
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "clips_about.py").write_text(ABOUT)
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        worker = int(process.stdout.readline())
        # a terminal sends Ctrl-C to all; workers leave it to their parent
        os.kill(worker, signal.SIGINT)
        time.sleep(0.2)
        assert running(worker)
        process.stdin.write("x")
        process.stdin.close()
    for _ in range(100):
        if not running(worker):
            break
        time.sleep(0.1)
    assert not running(worker)


def test_a_clip_crosses_unchanged(clips):
    with Processes(functools.partial(read_clip, frames=4, size=32), 0) as processes:
        found = processes(clips / "one.mp4")
    expected = read_clip(clips / "one.mp4", 4, 32)
    np.testing.assert_array_equal(found.frames, expected.frames)
    assert (found.total, found.duration) == (expected.total, expected.duration)


def test_no_module_of_the_current_folder_is_imported(tmp_path, monkeypatch):
    for name in ("json", "cv2", "signal"):
        (tmp_path / f"{name}.py").write_text("import os; os.abort()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    with Processes(about, 0) as processes:
        assert processes("a")[0] == "a"
