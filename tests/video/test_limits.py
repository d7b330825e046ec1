"""Small files that claim much: refused before memory is taken, in a line that names the flag."""

import gc
import io
import struct
import zlib

import av
import numpy as np
import pytest
import simplejpeg

from support.video_files import READERS, make_video, picture
from vtd_jax.errors import UserError
from vtd_jax.predict import serve_example
from vtd_jax.untrusted import limits as constants
from vtd_jax.untrusted.raised import MAX_FRAME_PIXELS, MAX_MOMENTS, MAX_VIDEO_PIXELS
from vtd_jax.video import limits
from vtd_jax.video.clip import frames_at, read_clip
from vtd_jax.video.decode import VideoError, decode_frames, header, probe
from vtd_jax.video.records import Example


def gif(width: int, height: int, frames: int) -> bytes:
    """Frames of one pixel on a canvas."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    frame = (
        b"\x21\xf9\x04\x00\x0a\x00\x00\x00\x2c"
        + struct.pack("<HHHHB", 0, 0, 1, 1, 0)
        + b"\x02\x02\x44\x01\x00"
    )
    return head + frame * frames + b";"


def png(side: int) -> bytes:
    """A header, and nothing that would fit."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(16))),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in (*parts, (b"IEND", b"")))


def jpeg(width: int, height: int) -> bytes:
    """A JPEG of 8 × 8 whose header says otherwise."""
    content = bytearray(simplejpeg.encode_jpeg(picture(0, 8, 8)))
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def y4m(width: int, height: int) -> bytes:
    return (
        f"YUV4MPEG2 W{width} H{height} F25:1 C420jpeg\n".encode()
        + b"FRAME\n"
        + bytes(width * height * 3 // 2)
    )


CLAIMS = {
    "gif": gif(65500, 65500, 1),
    "gif of many": gif(16000, 16000, 3000),
    "png": png(65500),
    "jpeg": jpeg(65500, 65500),
    "wide": y4m(1_000_000, 2),
}


@pytest.mark.parametrize("kind", CLAIMS)
def test_frames_that_are_too_large(kind, tmp_path):
    path = tmp_path / "x.mp4"
    path.write_bytes(CLAIMS[kind])
    for read in READERS.values():
        with pytest.raises(
            VideoError, match=r"x\.mp4: a frame of \d+ × \d+, more than 67,108,864 pixels.*`max_f"
        ):
            read(path)
    with pytest.raises((ValueError, av.error.FFmpegError)):
        serve_example.read_clip(path, 2, 32)


def raw_video(*sizes: tuple[int, int]) -> bytes:
    """H.264 whose frames change their size."""
    found = b""
    for width, height in sizes:
        file = io.BytesIO()
        with av.open(file, "w", format="h264") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for _ in range(2):
                frame = av.VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), "rgb24")
                container.mux(stream.encode(frame.reformat(format="yuv420p")))
            container.mux(stream.encode(None))
        found += file.getvalue()
    return found


def test_frames_that_grow_in_mid_stream(tmp_path, monkeypatch):
    path = tmp_path / "x.h264"
    path.write_bytes(raw_video((640, 480), (1280, 960)))
    assert probe(path).frames == 4
    monkeypatch.setenv(MAX_FRAME_PIXELS.variable, "1000000")
    for read in (probe, READERS["clip"], READERS["timeline"]):
        with pytest.raises(
            VideoError, match=r"of 1280 × 960, more than 1,000,000 pixels; `max_frame_pixels=N`"
        ):
            read(path)
    path.write_bytes(raw_video((640, 480)))
    assert probe(path).frames == 2


@pytest.mark.slow
def test_8k_is_a_frame_and_hours_are_a_video():
    limits.check_frame(7680, 4320, "x")
    limits.check_frame(3840, 64, "x")
    # an hour of 3840 × 2160 at 60 frames a second and 12 Mbit/s
    hours = limits.Tally("x", 5 * 2**30)
    for _ in range(3600 * 60 // 4):
        hours.add(7680, 4320)
    silent = limits.Tally("x", 10**6)
    for _ in range(4000):
        silent.add(1920, 1080)


def test_all_frames_at_once(tmp_path, monkeypatch):
    path = tmp_path / "x.gif"
    path.write_bytes(gif(500, 500, 100))
    assert probe(path).frames == 100
    monkeypatch.setenv(MAX_VIDEO_PIXELS.variable, "1000")
    monkeypatch.setattr(constants, "PICTURE_PIXELS_A_BYTE", 1000)
    for read in (probe, READERS["clip"], READERS["timeline"]):
        with pytest.raises(
            VideoError,
            match=r"more than [\d,]+ pixels in all its frames, of 500 × 500.*`max_video",
        ):
            read(path)
    monkeypatch.setattr(serve_example, "LIMITS", serve_example.LIMITS | {"max_video_pixels": 1000})
    monkeypatch.setattr(serve_example, "PIXELS_A_BYTE", 1000)
    with pytest.raises(ValueError, match="--max_video_pixels"):
        serve_example.read_clip(path, 2, 32)


def test_bytes_that_are_read_again_and_again(tmp_path, monkeypatch):
    path = make_video(tmp_path / "x.mp4", 6)
    monkeypatch.setattr(constants, "PACKET_RATIO", 0)
    monkeypatch.setattr(constants, "PACKET_BYTES", 100)
    with pytest.raises(VideoError, match="names the same bytes again and again"):
        probe(path)


@pytest.mark.parametrize("value", ["", "0", "-5", "1e9", "many", "9" * 30, "²"])
def test_limits_of_the_environment(value, monkeypatch):
    monkeypatch.setenv(MAX_FRAME_PIXELS.variable, value)
    if not value:
        assert MAX_FRAME_PIXELS.value == constants.FRAME_PIXELS
        return
    with pytest.raises(
        UserError, match=r"^VTD_JAX_MAX_FRAME_PIXELS='.*': expected a whole number above 0$"
    ):
        limits.check_frame(1, 1, "x")


def flash(path):
    with av.open(str(path), "w", format="flv") as container:
        stream = container.add_stream("flv", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(3):
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(picture(index, 48, 64), "rgb24"))
            )
        container.mux(stream.encode(None))
    return path


