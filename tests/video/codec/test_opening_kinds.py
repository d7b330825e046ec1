"""Containers and codecs that are read, and of several streams the one that is shown."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from support.video_files import encode, make_audio, make_video, picture
from vtd_jax.predict import serve_example
from vtd_jax.video.clip import frames_at, read_clip
from vtd_jax.video.codec import opening
from vtd_jax.video.decode import VideoError, decode_frames, header, probe


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> tuple[Path, Path]:
    """Two clips of different length."""
    folder = tmp_path_factory.mktemp("two")
    return make_video(folder / "mine.mp4", 5), make_video(folder / "other.mp4", 3, width=32)


# container, codec and pixels; what was read before the list must stay
KINDS = {
    "mp4": ("mp4", "libx264", "yuv420p"),
    "fragments": ("mp4", "libx264", "yuv420p"),
    "mov": ("mov", "mjpeg", "yuvj420p"),
    "3gp": ("3gp", "mpeg4", "yuv420p"),
    "matroska": ("matroska", "libx264", "yuv420p"),
    "webm": ("webm", "libvpx", "yuv420p"),
    "avi": ("avi", "mpeg4", "yuv420p"),
    "transport stream": ("mpegts", "mpeg2video", "yuv420p"),
    "program stream": ("mpeg", "mpeg1video", "yuv420p"),
    "DVD": ("vob", "mpeg2video", "yuv420p"),
    "flash": ("flv", "flv1", "yuv420p"),
    "windows": ("asf", "wmv2", "yuv420p"),
    "ogg": ("ogg", "libvpx", "yuv420p"),
    "mxf": ("mxf", "mpeg2video", "yuv420p"),
    "nut": ("nut", "mpeg4", "yuv420p"),
    "gif": ("gif", "gif", "rgb8"),
    "apng": ("apng", "apng", "rgb24"),
    "raw h264": ("h264", "libx264", "yuv420p"),
    "raw mpeg-2": ("mpeg2video", "mpeg2video", "yuv420p"),
    "raw mpeg-4": ("m4v", "mpeg4", "yuv420p"),
    "raw jpegs": ("mjpeg", "mjpeg", "yuvj420p"),
    "uncompressed": ("yuv4mpegpipe", "rawvideo", "yuv420p"),
    "ivf": ("ivf", "libvpx", "yuv420p"),
    "one picture": ("image2pipe", "png", "rgb24"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_read_is_read(kind, tmp_path):
    file, (form, codec, pixels) = io.BytesIO(), KINDS[kind]
    options = {"movflags": "frag_keyframe+empty_moov"} if kind == "fragments" else {}
    frames = 1 if kind == "one picture" else 8
    with av.open(file, "w", format=form, options=options) as container:
        stream = container.add_stream("flv" if codec == "flv1" else codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        encode(container, stream, (picture(i, 48, 64) for i in range(frames)))
    path = tmp_path / "no ending"
    path.write_bytes(file.getvalue())
    found = decode_frames(path, range(frames))
    np.testing.assert_array_equal(found, decode_frames(file.getvalue(), range(frames)))
    assert np.abs(found[-1].astype(int) - picture(frames - 1, 48, 64)).mean() < 25
    np.testing.assert_array_equal(
        serve_example.read_clip(path, 2, 32), read_clip(path, 2, 32).frames
    )


def test_one_list_of_containers():
    assert serve_example.FORMATS == opening.FORMATS
    known = {name for form in av.formats_available for name in form.split(",")}
    # a rare format may be newer than the oldest PyAV
    assert len([name for name in opening.FORMATS.split(",") if name not in known]) < 4


def write_two(path: Path, preview: tuple[str, int], flags: tuple, form: str | None = None) -> Path:
    """A preview of 32 × 32 first, and a film of 10 frames of 64 × 48 second."""
    with av.open(str(path), "w", format=form) as container:
        first, second = (container.add_stream(codec, rate=25) for codec in (preview[0], "libx264"))
        first.width, first.height, first.pix_fmt = (
            32,
            32,
            "yuvj420p" if preview[0] == "mjpeg" else "yuv420p",
        )
        second.width, second.height, second.pix_fmt = 64, 48, "yuv420p"
        for stream, flag in zip((first, second), flags):
            if flag is not None:
                stream.disposition = flag.value
        container.start_encoding()
        encode(container, first, (np.full((32, 32, 3), 255, np.uint8) for _ in range(preview[1])))
        encode(container, second, (picture(i, 48, 64) for i in range(10)))
    return path


@pytest.mark.parametrize("preview", [("mjpeg", 1), ("libx264", 10), ("libx264", 20)], ids=str)
@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
def test_of_two_videos_the_default_is_shown(preview, ending, tmp_path):
    path = write_two(tmp_path / f"two{ending}", preview, (None, Disposition.default))
    info = probe(path)
    assert (info.frames, info.width, info.height) == (10, 64, 48)
    for source in (path, path.read_bytes()):
        frames = decode_frames(source, range(10))
        assert np.abs(frames[9].astype(int) - picture(9, 48, 64)).mean() < 15
        np.testing.assert_array_equal(decode_frames(source, range(10), known_frames=10), frames)
        assert header(source)[1:] == (48, 64)
    np.testing.assert_array_equal(
        serve_example.read_clip(path, 3, 32), read_clip(path, 3, 32).frames
    )
    np.testing.assert_array_equal(
        read_clip(path, 10, 32).frames[9], list(frames_at(path, 0.04, 32))[9].image
    )
    # and the other way round
    path = write_two(tmp_path / f"other{ending}", preview, (Disposition.default, None))
    assert (probe(path).width, probe(path).frames) == (32, preview[1])


def test_a_cover_is_not_the_video(tmp_path):
    path = write_two(tmp_path / "cover.mp4", ("mjpeg", 1), (Disposition.attached_pic, None))
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2
    assert (probe(path).frames, probe(path).width) == (10, 64)
    np.testing.assert_array_equal(
        serve_example.read_clip(path, 3, 32), read_clip(path, 3, 32).frames
    )


@pytest.mark.skipif(
    not hasattr(av.container.OutputContainer, "add_attachment"),
    reason="needs a newer PyAV to write it",
)
@pytest.mark.parametrize("films", [1, 2])
def test_what_ffmpeg_thinks_best_may_be_a_cover(films, tmp_path):
    """A film for those who see little, with a cover: the cover has no such mark."""
    cover = io.BytesIO()
    with av.open(cover, "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 96, "yuvj420p"
        encode(container, stream, [np.zeros((96, 96, 3), np.uint8)])
    path = tmp_path / "x.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=25) for _ in range(films)]
        for scale, stream in enumerate(streams, 1):
            stream.width, stream.height, stream.pix_fmt = 64 * scale, 48 * scale, "yuv420p"
            stream.disposition = Disposition.visual_impaired.value
        container.add_attachment("cover.jpg", "image/jpeg", cover.getvalue())
        container.start_encoding()
        for scale, stream in enumerate(streams, 1):
            encode(container, stream, (picture(i, 48 * scale, 64 * scale) for i in range(4)))
    with av.open(str(path)) as container:
        assert container.streams.best("video").disposition & Disposition.attached_pic
    assert (probe(path).frames, probe(path).width) == (4, 64 * films)
    np.testing.assert_array_equal(
        serve_example.read_clip(path, 3, 32), read_clip(path, 3, 32).frames
    )


def test_sound_with_a_cover_says_so(tmp_path):
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=16000)
        cover = container.add_stream("mjpeg", rate=25)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = Disposition.attached_pic.value
        block = av.AudioFrame.from_ndarray(
            np.zeros((1, 16000), np.float32), format="fltp", layout="mono"
        )
        block.sample_rate = 16000
        container.start_encoding()
        container.mux(sound.encode(block))
        encode(container, cover, [np.zeros((32, 32, 3), np.uint8)])
        container.mux(sound.encode(None))
    for source in (path, path.read_bytes()):
        with pytest.raises(
            VideoError,
            match=r"no video stream \(it holds a cover picture, audio\); a cover is no video$",
        ):
            probe(source)
    with pytest.raises(VideoError, match=r"no video stream \(it holds audio\); is it whole\?$"):
        probe(make_audio(tmp_path / "sound.m4a"))
    with pytest.raises(ValueError, match="no video in it"):
        serve_example.read_clip(path, 1, 32)
