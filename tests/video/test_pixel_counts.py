"""What frames count: small files whose decoding would take minutes, and honest ones that pass."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import pytest
import simplejpeg

from support.video_files import picture
from vtd_jax.predict import serve_example
from vtd_jax.untrusted import limits as constants
from vtd_jax.untrusted.raised import MAX_VIDEO_PIXELS
from vtd_jax.video import limits
from vtd_jax.video.clip import read_clip
from vtd_jax.video.decode import VideoError, header, probe


def clip(path: Path) -> None:
    read_clip(path, 2, 32)


def gif(width: int, height: int, frames: int) -> bytes:
    """Frames of one pixel on a canvas."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    frame = (
        b"\x21\xf9\x04\x00\x0a\x00\x00\x00\x2c"
        + struct.pack("<HHHHB", 0, 0, 1, 1, 0)
        + b"\x02\x02\x44\x01\x00"
    )
    return head + frame * frames + b";"


@pytest.mark.slow
def test_small_files_of_huge_frames(tmp_path):
    path = tmp_path / "x.gif"
    path.write_bytes(gif(8190, 8190, 120))
    for read in (probe, clip):
        with pytest.raises(
            VideoError,
            match=r"of 8190 × 8190, where large ones count more, from a file of 2,780 byte",
        ):
            read(path)
    with pytest.raises(ValueError, match="--max_video_pixels"):
        serve_example.read_clip(path, 2, 32)


@pytest.mark.parametrize(
    "codec, width, height, frames, size",
    [
        ("h264", 1920, 1080, 3600 * 25, 8 * 2**20),  # an hour of one slide
        ("av1", 1920, 1080, 3600, 30_000),
        ("h264", 3840, 2160, 1800, 107_000),
        ("h264", 7680, 4320, 1800, 2**22),
        ("gif", 1920, 1080, 18_000, 460_000),  # white, as FFmpeg writes it
        ("png", 8192, 8192, 1, 100),
        ("mjpeg", 8192, 8192, 1, 100),
    ],
)
def test_honest_files_pass(codec, width, height, frames, size):
    tally = limits.Tally("x", size, codec)
    for _ in range(frames):
        tally.add(width, height)


def scans(count: int) -> bytes:
    good = simplejpeg.encode_jpeg(picture(0, 48, 64))
    return good[:-2] + good[good.index(b"\xff\xda") : -2] * (count - 1) + good[-2:]


@pytest.mark.parametrize("suffix", ["jpg", "mkv"])
def test_jpegs_of_many_scans(suffix, tmp_path, monkeypatch):
    path = tmp_path / f"x.{suffix}"

    def write(count: int) -> None:
        if suffix == "jpg":
            path.write_bytes(scans(count))
            return
        with av.open(str(path), "w", format="matroska") as container:
            stream = container.add_stream("mjpeg", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
            packet = av.Packet(scans(count))
            packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, 10), 0, 0
            container.mux(packet)

    write(100)
    assert probe(path).frames == 1
    # all are counted
    monkeypatch.setenv(MAX_VIDEO_PIXELS.variable, str(64 * 48 * 99))
    monkeypatch.setattr(constants, "PICTURE_PIXELS_A_BYTE", 0)
    with pytest.raises(VideoError, match="pixels in all its frames"):
        probe(path)
    write(101)
    for read in (probe, header, clip):
        with pytest.raises(
            VideoError, match=r"a JPEG of 101 scans, expected at most 100; save it again$"
        ):
            read(path)
    with pytest.raises(ValueError, match="a JPEG of 101 scans"):
        serve_example.read_clip(path, 2, 32)
