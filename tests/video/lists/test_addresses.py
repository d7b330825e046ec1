"""What videos at addresses are called, and copies as paths."""

import os
import pickle
from pathlib import Path

import pytest

from vtd_jax.video.lists.addresses import Copy, copies_folder, missing, named


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path))


@pytest.mark.parametrize(
    "video, expected",
    [
        ("a/clip.mp4", "a/clip.mp4"),
        (Path("a/clip.mp4"), "a/clip.mp4"),
        ("https://a.b/walks/c.mp4", "https://a.b/walks/c.mp4"),
        ("https://me:pa55@a.b:8000/c.mp4#t=3", "https://a.b:8000/c.mp4"),
        ("gs://bucket/what?#1.mp4", "gs://bucket/what?#1.mp4"),
        ("abfs://box@account.net/c.mp4", "abfs://box@account.net/c.mp4"),
    ],
)
def test_names(video, expected):
    assert named(video) == expected
    if isinstance(video, str) and "://" in video:
        assert named(Copy.of(video)) == expected


def test_queries_are_left_out_and_stay_distinct():
    names = [named(f"https://a.b/watch?key=SECRET&v={v}") for v in (1, 2, 1)]
    assert names[0] == names[2] != names[1]
    assert all(name.startswith("https://a.b/watch#") and len(name) == 26 for name in names)


def test_a_copy_is_a_path_that_knows_its_address():
    copy = Copy.of("https://a.b/walks/c.mp4", "gone")
    assert os.fspath(copy).startswith(f"{copies_folder()}/")
    assert (copy.parent.name, copy.name, copy.stem) == ("walks", "c.mp4", "c")
    assert copy == Path(copy)
    again = pickle.loads(pickle.dumps(copy))
    assert (again, named(again), missing(again)) == (copy, "https://a.b/walks/c.mp4", "gone")
    # what is made of it is no copy of the video
    assert named(copy.parent) == os.fspath(copy.parent)
    assert missing(copy.with_suffix(".txt")) == ""
