"""Record folders of strangers: what lies beside the shards, and what is in the records, is refused
in one line.
"""

import json
import os
import shutil
import sys
import time

import numpy as np
import pytest
import simplejpeg
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.proto import tf_example_pb2

from support.video_files import make_video, write_catalog
from vtd_jax.errors import UserError
from vtd_jax.video import record_files
from vtd_jax.video.ingest import encode
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.records import build_records
from vtd_jax.video.lists.catalog import Entry
from vtd_jax.video.record_fields import parse_record
from vtd_jax.video.records import open_records
from vtd_jax.video.shard_source import ShardSource

TENSOR = "tensorflow_datasets.core.features.tensor_feature.Tensor"


@pytest.fixture
def folder(built, tmp_path):
    """A copy of good records of JPEGs."""
    return shutil.copytree(
        built / "video_folder/jpeg/1.0.0", tmp_path / "records/video_folder/jpeg/1.0.0"
    )


@pytest.fixture
def again(clips, good_lines, tmp_path) -> BuildConfig:
    """What would build these records."""
    pair = tuple(map(str, write_catalog(tmp_path, good_lines, stem="jpeg")))
    return BuildConfig("jpeg", lists=(pair,), video_dir=str(clips), storage="jpeg")


def change(path, *keys, to):
    """Puts another value at a place of a JSON file."""
    content = json.loads(path.read_text())
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to
    path.write_text(json.dumps(content))


def refused(folder, *words):
    """The line that opening ends with."""
    began = time.process_time()
    with pytest.raises(UserError) as caught:
        open_records(folder, "jpeg")
    message = str(caught.value)
    assert time.process_time() - began < 5
    assert "\n" not in message
    assert len(message) < 1000
    assert all(word in message for word in words), message
    return message


FEATURE = ("featuresDict", "features", "codec")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ((*FEATURE, "pythonClassName"), "evil.X"),
        (("pythonClassName",), "evil.X"),
        (FEATURE, {"pythonClassName": "evil.X", "text": {}}),
        (("featuresDict", "features", "more"), {"pythonClassName": "evil.X", "text": {}}),
        (("featuresDict", "features", "more"), {"python_class_name": "evil.X", "text": {}}),
        ((*FEATURE, "python_class_name"), "evil.X"),
        ((*FEATURE, "jsonFeature"), {"json": "{}"}),
        ((*FEATURE, "pythonClassName"), TENSOR),
        (("featuresDict", "features", "fps", "tensor", "dtype"), "string"),
        (
            ("featuresDict", "features", "frames", "sequence", "feature", "pythonClassName"),
            "evil.X",
        ),
        (("featuresDict", "features"), {}),
        (("featuresDict",), [1]),
    ],
)
def test_features_other_than_ours_run_nothing(folder, monkeypatch, keys, value):
    (folder / "evil.py").write_text("raise SystemExit('ran')\n")
    monkeypatch.syspath_prepend(folder)
    change(folder / "features.json", *keys, to=value)
    refused(
        folder,
        "features.json",
        "these are not the features of our records; build these records again",
    )
    assert "evil" not in sys.modules


