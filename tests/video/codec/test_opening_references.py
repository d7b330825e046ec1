"""References of an MP4 to media in another file are not followed."""

import struct
from pathlib import Path

import av
import pytest

from support.video_files import make_video
from vtd_jax.predict import serve_example
from vtd_jax.video.decode import VideoError, probe


def with_media_elsewhere(mp4: bytes, other: Path) -> bytes:
    """An MP4 without media, whose data reference names another file as QuickTime's aliases do."""
    name, absolute = other.name.encode(), b"V" + str(other).replace("/", ":").encode()
    absolute += b"\0" * (len(absolute) % 2)
    alias = (
        bytes(10)
        + b"\1V".ljust(28, b"\0")
        + bytes(12)
        + bytes([len(name)])
        + name.ljust(63, b"\0")
        + bytes(16)
    )
    alias += struct.pack(">hh16xHH", -1, -1, 2, len(absolute)) + absolute + b"\xff\xff\0\0"
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    content, box = bytearray(mp4), struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    place = content.index(b"dref") - 4
    size = int.from_bytes(content[place : place + 4], "big")
    content[place : place + size] = box
    for kind in (b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        at = content.index(kind) - 4
        larger = int.from_bytes(content[at : at + 4], "big") + len(box) - size
        content[at : at + 4] = larger.to_bytes(4, "big")
    at = content.index(b"mdat") + 4
    assert at < content.index(b"moov")
    return bytes(
        content[:at]
        + bytes(content.index(b"moov") - 4 - at)
        + content[content.index(b"moov") - 4 :]
    )


def test_media_in_another_file_are_not_read(tmp_path):
    mine, path = make_video(tmp_path / "mine.mp4", 5), tmp_path / "x.mp4"
    path.write_bytes(with_media_elsewhere(mine.read_bytes(), mine))
    # what FFmpeg does where it may
    with av.open(
        str(path), container_options={"enable_drefs": "1", "use_absolute_path": "1"}
    ) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5
    for source in (path, path.read_bytes()):
        with pytest.raises(VideoError, match="no frame decodes"):
            probe(source)
    with pytest.raises(ValueError, match="no frame of it decodes"):
        serve_example.read_clip(path, 1, 32)
