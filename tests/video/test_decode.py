"""Decoding: the right frames in the right order and orientation, and one line for every kind of bad
file.
"""

import struct

import av
import numpy as np
import pytest

from support.video_files import frame_number, make_audio, make_video, picture
from vtd_jax.errors import UserError
from vtd_jax.video import decode
from vtd_jax.video.decode import VideoError, decode_frames, header, probe, scan


@pytest.mark.parametrize(
    ("file", "frames", "codec"),
    [("one.mp4", 40, "h264"), ("two.avi", 50, "mpeg4"), ("three.webm", 45, "vp9")],
)
def test_probe_counts_what_decodes(clips, file, frames, codec):
    info = probe(clips / file)
    assert (info.frames, info.width, info.height, info.codec) == (frames, 64, 48, codec)
    assert info.fps == 25
    assert info.duration == pytest.approx(frames / 25, abs=0.01)
    assert probe((clips / file).read_bytes()) == info


@pytest.mark.parametrize("file", ["one.mp4", "two.avi", "three.webm"])
def test_frames_come_as_asked(clips, file):
    wanted = [30, 3, 3, 17, 39]
    frames = decode_frames(clips / file, wanted)
    assert frames.shape == (5, 48, 64, 3)
    assert frames.dtype == np.uint8
    assert [frame_number(image) for image in frames] == wanted
    difference = np.abs(frames[3].astype(int) - picture(17, 48, 64))
    assert difference[:, :24].mean() < 6  # colours are RGB, not BGR; the edge in the middle blurs


def test_scan_and_decode_agree_and_bytes_equal_files(clips):
    images = dict(scan(clips / "one.mp4", [2, 5]))
    assert list(images) == [2, 5]
    assert np.array_equal(
        decode_frames((clips / "one.mp4").read_bytes(), [2, 5]), np.stack(list(images.values()))
    )
    assert len(dict(scan(clips / "one.mp4"))) == 40


def test_frames_that_are_not_wanted_are_not_converted(clips, monkeypatch):
    count, plain = [], decode._image
    monkeypatch.setattr(decode, "_image", lambda *args: count.append(1) or plain(*args))
    decode_frames(clips / "one.mp4", [4, 9, 4])
    assert len(count) == 2
    probe(clips / "one.mp4")
    assert len(count) == 2


def test_short_side_scales_both_ways(clips):
    assert decode_frames(clips / "one.mp4", [0], short_side=24).shape == (1, 24, 32, 3)
    assert decode_frames(clips / "a b.mp4", [0], short_side=96).shape == (1, 128, 96, 3)
    assert decode_frames(clips / "wide.mp4", [0], short_side=20).shape == (1, 20, 60, 3)


def with_rotation(data: bytes, a: int, b: int, c: int, d: int) -> bytes:
    """Puts a display matrix into an mp4's track header, as phones do."""
    data, place = bytearray(data), data.index(b"tkhd") + 44
    one = 1 << 16
    data[place : place + 36] = struct.pack(
        ">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30
    )
    return bytes(data)


@pytest.mark.parametrize(
    ("matrix", "turns"),
    [((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1), ((1, 0, 0, 1), 0)],
)
def test_rotation_is_honoured(clips, matrix, turns):
    data = (clips / "one.mp4").read_bytes()
    plain = decode_frames(data, [0])[0]
    turned = decode_frames(with_rotation(data, *matrix), [0])[0]
    assert np.array_equal(turned, np.rot90(plain, turns))
    assert np.array_equal(
        decode_frames(with_rotation(data, *matrix), [0], known_frames=40)[0], turned
    )
    info = probe(with_rotation(data, *matrix))
    assert (info.height, info.width) == turned.shape[:2]


def test_first_video_stream_is_taken_and_sound_ignored(tmp_path):
    path = tmp_path / "both.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16000)
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        block = av.AudioFrame.from_ndarray(
            np.zeros((1, 32000), np.float32), format="fltp", layout="mono"
        )
        block.sample_rate = 16000
        container.mux(sound.encode(block))
        for i in range(10):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture(i, 48, 64), "rgb24")))
        container.mux(sound.encode(None))
        container.mux(video.encode(None))
    # sound lasts for 2 s, pictures for 0.4 s: that is no damage
    assert probe(path).frames == 10


