"""What the predicting command says to a person who gives it the wrong thing first."""

import json
import os
import subprocess
import sys

import pytest

from support import small_run, warm
from support.video_files import make_audio, make_video

pytestmark = pytest.mark.command

# the first hour of a person: what is given, and what the command says
FIRST_HOUR = {
    "wrong path": ("--video=nowhere.mp4", "error: --video=nowhere.mp4: no such file or folder"),
    "no video": (
        "",
        "error: --video: none given, expected a video file, a folder of videos, or a glob",
    ),
    "audio": (
        "--video=sound.mp4",
        "error: sound.mp4: the file has no video stream (it holds audio)",
    ),
    "empty labels": ("--video=one.mp4 --labels=empty.txt", "error: empty.txt: no words in it"),
    "no labels": ("--video=one.mp4 --labels=", "error: --labels=: nothing there"),
    "missing model": ("--video=one.mp4 --model=ViT-B-16.pt", "error: ViT-B-16.pt"),
    "folder without videos": (
        "--video=nothing",
        "error: --video=nothing: no videos in this folder",
    ),
    "a CLIP as the CLIP of a run": (
        "--video=one.mp4 --clip=ViT-B-16.pt",
        (
            "error: --clip=ViT-B-16.pt: is for a tuned file or a run (--model) whose CLIP has "
            "moved; to name videos with "
        ),
    ),
    "half a file": ("--video=half.mp4", "error: half.mp4: "),
}


@pytest.fixture(scope="module")
def first_hour(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hour")
    make_audio(folder / "sound.mp4")
    whole = make_video(folder / "one.mp4", 30)
    (folder / "half.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (folder / "empty.txt").write_text("\n \n")
    (folder / "nothing").mkdir()
    return folder


# every call as a command of its own would cost seconds each: one process, as if restarted for
# each
CALLS = """
import contextlib, io, json, sys
from absl import flags
from experiments.common import cli
from experiments.predict import __main__ as predict
found = []
for arguments in json.load(sys.stdin):
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()
    sys.argv, told = ["predict", *arguments], io.StringIO()
    with contextlib.redirect_stderr(told):
        try:
            cli.run(predict.main, predict.__doc__)
        except SystemExit as end:
            found.append((end.code, told.getvalue()))
json.dump(found, sys.stdout)
"""


def test_a_persons_first_hour(first_hour):
    calls = [
        [*given.split(), *([] if "--labels" in given else ["--labels=arm wrestling,hugging"])]
        for given, _ in FIRST_HOUR.values()
    ]
    environment = dict(os.environ, XLA_FLAGS=warm.xla_flags(), PYTHONPATH=str(small_run.ROOT))
    done = subprocess.run(
        [sys.executable, "-c", CALLS],
        input=json.dumps(calls),
        capture_output=True,
        text=True,
        env=environment,
        cwd=first_hour,
        check=False,
    )
    assert not done.returncode, done.stderr
    for (code, message), (_, expected) in zip(
        json.loads(done.stdout), FIRST_HOUR.values(), strict=True
    ):
        lines = [
            line
            for line in message.splitlines()
            if not line.startswith(("note: --model=tiny knows", "device: ", "preprocess: "))
        ]
        assert (code, len(lines)) == (2, 1), message
        assert lines[0].startswith(expected)
