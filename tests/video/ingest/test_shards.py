"""Shards: cut by a hash, finished one by one, and never made twice."""

import json
import os
import shutil
import time
from dataclasses import asdict
from itertools import chain

import numpy as np
import pytest
from array_record.python.array_record_data_source import ArrayRecordDataSource

from support.video_files import write_catalog
from vtd_jax.errors import UserError
from vtd_jax.video.ingest import shards
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.inputs import Inputs
from vtd_jax.video.ingest.run import run_here
from vtd_jax.video.ingest.shards import staging_folder
from vtd_jax.video.ingest.sources import file_digest


def inputs_for(clips, tmp_path, lines, **fields) -> Inputs:
    listed, labels = write_catalog(tmp_path, lines)
    settings = {"storage": "video", "shard_mb": 0.004}
    return Inputs(
        BuildConfig(
            "x", lists=((str(listed), str(labels)),), video_dir=str(clips), **{**settings, **fields}
        )
    )


def test_order_and_shards_do_not_depend_on_the_list(clips, good_lines, tmp_path):
    def cut(lines, **fields):
        return [
            [video.file for video in part]
            for part in inputs_for(clips, tmp_path, lines, **fields).shards()
        ]

    parts = cut(good_lines)
    assert len(parts) > 1
    assert cut(good_lines[::-1]) == parts
    assert list(chain(*cut(good_lines, seed=1))) != list(chain(*parts))
    assert sorted(chain(*parts)) == sorted(line.rsplit(" ", 1)[0] for line in good_lines)


def test_the_order_is_that_of_a_hash_of_the_file_name_whatever_its_folder(
    clips, good_lines, tmp_path
):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for line in good_lines:
        file = line.rsplit(" ", 1)[0]
        (tmp_path / "deep" / ("er" if "e" in file else "") / file).write_bytes(
            (clips / file).read_bytes()
        )
    flat, deep = (inputs_for(folder, tmp_path, good_lines) for folder in (clips, tmp_path / "deep"))
    assert [v.file.rpartition("/")[2] for v in deep.videos] == [v.file for v in flat.videos]
    assert any("/" in v.file for v in deep.videos)


@pytest.mark.slow
def test_shards_have_about_the_size_aimed_at(tmp_path):
    """10 000 files of 1 MB: every shard within a quarter of 40 MB."""
    made = Inputs.__new__(Inputs)
    made.config = BuildConfig("x", storage="video", shard_mb=40 * 1e6 / 2**20)
    videos = [shards.Video(f"{i}.mp4", 0, 10**6, 0, "") for i in range(10_000)]
    made.videos = sorted(videos, key=made.key)
    sizes = [len(part) for part in made.shards()]
    assert len(sizes) == 250
    assert sum(sizes) == 10_000
    assert np.mean(np.abs(np.array(sizes) - 40) < 10) > 0.85
    # one video less changes one shard
    made.videos = [video for video in made.videos if video.file != "77.mp4"]
    assert sum(a != b for a, b in zip(sizes, [len(part) for part in made.shards()])) == 1


def test_finished_shards_stay_and_others_are_made(clips, good_lines, tmp_path, monkeypatch):
    encoded = []
    plain = shards.encode.encode_video
    monkeypatch.setattr(
        shards.encode,
        "encode_video",
        lambda entry, *a: encoded.append(entry.file) or plain(entry, *a),
    )
    inputs = inputs_for(clips, tmp_path, good_lines)
    with staging_folder(tmp_path / "staging", "x") as staging:
        count = staging.prepare(inputs)
        staging.write(1)
        first = list(encoded)
    assert first == [video.file for video in inputs.shards()[1]]
    encoded.clear()
    with staging_folder(tmp_path / "staging", "x") as staging:
        assert staging.prepare(inputs) == count
        assert staging.finished(count) == [1]
        run_here(staging, count, 1, "test")
        assert sorted(first + encoded) == sorted(video.file for video in inputs.videos)
        records = [
            len(ArrayRecordDataSource([str(staging.shard(index))])) for index in range(count)
        ]
        assert records == [len(part) for part in inputs.shards()]
        assert not list(staging.folder.glob(".*"))


@pytest.mark.parametrize("change", ["label", "file", "time", "storage", "shard", "report"])
def test_a_shard_of_other_content_is_made_again(clips, good_lines, tmp_path, change):
    folder = tmp_path / "videos"
    folder.mkdir()
    for line in good_lines:
        file = line.rsplit(" ", 1)[0]
        (folder / file).write_bytes((clips / file).read_bytes())
    inputs = inputs_for(folder, tmp_path, good_lines)
    count = len(inputs.shards())
    with staging_folder(tmp_path / "staging", "x") as staging:
        assert staging.prepare(inputs) == count
        run_here(staging, count, 1, "test")
        changed = inputs.shards()[0][0].file
        lines, fields = good_lines, {}
        if change == "label":
            lines = [
                f"{changed} {1 - int(line[-1])}" if line.startswith(changed) else line
                for line in good_lines
            ]
        elif change == "file":
            (folder / changed).write_bytes((folder / changed).read_bytes())
        elif change == "time":
            # other content of the same size, with the time that it had
            status = (folder / changed).stat()
            (folder / changed).write_bytes(bytes(status.st_size))
            os.utime(folder / changed, ns=(status.st_atime_ns, status.st_mtime_ns))
        elif change == "storage":
            fields = {"storage": "jpeg", "shard_mb": 0.02}
        elif change == "shard":
            staging.shard(0).write_bytes(staging.shard(0).read_bytes()[:-1])
        else:
            (staging.folder / "00000.done.json").write_text("{")
        again = inputs_for(folder, tmp_path, lines, **fields)
        count = staging.prepare(again)
        finished = staging.finished(count)
        assert 0 not in finished
        if change != "storage":
            assert finished == list(range(1, count))


