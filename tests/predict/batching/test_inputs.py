"""What calls take: a video, a list, a folder, a glob, an iterator."""

import collections

import numpy as np
import pytest

from support.small_model import LABELS
from support.video_files import make_video
from vtd_jax.errors import UserError
from vtd_jax.predict.job import Failure
from vtd_jax.predict.results import Explanation, Prediction
from vtd_jax.video.decode import VideoError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three videos of several sizes in a folder, one of them deeper, beside a text."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "deep").mkdir()
    make_video(folder / "a.mp4", 9)
    make_video(folder / "b.avi", 5, width=48, height=64)
    make_video(folder / "deep" / "c.mp4", 1, width=96, height=32)
    (folder / "notes.txt").write_text("no video")
    return folder


def names(results) -> list[str]:
    return [result.video.rpartition("/")[2] for result in results]


def test_a_folder_and_a_glob_give_lists(learnt, folder):
    assert names(learnt.predict(folder, LABELS)) == ["a.mp4", "b.avi", "c.mp4"]
    assert names(learnt.predict(str(folder), LABELS)) == ["a.mp4", "b.avi", "c.mp4"]
    found = learnt.explain(f"{folder}/**/*.mp4", LABELS)
    assert isinstance(found, list)
    assert all(isinstance(one, Explanation) for one in found)
    assert names(found) == ["a.mp4", "c.mp4"]
    assert names(learnt.stream(folder, LABELS)) == ["a.mp4", "b.avi", "c.mp4"]
    assert len(list(learnt.encode_videos(folder))) == 3


def test_one_video_gives_one_result(learnt, folder, noise):
    for one in (folder / "a.mp4", str(folder / "a.mp4"), noise):
        assert isinstance(learnt.predict(one, LABELS), Prediction)
        assert len(list(learnt.stream(one, LABELS))) == 1
    # a file may have a name that looks like a glob
    (folder / "deep" / "[1].mp4").write_bytes((folder / "a.mp4").read_bytes())
    found = learnt.predict(folder / "deep" / "[1].mp4", LABELS)
    (folder / "deep" / "[1].mp4").unlink()
    assert isinstance(found, Prediction)


def test_an_iterator_gives_an_iterator(learnt, folder, noise):
    drawn = []

    def videos():
        for number in range(50):
            drawn.append(number)
            yield noise if number % 2 else folder / "a.mp4"

    results = learnt.predict(videos(), LABELS, batch_frames=8)
    assert drawn == []
    assert isinstance(results, collections.abc.Iterator)
    assert names([next(results), next(results)]) == ["a.mp4", "frames"]
    assert 2 <= len(drawn) <= 20
    assert names(learnt.predict(folder.glob("*.avi"), LABELS)) == ["b.avi"]
    assert list(learnt.predict(iter([]), LABELS)) == []


def test_a_generator_that_raises_costs_no_result(learnt, noise):
    def videos():
        yield from (noise, noise[:4])
        raise RuntimeError("the disk is gone")

    for more in ({}, {"deterministic": True}, {"workers": 0}):
        results = learnt.predict(videos(), LABELS, **more)
        assert [next(results).total for _ in range(2)] == [12, 4]
        with pytest.raises(RuntimeError, match="the disk is gone"):
            next(results)


def test_what_is_no_video_is_one_line(learnt, folder, tmp_path, noise):
    for call in (learnt.predict, learnt.explain, learnt.stream):
        with pytest.raises(UserError, match=r"video=.*: no videos in this folder"):
            call(tmp_path, LABELS)
        with pytest.raises(UserError, match=r"video=.*\*\.mp4: no video matches"):
            call(f"{tmp_path}/*.mp4", LABELS)
        with pytest.raises(UserError, match="video: a dict, expected a path"):
            call({"a.mp4": 1}, LABELS)
    assert learnt.predict([], LABELS) == []
    results = learnt.predict(iter([noise, 3]), LABELS)
    next(results)
    with pytest.raises(UserError, match="video: an int in the list, expected paths or arrays"):
        next(results)
    with pytest.raises(VideoError, match="there is no such video file"):
        learnt.predict(tmp_path / "none.mp4", LABELS)


def test_a_bad_video_in_a_folder_costs_itself(learnt, folder, tmp_path):
    (tmp_path / "a.mp4").write_bytes((folder / "a.mp4").read_bytes())
    (tmp_path / "b.mp4").write_text("no video")
    (tmp_path / "c.mp4").write_bytes((folder / "a.mp4").read_bytes())
    found = learnt.predict(tmp_path, LABELS, on_error="return")
    assert [isinstance(one, Failure) for one in found] == [False, True, False]
    np.testing.assert_allclose(found[0].logits, found[2].logits, rtol=1e-5, atol=1e-5)
    with pytest.raises(VideoError, match=r"b\.mp4: cannot be read as a video"):
        learnt.predict(tmp_path, LABELS)


@pytest.mark.slow
def test_processes_read_what_threads_read(learnt, clips):
    videos = [clips[1], clips[2].with_name("none.mp4"), clips[3]]
    ours = list(learnt.stream(videos, LABELS, deterministic=True))
    theirs = list(learnt.stream(videos, LABELS, deterministic=True, processes=True))
    np.testing.assert_array_equal(ours[0].logits, theirs[0].logits)
    np.testing.assert_array_equal(ours[2].seconds, theirs[2].seconds)
    assert str(ours[1].error) == str(theirs[1].error)
    assert type(theirs[1].error) is VideoError
