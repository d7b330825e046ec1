"""Building: policies for bad videos, atomicity, reuse, added lists, TFDS's own build command."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.video_files import write_catalog
from vtd_jax.errors import UserError
from vtd_jax.video.ingest import records as build
from vtd_jax.video.ingest.builder import benchmark_configs
from vtd_jax.video.ingest.config import DATASETS, BuildConfig
from vtd_jax.video.ingest.inputs import Inputs
from vtd_jax.video.ingest.records import build_records, closing
from vtd_jax.video.records import open_records, record_names


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


def config_for(folder: Path, lines: list[str], stem: str = "list", **fields) -> BuildConfig:
    listed, labels = write_catalog(folder, lines, stem=stem)
    settings = {"name": "clips", "lists": ((str(listed), str(labels)),), "video_dir": str(folder)}
    return BuildConfig(**{**settings, **fields})


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
    assert f"{config.lists[0][0]}:2: " in str(error.value)
    assert words in str(error.value)
    assert "`on_error=skip`" in str(error.value)
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_skip_reports_and_counts_every_one(folder, tmp_path, capsys):
    built = build_records(config_for(folder, BAD, on_error="skip"), tmp_path / "out")
    assert (built.videos, built.skipped, built.missing, built.classes) == (2, 3, 1, 2)
    records = open_records(tmp_path / "out", "list")
    assert {e.file for e in records} == {"one.mp4", "two.avi"}
    left_out = {
        entry["file"]: (entry["where"].rpartition(":")[2], entry["reason"])
        for entry in records.stored.left_out
    }
    assert {file: line for file, (line, _) in left_out.items()} == {
        "cut.webm": "2",
        "empty.mp4": "4",
        "text.mp4": "5",
        "gone.mp4": "6",
    }
    assert "truncated" in left_out["cut.webm"][1]
    assert left_out["gone.mp4"][1] == "there is no such video file"
    assert {entry["file"] for entry in records.info["skipped"]} == {
        "cut.webm",
        "empty.mp4",
        "text.mp4",
    }
    errors = capsys.readouterr().err
    assert [errors.count(f"list.txt:{line}: ") for line in (2, 4, 5)] == [1, 1, 1]
    assert "2 videos, 3 bad and 1 missing ones left out" in closing(built, config_for(folder, BAD))


def test_nothing_but_bad_or_missing_videos(folder, tmp_path):
    with pytest.raises(UserError, match="all 2 videos are bad; no records were written"):
        build_records(
            config_for(folder, ["empty.mp4 0", "text.mp4 0"], on_error="skip"), tmp_path / "out"
        )
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(UserError, match="none of the listed videos is there"):
        build_records(
            config_for(folder, ["gone.mp4 0", "away.mp4 0"], on_error="skip"), tmp_path / "out"
        )


@pytest.mark.slow
def test_a_shard_of_bad_videos_only_does_no_harm(folder, tmp_path):
    config = config_for(folder, BAD, on_error="skip", storage="video", shard_mb=0.001)
    assert len(Inputs(config).shards()) > 2
    build_records(config, tmp_path / "out")
    assert {e.file for e in open_records(tmp_path / "out", "list")} == {"one.mp4", "two.avi"}


def test_same_inputs_are_reused_and_others_refused(folder, tmp_path):
    config = config_for(folder, ["one.mp4 0", "two.avi 1"])
    first = build_records(config, tmp_path / "out")
    assert closing(first, config).startswith(f"wrote {first.path}: 2 videos, 2 classes, ")
    shard = next(first.path.glob("*array_record*"))
    stamp = shard.stat().st_mtime_ns
    again = build_records(config, tmp_path / "out")
    assert (again.reused, first.reused, again.added) == (True, False, ())
    assert closing(again, config).startswith("nothing to do: ")
    assert shard.stat().st_mtime_ns == stamp
    with pytest.raises(UserError, match=r"storage is jpeg, not video.*`overwrite`"):
        build_records(
            config_for(folder, ["one.mp4 0", "two.avi 1"], storage="video"), tmp_path / "out"
        )
    with pytest.raises(UserError, match="max_frames is 0, not 3"):
        build_records(
            config_for(folder, ["one.mp4 0", "two.avi 1"], max_frames=3), tmp_path / "out"
        )
    with pytest.raises(UserError, match=r"list\.json: another list has this name"):
        build_records(config_for(folder, ["one.mp4 0"]), tmp_path / "out")
    (folder / "two.avi").write_bytes((folder / "one.mp4").read_bytes())
    with pytest.raises(UserError, match=r"1 of 2 videos not in them or changed since \(two\.avi\)"):
        build_records(config_for(folder, ["one.mp4 0", "two.avi 1"]), tmp_path / "out")


def test_lists_are_added_to_records_that_hold_their_videos(clips, good_lines, tmp_path):
    build_records(config_for_clips(clips, tmp_path, good_lines, "all"), tmp_path / "out")
    config = config_for_clips(clips, tmp_path, ["two.avi 1", "a b.mp4 1"], "few")
    built = build_records(config, tmp_path / "out")
    assert built.added == ("few",)
    assert closing(built, config).startswith("added lists few to ")
    assert record_names(tmp_path / "out") == ["all", "few"]
    few, whole = open_records(tmp_path / "out", "few"), open_records(tmp_path / "out", "all")
    assert [e.file for e in few] == [e.file for e in whole if e.file in ("two.avi", "a b.mp4")]
    assert {e.file: e.label for e in few} == {"two.avi": 1, "a b.mp4": 1}
    assert len(list((tmp_path / "out").rglob("*array_record*"))) == 1


def config_for_clips(
    clips: Path, tmp_path: Path, lines: list[str], stem: str, **fields
) -> BuildConfig:
    """A list of the session's good videos, under one name of records."""
    listed, labels = write_catalog(tmp_path, lines, stem=stem)
    return BuildConfig(
        name="pool", lists=((str(listed), str(labels)),), video_dir=str(clips), **fields
    )


