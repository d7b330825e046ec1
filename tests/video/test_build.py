"""Building: policies for bad videos, atomicity, reuse, shards, and TFDS's own build command."""

import json
import os
import subprocess
import sys
import threading
from itertools import chain
from pathlib import Path

import pytest

from video_files import write_catalog
from vtd_jax.errors import UserError
from vtd_jax.video import build, inputs
from vtd_jax.video.build import build_records, check_videos, ordered_map
from vtd_jax.video.decode import VideoError
from vtd_jax.video.inputs import Inputs, VideoFolderConfig
from vtd_jax.video.records import open_records, record_names

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(clips, tmp_path):
    """Good and bad videos side by side."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name in ("one.mp4", "two.avi"):
        (folder / name).write_bytes((clips / name).read_bytes())
    (folder / "cut.webm").write_bytes((clips / "three.webm").read_bytes()[:2000])
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video" * 100)
    return folder


BAD = ["one.mp4 0", "cut.webm 0", "two.avi 1", "empty.mp4 1", "text.mp4 0", "gone.mp4 1"]


def config_for(folder: Path, lines: list[str], **fields) -> VideoFolderConfig:
    listed, labels = write_catalog(folder, lines)
    settings = {"name": "clips", "list_file": str(listed), "labels_file": str(labels), "video_dir": str(folder)}
    return VideoFolderConfig(**{**settings, **fields})


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("gone.mp4 1", "there is no such video file"),
        ("empty.mp4 1", "the file is empty"),
        ("cut.webm 0", "the file is truncated"),
        ("text.mp4 0", "not a video file"),
    ],
)
def test_a_bad_video_stops_the_build_and_leaves_nothing(folder, tmp_path, bad, words):
    config = config_for(folder, ["one.mp4 0", bad])
    with pytest.raises(UserError) as error:
        build_records(config, tmp_path / "out")
    assert f"{config.list_file}:2: " in str(error.value)
    assert words in str(error.value)
    assert "--on_error=skip" in str(error.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_skip_reports_and_counts_every_one(folder, tmp_path, capsys):
    built = build_records(config_for(folder, BAD, on_error="skip"), tmp_path / "out")
    assert (built.videos, built.skipped, built.classes) == (2, 4, 2)
    records = open_records(tmp_path / "out", "clips")
    assert {e.file for e in records} == {"one.mp4", "two.avi"}
    skipped = {(p["file"], p["line"]) for p in records.info["skipped"]}
    assert skipped == {("cut.webm", 2), ("empty.mp4", 4), ("text.mp4", 5), ("gone.mp4", 6)}
    errors = capsys.readouterr().err
    assert [errors.count(f"list.txt:{line}: ") for line in (2, 4, 5, 6)] == [1, 1, 1, 1]


def test_nothing_but_bad_videos(folder, tmp_path):
    with pytest.raises(UserError, match="all 2 videos are bad; no records were written"):
        build_records(config_for(folder, ["empty.mp4 0", "gone.mp4 1"], on_error="skip"), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_shard_of_bad_videos_only_does_no_harm(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "SHARD_BYTES", 1)
    config = config_for(folder, BAD, on_error="skip", storage="video")
    assert len(Inputs(config).shards()) > 2
    build_records(config, tmp_path / "out")
    assert {e.file for e in open_records(tmp_path / "out", "clips")} == {"one.mp4", "two.avi"}


def test_check_writes_nothing_and_lists_problems_in_order(folder):
    before = sorted(folder.iterdir())
    read, problems = check_videos(config_for(folder, BAD))
    assert [(p.file, p.line) for p in problems] == [("cut.webm", 2), ("empty.mp4", 4), ("text.mp4", 5), ("gone.mp4", 6)]
    assert len(read.entries) == 6
    assert {p.name for p in folder.iterdir()} - {p.name for p in before} == {"list.txt", "list_labels.csv"}


def test_same_inputs_are_reused_and_others_refused(folder, tmp_path):
    config = config_for(folder, ["one.mp4 0", "two.avi 1"])
    first = build_records(config, tmp_path / "out")
    shard = next(first.path.glob("*array_record*"))
    stamp = shard.stat().st_mtime_ns
    again = build_records(config, tmp_path / "out")
    assert (again.reused, first.reused) == (True, False)
    assert shard.stat().st_mtime_ns == stamp
    with pytest.raises(UserError, match=r"different: .*storage.*--overwrite"):
        build_records(config_for(folder, ["one.mp4 0", "two.avi 1"], storage="video"), tmp_path / "out")
    with pytest.raises(UserError, match="different: entries, list_sha256"):
        build_records(config_for(folder, ["one.mp4 0"]), tmp_path / "out")
    (folder / "two.avi").write_bytes((folder / "one.mp4").read_bytes())
    with pytest.raises(UserError, match="different: the videos or their sizes"):
        build_records(config_for(folder, ["one.mp4 0", "two.avi 1"]), tmp_path / "out")


def test_overwrite_keeps_the_old_records_until_the_new_are_whole(folder, tmp_path):
    build_records(config_for(folder, ["one.mp4 0", "two.avi 1"]), tmp_path / "out")
    with pytest.raises(UserError, match=r"empty\.mp4"):
        build_records(config_for(folder, ["one.mp4 0", "empty.mp4 1"]), tmp_path / "out", overwrite=True)
    assert len(open_records(tmp_path / "out", "clips")) == 2
    build_records(config_for(folder, ["one.mp4 0"], storage="video"), tmp_path / "out", overwrite=True)
    records = open_records(tmp_path / "out", "clips")
    assert (len(records), records.storage) == (1, "video")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["video_folder"]


def test_leftovers_of_a_killed_build_are_swept_and_running_ones_kept(folder, tmp_path):
    out = tmp_path / "out"
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    dead, alive = out / f".building-{child.pid}-x", out / f".building-{os.getppid()}-y"
    dead.mkdir(parents=True)
    alive.mkdir()
    assert record_names(out) == []
    build_records(config_for(folder, ["one.mp4 0"]), out)
    assert not dead.exists()
    assert alive.exists()


def test_shards_are_bounded_and_order_does_not_depend_on_the_list(clips, good_lines, tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "SHARD_BYTES", 4000)

    def order(lines, seed=0):
        listed, labels = write_catalog(tmp_path, lines)
        config = VideoFolderConfig("x", list_file=str(listed), labels_file=str(labels), video_dir=str(clips), seed=seed)
        config.storage = "video"
        return [[e.file for e in part] for part in Inputs(config).shards()]

    shards = order(good_lines)
    assert len(shards) > 1
    assert order(good_lines[::-1]) == shards
    assert list(chain(*order(good_lines, seed=1))) != list(chain(*shards))
    assert sorted(chain(*shards)) == sorted(line.rsplit(" ", 1)[0] for line in good_lines)


def test_several_shards_read_back_in_order(clips, good_lines, tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "SHARD_BYTES", 4000)
    listed, labels = write_catalog(tmp_path, good_lines)
    config = VideoFolderConfig("x", list_file=str(listed), labels_file=str(labels), video_dir=str(clips))
    build_records(config, tmp_path / "out")
    files = [e.file for part in Inputs(config).shards() for e in part]
    assert [e.file for e in open_records(tmp_path / "out", "x")] == files
    assert len(list((tmp_path / "out").rglob("*array_record*"))) > 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"storage": "png"}, "storage='png': expected one of jpeg, video"),
        ({"on_error": "ask"}, "on_error='ask'"),
        ({"storage": "video", "max_frames": 8}, "only storage=jpeg can keep fewer frames"),
        ({"short_side": 0}, "short_side=0: expected 1 or more"),
        ({"workers": -1}, "workers=-1"),
        ({"name": "a/b"}, "name='a/b'"),
        ({"name": ".x"}, "name='.x'"),
        ({"video_dir": "nowhere"}, "nowhere: there is no such folder of videos"),
        ({"list_file": "nowhere.txt"}, "no such list of videos"),
    ],
)
def test_bad_settings(folder, tmp_path, fields, words):
    with pytest.raises(UserError, match=words):
        build_records(config_for(folder, ["one.mp4 0"], **fields), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_little_disk_space_is_told_before_the_work(folder, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(build.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"0\.0 GB are free"):
        build_records(config_for(folder, ["one.mp4 0"]), tmp_path / "out")


def test_ordered_map_keeps_order_bounds_what_is_ahead_and_catches_videos_only():
    running, most, lock = [0], [0], threading.Lock()

    def work(item):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        if item == 3:
            raise VideoError("three")
        return item * 2

    results = []
    for item, result, error in ordered_map(work, list(range(20)), workers=2, ahead=2):
        with lock:
            running[0] -= 1
        results.append((item, result if error is None else str(error)))
    assert results == [(i, "three" if i == 3 else 2 * i) for i in range(20)]
    assert most[0] <= 5  # four handed out, one being looked at

    with pytest.raises(ZeroDivisionError):
        list(ordered_map(lambda item: 1 // item, [1, 0], workers=1))


TFDS_BUILD = """
from absl import app
from tensorflow_datasets.scripts.cli import build, cli_utils
app.run(lambda args: args.execute(), flags_parser=cli_utils.make_flags_parser(build.Args, description="tfds build"))
"""


def test_tfds_build_finds_and_runs_the_builder(clips, good_lines, tmp_path):
    """The build command of TFDS without its main program, which imports TensorFlow for another command."""
    listed, labels = write_catalog(tmp_path, good_lines)
    config = {"name": "cli", "list_file": str(listed), "labels_file": str(labels), "video_dir": str(clips)}
    call = ["data/video_folder", f"--data_dir={tmp_path / 'out'}", f"--config={json.dumps(config)}"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", TFDS_BUILD, *call], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(open_records(tmp_path / "out", "cli")) == 5
