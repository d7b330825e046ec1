"""`python -m experiments.show_batch`, as a user runs it."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib import image

from hostile import harness
from support.helpers import random_state
from support.small_run import SMALL
from support.video_files import make_video, write_catalog
from vtd_jax.clip.preprocessing import Preprocessing
from vtd_jax.clip.weights.checkpoints import save_clip
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.records import build_records
from vtd_jax.video.records import open_records

pytestmark = pytest.mark.command

ROOT = Path(__file__).resolve().parents[2]


def show(*flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "experiments.show_batch", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    """Records of three videos of two classes, with one list named "list"."""
    videos, data_dir = tmp_path_factory.mktemp("videos"), tmp_path_factory.mktemp("records")
    for file, frames in (("a.mp4", 12), ("b.mp4", 5), ("c.mp4", 20)):
        make_video(videos / file, frames)
    lists = (tuple(map(str, write_catalog(videos, ["a.mp4 0", "b.mp4 1", "c.mp4 1"]))),)
    build_records(
        BuildConfig(name="clips", lists=lists, video_dir=str(videos), storage="video"), data_dir
    )
    return data_dir


def test_the_picture_in_docs_is_what_its_command_draws(tmp_path):
    out = tmp_path / "new" / "batch.png"
    done = show("--seed=36", f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(
        f"wrote {out}: rendered.mp4 (orange striped arrow), 8 frames, 4 "
    )
    kept = ROOT / "docs" / "augmentations.png"
    assert kept.stat().st_size < 400_000
    drawn, there = image.imread(out)[..., :3], image.imread(kept)[..., :3]
    assert drawn.shape == there.shape
    # other versions of libraries decode and draw text a little differently
    assert abs(drawn - there).mean() < 0.01


def test_a_video_of_records_with_the_augmentation_of_a_config(tmp_path, records):
    config = "--config=experiments/configs/video_folder.py:train=list"
    out = tmp_path / "batch.svg"
    flags = (
        config,
        f"--config.data.data_dir={records}",
        "--config.augment.enabled=False",
        "--config.seed=9",
    )
    done = show(*flags, "--size=32", "--epoch=7", "--draws=2", "--index=1", f"--out={out}")
    assert done.returncode == 0, done.stderr
    line = done.stdout.splitlines()[-1]
    file = open_records(records, "list")[1].file
    drawn = "8 frames, 2 training draws of seed 9, preprocess=release"
    assert line == f"wrote {out}: {file} (right turn), {drawn}"
    # text is drawn as outlines, but every row has its images: first frame and 8 of the clip
    assert out.read_text().count("<image") == 9 * (1 + 2 + 3)


def test_frames_are_those_of_the_configs_clip(tmp_path, records):
    square = dataclasses.replace(
        SMALL, preprocessing=Preprocessing(resize="squash", interpolation="bilinear")
    )
    save_clip(tmp_path / "square.safetensors", square, random_state(square))
    flags = [
        "--config=experiments/configs/video_folder.py:train=list",
        *(f"--config.data.data_dir={records}", "--size=32", "--draws=1"),
        *("--config.data.preprocess=clip", "--config.model.normalization=clip"),
    ]
    for name in ("square", "gone"):
        out = tmp_path / f"{name}.svg"
        clip = f"--config.clip.path={tmp_path / name}.safetensors"
        done = show(*flags, clip, f"--out={out}")
        assert done.returncode == 0, done.stderr
        warned = "drawn as OpenAI's CLIPs take them; the config's may not" in done.stderr
        assert warned == (name == "gone"), done.stderr
        # squashed frames have no three views
        views = 0 if name == "square" else 3
        assert out.read_text().count("<image") == 9 * (1 + 1 + views)


@pytest.mark.parametrize("name", ["b$\\foo$", "$\\frac{a}{$", "綱引き"], ids=ascii)
def test_names_are_drawn_as_they_are(tmp_path, name):
    for label in ("red", name):
        (tmp_path / "source" / label).mkdir(parents=True)
        make_video(tmp_path / "source" / label / f"{name}.mp4", 4)
    build_records(
        BuildConfig(name="list", source=str(tmp_path / "source"), workers=1), tmp_path / "records"
    )
    flags = [
        f"--data_dir={tmp_path}/records",
        "--name=source",
        "--index=0",
        "--draws=1",
        "--size=32",
    ]
    out = tmp_path / "out.png"
    harness.check_right("show_batch", [*flags, f"--out={out}"], folder=tmp_path, outputs=[out])


def test_refuses_in_one_line(tmp_path, records):
    out = f"--out={tmp_path}/batch.png"
    for flags, message in (
        ((f"--out={tmp_path}/batch.txt",), "the name must end in .png, .pdf or .svg"),
        ((out, "--index=2"), "--data_dir is missing: --name and --index choose a video of records"),
        ((out, f"--data_dir={records}"), "--name is missing: name a list of these records"),
        (
            (out, f"--data_dir={records}", "--name=list", "--index=3"),
            "--index=3: list has 3 videos, 0 to 2",
        ),
    ):
        done = show(*flags)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("error: ")
        assert message in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