def test_records_of_the_first_version_still_open(folder):
    """They had no count of damaged frames, no digests and no times beside them."""
    features = json.loads((folder / "features.json").read_text())
    del features["featuresDict"]["features"]["damaged"]
    (folder / "features.json").write_text(json.dumps(features))
    rows = json.loads((folder / "files.json").read_text())
    (folder / "files.json").write_text(json.dumps([row[:2] for row in rows]))
    (folder / "seen.json").unlink()
    assert len(list(open_records(folder, "jpeg"))) == 5


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (
            ("splits", 0, "filepathTemplate"),
            "../other/{SPLIT}",
            "splits[0].filepathTemplate: '../other/{SPLIT}'",
        ),
        (("splits", 0, "filepathTemplate"), "{SPLIT.__class__}", "splits[0].filepathTemplate"),
        (("splits", 0, "name"), "train", "splits[0].name: 'train', expected 'videos'"),
        (
            ("splits", 0, "shardLengths"),
            ["1"] * 10**6,
            "splits[0].shardLengths: 1,000,000 shards, 1 are there",
        ),
        (
            ("splits", 0, "shardLengths"),
            ["9" * 400],
            "splits[0].shardLengths[0]: expected str matching",
        ),
        (("splits", 0, "shardLengths"), ["-5"], "splits[0].shardLengths[0]"),
        (("splits", 0, "shardLengths"), [], "splits[0].shardLengths"),
        (("splits", 0, "shardLengths"), ["3"], "videos: 5, but dataset_info.json counts 3"),
        (("splits",), [], "splits"),
        (("name",), "../../other", "name: expected str matching"),
        (("fileFormat",), "tfrecord", "fileFormat: invalid enum value 'tfrecord'"),
        (("moduleName",), 5, "moduleName: expected str, got int"),
    ],
)
def test_a_dataset_info_other_than_ours(folder, keys, value, words):
    change(folder / "dataset_info.json", *keys, to=value)
    refused(folder, words, "build these records again with `overwrite`")


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (("labels", 0), 99, "labels[0]: 99, but there are 2 classes"),
        (("labels", 0), -1, "labels[0]: expected int >= 0"),
        (("labels", 0), 0.5, "labels[0]: expected int"),
        (("labels",), [0], "labels: 1 of them, but 5 records"),
        (("class_names", 1), 5, "class_names[1]: expected str, got int"),
        (("class_names", 1), " ", "class_names[1]: no text in it"),
        (("class_names",), [], "class_names: expected at least 1 entry"),
        (("records", 4), 10**30, "records[4]: expected int <= "),
        (("records", 4), 5, "records: position 5, but there are 5 records"),
        (("records", 0), 1, "records[1]: 1, expected more than the one before"),
        (("records",), [], "records: expected at least 1 entry"),
        (("origin",), "stolen" * 10_000, "origin: invalid enum value 'stolen"),
        (("left_out",), 3, "left_out: expected array, got int"),
        (("fingerprint",), None, "fingerprint: expected str, got null"),
    ],
)
def test_a_list_whose_labels_and_positions_cannot_be(folder, keys, value, words):
    change(folder / "lists/jpeg.json", *keys, to=value)
    refused(folder, f"{folder}/lists/jpeg.json", words, "remove this list and build")


@pytest.mark.parametrize(
    "name", ["dataset_info.json", "features.json", "metadata.json", "files.json", "lists/jpeg.json"]
)
@pytest.mark.parametrize("content", ["[" * 100_000, "3", '{"a":', "", "\0", "9" * 5000, None])
def test_no_file_of_them_may_be_anything(folder, again, name, content):
    (folder / name).unlink()
    if content is None:
        os.mkfifo(folder / name)
    else:
        (folder / name).write_text(content)
    message = refused(folder, name, "`overwrite`" if content is not None else "a pipe")
    # and a build says the same, or what to do
    if not name.startswith("lists") and content is not None:
        with pytest.raises(UserError, match="`overwrite`"):
            build_records(again, folder.parents[2])
    assert len(message) < 600


def test_a_pipe_in_the_place_of_a_shard(folder):
    shard = next(folder.glob("*array_record*"))
    shard.unlink()
    os.mkfifo(shard)
    refused(folder, f"{shard}: this shard of the records is missing, or is no file")


def record(tmp_path, storage="jpeg"):
    """A good record, as a proto."""
    if not (tmp_path / "a.mp4").exists():
        make_video(tmp_path / "a.mp4", 4)
    fields = encode.encode_video(Entry("a.mp4", 0, 1), tmp_path / "a.mp4", storage)
    example = tf_example_pb2.Example()
    for key, value in fields.items():
        values = value if isinstance(value, list) else [value]
        values = [each.encode() if isinstance(each, str) else each for each in values]
        kind = {int: "int64_list", float: "float_list", bytes: "bytes_list"}[type(values[0])]
        getattr(example.features.feature[key], kind).value.extend(values)
    return example


def test_a_good_record_is_read(tmp_path):
    for storage, payload in (("jpeg", "frames"), ("video", "video")):
        fields = parse_record(record(tmp_path, storage).SerializeToString(), storage, "x")
        assert (fields["num_frames"], fields["file"], len(fields[payload]) > 3) == (
            4,
            b"a.mp4",
            True,
        )


