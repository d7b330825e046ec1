"""A clip by the index of its file is the clip of a pass over all frames, for every kind of file."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from support.streams.coded_files import H264, IN_ORDER, PLANNED, encode
from support.timed_files import index_first, stating, timed_video, with_edits
from vtd_jax.video import decode, sampling
from vtd_jax.video.clip import read_clip
from vtd_jax.video.clips import by_index
from vtd_jax.video.codec import headers
from vtd_jax.video.decode import VideoError

# name: frames, what is said to `timed_video`, what is done to its bytes; with B-frames and sound
TIMED = {
    "plain.mp4": (40, {"sound": 1.6}, bytes),
    "web.mp4": (40, {}, index_first),
    "offset.mkv": (40, {"sound": 1.6, "offset": 3.0}, bytes),
    "held.mp4": ([0, 0.04, 0.08, 3.0, 3.04, 9.0, 9.04, 9.08], {}, bytes),
    "held.mkv": ([0, 0.04, 0.08, 3.0, 3.04, 9.0, 9.04, 9.08], {}, bytes),
    "plain.flv": (40, {"sound": 1.6}, bytes),
    "plain.mov": (40, {"bf": "0"}, bytes),
    "plain.avi": (40, {"sound": 1.6}, bytes),
}
# what only a pass over all frames settles
OTHERS = {
    "trimmed.mp4": (40, {}, lambda data: with_edits(data, [(1.16, 0.44)])),
    "cut.mp4": (40, {"sound": 2.0}, lambda data: with_edits(data, [(0.4, None), (1.16, 0.44)])),
    "twice.mp4": (40, {}, lambda data: with_edits(data, [(0.8, 0.0), (0.8, 0.4)])),
    "h264.avi": (40, {"codec": "libx264"}, bytes),
    "long.avi": (40, {}, lambda data: stating(data, "avi", 1.5)),
    "long.flv": (40, {}, lambda data: stating(data, "flv", 1.5)),
    "long.mkv": (40, {}, lambda data: stating(data, "mkv", 1.5)),
    "plain.ts": (40, {"sound": 1.6}, bytes),
    "plain.mpg": (40, {}, bytes),
    "plain.webm": (40, {}, bytes),
    "raw.h264": (40, {}, bytes),
}
PIECES = {"movflags": "frag_keyframe+empty_moov"}


def outcome(path, frames: int, check: str) -> tuple:
    """All of a clip, or the line that refuses the file, comparable."""
    try:
        clip = read_clip(path, frames, 32, check=check)
    except VideoError as error:
        return (str(error),)
    return (
        clip.total,
        clip.duration,
        clip.note,
        clip.indices.tolist(),
        clip.seconds.tolist(),
        clip.frames.tobytes(),
    )


def check_same(path, *counts: int) -> None:
    """Compares clips of both ways, or their errors."""
    for frames in counts:
        assert outcome(path, frames, "index") == outcome(path, frames, "full")


def settled(path, frames: int = 4) -> bool:
    """Whether the index is enough."""
    with decode.reading(path) as reader:
        found = by_index.has_index(reader) and by_index.read_by_index(
            reader, path, frames, lambda image: image
        )
    return bool(found)


def timed(folder, name: str) -> Path:
    """A file of `TIMED` or `OTHERS`."""
    times, settings, change = (TIMED | OTHERS)[name]
    path = timed_video(folder / name, times, **settings)
    path.write_bytes(change(path.read_bytes()))
    return path


@pytest.mark.parametrize("name", TIMED)
def test_times_and_frames_are_those_of_a_full_pass(tmp_path, name):
    path = timed(tmp_path, name)
    assert settled(path)
    check_same(path, 1, 4, 16, 100)


@pytest.mark.parametrize("name", OTHERS)
def test_what_the_index_does_not_settle_is_decoded_to_its_end(tmp_path, name):
    path = timed(tmp_path, name)
    assert not settled(path)
    check_same(path, 1, 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANNED | IN_ORDER)
def test_every_kind_of_stream(tmp_path, name):
    codec, options, more = (PLANNED | IN_ORDER)[name]
    path = encode(tmp_path / name, codec, options, **more)
    assert settled(path) == (name in PLANNED)
    check_same(path, 1, 2, 7, 16, 50)


def test_few_packets_are_decoded(tmp_path, monkeypatch):
    path = encode(tmp_path / "one.mp4", "libx264", H264 | {"g": "5"})
    decoded = []
    follow = by_index._again
    monkeypatch.setattr(
        by_index,
        "_again",
        lambda *given: (decoded.append(1) or packet for packet in follow(*given)),
    )
    check_same(path, 4)
    # of each of four groups what one of its pictures needs; there are 50 in all
    assert 4 <= len(decoded) <= 20


@pytest.mark.parametrize("name", ["one.mp4", "mpeg4_b.avi", "packed.avi", "repeats.avi"])
def test_a_file_too_large_to_keep_is_read_again(tmp_path, name, monkeypatch):
    codec, options, more = PLANNED[name]
    path = encode(tmp_path / name, codec, options, **more)
    monkeypatch.setattr(by_index, "_KEPT_BYTES", 100)
    assert settled(path)
    check_same(path, 1, 3, 16)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["plain.mp4", "web.mp4", "plain.avi", "plain.flv", "offset.mkv", "pieces.mp4"]
)
def test_a_cut_file_is_refused_with_the_same_line(tmp_path, name):
    if name == "pieces.mp4":
        data = timed_video(tmp_path / name, 40, **PIECES).read_bytes()
    else:
        data = timed(tmp_path, name).read_bytes()
    refused = 0
    for share in np.linspace(0.02, 0.98, 24):
        path = tmp_path / f"cut_{name}"
        path.write_bytes(data[: int(share * len(data))])
        check_same(path, 3)
        refused += len(outcome(path, 3, "index")) == 1
    assert refused >= (16 if name != "pieces.mp4" else 1)


def test_damage_is_seen_where_it_is_decoded_and_by_a_full_check(tmp_path):
    path = timed(tmp_path, "plain.mov")
    data = bytearray(path.read_bytes())
    with decode.reading(path) as reader:
        packets = [p for p in reader.decoder.container.demux(video=0) if p.size]
    wanted = set(sampling.test_indices(40, 2).tolist())
    # a picture that nothing refers to here: the last before a key frame
    victim = next(
        p
        for i, p in enumerate(packets[:-1])
        if packets[i + 1].is_keyframe and not {i} & wanted and i > 0
    )
    at = data.index(bytes(victim)) + victim.size // 2
    data[at : at + 8] = b"\xff" * 8
    path.write_bytes(data)
    check_same(path, 40)
    clip = read_clip(path, 2, 32)
    assert clip.total == 40


@pytest.mark.parametrize("most", [0, 1, 2])
def test_a_stream_whose_decoder_would_drop_frames_is_not_planned(tmp_path, most, monkeypatch):
    path = encode(tmp_path / "pyramid.mp4", "libx264", H264)
    monkeypatch.setattr("vtd_jax.video.codec.plan.reorder_frames", lambda _extradata: most)
    assert settled(path) == (most >= 2)


def test_the_delay_of_a_stream_is_read_from_its_headers(tmp_path):
    for name, bf, pyramid, frames in (
        ("a.mp4", "0", "none", 0),
        ("b.mp4", "2", "none", 1),
        ("c.mp4", "3", "normal", 2),
    ):
        path = encode(tmp_path / name, "libx264", H264 | {"bf": bf, "b-pyramid": pyramid})
        with decode.reading(path) as reader:
            extradata = reader.decoder.stream.codec_context.extradata
        assert headers.reorder_frames(extradata) == frames
        # headers that end early say nothing
        assert {headers.reorder_frames(extradata[:n]) for n in range(20)} == {0}


@pytest.mark.shared
@pytest.mark.slow
def test_real_clips(shared_dir):
    with (shared_dir / "videos" / "labels.csv").open() as file:
        assert next(csv.reader(file))
    files = [
        path
        for path in sorted((shared_dir / "videos").iterdir())
        if path.suffix in (".mp4", ".avi", ".webm")
    ]
    assert files
    for path in files:
        assert settled(path, 16), path
        check_same(path, 1, 16)


def test_another_check_is_refused(tmp_path):
    with pytest.raises(ValueError, match="check: 'half', expected one of index, full"):
        read_clip(os.devnull, 1, 8, check="half")