@pytest.mark.slow
def test_records_with_skipped_videos_are_refused_to_a_build_that_must_not_skip(folder, tmp_path):
    build_records(
        config_for(folder, ["one.mp4 0", "empty.mp4 1"], on_error="skip"), tmp_path / "out"
    )
    with pytest.raises(UserError, match=r"empty\.mp4 is bad and was left out of .*`on_error=skip`"):
        build_records(config_for(folder, ["one.mp4 0", "empty.mp4 1"]), tmp_path / "out")


def test_overwrite_keeps_the_old_records_until_the_new_are_whole(folder, tmp_path):
    build_records(config_for(folder, ["one.mp4 0", "two.avi 1"]), tmp_path / "out")
    with pytest.raises(UserError, match=r"empty\.mp4"):
        build_records(
            config_for(folder, ["one.mp4 0", "empty.mp4 1"]), tmp_path / "out", overwrite=True
        )
    assert len(open_records(tmp_path / "out", "list")) == 2
    build_records(
        config_for(folder, ["one.mp4 0"], storage="video"), tmp_path / "out", overwrite=True
    )
    records = open_records(tmp_path / "out", "list")
    assert (len(records), records.storage) == (1, "video")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["video_folder"]


def test_records_set_aside_by_a_build_that_was_killed_come_back(folder, tmp_path):
    config = config_for(folder, ["one.mp4 0", "two.avi 1"])
    built = build_records(config, tmp_path / "out")
    aside = tmp_path / "out" / ".building-video_folder-clips" / "old"
    aside.parent.mkdir()
    shutil.move(built.path, aside)
    with pytest.raises(UserError, match=r"empty\.mp4"):
        build_records(
            config_for(folder, ["one.mp4 0", "empty.mp4 1"]), tmp_path / "out", overwrite=True
        )
    assert len(open_records(tmp_path / "out", "list")) == 2