@pytest.mark.parametrize(
    ("storage", "key", "kind", "values", "words"),
    [
        (
            "jpeg",
            "num_frames",
            "int64_list",
            [10**18],
            "num_frames is 1,000,000,000,000,000,000, expected 4, the frames",
        ),
        ("jpeg", "num_frames", "int64_list", [0], "num_frames is 0, expected 4"),
        (
            "video",
            "num_frames",
            "int64_list",
            [10**18],
            "num_frames is 1,000,000,000,000,000,000, expected 1 to",
        ),
        ("video", "num_frames", "int64_list", [-1], "num_frames is -1, expected 1 to"),
        ("video", "source_frames", "int64_list", [10**18], "source_frames is 1,000"),
        ("jpeg", "num_frames", "float_list", [4.0], "num_frames is not a whole number"),
        ("jpeg", "num_frames", "int64_list", [4, 4], "num_frames is not a whole number"),
        ("jpeg", "width", "int64_list", [0], "width is 0, expected 1 to"),
        ("jpeg", "height", "int64_list", [2**62], "height is 4,611"),
        ("jpeg", "fps", "float_list", [float("nan")], "fps is nan"),
        ("jpeg", "duration", "float_list", [float("inf")], "duration is inf"),
        ("jpeg", "file", "bytes_list", [b"\xff"], "file is b'\\xff', which is not UTF-8"),
        ("jpeg", "file", "int64_list", [3], "file is not a text"),
        ("jpeg", "frames", "bytes_list", [], "it has no frames"),
        ("jpeg", "frames", "bytes_list", [b""] * 4, "it has no frames"),
        ("jpeg", "frames", "int64_list", [1] * 4, "it has no frames"),
        ("video", "video", "bytes_list", [b""], "it has no video"),
        ("video", "video", "bytes_list", [b"a", b"b"], "it has no video"),
    ],
)
def test_a_field_that_cannot_be(tmp_path, storage, key, kind, values, words):
    example = record(tmp_path, storage)
    del example.features.feature[key]
    getattr(example.features.feature[key], kind).value.extend(values)
    with pytest.raises(UserError) as caught:
        parse_record(example.SerializeToString(), storage, "folder: record 3")
    assert str(caught.value).startswith(f"folder: record 3: {words}")


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x0a\x00", b"\x0a\xff\xff\xff\xff\x0f"])
def test_what_is_no_record(folder, content):
    shard = next(folder.glob("*array_record*"))
    shard.unlink()
    writer = ArrayRecordWriter(str(shard), "group_size:1,uncompressed")
    for _ in range(5):
        writer.write(content)
    writer.close()
    with pytest.raises(
        UserError, match=r"record 0: (it has no bytes|is no record).*; the record is damaged"
    ):
        open_records(folder, "jpeg")[0]


@pytest.mark.parametrize(
    "options",
    ["group_size:1,zstd", "group_size:1,brotli", "group_size:1,uncompressed,transpose:true"],
)
def test_a_small_shard_with_a_large_record(folder, options):
    shard = next(folder.glob("*array_record*"))
    shard.unlink()
    writer = ArrayRecordWriter(str(shard), options)
    for _ in range(5):
        writer.write(bytes(2**20))
    writer.close()
    with pytest.raises(
        UserError, match=r"record 0 cannot be read \(.* is compressed or damaged; ours are neither"
    ):
        open_records(folder, "jpeg")[0]


def test_several_records_in_a_chunk(folder):
    shard = next(folder.glob("*array_record*"))
    shard.unlink()
    writer = ArrayRecordWriter(str(shard), "group_size:5,uncompressed")
    for _ in range(5):
        writer.write(b"x")
    writer.close()
    with pytest.raises(
        UserError,
        match=r"record 0 cannot be read .*several records in a chunk, where ours have one",
    ):
        open_records(folder, "jpeg")[0]


def test_records_of_any_size_are_found(tmp_path):
    """Around the ends of blocks of 64 KiB, which have headers of their own."""
    sizes = [
        1,
        65_380,
        65_430,
        65_471,
        65_472,
        65_473,
        65_496,
        65_512,
        65_536,
        200_000,
        *range(65_440, 65_470),
    ]
    writer = ArrayRecordWriter(str(tmp_path / "shard"), "group_size:1,uncompressed")
    for number, size in enumerate(sizes):
        writer.write(bytes([number]) * size)
    writer.close()
    source = ShardSource([record_files.Shard(str(tmp_path / "shard"), len(sizes))])
    assert all(source[number] == bytes([number]) * size for number, size in enumerate(sizes))


def test_frames_of_several_sizes(built):
    example = open_records(built, "jpeg")[0]
    other = simplejpeg.encode_jpeg(np.zeros((24, 32, 3), np.uint8))
    example.record["frames"][1] = other
    with pytest.raises(UserError, match="its stored frames are of several sizes, 32×24 and"):
        example.frames([0, 1])


def test_the_features_that_are_compared_are_those_we_write(built):
    for storage in ("jpeg", "video"):
        record_files._check_features(built / f"video_folder/{storage}/1.0.0/features.json", storage)
