"""Scores on disk: the same again, refused where they are something else, and matched video by
video.
"""

from dataclasses import replace

import numpy as np
import pytest

from hostile import harness
from vtd_jax.errors import UserError
from vtd_jax.evaluate.metrics import SplitResult
from vtd_jax.evaluate.scores import match, read_scores, save_scores
from vtd_jax.untrusted.limits import SCORE_SPLITS, SCORE_VIDEOS

VIDEOS = ("x.mp4", "y.mp4", "z.mp4")


def _result(videos=VIDEOS, labels=(0, 1, 1)):
    scores = np.random.default_rng(0).random((len(labels), 2), np.float32)
    return SplitResult(("a", "b"), scores, np.array(labels, np.int32), tuple(videos))


def test_what_is_read_is_what_was_saved(tmp_path):
    results = {"novel": replace(_result(), tied=np.array([True, False, True])), "base": _result(())}
    found = read_scores(save_scores(tmp_path / "s.npz", results))
    assert list(found) == ["novel", "base"]
    for split, result in results.items():
        np.testing.assert_array_equal(found[split].scores, result.scores)
        np.testing.assert_array_equal(found[split].labels, result.labels)
        assert (found[split].class_names, found[split].videos) == (
            result.class_names,
            result.videos,
        )
    assert found["novel"].tied.tolist() == [True, False, True]
    # as in files of before ties were noted
    assert (found["novel"].ties, found["base"].tied, found["base"].ties) == (2 / 3, None, None)


def test_damaged_and_foreign_files_are_reported_in_one_line(tmp_path):
    path = save_scores(tmp_path / "s.npz", {"val": _result()})
    whole, parts = path.read_bytes(), dict(np.load(path))
    broken = [
        whole[:40],
        whole[: len(whole) // 2],
        b"",
        b"text",
        bytes(whole[:60]) + b"\xff" * 20 + whole[80:],
    ]
    for data in broken:
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"s\.npz: .*(not a|claims|bytes).*; evaluate again"):
            read_scores(path)
    changes = (
        {"val/labels": np.array([0, 1, 2])},
        {"val/labels": np.array([0, 1])},
        {"val/videos": np.array(["x"])},
        {"val/tied": np.array([True])},
        {"val/tied": np.array([0, 1, 1])},
        {"val/class_names": np.array(["a", "b"], object)},
        {"val/class_names": np.array(["a", "a"])},
        {"val/videos": np.array(["x.mp4", "x.mp4", "z.mp4"])},
        {"val/scores": np.array([[0, 1], [np.nan, 1], [1, 0]], np.float32)},
        {"val/scores": np.array([[0, 1], [-np.inf, 1], [1, 0]], np.float32)},
        {"val/scores": np.array([[0, 1], [1e300, 1], [1, 0]])},
        {"val/scores": np.zeros((3, 0), np.float32), "val/class_names": np.zeros(0, "U1")},
        {"val/more": np.zeros(3)},
    )
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(UserError, match="not a file of scores"):
        read_scores(path)
    for change in changes:
        np.savez(path, **(parts | change))
        with pytest.raises(UserError, match=r"s\.npz: val.*; evaluate again"):
            read_scores(path)
    with pytest.raises(UserError, match="no such file"):
        read_scores(tmp_path / "none.npz")


def test_runs_are_matched_by_name():
    one, order = _result(), [2, 0, 1]
    two = SplitResult(
        one.class_names, one.scores[order], one.labels[order], tuple(VIDEOS[i] for i in order)
    )
    two = replace(two, tied=np.array([True, False, False]))
    found = match({"A": {"val": one}, "B": {"val": two}})
    assert found[1]["val"].videos == VIDEOS
    assert found[1]["val"].tied.tolist() == [False, False, True]
    np.testing.assert_array_equal(found[1]["val"].scores, one.scores)


def test_runs_that_differ():
    one, fewer, other = _result(), _result(VIDEOS[:2], (0, 1)), _result(labels=(0, 1, 0))
    for runs, message in (
        (({"val": one}, {"val": fewer}), r"split val: z\.mp4 is in A, not in B"),
        (({"val": fewer}, {"val": one}), r"split val: z\.mp4 is in B, not in A"),
        (({"val": one}, {"val": other}), r"split val: z\.mp4 is 'b' in A and 'a' in B"),
        (({"val": one}, {"test": one}), "split val: in A, not in B"),
    ):
        with pytest.raises(UserError, match=message):
            match(dict(zip("AB", runs)))
    found = match({"A": {"val": one, "more": one}, "B": {"val": fewer}}, common=True)
    assert [list(run) for run in found] == [["val"], ["val"]]
    assert [run["val"].videos for run in found] == [VIDEOS[:2]] * 2
    with pytest.raises(UserError, match="no split in common"):
        match({"A": {"val": one}, "B": {"test": one}}, common=True)


def test_runs_without_names_are_matched_by_place():
    found = match({"A": {"val": _result(())}, "B": {"val": _result()}})
    assert [run["val"].count for run in found] == [3, 3]
    with pytest.raises(UserError, match="3 videos in A, 2 in B, and A does not name them"):
        match({"A": {"val": _result(())}, "B": {"val": _result(VIDEOS[:2], (0, 1))}})


@pytest.mark.parametrize("videos, splits", [(SCORE_VIDEOS // 2 + 1, 2), (1, SCORE_SPLITS + 1)])
def test_no_more_is_compared_than_takes_seconds(videos, splits, tmp_path):
    half = {"scores": np.zeros((videos, 2), np.float16), "labels": np.zeros(videos, np.uint8)}
    half["class_names"] = np.array(["x", "y"])
    path = tmp_path / "s.npz"
    np.savez_compressed(
        path, **{f"{number}/{part}": a for number in range(splits) for part, a in half.items()}
    )
    message = harness.check_call_refused(
        lambda: read_scores(path), texts=[str(path), "expected at most"]
    )
    assert "videos" in message or "splits" in message