@pytest.mark.slow
def test_several_shards_read_back_in_order(clips, good_lines, tmp_path):
    listed, labels = write_catalog(tmp_path, good_lines)
    config = BuildConfig(
        "x", lists=((str(listed), str(labels)),), video_dir=str(clips), shard_mb=0.02
    )
    build_records(config, tmp_path / "out")
    files = [video.file for part in Inputs(config).shards() for video in part]
    assert [e.file for e in open_records(tmp_path / "out", "list")] == files
    assert len(list((tmp_path / "out").rglob("*array_record*"))) > 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"storage": "png"}, "`storage=png`: expected one of jpeg, video"),
        ({"dataset": "imagenet"}, "`dataset=imagenet`: expected one of hmdb51, "),
        ({"on_error": "ask"}, "`on_error=ask`: expected one of"),
        ({"storage": "video", "max_frames": 8}, "only `storage=jpeg` can keep fewer frames"),
        ({"short_side": 0}, "`short_side=0`: expected 1 or more"),
        ({"workers": -1}, "workers=-1"),
        ({"shard_mb": 0.0}, "shard_mb=0.0"),
        ({"name": "a/b"}, "name='a/b'"),
        ({"name": ".x"}, "name='.x'"),
        ({"video_dir": "nowhere"}, "nowhere: there is no such folder of videos"),
        ({"lists": (("nowhere.txt", "nowhere.csv"),)}, "no such label file"),
    ],
)
def test_bad_settings(folder, tmp_path, fields, words):
    with pytest.raises(UserError, match=words):
        build_records(config_for(folder, ["one.mp4 0"], **fields), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_default_storage_is_that_of_the_data_set():
    found = {name: BuildConfig("x", dataset=name).storage for name in DATASETS}
    assert found == {
        "hmdb51": "video",
        "ucf101": "video",
        "ssv2": "jpeg",
        "kinetics400": "jpeg",
        "video_folder": "jpeg",
    }
    # frames can be thinned or scaled in JPEGs only
    assert BuildConfig("x", dataset="hmdb51", max_frames=8).storage == "jpeg"
    assert BuildConfig("x", dataset="hmdb51", short_side=128).storage == "jpeg"
    assert BuildConfig("x", dataset="hmdb51", storage="jpeg").storage == "jpeg"
    assert [config.name for config in benchmark_configs("hmdb51")] == ["video", "jpeg", "jpeg64"]
    assert [config.name for config in benchmark_configs("ssv2")] == ["jpeg", "jpeg64", "video"]


def test_too_little_disk_space_is_reported_before_the_work(folder, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(build.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"0\.0 kB are free"):
        build_records(config_for(folder, ["one.mp4 0"]), tmp_path / "out")


@pytest.mark.slow
def test_two_builds_of_the_same_records_do_not_mix(folder, tmp_path):
    hidden = tmp_path / "out" / ".building-video_folder-clips"
    hold = (
        "import sys; from pathlib import Path; from vtd_jax.video.ingest.shards import "
        "staging_folder\nwith staging_folder(Path(sys.argv[1]), 'x'): print('held', flush=True); "
        "sys.stdin.read()"
    )
    call = [sys.executable, "-c", hold, str(hidden)]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(
            UserError, match=r"another build of video_folder/clips: process .* is writing there"
        ):
            build_records(config_for(folder, ["one.mp4 0"]), tmp_path / "out")
        other.stdin.close()
        other.wait()
    assert build_records(config_for(folder, ["one.mp4 0"]), tmp_path / "out").videos == 1


@pytest.mark.slow
def test_what_a_build_announces(clips, good_lines, tmp_path):
    message = []
    listed, labels = write_catalog(tmp_path, good_lines)
    config = BuildConfig(
        "x", lists=((str(listed), str(labels)),), video_dir=str(clips), max_frames=3
    )
    build_records(config, tmp_path / "out", announce=message.append)
    assert message[0].startswith("video_folder: 5 videos, ")
    assert message[1] == "video_folder: given list: list (5)"
    assert "measured on 3 of the videos): jpeg " in message[2]
    words = ("clips/s a core", "the source", "at most 64 frames", "at most 3")
    assert [message[2].count(word) for word in words] == [4, 4, 1, 1]
    assert message[3] == "video_folder: writing jpeg with at most 3 frames in 1 shard"


def test_metadata_say_how_the_records_were_made(clips, good_lines, tmp_path):
    listed, labels = write_catalog(tmp_path, good_lines)
    config = BuildConfig(
        "x", lists=((str(listed), str(labels)),), video_dir=str(clips), storage="video"
    )
    about = json.loads((build_records(config, tmp_path / "out").path / "metadata.json").read_text())
    assert (about["videos"], about["frames"], about["missing"], about["skipped"]) == (
        5,
        40 + 50 + 45 + 5 + 20,
        0,
        [],
    )
    assert about["source_bytes"] == sum(
        (clips / line.rsplit(" ", 1)[0]).stat().st_size for line in good_lines
    )
    assert set(about["made_with"]) == {"av", "simplejpeg", "array-record"}
