"""Rendered data sets: formats, determinism, separate classes and clips."""

import numpy as np
import pytest

from vtd_jax.errors import UserError
from vtd_jax.scenes.sets import LISTS, SceneSet, file_name, write_scene_sets
from vtd_jax.video.decode import probe
from vtd_jax.video.lists import catalog

SMALL = SceneSet(seed=3, classes=4, train=2, val=1, length=6, size=32)


def test_written_sets_are_lists_labels_and_real_videos(tmp_path):
    calls = []
    write_scene_sets(
        [(SMALL, tmp_path)], workers=2, progress=lambda done, total: calls.append((done, total))
    )
    assert calls[-1] == (8, 8)
    listed = []
    for name, half in LISTS.items():
        labels = catalog.read_labels(tmp_path / f"{half}_labels.csv")
        assert list(labels.names) == SMALL.names()[half]
        entries = catalog.read_list(tmp_path / f"{name}.txt", labels)
        assert len(entries) == (4 if name == "base_train" else 2)
        listed += [entry.file for entry in entries]
    assert sorted(listed) == sorted(path.name for path in (tmp_path / "videos").iterdir())
    for file in listed:
        assert probe(tmp_path / "videos" / file).frames == SMALL.length


def test_a_seed_fixes_everything_and_seeds_differ():
    again, other = (
        SceneSet(seed=3, classes=4, train=2, val=1, length=6, size=32),
        SceneSet(seed=4, classes=4),
    )
    for clip in SMALL.clips():
        np.testing.assert_array_equal(SMALL.render(clip)[0], again.render(clip)[0])
    assert SMALL.names() != other.names()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_files_bit_for_bit(tmp_path):
    """With its default settings x264 does not give the same bits twice."""
    scene_set = SceneSet(seed=3, classes=4, train=20, val=1)
    write_scene_sets([(scene_set, tmp_path / "a"), (scene_set, tmp_path / "b")], workers=2)
    files = sorted(
        path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()
    )
    assert len(files) == 44 + 5
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_no_clip_is_there_twice_and_halves_are_apart():
    names = SMALL.names()
    assert not set(names["base"]) & set(names["novel"])
    files = [file_name(clip) for clip in SMALL.clips()]
    assert len(set(files)) == len(files) == 8
    pixels = {SMALL.render(clip)[0].tobytes() for clip in SMALL.clips()}
    assert len(pixels) == 8


def test_share_of_irrelevant_frames():
    for share, kept in ((0.0, 6), (0.5, 3), (0.9, 1)):
        shows = SceneSet(seed=1, length=6, size=32, irrelevant=share).render(("base_val", 0, 0))[1]
        assert shows.sum() == kept


@pytest.mark.parametrize(
    "change", [{"classes": 5}, {"classes": 2}, {"classes": 300}, {"train": 0}, {"kind": "fog"}]
)
def test_nonsense_is_refused(change):
    with pytest.raises(
        UserError, match=f"scene set: {next(iter(change))}|scene set: train|expected"
    ):
        SceneSet(**{"seed": 0} | change)