def late(path, times: list[float], length: float | None = None):
    """Matroska with frames at these seconds."""
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        packets = []
        for index in range(len(times)):
            packets += stream.encode(av.VideoFrame.from_ndarray(picture(index, 48, 64), "rgb24"))
        for packet, seconds in zip(packets + stream.encode(None), times):
            packet.pts = packet.dts = int(seconds / packet.time_base)
            packet.duration = int((length or 0.1) / packet.time_base)
            container.mux(packet)
    return path


@pytest.mark.parametrize(
    "times, length",
    [([0, 20 * 3600], None), ([0, 1, 2], 1e6), ([0, 1, 25 * 3600, 50 * 3600], None)],
    ids=str,
)
def test_a_timeline_is_no_longer_than_its_frames(times, length, tmp_path, monkeypatch):
    path = late(tmp_path / "x.mkv", times, length)
    with pytest.raises(
        VideoError, match=r"x\.mkv: \d frames that last [\d,]+ s by their time.* `max_moments=N`"
    ):
        list(frames_at(path, 0.5, 32))
    # nor does a build reserve room for it
    assert header(path)[0] <= path.stat().st_size
    # a clip has no moments
    assert len(read_clip(path, 2, 32).frames) == 2
    monkeypatch.setenv(MAX_MOMENTS.variable, str(10**7))
    moments = frames_at(path, 0.5, 32)
    assert [next(moments).seconds for _ in range(4)] == [0.25, 0.75, 1.25, 1.75]


def test_a_picture_that_stays_for_an_hour_is_honest(tmp_path):
    assert len(list(frames_at(late(tmp_path / "x.mkv", [0, 3600, 3601]), 0.5, 32))) >= 7200


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e9, 1e300])
@pytest.mark.parametrize("kind", ["flv", "matroska"])
def test_lengths_that_are_no_numbers(kind, value, tmp_path):
    path = tmp_path / "x"
    if kind == "flv":
        content = flash(path).read_bytes()
        at = content.index(b"duration") + 9
    else:
        content = late(path, [0, 0.1, 0.2]).read_bytes()
        at = content.index(b"\x44\x89\x88") + 3
    path.write_bytes(content[:at] + struct.pack(">d", value) + content[at + 8 :])
    assert 0 <= header(path)[0] <= constants.STATED_FRAMES
    assert probe(path).frames == 3
    assert len(list(frames_at(path, 0.1, 32))) in (2, 3)


def stored(data: bytes, width: int = 64, height: int = 48, **more) -> Example:
    return Example(
        "x",
        0,
        1,
        {"frames": [data], "width": width, "height": height} | more,
        "records: record 0 (x)",
    )


def test_stored_frames_are_of_their_video():
    good = simplejpeg.encode_jpeg(picture(0, 48, 64))
    assert stored(good).frames([0, 0]).shape == (2, 48, 64, 3)
    # scaled down, as a build does
    assert stored(good, 640, 480).frames([0]).shape == (1, 48, 64, 3)
    for example in (
        stored(good, 48, 64),
        stored(good, 32, 24),
        stored(good, 64, 64),
        stored(good, 0, 0),
    ):
        with pytest.raises(
            UserError,
            match=r"record 0 \(x\): a stored frame of 64 × 48, of a video that the record says",
        ):
            example.frames([0])
    with pytest.raises(UserError, match=r"a frame of 65500 × 65500, more than 67,108,864 pixels"):
        stored(jpeg(65500, 65500), 65500, 65500).frames([0])
    with pytest.raises(UserError, match=r"a stored frame of more than 10 scans"):
        stored(good[:-2] + good[good.index(b"\xff\xda") : -2] * 10 + good[-2:]).frames([0])
    with pytest.raises(UserError, match="a stored frame does not decode"):
        stored(b"no picture").frames([0])


def test_clips_that_do_not_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "CLIP_FRAMES", 1)
    monkeypatch.setenv(MAX_FRAME_PIXELS.variable, "1000000")
    path = make_video(tmp_path / "x.mp4", 6)
    decode_frames(path, [0, 1])
    for wanted in (range(6), [0] * 6):
        with pytest.raises(
            VideoError,
            match=r"a clip of 6 frames of 64 × 48, more than 1,000,000 pixels; `max_frame",
        ):
            decode_frames(path, wanted)
        with pytest.raises(VideoError, match=r"a clip of 6 frames"):
            stored(b"", frames=[simplejpeg.encode_jpeg(picture(0, 48, 64))] * 6).frames(wanted)


@pytest.mark.slow
def test_frames_are_freed_without_the_garbage_collector(tmp_path):
    path = make_video(tmp_path / "x.mp4", 6)
    gc.collect()
    gc.disable()
    try:
        probe(path)
        read_clip(path, 2, 32)
        serve_example.read_clip(path, 2, 32)
        # not isinstance, which asks the objects of other libraries for their class
        assert not [one for one in gc.get_objects() if type(one) is av.VideoFrame]
    finally:
        gc.enable()