@pytest.mark.parametrize("share", [0.2, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("file", ["one.mp4", "two.avi", "three.webm"])
def test_truncated_files_are_found(clips, file, share):
    data = (clips / file).read_bytes()
    with pytest.raises(VideoError, match=r"truncated|is it whole"):
        probe(data[: int(share * len(data))], file)


@pytest.mark.parametrize("share", [0.4, 0.6, 0.9])
def test_truncated_mp4_with_its_index_in_front(tmp_path, share):
    path = make_video(tmp_path / "fast.mp4", 40, movflags="faststart")
    data = path.read_bytes()
    start = data.index(b"mdat")
    cut = start + int(share * (len(data) - start))
    with pytest.raises(VideoError, match="truncated"):
        probe(data[:cut])
    assert probe(data).frames == 40


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_avi_with_its_index_but_without_all_its_pictures(clips, share):
    data = (clips / "two.avi").read_bytes()
    start, index = data.index(b"movi"), data.rindex(b"idx1")
    cut = start + int(share * (index - start))
    for gap in (b"", bytes(index - cut)):
        with pytest.raises(VideoError, match=r"only \d+ of \d+ frames decode"):
            probe(data[:cut] + gap + data[index:])


def test_webm_that_does_not_know_its_length(tmp_path):
    path = make_video(tmp_path / "live.webm", 45, live="1")
    with av.open(str(path)) as container:
        assert container.duration is None
    info = probe(path)
    assert (info.frames, info.duration) == (45, pytest.approx(1.8))
    assert header(path)[0] == 0
    # nothing in the file says that there was more
    assert 10 < probe(path.read_bytes()[: path.stat().st_size // 2]).frames < 45


def test_what_a_file_that_lacks_little_keeps(clips):
    """Two frames short is no reason to refuse a video."""
    data = (clips / "three.webm").read_bytes()
    assert probe(data[:-60]).frames in range(43, 46)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("empty.mp4", b"", r"the file is empty \(0 bytes\)"),
        ("text.mp4", b"this is not a video\n" * 50, "not a video file"),
        (
            "noise.avi",
            bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8)),
            "not a video file",
        ),
    ],
)
def test_files_that_are_no_videos(tmp_path, name, data, words):
    path = tmp_path / name
    path.write_bytes(data)
    for source in (path, data):
        with pytest.raises(VideoError, match=words) as error:
            probe(source, "clip")
        assert str(error.value).startswith("clip: ")
    assert "\n" not in str(error.value)


def test_missing_file_folder_and_sound(tmp_path):
    with pytest.raises(VideoError, match="there is no such video file"):
        probe(tmp_path / "none.mp4")
    with pytest.raises(VideoError, match="a folder, expected a video file"):
        probe(tmp_path)
    with pytest.raises(VideoError, match=r"no video stream \(it holds audio\)"):
        probe(make_audio(tmp_path / "sound.mp4"))


def test_a_file_that_may_not_be_read_is_not_called_damaged(clips, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(decode.av, "open", refuse)
    with pytest.raises(VideoError, match=r"permission denied.; check the file's permissions"):
        probe(clips / "one.mp4")


def test_zero_frames(tmp_path):
    path = tmp_path / "none.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    with pytest.raises(VideoError, match="no frame decodes"):
        probe(path)


def test_indices_beyond_the_end_or_none(clips):
    with pytest.raises(VideoError, match="frame 40 is wanted, but only 40 frames decode"):
        decode_frames(clips / "one.mp4", [0, 40])
    for indices in ([], [-1]):
        with pytest.raises(UserError, match="expected one or more frame indices"):
            decode_frames(clips / "one.mp4", indices)


def test_random_damage_is_reported_or_decoded(clips):
    """Bytes flipped anywhere: frames or one line, never another exception."""
    rng = np.random.default_rng(0)
    message = 0
    for file in ("one.mp4", "two.avi", "three.webm"):
        data = np.frombuffer((clips / file).read_bytes(), np.uint8)
        for _ in range(15):
            damaged = data.copy()
            places = rng.integers(len(data), size=20)
            damaged[places] = rng.integers(0, 256, 20)
            try:
                assert probe(damaged.tobytes()).frames > 0
            except VideoError:
                message += 1
    assert message > 0


def test_header_reads_sizes_without_decoding(clips):
    assert header(clips / "one.mp4") == (40, 48, 64)
    assert header(clips / "three.webm") == (45, 48, 64)
    with pytest.raises(VideoError):
        header(clips / "none.mp4")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "frames", "size"),
    [
        ("animatronic_dinosaur.mp4", 151, (454, 480)),
        ("applying_makeup.avi", 164, (320, 240)),
        ("arm_wrestling.mp4", 280, (340, 256)),
        ("hugging.mp4", 72, (1920, 1080)),
        ("playing_basketball.mp4", 300, (426, 240)),
    ],
)
def test_real_clips_are_whole(shared_dir, file, frames, size):
    info = probe(shared_dir / "videos" / file)
    assert (info.frames, (info.width, info.height)) == (frames, size)
