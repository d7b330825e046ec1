"""Hostile videos and pictures: small files that claim much, and text that FFmpeg would follow.

Every function writes one file and returns its path.
"""

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import simplejpeg

from support.video_files import make_video, picture

CLAIM = 65500


def jpeg_claim(folder: Path, side: int = CLAIM) -> Path:
    """A picture of 8 × 8 whose header says 65 500 × 65 500."""
    content = bytearray(simplejpeg.encode_jpeg(picture(0, 8, 8)))
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", side, side)
    return _written(folder / "claim.jpg", bytes(content))


def gif_claim(folder: Path, side: int = CLAIM) -> Path:
    """66 bytes, 65 500 × 65 500."""
    return _written(folder / "claim.gif", _gif([(side, side)], side, side))


def gif_frames(folder: Path, frames: int = 3000, side: int = 16_000) -> Path:
    """Frames of one pixel on a large canvas."""
    return _written(folder / "frames.gif", _gif([(1, 1)] * frames, side, side))


def _gif(frames: list[tuple[int, int]], width: int, height: int) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(3) + b"\xff" * 3
    control = b"\x21\xf9\x04\x00\x01\x00\x00\x00"
    # one pixel: clear, colour 0, end
    images = (
        control + b"\x2c" + struct.pack("<HHHHB", 0, 0, w, h, 0) + b"\x02\x02\x44\x01\x00"
        for w, h in frames
    )
    return head + b"".join(images) + b";"


def png_claim(folder: Path, side: int = CLAIM) -> Path:
    """88 bytes, 65 500 × 65 500."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    image = chunk(b"IDAT", zlib.compress(bytes(16)))
    return _written(
        folder / "claim.png", b"\x89PNG\r\n\x1a\n" + header + image + chunk(b"IEND", b"")
    )


def y4m_wide(folder: Path, width: int = 1_000_000, height: int = 2) -> Path:
    """A frame whose long side is very long: scaling the short side up would make it enormous."""
    frame = bytes(width * height * 3 // 2)
    return _written(
        folder / "wide.y4m",
        f"YUV4MPEG2 W{width} H{height} F25:1 C420jpeg\n".encode() + (b"FRAME\n" + frame) * 2,
    )


def patched_mp4(folder: Path, box: bytes, place: int, value: int, size: int = 4) -> Path:
    """Six frames, and a number in one of the tables changed; `place` counts from behind the box's
    name.
    """
    content = bytearray(make_video(folder / "good.mp4", 6).read_bytes())
    (folder / "good.mp4").unlink()
    at = content.index(box) + 4 + place
    content[at : at + size] = value.to_bytes(size, "big")
    return _written(folder / f"{box.decode()}.mp4", bytes(content))


def mp4_many_samples(folder: Path, samples: int = 50_000_000) -> Path:
    """Tables that claim 5·10⁷ samples of one size and duration."""
    content = bytearray(make_video(folder / "good.mp4", 6).read_bytes())
    (folder / "good.mp4").unlink()
    at = content.index(b"stsz") + 8
    content[at : at + 8] = struct.pack(">II", 1, samples)
    at = content.index(b"stts") + 12
    content[at : at + 4] = struct.pack(">I", samples)
    at = content.index(b"stsc") + 16
    content[at : at + 4] = struct.pack(">I", samples)
    return _written(folder / "samples.mp4", bytes(content))


# name: box, place, value
LONG_MP4 = {
    "delta": (b"stts", 12, 0x7FFFFFFF),
    "no_scale": (b"mdhd", 12, 0),
    "scale_one": (b"mdhd", 12, 1),
    "scale_most": (b"mdhd", 12, 2**32 - 1),
    "duration": (b"mdhd", 16, 2**32 - 1),
}


def mkv_late(folder: Path, seconds: int = 10**9) -> Path:
    """Frames of the first second, and one of 10⁹ seconds later."""
    path = folder / "late.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        packets = []
        for index in range(4):
            packets += stream.encode(av.VideoFrame.from_ndarray(picture(index, 48, 64), "rgb24"))
        packets += stream.encode()
        last = packets[-1]
        last.pts = last.dts = last.pts + int(seconds / last.time_base)
        container.mux(packets)
    return path


def ffconcat(folder: Path, secret: Path) -> Path:
    """A list for FFmpeg, named like a video."""
    return _written(folder / "list.mp4", f"ffconcat version 1.0\nfile '{secret}'\n".encode())


def playlist(folder: Path, secret: str) -> Path:
    """An HLS playlist whose segment is another file or an address."""
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{secret}\n#EXT-X-ENDLIST\n"
    return _written(folder / "playlist.mp4", text.encode())


def session(folder: Path, port: int = 5004) -> Path:
    """An SDP description, which would bind UDP ports."""
    text = (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        f"m=video {port} RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
    )
    return _written(folder / "session.mp4", text.encode())


# names of files that FFmpeg would take for something else; ADDRESS stands for host:port
ODD_NAMES = (
    "file:a.mp4",
    "subfile,,start,0,end,2075,,:a.mp4",
    "concat:a.mp4|b.mp4",
    "img%03d.mp4",
    "pipe:0.mp4",
    "-i.mp4",
    "data:video,x.mp4",
    "http:/ADDRESS/a.mp4",
    "ftp:/ADDRESS/a.mp4",
    "tcp:/ADDRESS/a.mp4",
    "rtmp:/ADDRESS/a.mp4",
    "rtsp:/ADDRESS/a.mp4",
    "udp:/ADDRESS/a.mp4",
)


def odd_names(folder: Path, port: int) -> list[Path]:
    """Real videos under those names, some of them in folders that are called like a host."""
    good = make_video(folder / "good.mp4", 4).read_bytes()
    (folder / "good.mp4").unlink()
    return [
        _written(folder / name.replace("ADDRESS", f"127.0.0.1:{port}"), good) for name in ODD_NAMES
    ]


CLAIMS = {
    "jpeg": jpeg_claim,
    "gif": gif_claim,
    "png": png_claim,
    "gif_frames": gif_frames,
    "y4m": y4m_wide,
}
TEXTS = {
    "ffconcat": lambda folder: ffconcat(folder, make_video(folder / "secret.mp4", 4)),
    "playlist": lambda folder: playlist(folder, str(make_video(folder / "secret.mp4", 4))),
    "session": session,
}
LONG = {
    **{
        name: lambda folder, patch=patch: patched_mp4(folder, *patch)
        for name, patch in LONG_MP4.items()
    },
    "samples": mp4_many_samples,
    "late": mkv_late,
    "gif_100k": lambda folder: gif_frames(folder, 100_000, 16),
}


def _written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
