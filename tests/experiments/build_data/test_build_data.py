"""The command line of build_data, as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.video_files import make_video, write_catalog
from vtd_jax.video.augment import Augment
from vtd_jax.video.copies.beside import read_noted
from vtd_jax.video.pipeline import eval_batches, train_batches
from vtd_jax.video.records import open_records, record_names

pytestmark = pytest.mark.command

ROOT = Path(__file__).resolve().parents[3]


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


def test_builds_reuses_and_adds_lists(folder, tmp_path):
    lines = ["one.mp4 0", "two.avi 1"]
    call = ["--dataset=video_folder", "--name=mine", f"--data_dir={tmp_path}"]
    first = run(*call, *inputs(folder, lines, "good"))
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("good (given list; 2 videos)\n")
    data, wrote = first.stdout.splitlines()[1:]
    assert data.startswith("data of good: fingerprint ")
    assert data.endswith("; JPEGs of quality 90, short side 256)")
    assert wrote.startswith(f"wrote {tmp_path}/video_folder/mine/1.0.0: 2 videos, 2 classes, ")
    message = [line.split(": ")[1] for line in first.stderr.splitlines()]
    assert message[1].startswith("given list")
    assert message[2].startswith("storages (reading 32 frames, measured on 2 of the videos)")
    assert "Traceback" not in first.stderr
    again = run(*call, *inputs(folder, lines, "good"))
    assert again.stdout.splitlines()[-1].startswith("nothing to do: ")
    more = run(*call, *inputs(folder, lines[:1], "more"))
    assert more.stdout.splitlines()[-1].startswith("added lists more to ")
    assert data in more.stdout.splitlines()
    assert set(read_noted(tmp_path / "video_folder/mine/1.0.0")) == {"good", "more"}
    assert [len(open_records(tmp_path, name)) for name in ("good", "more")] == [2, 1]


def test_several_lists_in_one_build(folder, tmp_path):
    a, b = inputs(folder, ["one.mp4 0", "two.avi 1"], "a"), inputs(folder, ["one.mp4 0"], "b")
    done = run(*a, b[0], f"--data_dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert record_names(tmp_path) == ["a", "b"]
    assert len(list(tmp_path.rglob("*array_record*"))) == 1
    done = run(*a, *b, a[0], f"--data_dir={tmp_path}")
    assert "3 --list and 2 --labels: give one for all lists, or one for each" in done.stderr


def test_class_folders_need_no_list(folder, tmp_path):
    for name in ("left turn", "right turn"):
        (tmp_path / "mine" / name).mkdir(parents=True)
    (tmp_path / "mine" / "left turn" / "1.mp4").write_bytes((folder / "one.mp4").read_bytes())
    (tmp_path / "mine" / "right turn" / "1.avi").write_bytes((folder / "two.avi").read_bytes())
    done = run(f"--source={tmp_path / 'mine'}", f"--data_dir={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    records = open_records(tmp_path / "out", "mine")
    assert {e.file: records.class_names[e.label] for e in records} == {
        "left turn/1.mp4": "left turn",
        "right turn/1.avi": "right turn",
    }


def test_a_bad_video_ends_with_one_line_and_status_2(folder, tmp_path):
    call = [*inputs(folder, ["one.mp4 0", "bad.mp4 1"], "bad"), f"--data_dir={tmp_path / 'out'}"]
    failed = run(*call)
    assert failed.returncode == 2
    assert failed.stdout == ""
    last = failed.stderr.splitlines()[-1]
    assert last.startswith(f"error: {folder}/bad.txt:2: {folder}/bad.mp4: the file is empty")
    skipped = run(*call, "--on_error=skip", "--name=left", "--storage=video")
    assert skipped.returncode == 0
    assert "bad (given list; 1 video, 1 more left out)" in skipped.stdout
    assert "1 video, 1 bad one left out" in skipped.stdout
    assert f"skipped {folder}/bad.txt:2: {folder}/bad.mp4: the file is empty" in skipped.stderr
    assert record_names(tmp_path / "out") == ["bad"]


def test_check_only_writes_no_records(folder, tmp_path):
    report = tmp_path / "report.json"
    call = [
        *inputs(folder, ["one.mp4 0", "bad.mp4 1", "gone.mp4 1"], "check"),
        "--check_only",
        f"--report={report}",
    ]
    failed = run(*call, f"--data_dir={tmp_path / 'out'}")
    assert failed.returncode == 2
    table = failed.stdout.splitlines()
    assert table[0] == f"Problems by kind; all of them are in {report}"
    assert [row.split()[:3] for row in table[4:-1]] == [
        ["error", "unreadable", "1"],
        ["error", "missing", "1"],
    ]
    assert (
        "checked 2 videos of 1 list (check 3): 1 unreadable, 1 missing; no records" in failed.stderr
    )
    assert [p["file"] for p in json.loads(report.read_text())["problems"]] == [
        "bad.mp4",
        "gone.mp4",
    ]
    assert not (tmp_path / "out").exists()
    good = run(*inputs(folder, ["one.mp4 0", "two.avi 1"], "fine"), "--check_only")
    assert good.returncode == 0
    assert good.stdout.endswith(
        "checked 2 videos of 1 list (fine 2): all whole; no records were written\n"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to build from: give --source=FOLDER, or --list, --labels and --video_dir"),
        (["--list={list}", "--data_dir=d"], "--video_dir is missing"),
        (["--list={list}", "--video_dir=.", "--data_dir=d"], "no label file found for this list"),
        (
            ["--list=nowhere.txt", "--labels={labels}", "--video_dir=.", "--data_dir=d"],
            "no such list of videos",
        ),
        (
            ["--list={list}", "--labels=nowhere.csv", "--video_dir=.", "--data_dir=d"],
            "no such label file",
        ),
        (["--list={list}", "--labels={labels}", "--video_dir=."], "--data_dir is missing"),
        (
            [
                "--list={list}",
                "--labels={labels}",
                "--video_dir=.",
                "--data_dir=d",
                "--storage=png",
            ],
            "storage",
        ),
        (
            ["--list={list}", "--labels={labels}", "--video_dir=.", "--data_dir=d", "--sise=3"],
            "sise",
        ),
        (
            ["--list={list}", "--labels={labels}", "--video_dir=.", "--data_dir=d", "extra"],
            "argument 'extra'",
        ),
        (
            ["--list={list}", "--labels={labels}", "--video_dir=.", "--data_dir=d", "--report=r"],
            "--check_only",
        ),
        (["--source=nowhere", "--data_dir=d"], "nowhere: there is no such folder"),
        (["--dataset=hmdb51", "--source=.ci", "--data_dir=d"], "testTrainMulti_7030_splits"),
        (["--dataset=imagenet", "--source=.", "--data_dir=d"], "dataset"),
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
    assert "python -m experiments.build_data --dataset=hmdb51" in shown.stdout
    assert "--on_error" in shown.stdout


@pytest.mark.shared
@pytest.mark.parametrize("storage", ["jpeg", "video"])
def test_real_clips_from_files_to_batches(shared_dir, tmp_path, storage):
    videos = shared_dir / "videos"
    catalog = [
        f"--list={videos / 'list.txt'}",
        f"--labels={videos / 'labels.csv'}",
        f"--video_dir={videos}",
    ]
    done = run(*catalog, f"--data_dir={tmp_path}", "--name=clips", f"--storage={storage}")
    assert done.returncode == 0, done.stderr
    records = open_records(tmp_path, "list")
    assert len(records) == 7
    assert records.class_names[5] == "drumming on water bottles"
    found = list(eval_batches(records, frames=8, size=64, batch_size=4))
    assert [b["weight"].tolist() for b in found] == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert all(f.std() > 5 for b in found for f in b["frames"][b["weight"] > 0])
    train = train_batches(
        records, frames=8, size=64, batch_size=4, seed=0, augment=Augment(), num_epochs=1
    )
    batches = list(train)
    assert sorted(np.concatenate([b["index"] for b in batches]).tolist()) == [
        -1,
        0,
        1,
        2,
        3,
        4,
        5,
        6,
    ]
    assert batches[0]["frames"].shape == (4, 8, 64, 64, 3)
