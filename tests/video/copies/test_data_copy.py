"""The fingerprint of a data copy: what does not change it, and what does, by name."""

import dataclasses
import shutil
import struct

import av
import numpy as np
import pytest

from support.video_files import make_video, write_catalog
from vtd_jax.errors import UserError
from vtd_jax.video.copies import data_copy
from vtd_jax.video.copies.brightness import brightness
from vtd_jax.video.copies.data_copy import SAMPLE, DataCopy, data_copies
from vtd_jax.video.copies.differences import differences, notes, sampled_differences
from vtd_jax.video.ingest import encode
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.records import build_records
from vtd_jax.video.lists.catalog import Entry
from vtd_jax.video.records import Example, Records, open_records

LINES = ["one.mp4 0", "two.avi 1", "wide.mp4 1"]


def copy_of(tmp_path, videos, lines=LINES, *, storage="video", **settings) -> DataCopy:
    """Which copy the records of some lines are of, built anew."""
    place = tmp_path / f"built{len(list(tmp_path.iterdir()))}"
    place.mkdir()
    pair = tuple(map(str, write_catalog(place, lines)))
    settings = {"name": "r", "storage": storage, "workers": 1, "on_error": "skip"} | settings
    built = build_records(
        BuildConfig(lists=(pair,), video_dir=str(videos), **settings), place / "records"
    )
    [copy] = data_copies([open_records(built.path, "list")])
    return copy


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three videos, of two codecs."""
    folder = tmp_path_factory.mktemp("videos")
    make_video(folder / "one.mp4", 12)
    make_video(folder / "two.avi", 14)
    make_video(folder / "wide.mp4", 5, width=96, height=32)
    return folder


@pytest.fixture(scope="module")
def here(videos, tmp_path_factory) -> DataCopy:
    return copy_of(tmp_path_factory.mktemp("here"), videos)


@pytest.fixture
def changed(videos, tmp_path):
    return shutil.copytree(videos, tmp_path / "changed")


def test_counts(here):
    assert (here.videos, here.frames, here.storage) == (3, 31, "video files")
    assert [name for name, _ in here.sample] == ["one.mp4", "two.avi", "wide.mp4"]
    assert here.describe().startswith(f"fingerprint {here.fingerprint}: 3 videos, 31 frames (list ")


@pytest.mark.parametrize("settings", [{"shard_mb": 0.001}, {"seed": 3}, {"workers": 3}])
def test_shards_order_and_workers_do_not_change_it(videos, here, tmp_path, settings):
    assert copy_of(tmp_path, videos, **settings) == here


def test_folders_of_videos_and_of_records_do_not_change_it(changed, here, tmp_path):
    (changed / "a" / "b").mkdir(parents=True)
    shutil.move(changed / "two.avi", changed / "a" / "b")
    lines = ["one.mp4 0", "a/b/two.avi 1", "wide.mp4 1"]
    assert copy_of(tmp_path, changed, lines[::-1]) == here


def test_storage_is_another_form_of_the_same_copy(videos, here, tmp_path):
    for settings in ({}, {"max_frames": 4}):
        jpegs = copy_of(tmp_path, videos, storage="jpeg", **settings)
        assert jpegs.fingerprint == here.fingerprint
        assert jpegs.sample != here.sample
        assert differences(here, jpegs) == []
        [note] = notes(here, jpegs)
        assert note.startswith("stored as video files and as JPEGs of quality 90, short side 256")
    assert note.endswith(", at most 4 of a video")


def _again(path, **options):
    """Encodes a video again; with `copied` its packets go into another container of its kind."""
    copied, part = options.pop("copied", False), path.with_name(f"part{path.suffix}")
    with av.open(str(path)) as source, av.open(str(part), "w", options=options) as out:
        [stream] = source.streams.video
        if copied:
            made = out.add_stream_from_template(stream)
            for packet in source.demux(stream):
                packet.stream = made
                out.mux([packet] if packet.size else [])
        else:
            made = out.add_stream("libx264", rate=25, options={"crf": "40"})
            made.width, made.height, made.pix_fmt = stream.width, stream.height, "yuv420p"
            for frame in source.decode(stream):
                frame.pts = None
                out.mux(made.encode(frame))
            out.mux(made.encode(None))
    part.replace(path)


def test_a_video_encoded_again_is_another_copy(changed, here, tmp_path):
    _again(changed / "one.mp4")
    other = copy_of(tmp_path, changed)
    assert other.fingerprint != here.fingerprint
    assert differences(here, other) == [
        "other files (SHA-256)",
        "other frames in 1 of 3 sampled videos (one.mp4)",
    ]


def test_another_container_has_the_same_frames(changed, here, tmp_path):
    _again(changed / "one.mp4", copied=True, movflags="faststart")
    other = copy_of(tmp_path, changed)
    assert other.sample == here.sample
    assert differences(here, other) == ["other files (SHA-256), the sampled frames are the same"]


def test_a_frame_less_is_another_copy(changed, here, tmp_path):
    make_video(changed / "two.avi", 13)
    said = differences(here, copy_of(tmp_path, changed))
    assert said[:2] == ["31 and 30 frames", "other files (SHA-256)"]
    assert "two.avi" in said[2]


def test_another_class_or_video_is_another_copy(changed, here, tmp_path):
    swapped = copy_of(tmp_path, changed, ["one.mp4 1", *LINES[1:]])
    assert differences(here, swapped) == ["other names or classes in the list"]
    (changed / "two.avi").unlink()
    lacking = copy_of(tmp_path, changed)
    assert differences(here, lacking)[:3] == [
        "3 and 2 videos",
        "other names or classes in the list",
        "31 and 17 frames",
    ]
    # what both have is the same
    assert sampled_differences(here, lacking) == []


def test_class_names_are_part_of_the_list(built, here):
    [copy] = data_copies([open_records(built, "video")])
    names = tuple(name.upper() for name in open_records(built, "video").class_names)
    records = open_records(built, "video")
    records.class_names = names
    assert differences(copy, data_copies([records])[0]) == ["other names or classes in the list"]


def test_jpegs_of_other_libraries_are_noted_and_not_another_copy(built):
    [copy] = data_copies([open_records(built, "jpeg")])
    (name, _), *rest = copy.sample
    other = dataclasses.replace(copy, sample=((name, "0" * 16), *rest))
    assert differences(copy, other) == []
    [note] = notes(copy, other)
    assert note.startswith(f"other frames in 1 of 5 sampled videos ({name}): JPEGs of the same")
    # but the bits of a decoded file are the same everywhere
    files = [dataclasses.replace(each, storage="video files") for each in (copy, other)]
    assert differences(*files) == [f"other frames in 1 of 5 sampled videos ({name})"]


def test_heads_are_the_fields_of_whole_records(built):
    for storage in ("jpeg", "video"):
        records = open_records(built, storage)
        heads = records.heads(records.stored.records.tolist())
        for head, example in zip(heads, records, strict=True):
            fields = {key: value for key, value in example.record.items() if key in head}
            assert fields == head
            assert set(example.record) - set(head) == {"frames" if storage == "jpeg" else "video"}


def test_fields_behind_headers_of_blocks_are_found(tmp_path, monkeypatch):
    """A file of several blocks of 64 KiB lies between the first and the last field."""
    noise = np.random.default_rng(0)
    sizes = [1, 60_000, 65_400, 65_490, 65_500, 131_000, 400_001]
    videos, lines = tmp_path / "videos", []
    videos.mkdir()
    for number, size in enumerate(sizes):
        (videos / f"{number}.mp4").write_bytes(noise.bytes(size))
        lines.append(f"{number}.mp4 {number % 2}")

    class Info:
        frames, damaged, fps, duration, width, height, codec = 3, 0, 1.0, 3.0, 8, 8, "h264"

    monkeypatch.setattr(encode.decode, "probe", lambda path, name: Info)
    pair = tuple(map(str, write_catalog(tmp_path, lines)))
    config = BuildConfig("r", lists=(pair,), video_dir=str(videos), storage="video", workers=1)
    built = build_records(config, tmp_path / "records")
    records = Records(built.path, "list")
    heads = records.heads(list(range(len(sizes))))
    assert [head["file"] for head in heads] == [each.file.encode() for each in records]
    assert {head["bytes"] for head in heads} == set(sizes)
    assert all(head["width"] == 8 for head in heads)


def test_a_sample_is_fixed_by_names(monkeypatch):
    heads = [data_copy._Head(f"{n}.mp4", b"", 9, n < 50) for n in range(100)]
    chosen = data_copy._sample(heads)
    assert len(chosen) == SAMPLE
    # what decoders make of damage is not the same in all versions
    assert min(chosen) >= 50
    turned = data_copy._sample(heads[::-1])
    assert [heads[::-1][i].name for i in turned] == [heads[i].name for i in chosen]


def _example(path, **fields) -> Example:
    record = encode.encode_video(Entry(path.name, 0, 0), path, "video")
    record = {k: v.encode() if isinstance(v, str) else v for k, v in record.items()} | fields
    return Example(path.name, 0, record["num_frames"], record, path.name)


def test_a_record_that_lies_about_its_file_is_refused(videos):
    with pytest.raises(UserError, match=r"has the SHA-256 .*…, the record says 0000"):
        data_copy._frames_digest(_example(videos / "one.mp4", sha256=b"0" * 64))
    with pytest.raises(UserError, match="frame 19 of 20 does not decode; the record is damaged"):
        data_copy._frames_digest(_example(videos / "one.mp4", num_frames=20))


def test_rows_are_those_of_the_picture(tmp_path):
    """Also of an uncompressed AVI from the bottom up, whose rows FFmpeg counts backwards."""
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    path = tmp_path / "raw.avi"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("rawvideo", rate=10)
        stream.width, stream.height, stream.pix_fmt = 50, 40, "bgr24"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))
    [rows] = brightness(_example(path), [0])
    assert np.array_equal(rows.reshape(40, 50, 3)[..., ::-1], image)
    data = bytearray(path.read_bytes())
    height = data.index(b"strf") + 16
    struct.pack_into("<i", data, height, -struct.unpack_from("<i", data, height)[0])
    path.write_bytes(data)
    [rows] = brightness(_example(path), [0])
    assert np.array_equal(rows.reshape(40, 50, 3), image[::-1])
