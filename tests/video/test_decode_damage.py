"""A thousand damaged files: every one is decoded or reported in one line; none crashes or hangs the
decoder.
"""

import faulthandler
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.video_files import make_video
from vtd_jax.video.decode import VideoError, decode_frames, probe

pytestmark = pytest.mark.slow

FILES, LIMIT_SECONDS = 1000, 10
ROOT = Path(__file__).resolve().parents[2]


def damaged(data: bytes, seed: int) -> bytes:
    """Flips bytes anywhere, in a run, or near the front where the headers are; every third file is
    also cut short.
    """
    rng = np.random.default_rng(seed)
    out = np.frombuffer(data, np.uint8).copy()
    reach = len(out) if seed % 4 else min(len(out), 600)
    count = int(rng.integers(1, 40))
    if seed % 5 == 0:
        start = int(rng.integers(reach))
        out[start : start + count] = rng.integers(0, 256, len(out[start : start + count]))
    else:
        out[rng.integers(0, reach, count)] = rng.integers(0, 256, count)
    if seed % 3 == 0:
        out = out[: int(rng.integers(1, len(out)))]
    return out.tobytes()


def check(data: bytes, seed: int) -> str:
    """Reads one file as a build and training would; returns "read", or what was reported."""
    name = f"file {seed}"
    try:
        info = probe(data, name)
        wanted = sorted({0, info.frames // 2, info.frames - 1})
        assert info.frames > 0
        plain = decode_frames(data, wanted, name=name)
        if not info.damaged:
            assert np.array_equal(
                plain, decode_frames(data, wanted, name=name, known_frames=info.frames)
            )
    except VideoError as error:
        return str(error)
    return "read"


def work(folder: Path, first: int, last: int) -> None:
    """The subprocess: says which file it starts, then what came of it; a file that takes too long
    ends it.
    """
    sources = [path.read_bytes() for path in sorted(folder.iterdir())]
    for seed in range(first, last):
        print(json.dumps(["start", seed]), flush=True)
        faulthandler.dump_traceback_later(LIMIT_SECONDS, exit=True)
        print(
            json.dumps(["done", check(damaged(sources[seed % len(sources)], seed), seed)]),
            flush=True,
        )
    faulthandler.cancel_dump_traceback_later()


def run(folder: Path, first: int, last: int, before: str = "") -> list[str]:
    """Runs `work` in a process of its own, and fails with the file's number if that dies or stands
    still.
    """
    lines = [
        "import os, sys, time",
        "sys.path[:0] = ['.', 'tests']",
        "from pathlib import Path",
        "from tests.video import test_decode_damage as here",
        before,
        f"here.work(Path({str(folder)!r}), {first}, {last})",
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    message = [text for word, text in lines if word == "done"]
    if len(message) < last - first:
        pytest.fail(
            f"file {lines[-1][1] if lines else first}: exit status {done.returncode}, "
            f"{done.stderr[-600:]}"
        )
    return message


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four small sound files."""
    folder = tmp_path_factory.mktemp("sound")
    make_video(folder / "a.mp4", 12)
    make_video(folder / "b.avi", 12)
    make_video(folder / "c.webm", 12)
    make_video(folder / "d.mp4", 12, movflags="faststart")
    return folder


def test_a_thousand_damaged_files(folder):
    message = run(folder, 0, FILES)
    read = message.count("read")
    print(f"{len(message)} files: {read} read, {len(message) - read} reported")
    assert len(message) == FILES
    assert 200 < read < 800
    for seed, line in enumerate(message):
        assert line == "read" or line.startswith(f"file {seed}: ")
        assert "\n" not in line


@pytest.mark.parametrize(
    "before, words",
    [
        (
            "here.check = lambda data, seed: seed != 4 or os.kill(os.getpid(), 11)",
            "file 4: exit status -11",
        ),
        (
            "here.LIMIT_SECONDS = 1\nhere.check = lambda data, seed: seed != 4 or time.sleep(60)",
            "file 4: exit status 1, Timeout",
        ),
    ],
)
def test_crashes_and_hangs_name_the_file(folder, before, words):
    with pytest.raises(pytest.fail.Exception, match=words):
        run(folder, 3, 6, before)