def test_shards_of_an_earlier_version_stay(clips, good_lines, tmp_path):
    """It did not note when the system last changed a video, or -1."""
    inputs = inputs_for(clips, tmp_path, good_lines)
    with staging_folder(tmp_path / "staging", "x") as staging:
        count = staging.prepare(inputs)
        run_here(staging, count, 1, "test")
        for index in range(count):
            path = staging.folder / f"{index:05d}.todo.json"
            content = json.loads(path.read_text())
            for video in content["videos"]:
                del video["changed"]
            path.write_text(json.dumps(content))
        assert staging.finished(staging.prepare(inputs)) == list(range(count))


def test_a_report_says_what_is_in_the_shard(clips, good_lines, tmp_path):
    inputs = inputs_for(clips, tmp_path, good_lines, shard_mb=384.0)
    with staging_folder(tmp_path / "staging", "x") as staging:
        assert staging.prepare(inputs) == 1
        message = []
        report = staging.write(0, 2, message.append)
        assert report.files == [
            (v.file, v.size, file_digest(inputs.path(v))) for v in inputs.videos
        ]
        assert (report.frames, report.skipped) == (160, [])
        assert report.bytes == staging.shard(0).stat().st_size
        assert message == [(1, 0, "")] * 5
        assert staging.report(0) == report


def test_a_shard_whose_video_was_replaced_with_its_time_kept_is_made_again(
    clips, good_lines, tmp_path
):
    folder = tmp_path / "videos"
    shutil.copytree(clips, folder)
    with staging_folder(tmp_path / "staging", "x") as staging:
        inputs = inputs_for(folder, tmp_path, good_lines)
        count = staging.prepare(inputs)
        for index in (0, 1):
            staging.write(index)
        # another file, of the same name, size and modification time
        path = inputs.path(inputs.shards()[0][0])
        time.sleep(0.02)
        shutil.copy2(path, tmp_path / "copy")
        os.replace(tmp_path / "copy", path)
        staging.prepare(inputs_for(folder, tmp_path, good_lines))
        assert staging.finished(count) == [1]
        staging.write(0)
        staging.prepare(inputs_for(folder, tmp_path, good_lines))
        assert staging.finished(count) == [0, 1]


def test_a_failed_shard_leaves_nothing_and_finished_ones_are_reported(clips, good_lines, tmp_path):
    (tmp_path / "bad").mkdir()
    for line in good_lines:
        file = line.rsplit(" ", 1)[0]
        (tmp_path / "bad" / file).write_bytes((clips / file).read_bytes())
    inputs = inputs_for(tmp_path / "bad", tmp_path, good_lines)
    (tmp_path / "bad" / inputs.shards()[-1][-1].file).write_bytes(b"")
    with staging_folder(tmp_path / "staging", "x") as staging:
        count = staging.prepare(inputs)
        message = (
            rf"the file is empty.*; {count - 1} of {count} shards are finished, "
            r"the next build resumes from them"
        )
        with pytest.raises(UserError, match=message):
            run_here(staging, count, 1, "test")
        names = sorted(
            path.name for path in staging.folder.iterdir() if not path.name.endswith(".todo.json")
        )
        done = [
            f"{i:05d}.{kind}" for i in range(count - 1) for kind in ("array_record", "done.json")
        ]
        assert names == sorted([*done, "lock", "settings.json"])


def test_a_staging_folder_without_finished_shards_goes_and_one_with_them_stays(tmp_path):
    with staging_folder(tmp_path / "a" / "s", "x") as staging:
        (staging.folder / ".00000.77.part").write_text("half a shard of a killed process")
    assert list((tmp_path / "a").iterdir()) == []
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "00000.done.json").write_text(json.dumps({}))
    (tmp_path / "s" / ".00000.77.part").write_text("half a shard of a killed process")
    with staging_folder(tmp_path / "s", "x"):
        pass
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["00000.done.json", "lock"]


def test_shards_of_an_earlier_version_are_not_made_again(clips, good_lines, tmp_path):
    inputs = inputs_for(clips, tmp_path, good_lines)
    with staging_folder(tmp_path / "staging", "x") as staging:
        count = staging.prepare(inputs)
        run_here(staging, count, 1, "test")
        # as version 0.1.0 noted it: the report alone, and all digits of the SHA-256
        for index in range(count):
            report = asdict(staging.report(index))
            whole = json.dumps(report | {"key": f"{report['key']:0<64}"})
            (staging.folder / f"{index:05d}.done.json").write_text(whole)
        assert staging.prepare(inputs) == count
        assert staging.finished(count) == list(range(count))
        staging.shard(0).write_bytes(staging.shard(0).read_bytes()[:-1])
        assert staging.unfinished(count) == [0]
        other = inputs_for(clips, tmp_path, [f"{line[:-1]}0" for line in good_lines])
        assert not staging.finished(staging.prepare(other))
