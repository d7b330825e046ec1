"""The command line of build_data, as a user runs it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from video_files import make_video, write_catalog
from vtd_jax.video.augment import Augment
from vtd_jax.video.pipeline import eval_batches, train_batches
from vtd_jax.video.records import open_records, record_names

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments, **options) -> subprocess.CompletedProcess:
    call = [sys.executable, "-W", "error", "-m", "experiments.build_data", *map(str, arguments)]
    return subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=300, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    make_video(folder / "one.mp4", 12)
    make_video(folder / "two.avi", 12)
    (folder / "bad.mp4").write_bytes(b"")
    return folder


def inputs(folder, lines, stem):
    listed, labels = write_catalog(folder, lines, stem=stem)
    return [f"--list={listed}", f"--labels={labels}", f"--video_dir={folder}"]


def test_builds_reuses_and_says_so(folder, tmp_path):
    call = ["--dataset=video_folder", *inputs(folder, ["one.mp4 0", "two.avi 1"], "good"), f"--data_dir={tmp_path}"]
    first = run(*call)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith(f"wrote {tmp_path}/video_folder/good/1.0.0: 2 videos, 2 classes, ")
    assert first.stdout.count("\n") == 1
    assert "Traceback" not in first.stderr
    again = run(*call)
    assert again.stdout.startswith("nothing to do: ")
    assert len(open_records(tmp_path, "good")) == 2


def test_a_bad_video_ends_with_one_line_and_status_2(folder, tmp_path):
    call = [*inputs(folder, ["one.mp4 0", "bad.mp4 1"], "bad"), f"--data_dir={tmp_path / 'out'}"]
    failed = run(*call)
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert failed.stderr.startswith(f"error: {folder}/bad.txt:2: {folder}/bad.mp4: the file is empty")
    assert failed.stderr.count("\n") == 1
    skipped = run(*call, "--on_error=skip", "--name=left", "--storage=video")
    assert skipped.returncode == 0
    assert "1 videos, 1 bad videos left out" in skipped.stdout
    assert record_names(tmp_path / "out") == ["left"]


def test_check_only_writes_no_records(folder, tmp_path):
    report = tmp_path / "report.json"
    call = [*inputs(folder, ["one.mp4 0", "bad.mp4 1", "gone.mp4 1"], "check"), "--check_only", f"--report={report}"]
    failed = run(*call, f"--data_dir={tmp_path / 'out'}")
    assert failed.returncode == 2
    table = failed.stdout.splitlines()
    assert table[0].split() == ["line", "file", "problem"]
    assert [row.split()[:2] for row in table[1:]] == [["2", "bad.mp4"], ["3", "gone.mp4"]]
    assert "3 videos of 2 classes checked, 2 are bad" in failed.stderr
    assert [p["line"] for p in json.loads(report.read_text())["problems"]] == [2, 3]
    assert not (tmp_path / "out").exists()
    good = run(*inputs(folder, ["one.mp4 0", "two.avi 1"], "fine"), "--check_only")
    assert good.returncode == 0
    assert good.stdout.endswith("2 videos of 2 classes checked, all whole; no records were written\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--list=x.txt"], "labels"),
        (["--list=nowhere.txt", "--labels={labels}", "--video_dir=.", "--data_dir=d"], "no such list of videos"),
        (["--list={list}", "--labels=nowhere.csv", "--video_dir=.", "--data_dir=d"], "no such label file"),
        (["--list={list}", "--labels={labels}", "--video_dir=."], "--data_dir is missing"),
        (["--list={list}", "--labels={labels}", "--video_dir=.", "--data_dir=d", "--storage=png"], "storage"),
        (["--list={list}", "--labels={labels}", "--video_dir=.", "--data_dir=d", "--sise=3"], "sise"),
        (
            ["--list={list}", "--labels={labels}", "--video_dir=.", "--data_dir=d", "extra"],
            "unexpected argument 'extra'",
        ),
        (
            ["--list={list}", "--labels={labels}", "--video_dir=.", "--data_dir=d", "--report=r"],
            "belongs to --check_only",
        ),
    ],
)
def test_bad_flags_are_one_line(folder, arguments, words):
    listed, labels = write_catalog(folder, ["one.mp4 0"], stem="flags")
    failed = run(*[a.format(list=listed, labels=labels) for a in arguments])
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: ")
    assert words in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_help_has_examples():
    shown = run("--help")
    assert "python -m experiments.build_data --list=train.txt" in shown.stdout
    assert "--on_error" in shown.stdout


def test_a_killed_build_leaves_nothing_that_looks_complete(folder, tmp_path):
    for i in range(30):
        (folder / f"copy{i}.avi").write_bytes((folder / "two.avi").read_bytes())
    lines = [f"copy{i}.avi {i % 2}" for i in range(30)]
    call = [*inputs(folder, lines, "killed"), f"--data_dir={tmp_path / 'out'}", "--workers=1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.build_data", *call],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not list((tmp_path / "out").glob(".building-*")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    assert record_names(tmp_path / "out") == []
    assert run(*call).returncode == 0
    assert len(open_records(tmp_path / "out", "killed")) == 30
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["video_folder"]


@pytest.mark.shared
@pytest.mark.parametrize("storage", ["jpeg", "video"])
def test_real_clips_from_files_to_batches(shared_dir, tmp_path, storage):
    videos = shared_dir / "videos"
    catalog = [f"--list={videos / 'list.txt'}", f"--labels={videos / 'labels.csv'}", f"--video_dir={videos}"]
    done = run(*catalog, f"--data_dir={tmp_path}", "--name=clips", f"--storage={storage}")
    assert done.returncode == 0, done.stderr
    records = open_records(tmp_path, "clips")
    assert len(records) == 7
    assert records.class_names[5] == "drumming on water bottles"
    found = list(eval_batches(records, frames=8, size=64, batch_size=4))
    assert [b["weight"].tolist() for b in found] == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert all(f.std() > 5 for b in found for f in b["frames"][b["weight"] > 0])
    train = train_batches(records, frames=8, size=64, batch_size=4, seed=0, augment=Augment(), num_epochs=1)
    batches = list(train)
    assert sorted(np.concatenate([b["index"] for b in batches]).tolist()) == [-1, 0, 1, 2, 3, 4, 5, 6]
    assert batches[0]["frames"].shape == (4, 8, 64, 64, 3)
