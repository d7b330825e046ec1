"""`experiments.index`: its line, its exit status, what it refuses; killed, it resumes."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from support import small_run
from support.small_run import ROOT
from support.video_files import make_video
from vtd_jax.retrieval.index import Index

pytestmark = pytest.mark.command


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for number in range(5):
        make_video(folder / f"{number}.mp4", 5 + number)
    return folder


@pytest.fixture
def clips(made, tmp_path):
    shutil.copytree(made, tmp_path / "clips")
    return tmp_path / "clips"


def _run(*arguments):
    done = small_run.command("index", *map(str, arguments))
    return done.returncode, done.stdout, done.stderr


def test_made_grown_and_counted(clips, tmp_path):
    out = f"--out={tmp_path / 'index'}"
    status, said, errors = _run(clips / "0.mp4", clips / "1.mp4", out, "--frames=2")
    assert (status, said) == (0, f"{tmp_path / 'index'}: 2 videos (2 added, 0 unchanged)\n")
    assert "preprocess: clip: " in errors
    # frames and model are those of the index now
    os.utime(clips / "1.mp4", (1, 1))
    (clips / "bad.mp4").write_bytes(b"no")
    status, said, errors = _run(clips, out)
    assert (status, said) == (2, "")
    assert errors.splitlines()[-1] == (
        f"error: 1 could not be read (see above); {tmp_path / 'index'}: 5 videos (3 added, "
        "1 unchanged, 1 encoded again)"
    )
    assert f"skipped {clips / 'bad.mp4'}: " in errors
    (clips / "bad.mp4").unlink()
    (clips / "4.mp4").unlink()
    status, said, errors = _run(clips, out, "--model=tiny")
    assert said == f"{tmp_path / 'index'}: 5 videos (0 added, 4 unchanged)\n"
    assert "1 video of the index are gone" not in errors
    assert f"note: gone, such as {clips / '4.mp4'}: 1 video of the index; kept" in errors
    assert _run(clips, out, "--drop_missing")[1].endswith(": 4 videos (0 added, 4 unchanged)\n")
    status, _, errors = _run(clips, out, "--preprocess=release")
    assert status == 2
    assert "was made with tiny, which tiny, " in errors
    assert "its frames are prepared as release: " in errors
    assert len(Index.open(tmp_path / "index")) == 4
    # the last ones, from a folder that is there
    for video in clips.iterdir():
        video.unlink()
    assert _run(clips, out)[0] == 2
    status, said, _ = _run(clips, out, "--drop_missing")
    assert (status, said) == (0, f"{tmp_path / 'index'}: 0 videos (0 added, 0 unchanged)\n")
    clips.rmdir()
    status, _, errors = _run(clips, out, "--drop_missing")
    assert status == 2
    assert f"FOLDER={clips}: no such file or folder" in errors


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--out=i"], "expected FOLDER […], got nothing"),
        (["clips"], "--out is missing: folder of the index"),
        (["none", "--out=i"], "FOLDER=none: no such file or folder"),
        (["clips", "--out=clips"], "clips: has other files, such as 0.mp4"),
        (["clips", "--out=clips/0.mp4"], "--out=clips/0.mp4: is a file"),
        (["clips", "--out=i", "--clip=tiny"], "tiny: is a CLIP itself; leave out clip=tiny"),
        (["clips", "--out=i", "--frames=0"], "--frames=0: expected"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_left(arguments, said, clips, tmp_path):
    code = "import os, runpy, sys; os.chdir(sys.argv.pop(1)); "
    code += "runpy.run_module('experiments.index', run_name='__main__', alter_sys=True)"
    call = [sys.executable, "-c", code, str(tmp_path), *arguments]
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    done = subprocess.run(call, capture_output=True, text=True, env=environment)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2
    assert len(errors) == 1
    assert said in errors[0]
    assert not (tmp_path / "i").exists()


# what is killed: slow, with shards of two clips
_SLOW = """
import sys, time
from vtd_jax.retrieval import store
from vtd_jax.retrieval.build import build
from vtd_jax.predict.loading import load
from pathlib import Path
store._CLIPS = 2
build(
    Path(sys.argv[1]), [sys.argv[2]], load("tiny"), source="tiny", settings={}, frames=2,
    how={"workers": 0}, restart=False, on_video=lambda video, error: time.sleep(float(sys.argv[3])),
)
"""


@pytest.mark.killed
def test_a_killed_process_resumes_after_its_last_whole_shard(clips, tmp_path, monkeypatch):
    def call(folder, pause):
        return [sys.executable, "-c", _SLOW, str(folder), str(clips), str(pause)]

    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    subprocess.run(call(tmp_path / "whole", 0), check=True, env=environment)
    index = tmp_path / "index"
    with subprocess.Popen(call(index, 0.5), env=environment) as process:
        while not (index / "00000.json").exists():
            assert process.poll() is None
            time.sleep(0.05)
        # in the middle of the second shard
        time.sleep(0.7)
        process.send_signal(signal.SIGKILL)
    kept = len(Index.open(index))
    assert kept in (2, 4)
    before = {path.name: path.read_bytes() for path in index.glob("00000*")}
    subprocess.run(call(index, 0), check=True, env=environment)
    assert {path.name: path.read_bytes() for path in index.glob("00000*")} == before
    for one, other in zip(Index.open(index), Index.open(tmp_path / "whole"), strict=True):
        assert one.clip.name == other.clip.name
        np.testing.assert_allclose(one.features, other.features, rtol=1e-3, atol=1e-6)
    names = sorted(path.name for path in index.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "whole").iterdir())
