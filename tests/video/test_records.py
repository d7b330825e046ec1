"""Records: what is stored, read back with ours and with plain TFDS, and how damage is reported."""

import hashlib
import pickle
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import simplejpeg
import tensorflow_datasets as tfds

from support.video_files import damage_shard, frame_number, make_video
from vtd_jax.errors import UserError
from vtd_jax.video import records
from vtd_jax.video.decode import VideoError, decode_frames
from vtd_jax.video.ingest import encode
from vtd_jax.video.ingest.encode import encode_video
from vtd_jax.video.lists.catalog import Entry
from vtd_jax.video.records import open_records, record_names

FILES = {
    "one.mp4": (0, 40),
    "two.avi": (1, 50),
    "three.webm": (0, 45),
    "a b.mp4": (1, 5),
    "wide.mp4": (1, 20),
}


@pytest.mark.parametrize("storage", ["jpeg", "video"])
def test_records_hold_every_video_once(built, storage):
    records = open_records(built, storage)
    assert records.storage == storage
    assert records.class_names == ("left turn", "right turn")
    assert {e.file: (e.label, e.num_frames) for e in records} == FILES
    assert len(records) == 5
    assert "tensorflow" not in sys.modules


def test_of_several_records_the_shortest_folders_are_reported(tmp_path):
    """After building two benchmarks, one of them in two ways, all of which have a list
    `base_train`.
    """
    for name in ("hmdb51/video", "ucf101/jpeg", "ucf101/video"):
        (tmp_path / name / "1.0.0" / "lists").mkdir(parents=True)
        (tmp_path / name / "1.0.0" / "dataset_info.json").touch()
        (tmp_path / name / "1.0.0" / "lists" / "base_train.json").write_text("{}")
    message = f"{tmp_path}/hmdb51, {tmp_path}/ucf101/jpeg, {tmp_path}/ucf101/video"
    with pytest.raises(
        UserError,
        match=f"several records have a list 'base_train'; give one of these instead: {message}$",
    ):
        open_records(tmp_path, "base_train")


@pytest.mark.parametrize("storage", ["jpeg", "video"])
def test_frames_are_those_of_the_file(built, clips, storage):
    for example in open_records(built, storage):
        wanted = [4, 0, 4, 2]
        frames = example.frames(np.array(wanted))
        original = decode_frames(clips / example.file, wanted)
        assert frames.shape == original.shape
        assert frames.dtype == np.uint8
        if storage == "video":
            assert np.array_equal(frames, original)
        else:
            assert np.abs(frames.astype(int) - original).mean() < 4
        if example.file != "wide.mp4":
            assert [frame_number(f) for f in frames] == pytest.approx(wanted, abs=1)


def test_fields_describe_the_file(built, clips):
    example = next(e for e in open_records(built, "jpeg") if e.file == "two.avi")
    record = example.record
    assert (record["source_frames"], record["width"], record["height"]) == (50, 64, 48)
    assert record["fps"] == 25
    assert record["duration"] == pytest.approx(2.0)
    assert record["codec"] == b"mpeg4"
    assert record["bytes"] == (clips / "two.avi").stat().st_size
    assert record["sha256"].decode() == hashlib.sha256((clips / "two.avi").read_bytes()).hexdigest()


def test_the_video_storage_keeps_every_byte(built, clips):
    for example in open_records(built, "video"):
        assert example.record["video"] == (clips / example.file).read_bytes()


def test_plain_tfds_reads_the_records(built):
    builder = tfds.builder_from_directory(built / "video_folder" / "jpeg" / "1.0.0")
    source = builder.as_data_source("videos")
    assert len(source) == 5
    assert builder.info.features["label"].names == ["left turn", "right turn"]
    assert builder.info.metadata["storage"] == "jpeg"


def test_order_is_fixed_by_a_hash_not_by_the_list(built):
    orders = [[e.file for e in open_records(built, s)] for s in ("jpeg", "video")]
    assert orders[0] == orders[1]
    assert orders[0] != list(FILES)


def test_jpegs_are_scaled_down_but_never_up_and_thinned(tmp_path):
    path = make_video(tmp_path / "big.mp4", 30, width=160, height=120)
    example = encode_video(Entry("big.mp4", 1, 1), path, "jpeg", short_side=60, max_frames=4)
    assert [simplejpeg.decode_jpeg(j).shape for j in example["frames"]] == [(60, 80, 3)] * 4
    assert (example["num_frames"], example["source_frames"]) == (4, 30)
    numbers = [frame_number(simplejpeg.decode_jpeg(j)) for j in example["frames"]]
    assert numbers == pytest.approx([3, 11, 18, 26], abs=1)  # centres of four segments of 7.5
    assert (example["width"], example["height"]) == (160, 120)
    whole = encode_video(Entry("big.mp4", 1, 1), path, "jpeg", short_side=256)
    assert len(whole["frames"]) == 30
    assert simplejpeg.decode_jpeg(whole["frames"][0]).shape == (120, 160, 3)


