"""Small videos in many codecs: what can be planned from headers, and what is decoded in order."""

from fractions import Fraction

import av
import numpy as np

from vtd_jax.video.codec import headers

FRAMES, HEIGHT, WIDTH = 50, 64, 96
H264 = {"preset": "ultrafast", "bf": "3", "b_strategy": "0", "g": "250", "sc_threshold": "0"}


def moving(index: int) -> np.ndarray:
    """A picture of which every frame differs everywhere, with noise that does not compress away."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    noise = np.random.default_rng(index).integers(0, 40, (HEIGHT, WIDTH))
    waves = [127 + 80 * np.sin((x + 3 * index) / 9 + k) * np.cos((y - index) / 7) for k in range(3)]
    return (np.stack(waves, axis=-1) + noise[..., None]).clip(0, 255).astype(np.uint8)


def encode(path, codec, options=(), *, frames=FRAMES, times=None, pixels="yuv420p", change=None):
    """Writes a clip; `times` are the frames' timestamps, `change` turns the list of packets into
    another one.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=dict(options))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        packets = []
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(moving(i), "rgb24").reformat(format=pixels)
            frame.pts = i if times is None else times[i]
            frame.time_base = Fraction(1, 25)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        container.mux(change(packets) if change else packets)
    return path


def packed(packets):
    """MPEG-4 as DivX packs it: a B-VOP rides in the chunk of the VOP before, and a placeholder pays
    it back.
    """
    message = b"\0\0\1\xb2DivX503b1393p" + headers.GOV
    chunks, data = [], [bytes(packet).replace(headers.GOV, message) for packet in packets]
    is_b = [d[d.index(headers.VOP) + 4] >> 6 == 2 for d in data]
    i = 0
    while i < len(data):
        run = next((j for j in range(i + 1, len(data)) if not is_b[j]), len(data)) - i - 1
        if run:
            nothing = headers.VOP + bytes([0b01010000, 0b01001111])
            chunks += [data[i] + data[i + 1], *data[i + 2 : i + 1 + run], nothing]
        else:
            chunks.append(data[i])
        i += 1 + run
    out = []
    for i, chunk in enumerate(chunks):
        packet = av.Packet(chunk)
        packet.stream, packet.time_base, packet.pts, packet.dts = (
            packets[0].stream,
            packets[0].time_base,
            i,
            i,
        )
        packet.is_keyframe = packets[i].is_keyframe if i < len(packets) else False
        out.append(packet)
    return out


VARIED = np.cumsum(np.random.default_rng(0).integers(1, 6, FRAMES)).tolist()
SKIPPING = (np.arange(FRAMES) * 3 // 2).tolist()
PLANNED = {
    "h264.mp4": ("libx264", H264, {}),
    "no_b.mp4": ("libx264", {**H264, "bf": "0", "g": "10"}, {}),
    "baseline.mp4": ("libx264", {**H264, "bf": "0", "g": "12", "profile": "baseline"}, {}),
    "flat_b.mp4": ("libx264", {**H264, "b-pyramid": "none"}, {}),
    "strict_b.mp4": ("libx264", {**H264, "b-pyramid": "strict", "bf": "5"}, {}),
    "short.mp4": ("libx264", {**H264, "g": "7"}, {}),
    "open.mp4": ("libx264", {**H264, "g": "7", "x264-params": "open-gop=1"}, {}),
    "medium.mp4": ("libx264", {"preset": "medium", "bf": "4", "g": "20"}, {}),
    "refresh.mp4": ("libx264", {**H264, "x264-params": "intra-refresh=1", "g": "12"}, {}),
    "slices.mp4": ("libx264", {**H264, "slices": "3"}, {}),
    "temporal.mp4": (
        "libx264",
        {**H264, "direct-pred": "temporal", "weightb": "1", "refs": "4"},
        {},
    ),
    "varied.mp4": ("libx264", H264, {"times": VARIED}),
    "h264.mkv": ("libx264", H264, {}),
    "h264.mov": ("libx264", {**H264, "g": "9"}, {}),
    "mpeg4.avi": ("mpeg4", {"g": "12"}, {}),
    "mpeg4_b.avi": ("mpeg4", {"g": "12", "bf": "2"}, {}),
    "mpeg4_closed.avi": (
        "mpeg4",
        {"g": "12", "bf": "2", "flags": "cgop", "sc_threshold": "1000000000"},
        {},
    ),
    "mpeg4_b.mp4": ("mpeg4", {"g": "15", "bf": "3"}, {}),
    "repeats.avi": ("mpeg4", {"g": "12"}, {"times": SKIPPING}),
    "packed.avi": ("mpeg4", {"g": "12", "bf": "2"}, {"change": packed}),
    "one.mp4": ("libx264", H264, {"frames": 1}),
}
IN_ORDER = {
    "interlaced.mp4": ("libx264", {**H264, "x264-params": "interlaced=1"}, {}),
    "h264.ts": ("libx264", H264, {}),
    "h264.avi": ("libx264", {**H264, "bf": "0"}, {}),
    "hevc.mp4": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=none"}, {}),
    "hidden.webm": (
        "libvpx-vp9",
        {"cpu-used": "8", "auto-alt-ref": "1", "lag-in-frames": "16", "g": "20"},
        {},
    ),
    "vp8.webm": ("libvpx", {"cpu-used": "8", "auto-alt-ref": "1", "lag-in-frames": "16"}, {}),
    "mjpeg.avi": ("mjpeg", {}, {"pixels": "yuvj420p"}),
    "animated.gif": ("gif", {}, {"pixels": "rgb8"}),
    "one.webm": ("libvpx-vp9", {"cpu-used": "8"}, {"frames": 1}),
}
