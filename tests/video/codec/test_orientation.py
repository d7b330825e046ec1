"""Display matrices: turned and mirrored as ffmpeg's autorotate does, wherever frames are read."""

import io
import shutil
import struct
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg
from av.bitstream import BitStreamFilterContext

from support.video_files import make_video, picture
from vtd_jax.predict import serve_example
from vtd_jax.video.clip import frames_at, read_clip
from vtd_jax.video.codec.orientation import Orientation, from_matrix
from vtd_jax.video.decode import decode_frames, header, probe, scan
from vtd_jax.video.ingest.encode import encode_video
from vtd_jax.video.lists.catalog import Entry
from vtd_jax.video.records import Example

HEIGHT, WIDTH = 48, 64
SHOWN = {
    "as stored": ((1, 0, 0, 1), lambda b: b),
    "hflip": ((-1, 0, 0, 1), lambda b: b[:, ::-1]),
    "vflip": ((1, 0, 0, -1), lambda b: b[::-1]),
    "transpose": ((0, 1, 1, 0), lambda b: b.transpose(1, 0, 2)),
    "transverse": ((0, -1, -1, 0), lambda b: np.rot90(b, 2).transpose(1, 0, 2)),
    "clockwise": ((0, 1, -1, 0), lambda b: np.rot90(b, -1)),
    "half a turn": ((-1, 0, 0, -1), lambda b: np.rot90(b, 2)),
    "counter-clockwise": ((0, -1, 1, 0), lambda b: np.rot90(b, 1)),
    "larger": ((2, 0, 0, 2), lambda b: b),
    "flat": ((0, 0, 0, 1), lambda b: b),
}