def test_frames_are_thinned_by_what_decodes_not_by_what_the_header_says(tmp_path, monkeypatch):
    path = make_video(tmp_path / "clip.mp4", 30)
    expected = encode_video(Entry("clip.mp4", 1, 1), path, "jpeg", max_frames=4)
    for guess in (0, 1, 29, 31, 300):
        monkeypatch.setattr(encode.decode, "header", lambda *args, guess=guess: (guess, 48, 64))
        assert encode_video(Entry("clip.mp4", 1, 1), path, "jpeg", max_frames=4) == expected


def test_videos_that_do_not_fit_into_a_record_are_reported(tmp_path, monkeypatch):
    path = make_video(tmp_path / "long.mp4", 30)
    monkeypatch.setattr(encode, "MAX_RECORD_BYTES", 2000)
    for storage in ("jpeg", "video"):
        with pytest.raises(
            VideoError, match="the most that a record may hold; cut the video into parts"
        ):
            encode_video(Entry("long.mp4", 0, 1), path, storage)


@pytest.mark.parametrize("damaged", [0, 3])
def test_only_whole_videos_leave_frames_out(built, monkeypatch, damaged):
    asked, plain = [], records.decode.decode_frames

    def ask(*args, **fields):
        asked.append(fields["known_frames"])
        return plain(*args, **fields)

    monkeypatch.setattr(records.decode, "decode_frames", ask)
    example = open_records(built, "video")[0]
    assert example.record["damaged"] == 0
    replace(example, record={**example.record, "damaged": damaged}).frames([0])
    assert asked == [None if damaged else example.num_frames]


def test_a_bad_video_is_not_encoded(tmp_path, clips):
    path = tmp_path / "cut.avi"
    path.write_bytes((clips / "two.avi").read_bytes()[:-4000])
    for storage in ("jpeg", "video"):
        with pytest.raises(VideoError, match=r"cut\.avi: only"):
            encode_video(Entry("cut.avi", 0, 1), path, storage)


def test_records_can_be_pickled(built):
    records = pickle.loads(pickle.dumps(open_records(built, "video")))
    assert len(records) == 5
    with pytest.raises(IndexError):
        records[5]


def test_missing_folder_strange_folder_and_unknown_name(built, tmp_path):
    with pytest.raises(UserError, match="there is no such data folder"):
        open_records(tmp_path / "none", "x")
    with pytest.raises(UserError, match="no records in this folder"):
        open_records(tmp_path, "x")
    with pytest.raises(UserError, match="no list named 'x'; it holds jpeg, video"):
        open_records(built, "x")
    assert record_names(built) == ["jpeg", "video"]


def copy(built, tmp_path):
    shutil.copytree(built, tmp_path / "copy")
    return tmp_path / "copy", next((tmp_path / "copy").rglob("jpeg/1.0.0/*array_record*"))


def test_damage_to_a_shard_is_reported(built, tmp_path):
    data_dir, shard = copy(built, tmp_path)
    damage_shard(shard)
    records, message = open_records(data_dir, "jpeg"), []
    for index in range(len(records)):
        try:
            records[index]
        except UserError as error:
            message.append((index, str(error)))
    assert message
    assert all(f"record {index} cannot be read" in text for index, text in message)


def test_a_truncated_shard_or_lost_metadata_is_reported(built, tmp_path):
    data_dir, shard = copy(built, tmp_path)
    data = shard.read_bytes()
    shard.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"build them again|cannot be read"):
        list(open_records(data_dir, "jpeg"))
    shard.write_bytes(data)
    (shard.parent / "metadata.json").unlink()
    with pytest.raises(
        UserError, match=r"metadata\.json: cannot be read .*; build these records again"
    ):
        open_records(data_dir, "jpeg")


def test_a_stored_frame_that_does_not_decode_is_reported(built):
    example = open_records(built, "jpeg")[0]
    broken = dict(example.record, frames=[example.record["frames"][0][:50]])
    with pytest.raises(UserError, match="a stored frame does not decode"):
        replace(example, record=broken).frames([0])


@pytest.mark.parametrize("storage", ["jpeg", "video"])
def test_files_are_those_of_the_records(built, storage, tmp_path):
    records = open_records(built, storage)
    assert records.files == tuple(example.file for example in records)
    shutil.copytree(records.path, tmp_path / "copy")
    (tmp_path / "copy" / "files.json").write_text("[]")
    with pytest.raises(UserError, match=r"files\.json: names of 0 videos, but there are 5 records"):
        open_records(tmp_path / "copy", storage)
