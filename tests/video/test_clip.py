import av
import numpy as np
import pytest

from support.video_files import frame_number, make_video, picture
from vtd_jax.errors import UserError
from vtd_jax.video import decode, sampling
from vtd_jax.video.augment import spatial_views
from vtd_jax.video.clip import frames_at, read_clip
from vtd_jax.video.clips.arguments import as_videos
from vtd_jax.video.decode import VideoError


def expected(path, frames, size):
    """What evaluation makes of a file."""
    count = decode.probe(path).frames
    images = decode.decode_frames(path, sampling.test_indices(count, frames))
    return spatial_views(images, size, 1)[0]


def timed_video(path, times, rate=30):
    """A file of variable frame rate: picture i is shown from `times[i]` (in 1/30 s) on."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(index, 48, 64), "rgb24")
            frame.pts, frame.time_base = time, stream.codec_context.time_base or av.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("ending", ["mp4", "avi", "webm"])
@pytest.mark.parametrize("frames", [1, 4, 16])
def test_a_clip_is_what_evaluation_sees(tmp_path, ending, frames):
    path = make_video(tmp_path / f"one.{ending}", 30)
    clip = read_clip(path, frames, 32)
    np.testing.assert_array_equal(clip.frames, expected(path, frames, 32))
    assert clip.total == 30
    assert clip.indices.tolist() == sampling.test_indices(30, frames).tolist()
    np.testing.assert_allclose(clip.seconds, clip.indices / 25, atol=2e-3)
    assert clip.duration == pytest.approx(1.2, abs=0.05)
    assert clip.name == str(path)


def test_a_container_that_states_another_number_of_frames_is_read_again(tmp_path, monkeypatch):
    path = make_video(tmp_path / "one.mp4", 30)
    right = expected(path, 4, 32)
    for stated in (1, 7, 29, 60):
        monkeypatch.setattr(decode.Reader, "expected_frames", lambda _self, stated=stated: stated)
        clip = read_clip(path, 4, 32)
        np.testing.assert_array_equal(clip.frames, right)
        assert clip.total == 30


def test_frames_repeat_where_a_video_has_fewer(tmp_path):
    clip = read_clip(make_video(tmp_path / "one.mp4", 3), 8, 32)
    assert clip.indices.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert clip.frames.shape == (8, 32, 32, 3)


def test_a_video_of_one_frame(tmp_path):
    clip = read_clip(make_video(tmp_path / "one.mp4", 1), 4, 32)
    assert clip.total == 1
    assert (clip.frames == clip.frames[0]).all()
    moments = list(frames_at(tmp_path / "one.mp4", 1.0, 32))
    assert [moment.index for moment in moments] == [0]


def test_a_gif_with_frames_of_different_lengths(tmp_path):
    path = tmp_path / "one.gif"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("gif", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb8"
        for index in range(6):
            frame = av.VideoFrame.from_ndarray(picture(10 * index, 48, 64), "rgb24").reformat(
                format="rgb8"
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    clip = read_clip(path, 3, 32)
    assert clip.total == 6
    assert [round(frame_number(frame) / 10) for frame in clip.frames] == [1, 3, 5]


def test_a_rotated_phone_video_is_seen_upright(tmp_path):
    plain = make_video(tmp_path / "plain.mp4", 8)
    turned = tmp_path / "turned.mp4"
    data = bytearray(plain.read_bytes())
    # the track's matrix, whose first numbers are 1 and 0: as phones write it for a quarter turn
    at = data.index(b"tkhd") + 4 + 40
    identity = np.array([1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30], ">i4").tobytes()
    assert data[at : at + 36] == identity
    data[at : at + 36] = np.array(
        [0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30], ">i4"
    ).tobytes()
    turned.write_bytes(data)
    assert decode.probe(turned).width == 48
    upright, lying = read_clip(turned, 2, 32).frames, read_clip(plain, 2, 32).frames
    # red is on the left as the frames are stored, which is above as they are shown
    assert int(upright[0, 4, 16, 0]) > int(upright[0, -4, 16, 0]) + 200
    assert int(lying[0, 16, 4, 0]) > int(lying[0, 16, -4, 0]) + 200


def test_moments_of_a_steady_video_are_the_segments_centres(tmp_path):
    path = make_video(tmp_path / "one.mp4", 50)
    moments = list(frames_at(path, 2.0 / 8, 32))
    clip = read_clip(path, 8, 32)
    assert [moment.index for moment in moments] == clip.indices.tolist()
    np.testing.assert_array_equal(np.stack([moment.image for moment in moments]), clip.frames)
    np.testing.assert_allclose([moment.seconds for moment in moments], (np.arange(8) + 0.5) / 4)


def test_at_a_variable_rate_a_frame_is_shown_until_the_next(tmp_path):
    # shown from 0, 0.1, 0.2, then 3.0 s on
    path = timed_video(tmp_path / "one.mp4", [0, 3, 6, 90, 93])
    moments = list(frames_at(path, 1.0, 32))
    assert [moment.index for moment in moments] == [2, 2, 2]
    clip = read_clip(path, 5, 32)
    np.testing.assert_allclose(clip.seconds, [0, 0.1, 0.2, 3.0, 3.1], atol=1e-3)


def test_moments_of_a_video_that_breaks_off(tmp_path):
    path = make_video(tmp_path / "one.avi", 50)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    moments = frames_at(path, 0.2, 32)
    assert next(moments).index == 2
    with pytest.raises(VideoError, match="truncated or damaged"):
        list(moments)


def test_frames_in_memory():
    video = np.random.default_rng(0).integers(0, 256, (10, 40, 60, 3), np.uint8)
    clip = read_clip(video, 4, 32)
    np.testing.assert_array_equal(
        clip.frames, spatial_views(video[sampling.test_indices(10, 4)], 32, 1)[0]
    )
    assert (clip.name, clip.seconds, clip.duration, clip.total) == ("frames", None, None, 10)
    clip = read_clip(video, 4, 32, fps=5)
    assert clip.duration == 2
    np.testing.assert_allclose(clip.seconds, clip.indices / 5)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 8, 8, 3), np.float32),
        np.zeros((0, 8, 8, 3), np.uint8),
        np.zeros((2, 8, 8, 4), np.uint8),
    ],
    ids=["float", "none", "alpha"],
)
def test_other_arrays_are_refused(array):
    with pytest.raises(UserError, match="expected uint8 RGB frames"):
        read_clip(array, 4, 32)


def test_arguments_that_are_no_videos_are_refused():
    assert as_videos("a.mp4") == (["a.mp4"], True)
    assert as_videos(["a.mp4", "b.mp4"])[1] is False
    for wrong in (3, np.zeros((8, 8, 3), np.uint8), [3], {"a.mp4"}):
        with pytest.raises(UserError, match=r"^video: an? "):
            as_videos(wrong)
    with pytest.raises(UserError, match="fps=0"):
        read_clip(np.zeros((2, 8, 8, 3), np.uint8), 2, 8, fps=0)
    with pytest.raises(UserError, match="frames=0"):
        read_clip(np.zeros((2, 8, 8, 3), np.uint8), 0, 8)
