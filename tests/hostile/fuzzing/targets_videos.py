"""Videos and records of others."""

import contextlib
import functools
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import av
import numpy as np
import simplejpeg
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from tensorflow_datasets.core import example_serializer

from hostile.fuzzing.mutations import (
    HOSTILE_NUMBERS,
    HOSTILE_TEXTS,
    mutate_bytes,
    mutate_json,
    mutate_lines,
)
from hostile.fuzzing.target import Target
from support.video_files import make_video, picture
from vtd_jax.errors import UserError
from vtd_jax.predict import serve_example
from vtd_jax.video import decode
from vtd_jax.video.copies.beside import changed_since, note_copies
from vtd_jax.video.copies.data_copy import data_copies
from vtd_jax.video.ingest import encode
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.records import build_records
from vtd_jax.video.ingest.shards import WRITER_OPTIONS
from vtd_jax.video.records import open_records

# codecs that need no settings; the others are of `make_video`
_CODECS = {
    "gif": ("gif", "rgb8"),
    "mkv": ("mpeg4", "yuv420p"),
    "png": ("png", "rgb24"),
    "y4m": ("rawvideo", "yuv420p"),
}


def write_video(path: Path, frames: int = 6) -> Path:
    """A small video of the kind that the ending says."""
    kind = path.suffix[1:]
    if kind == "jpg":
        path.write_bytes(simplejpeg.encode_jpeg(picture(0, 48, 64)))
        return path
    if kind not in _CODECS:
        return make_video(path, frames)
    codec, pixels = _CODECS[kind]
    options = {"update": "1"} if kind == "png" else {}
    with av.open(
        str(path), "w", options=options, format={"png": "image2", "y4m": "yuv4mpegpipe"}.get(kind)
    ) as container:
        stream = container.add_stream(
            "wrapped_avframe" if kind == "y4m" else codec, rate=Fraction(10)
        )
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        for index in range(1 if kind == "png" else frames):
            frame = av.VideoFrame.from_ndarray(picture(index, 48, 64), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=pixels)))
        container.mux(stream.encode())
    return path


def read_video(path: Path) -> None:
    """Everything that commands do with a video: its length, its end, frames by number, frames as
    served models do.
    """
    decode.length(path)
    count, _, _ = decode.header(path)
    info = decode.probe(path)
    decode.decode_frames(path, [0, info.frames - 1], 32)
    content = path.read_bytes()
    decode.decode_frames(
        content,
        [info.frames // 2],
        name="bytes",
        known_frames=None if info.damaged else info.frames,
    )
    serve_example.read_clip(path, 2, 32, info.frames)
    del count


def _videos(ending: str) -> Target:
    # the example of a served model raises what its docstring says
    documented = (ValueError, OSError, av.error.FFmpegError)
    return Target(
        lambda folder: write_video(folder / f"a.{ending}"),
        lambda folder: read_video(folder / f"a.{ending}"),
        documented=documented,
    )


def write_records(folder: Path, storage: str) -> None:
    """`records/`, four videos of two classes as a list `train`."""
    videos = folder / "videos"
    for number in range(4):
        (videos / ("red", "blue")[number % 2]).mkdir(parents=True, exist_ok=True)
        write_video(videos / ("red", "blue")[number % 2] / f"{number}.mp4")
    (folder / "list.txt").write_text("red/0.mp4 0\nblue/1.mp4 1\nred/2.mp4 0\nblue/3.mp4 1\n")
    (folder / "labels.csv").write_text("id,name\n0,red\n1,blue\n")
    lists = ((str(folder / "list.txt"), str(folder / "labels.csv")),)
    config = BuildConfig(
        name="train", lists=lists, video_dir=str(videos), workers=1, storage=storage
    )
    note_copies(build_records(config, folder / "records").path)


def read_records(folder: Path, name: str = "list") -> None:
    """Opens a list, computes its fingerprint, and takes the first and the last frame of every video
    of it.
    """
    records = open_records(folder / "records", name)
    assert len(records.files) == len(records)
    with contextlib.suppress(UserError):
        [copy] = data_copies([records])
        assert "\n" not in changed_since(records, copy)
    for example in records:
        assert 0 <= example.label < len(records.class_names)
        frames = example.frames([0, example.num_frames - 1])
        assert frames.ndim == 4


def _change_records(rng: Random, folder: Path) -> None:
    files = sorted(path for path in (folder / "records").rglob("*") if path.is_file())
    if rng.random() < 0.4:
        shard = next(path for path in files if "array_record" in path.name)
        if rng.random() < 0.3:
            shard.write_bytes(mutate_bytes(rng, shard.read_bytes()))
        else:
            rewrite_shard(
                shard, lambda number, record: _changed(rng, record) if number == 1 else record
            )
        return
    path = rng.choice([path for path in files if "array_record" not in path.name])
    change = mutate_json if path.suffix == ".json" else mutate_lines
    path.write_bytes(change(rng, path.read_bytes()))


def rewrite_shard(shard: Path, change: Any) -> None:
    """Writes the records of a shard again; `change(number, bytes)` gives their bytes."""
    reader = ArrayRecordReader(str(shard))
    records = [bytes(record) for record in reader.read_all()]
    reader.close()
    shard.unlink()
    writer = ArrayRecordWriter(str(shard), WRITER_OPTIONS)
    for number, record in enumerate(records):
        writer.write(change(number, record))
    writer.close()


@functools.cache
def _serializer(storage: str):
    return example_serializer.ExampleSerializer(encode.features(storage).get_serialized_info())


def hostile_record(storage: str = "jpeg", **changes: Any) -> bytes:
    """The bytes of a record with some fields that no build writes."""
    fields = dict(
        file=b"red/0.mp4", label=0, num_frames=2, source_frames=2, damaged=0, fps=np.float32(25),
        duration=np.float32(1), width=64, height=48, codec=b"h264", bytes=100, sha256=b"0" * 64,
    )  # fmt: skip
    payload = (
        {"frames": [simplejpeg.encode_jpeg(picture(0, 48, 64))] * 2}
        if storage == "jpeg"
        else {"video": b"x"}
    )
    fields = {
        key: np.asarray(value) if isinstance(value, int) else value
        for key, value in (fields | payload | changes).items()
    }
    return _serializer(storage).get_tf_example(fields).SerializeToString(deterministic=True)


def _changed(rng: Random, record: bytes) -> bytes:
    if rng.random() < 0.4:
        return mutate_bytes(rng, record)
    field = rng.choice(("file", "label", "num_frames", "source_frames", "width", "fps", "frames"))
    number = rng.choice([n for n in HOSTILE_NUMBERS if isinstance(n, int) and abs(n) < 2**63])
    value: Any = number
    if field == "file":
        value = rng.choice([text for text in HOSTILE_TEXTS if text != "\ud800"]).encode()
    elif field == "fps":
        value = np.float32(rng.choice((0, -1, float("nan"), float("inf"), 1e30)))
    elif field == "frames":
        jpeg = simplejpeg.encode_jpeg(picture(0, 48, 64))
        value = rng.choice(
            ([], [b""], [mutate_bytes(rng, jpeg)] * 2, [jpeg] * 2000, [b"not a picture", jpeg])
        )
    return hostile_record(**{field: value})


TARGETS = {
    f"video_{ending}": _videos(ending)
    for ending in ("mp4", "mkv", "gif", "png", "jpg", "y4m", "avi", "webm")
}
TARGETS |= {
    f"records_{storage}": Target(
        functools.partial(write_records, storage=storage), read_records, mutate=_change_records
    )
    for storage in ("jpeg", "video")
}
