"""Builds that are killed: nothing looks complete, and the next build resumes from what was
finished.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from support.holds import held_build
from support.video_files import make_video, write_catalog
from vtd_jax.video.ingest.inputs import Video
from vtd_jax.video.ingest.shards import Staging
from vtd_jax.video.records import open_records, record_names

pytestmark = pytest.mark.killed

ROOT = Path(__file__).resolve().parents[3]
VIDEOS = 120


@pytest.fixture(scope="module")
def call(tmp_path_factory) -> list[str]:
    """A build of many shards."""
    folder = tmp_path_factory.mktemp("clips")
    made = [make_video(folder / f"first{i}.mp4", 60, width=320, height=240) for i in range(2)]
    for i in range(VIDEOS - 2):
        (folder / f"copy{i}.mp4").write_bytes(made[i % 2].read_bytes())
    lines = [f"{path.name} {i % 2}" for i, path in enumerate(sorted(folder.glob("*.mp4")))]
    listed, labels = write_catalog(folder, lines, stem="killed")
    return [
        f"--list={listed}",
        f"--labels={labels}",
        f"--video_dir={folder}",
        "--name=k",
        "--shard_mb=1",
    ]


# where tests run in the background, Ctrl-C is ignored, and processes inherit that
LISTEN = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def start(call: list[str], out: Path, hold: int = 0) -> subprocess.Popen:
    """A build, which stops half way when `hold` shards are finished."""
    command = [
        sys.executable,
        "-c",
        LISTEN,
        "-m",
        "experiments.build_data",
        *call,
        f"--data_dir={out}",
    ]
    environment = held_build(out.with_name("hold"), hold) if hold else None
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)


def wait_for(condition, process=None, seconds=200):
    deadline = time.monotonic() + seconds
    while (
        not condition()
        and time.monotonic() < deadline
        and (process is None or process.poll() is None)
    ):
        time.sleep(0.01)
    assert condition()


def children(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_build_killed_half_way_resumes(call, tmp_path, workers):
    out = tmp_path / "out"
    hidden = out / ".building-video_folder-k"
    process = start([*call, f"--workers={workers}"], out, hold=3)
    wait_for(lambda: len(list(hidden.glob("*.done.json"))) >= 3, process)
    workers_then = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert record_names(out) == []
    # its worker processes end with it
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers_then))
    finished = {path.name: path.stat().st_ino for path in hidden.glob("*.array_record")}
    total = len(list(hidden.glob("*.todo.json")))
    assert 3 <= len(finished) < total
    done = start(call, out)
    output, errors = done.communicate(timeout=120)
    assert done.returncode == 0, errors
    assert f"{VIDEOS} videos" in output.splitlines()[-1]
    assert sorted(e.file for e in open_records(out, "killed")) == sorted(
        line.rsplit(" ", 1)[0] for line in Path(call[0].split("=")[1]).read_text().splitlines()
    )
    assert [p.name for p in out.iterdir()] == ["video_folder"]
    # the shards that were finished before are the ones that are there now
    shards = {p.stat().st_ino for p in (out / "video_folder/k/1.0.0").glob("*array_record*")}
    assert len(shards) == total
    assert set(finished.values()) <= shards


def test_a_worker_that_dies_before_its_first_video_names_it(tmp_path):
    staging = Staging(tmp_path)
    (tmp_path / "00003.todo.json").write_text(
        json.dumps({"key": "", "videos": [asdict(Video("a.mp4", 0, 1, 1, "list.txt:1"))]})
    )
    assert staging.interrupted(3) == "a.mp4"
    (tmp_path / "00003.current").write_text("a.mp4\nb.mp4\n")
    assert staging.interrupted(3) == "b.mp4"


def test_a_worker_that_is_killed_is_one_line_and_the_build_resumes(call, tmp_path):
    out = tmp_path / "out"
    process = start([*call, "--workers=2"], out, hold=2)
    hidden = out / ".building-video_folder-k"
    wait_for(lambda: len(list(hidden.glob("*.done.json"))) >= 2, process)
    # each worker is in the middle of one
    wait_for(lambda: len(list(hidden.glob("*.current"))) == 2, process)
    os.kill(
        next(
            pid
            for pid in children(process.pid)
            if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()
        ),
        signal.SIGKILL,
    )
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    last = errors.splitlines()[-1]
    assert last.startswith("error: ")
    assert (
        ".mp4: the process that encoded this video died (killed, most likely for lack of memory)"
        in last
    )
    assert "shards are finished, the next build resumes from them" in last
    assert record_names(out) == []
    again = start(call, out)
    assert again.communicate(timeout=120)[0].splitlines()[-1].startswith("wrote ")
    assert len(open_records(out, "killed")) == VIDEOS


def test_an_interrupted_build_ends_quietly(call, tmp_path):
    out = tmp_path / "out"
    process = start([*call, "--workers=2"], out, hold=1)
    wait_for(lambda: len(list(out.glob(".building-*/*.done.json"))) >= 1, process)
    workers = children(process.pid)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert (
        errors.splitlines()[-1] == "interrupted: finished shards are kept; the same command resumes"
    )
    assert "Traceback" not in errors
    assert record_names(out) == []
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