def turn(degrees: float, mirror: int = 1) -> tuple[float, ...]:
    """A matrix that turns clockwise."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return c, s, -s * mirror, c * mirror


# half a degree is as near as ffmpeg wants it
NEAR = {
    "89.6": (turn(89.6), SHOWN["clockwise"][1]),
    "90.4": (turn(90.4), SHOWN["clockwise"][1]),
    "0.4": (turn(0.4), SHOWN["as stored"][1]),
    "1.4": (turn(1.4), SHOWN["as stored"][1]),
    "1.4 mirrored": (turn(1.4, -1), SHOWN["as stored"][1]),
    "359.6": (turn(359.6), SHOWN["as stored"][1]),
    "180.4": (turn(180.4), SHOWN["half a turn"][1]),
    "269.6": (turn(269.6), SHOWN["counter-clockwise"][1]),
    "90.4 mirrored": (turn(90.4, -1), SHOWN["transpose"][1]),
    "179.7 mirrored": (turn(179.7, -1), SHOWN["hflip"][1]),
}


def with_matrix(data: bytes, a: float, b: float, c: float, d: float) -> bytes:
    """Puts a display matrix into the track header of an mp4."""
    data, place = bytearray(data), data.index(b"tkhd") + 44
    numbers = [round(n * (1 << 16)) for n in (a, b, 0, c, d, 0, 0, 0)]
    data[place : place + 36] = struct.pack(">9i", *numbers, 1 << 30)
    return bytes(data)


def lopsided(index: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A picture that no turn or mirror leaves as it is."""
    image = picture(index, height, width)
    image[: height // 4, : width // 4] = 255
    image[-height // 4 :, : width // 2] //= 2
    return image


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> bytes:
    """A clip of 6 frames without a matrix."""
    path = tmp_path_factory.mktemp("plain") / "plain.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(6):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(lopsided(index), "rgb24")))
        container.mux(stream.encode(None))
    return path.read_bytes()


@pytest.fixture(scope="module")
def mirrored(plain, tmp_path_factory) -> Path:
    """A folder with the clip under every right-angled matrix."""
    folder = tmp_path_factory.mktemp("mirrored")
    for name, (matrix, _) in SHOWN.items():
        (folder / f"{name}.mp4").write_bytes(with_matrix(plain, *matrix))
    return folder


@pytest.mark.parametrize("name", [*SHOWN, *NEAR])
def test_frames_are_turned_and_mirrored(plain, name):
    matrix, shown = (SHOWN | NEAR)[name]
    data = with_matrix(plain, *matrix)
    stored = decode_frames(plain, range(6))
    expected = np.stack([shown(image) for image in stored])
    np.testing.assert_array_equal(decode_frames(data, range(6)), expected)
    np.testing.assert_array_equal(decode_frames(data, range(6), known_frames=6), expected)
    np.testing.assert_array_equal(np.stack([image for _, image in scan(data)]), expected)
    info = probe(data)
    assert (info.height, info.width) == header(data)[1:] == expected.shape[1:3]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg command")
@pytest.mark.parametrize("name", [*SHOWN, *NEAR, "30", "135", "200 mirrored"])
def test_as_the_ffmpeg_command_shows_it(plain, name, tmp_path):
    odd = {"30": turn(30), "135": turn(135), "200 mirrored": turn(200, -1)}
    data = with_matrix(plain, *(odd[name] if name in odd else (SHOWN | NEAR)[name][0]))
    (tmp_path / "x.mp4").write_bytes(data)
    flags = ["-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    call = ["ffmpeg", "-v", "error", "-i", "x.mp4", *flags, "-sws_flags", "accurate_rnd", "-"]
    theirs = subprocess.run(call, cwd=tmp_path, capture_output=True, check=True).stdout
    ours = decode_frames(data, [0])[0]
    theirs = np.frombuffer(theirs, np.uint8).reshape(-1, header(data)[2], 3)
    assert theirs.shape == ours.shape
    # another FFmpeg may convert colours otherwise
    assert np.abs(theirs.astype(int) - ours).mean() < 2


def test_matrices_in_numbers():
    assert from_matrix((0,) * 9) == Orientation()
    assert from_matrix((1, 0, 0, 0, 0, 0, 0, 0, 1)) == Orientation()
    for degrees, angle in ((1.6, 2), (91, 91), (-1, 359), (179.4, 179), (30.4, 30)):
        m = [round(n * (1 << 16)) for n in turn(degrees)]
        assert from_matrix((m[0], m[1], 0, m[2], m[3], 0, 0, 0, 1 << 30)) == Orientation(
            angle=angle
        )


@pytest.mark.parametrize("name", SHOWN)
def test_records_hold_what_is_shown(mirrored, name):
    path = mirrored / f"{name}.mp4"
    expected = np.stack(
        [SHOWN[name][1](image) for image in decode_frames(mirrored / "as stored.mp4", [0, 5])]
    )
    record = encode_video(Entry(path.name, 0, 1), path, "jpeg")
    frames = np.stack([simplejpeg.decode_jpeg(record["frames"][i]) for i in (0, 5)])
    assert np.abs(frames.astype(int) - expected).mean() < 5
    assert (record["height"], record["width"]) == frames.shape[1:3] == expected.shape[1:3]
    record = encode_video(Entry(path.name, 0, 1), path, "video")
    frames = Example(path.name, 0, 6, record, path.name).frames(np.array([0, 5]))
    np.testing.assert_array_equal(frames, expected)
    assert (record["height"], record["width"]) == expected.shape[1:3]


@pytest.mark.parametrize("name", SHOWN)
def test_predict_timeline_and_served_see_what_is_shown(mirrored, name, tmp_path):
    stored, shown = decode_frames(mirrored / "as stored.mp4", range(6)), SHOWN[name][1]
    # the same picture without a matrix, losslessly
    with av.open(str(tmp_path / "lossless.mkv"), "w") as container:
        stream = container.add_stream("libx264rgb", rate=25, options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = *shown(stored[0]).shape[:2], "rgb24"
        for image in stored:
            container.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(np.ascontiguousarray(shown(image)), "rgb24")
                )
            )
        container.mux(stream.encode(None))
    path = mirrored / f"{name}.mp4"
    expected = read_clip(tmp_path / "lossless.mkv", 3, 32).frames
    np.testing.assert_array_equal(read_clip(path, 3, 32).frames, expected)
    np.testing.assert_array_equal(serve_example.read_clip(path, 3, 32), expected)
    np.testing.assert_array_equal(np.stack([f.image for f in frames_at(path, 0.08, 32)]), expected)


def test_odd_angles_are_served_the_same(plain, tmp_path):
    path = tmp_path / "odd.mp4"
    path.write_bytes(with_matrix(plain, *turn(30)))
    np.testing.assert_array_equal(
        serve_example.read_clip(path, 2, 32), read_clip(path, 2, 32).frames
    )


BY_NUMBER = "as stored,hflip,half a turn,vflip,transpose,clockwise,transverse,counter-clockwise"


@pytest.mark.parametrize(("number", "name"), list(enumerate(BY_NUMBER.split(","), 1)))
def test_cameras_that_write_the_orientation_into_each_jpeg(number, name, tmp_path):
    """Some PyAV cannot name the side data beside it (EXIF), and lists none then."""
    data = io.BytesIO()
    with av.open(data, "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        for index in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(lopsided(index), "rgb24")))
        container.mux(stream.encode(None))
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x112, 3, 1, number, 0, 0)
    tagged = data.getvalue().replace(
        b"\xff\xd8", b"\xff\xd8\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif
    )
    expected = SHOWN[name][1](decode_frames(data.getvalue(), [1])[0])
    np.testing.assert_array_equal(decode_frames(tagged, [1])[0], expected)
    (tmp_path / "x.mjpeg").write_bytes(tagged)
    np.testing.assert_array_equal(
        serve_example.read_clip(tmp_path / "x.mjpeg", 1, 32),
        read_clip(tmp_path / "x.mjpeg", 1, 32).frames,
    )


def test_a_matrix_in_the_stream_itself(tmp_path):
    """H.264 can say it in each picture's messages, without a container."""
    path = make_video(tmp_path / "x.mp4", 1)
    with av.open(str(path)) as container, (tmp_path / "x.h264").open("wb") as out:
        stream = container.streams.video[0]
        chain = BitStreamFilterContext(
            "h264_mp4toannexb,h264_metadata=display_orientation=insert:flip=horizontal", stream
        )
        packets = [packet for packet in container.demux(stream) if packet.size]
        for packet in [*packets, None]:
            out.writelines(bytes(part) for part in chain.filter(packet))
    expected = decode_frames(path, [0])[:, :, ::-1]
    np.testing.assert_array_equal(decode_frames(tmp_path / "x.h264", [0]), expected)
