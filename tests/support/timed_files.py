"""Small videos whose times are of interest: cut by an edit list, joined, held, with sound. Made
with PyAV and bytes.
"""

import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

# per ending: codec of the video and of the sound, options of the video's encoder
X264 = {"preset": "ultrafast", "bf": "2", "b_strategy": "0", "g": "10", "sc_threshold": "0"}
VP9 = {"deadline": "realtime", "cpu-used": "8", "g": "10"}
CODECS = {
    "mp4": ("libx264", "aac", X264),
    "mov": ("libx264", "aac", X264),
    "mkv": ("libx264", "aac", X264),
    "flv": ("libx264", "aac", X264),
    "ts": ("libx264", "mp2", X264),
    "h264": ("libx264", "", X264),
    "avi": ("mpeg4", "mp2", {"g": "10"}),
    "mpg": ("mpeg2video", "mp2", {"g": "10", "bf": "2"}),
    "webm": ("libvpx-vp9", "libopus", VP9),
}
RATE = 25


def picture(index: int) -> np.ndarray:
    """Grey whose level says the number, below 60; neighbours differ much, so that no frame is made
    of them.
    """
    return np.full((48, 64, 3), 8 + 4 * (23 * index % 60), np.uint8)


def number(image: np.ndarray) -> int:
    """Reads the number of a picture back."""
    return round((float(image.mean()) - 8) / 4) * 47 % 60


def timed_video(
    path: Path,
    times: int | Sequence[float],
    *,
    sound: float = 0.0,
    offset: float = 0.0,
    codec: str = "",
    rate: int = RATE,
    bf: str = "2",
    **options: str,
) -> Path:
    """Writes a video.

    Args:
      path: its ending says the format.
      times: of the frames in seconds, or how many there are at 25 a second.
      sound: seconds of it.
      offset: seconds that are added to all times as they are written.
      codec: of the video; the format's usual one if empty.
      rate: that the encoder is given.
      bf: B-frames in a row, of H.264.
      options: for the container.
    """
    usual, sounds, settings = CODECS[path.suffix[1:]]
    times = [i / rate for i in range(times)] if isinstance(times, int) else times
    steady = np.allclose(times, np.arange(len(times)) / rate)
    base = Fraction(1, rate) if steady else Fraction(1, 1000)
    settings = X264 | {"bf": bf} if "libx264" in (codec, usual) else settings
    with av.open(str(path), "w", options=options) as container:
        video = container.add_stream(codec or usual, rate=rate, options=settings)
        video.width, video.height, video.pix_fmt, video.bit_rate = 64, 48, "yuv420p", 4_000_000
        video.codec_context.time_base = base
        packets = []
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(index), "rgb24")
            frame.pts, frame.time_base = round(time / base), base
            packets += video.encode(frame)
        packets += video.encode(None)
        if sound:
            packets += _sound(container.add_stream(sounds, rate=48000, layout="mono"), sound)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            moved = round(offset / packet.time_base)
            packet.pts, packet.dts = packet.pts + moved, packet.dts + moved
            if packet.stream is video:
                packet.duration = round(1 / RATE / packet.time_base)
            container.mux(packet)
    return path


def _sound(stream, seconds: float) -> Iterable[av.Packet]:
    """Silence."""
    stream.codec_context.open()
    size = stream.codec_context.frame_size
    for start in range(0, round(48000 * seconds), size):
        form = stream.codec_context.format.name
        kind = np.float32 if form.startswith("flt") else np.int16
        block = av.AudioFrame.from_ndarray(np.zeros((1, size), kind), format=form, layout="mono")
        block.sample_rate, block.pts, block.time_base = 48000, start, Fraction(1, 48000)
        yield from stream.encode(block)
    yield from stream.encode(None)


def boxes(data: bytes, start: int, end: int, kind: bytes) -> list[tuple[int, int]]:
    """Place and size of the boxes of this kind in a part of an MP4."""
    found = []
    while start < end:
        size = int.from_bytes(data[start : start + 4], "big")
        found += [(start, size)] if data[start + 4 : start + 8] == kind else []
        start += size
    return found


def with_edits(data: bytes, edits: Sequence[tuple[float, float | None]]) -> bytes:
    """An MP4, its index at the end, with another edit list.

    Args:
      data: the file.
      edits: `(seconds, second of the media from which they are shown)`; None shows nothing for as
        long.
    """
    data = bytearray(data)
    moov, moov_size = boxes(data, 0, len(data), b"moov")[0]
    scale = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)[0]
    media = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)[0]
    track, track_size = boxes(data, moov + 8, moov + moov_size, b"trak")[0]
    ((at, size),) = boxes(data, track + 8, track + track_size, b"edts")
    # the media's own list starts at the first picture, which B-frames move away from 0
    first = struct.unpack_from(">i", data, data.index(b"elst") + 16)[0]
    rows = [
        (round(s * scale), -1 if m is None else first + round(m * media), 1 << 16) for s, m in edits
    ]
    elst = struct.pack(">4s4xI", b"elst", len(rows)) + b"".join(
        struct.pack(">iiI", *row) for row in rows
    )
    edts = struct.pack(">I4sI", len(elst) + 12, b"edts", len(elst) + 4) + elst
    data[at : at + size] = edts
    for place, old in ((track, track_size), (moov, moov_size)):
        struct.pack_into(">I", data, place, old + len(edts) - size)
    return bytes(data)


def index_first(data: bytes) -> bytes:
    """The MP4 with its index before its data, as for the web."""
    data = bytearray(data)
    ((moov, size),) = boxes(data, 0, len(data), b"moov")
    ((media, _),) = boxes(data, 0, len(data), b"mdat")
    for track, length in boxes(data, moov + 8, moov + size, b"trak"):
        at = data.index(b"stco", track, track + length) + 8
        for i in range(struct.unpack_from(">I", data, at)[0]):
            place = at + 4 + 4 * i
            struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + size)
    return bytes(data[:media] + data[moov : moov + size] + data[media:moov] + data[moov + size :])


def stating(data: bytes, form: str, times: float) -> bytes:
    """The file with a header that says that it is so many times as long."""
    data = bytearray(data)
    if form == "avi":
        at = data.index(b"strh") + 8 + 32
        struct.pack_into("<I", data, at, round(times * struct.unpack_from("<I", data, at)[0]))
    else:
        at = data.index(b"duration") + 9 if form == "flv" else data.index(b"\x44\x89\x88") + 3
        struct.pack_into(">d", data, at, times * struct.unpack_from(">d", data, at)[0])
    return bytes(data)
