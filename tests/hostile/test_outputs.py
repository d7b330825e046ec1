"""Outputs over inputs, a run's files and what others made: refused by every command, before it
reads anything.
"""

import os
import shutil
from pathlib import Path

import pytest

from hostile import harness

pytestmark = pytest.mark.command

CONFIG = "--config=experiments/configs/video_folder.py"
# command, flags, what the error line says; {} is the folder
CASES = {
    "predict a video": (
        "predict",
        ["--video={}/v.json", "--labels=a,b", "--json={}/v.json"],
        "is one of the videos",
    ),
    "predict a hard link": (
        "predict",
        ["--video={}/v.mp4", "--labels={}/l.csv", "--csv={}/same.csv"],
        "is --labels=",
    ),
    "predict into a run": (
        "predict",
        ["--video={}/v.mp4", "--labels=a,b", "--json={}/run/config.json"],
        "is a place of the run in",
    ),
    "predict a site": (
        "predict",
        ["--video={}/v.mp4", "--labels=a,b", "--report={}/site"],
        "has an index.html that is not of a report",
    ),
    "build_data": (
        "build_data",
        [
            "--check_only",
            "--list={}/l.txt",
            "--labels={}/l.csv",
            "--video_dir={}",
            "--report={}/l.csv",
        ],
        "is --labels=",
    ),
    "build_data over others": (
        "build_data",
        ["--source={}/classes", "--data_dir={}/data", "--name=mine"],
        "holds no records",
    ),
    "compare": (
        "compare",
        ["{}/run", "--out={}/run/results.json"],
        "results.json, which would be overwritten",
    ),
    "compare a table": (
        "compare",
        ["{}/run", "--out={}/run/results.md"],
        "is a place of the run in",
    ),
    "convert": (
        "convert",
        ["--source={}/clip.safetensors", "--out={}/soft.safetensors"],
        "is --source=",
    ),
    "export a CLIP": (
        "export",
        [
            CONFIG,
            "--config.clip.path={}/clip.safetensors",
            "--checkpoint={}/a.pth",
            "--out={}/soft.safetensors",
        ],
        "is --config.clip.path=",
    ),
    "export a checkpoint": (
        "export",
        [CONFIG, "--checkpoint={}/a.pth", "--out={}/b.pth"],
        "is --checkpoint=",
    ),
    "export into a run": (
        "export",
        [CONFIG, "--checkpoint={}/a.pth", "--out={}/run/checkpoints/3/a.pth"],
        "is a place of the run in",
    ),
    "parity": ("parity", ["--case={}/case.npz", "--out={}/case.npz"], "is --case="),
    "show_batch": ("show_batch", ["--out={}/records/batch.png"], "is a place of the records in"),
    "pretrain_tiny_clip": (
        "pretrain_tiny_clip",
        ["--out={}/records/x.safetensors"],
        "is a place of the records in",
    ),
    "vote_study": ("vote_study", ["--workdir={}/records"], "is a place of the records in"),
    "benchmark readers": (
        "benchmark",
        ["--what=readers", "--videos={}", "--out={}/v.json"],
        "that this command did not write",
    ),
    "benchmark vocabulary": (
        "benchmark",
        ["--what=vocabulary", "--folder={}", "--out={}/v.json"],
        "that this command did not write",
    ),
    "demo": ("demo", ["--out={}/demo"], "holds other files too (thesis.txt)"),
    "reproduce": (
        "reproduce",
        ["--table=few_shot", "--workdir={}", "--clip={}/few_shot.json"],
        "is --clip=",
    ),
    "reproduce over videos": (
        "reproduce",
        ["--table=few_shot", "--workdir={}/w", "--only=*_mean"],
        "not a rendered data",
    ),
}


@pytest.fixture
def folder(tmp_path) -> Path:
    """One file of every kind; none of them can be read."""
    for name in (
        "v.mp4",
        "v.json",
        "l.csv",
        "l.txt",
        "clip.safetensors",
        "a.pth",
        "case.npz",
        "few_shot.json",
    ):
        (tmp_path / name).write_text(f"precious {name}")
    for name in (
        "run/checkpoints/3/x",
        "data/video_folder/mine/1.0.0/x.mp4",
        "classes/one/x.mp4",
        "w/scenes/videos/x",
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("precious")
    for name in (
        "run/config.json",
        "run/results.json",
        "run/results.md",
        "run/results_scores.npz",
        "site/index.html",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("precious")
    for name in (
        "records/dataset_info.json",
        "records/features.json",
        "demo/thesis.txt",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("precious")
    (tmp_path / "demo/.vtd_jax_demo").touch()
    shutil.copy(tmp_path / "v.mp4", tmp_path / "classes" / "one" / "y.mp4")
    os.link(tmp_path / "l.csv", tmp_path / "same.csv")
    os.link(tmp_path / "a.pth", tmp_path / "b.pth")
    os.symlink("clip.safetensors", tmp_path / "soft.safetensors")
    return tmp_path


@pytest.mark.parametrize("case", CASES)
def test_outputs_over_others(folder, case):
    command, flags, text = CASES[case]
    flags = [flag.replace("{}", str(folder)) for flag in flags]
    harness.check_refused(command, flags, folder=folder, texts=[text])
