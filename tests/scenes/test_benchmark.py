"""The rendered benchmark: lists of every protocol, shots that are nested or drawn, classes that are
apart.
"""

import numpy as np
import pytest

from vtd_jax.errors import UserError
from vtd_jax.scenes.benchmark import SEEDS, SHOTS, NoisyScenes, SceneBenchmark
from vtd_jax.scenes.sets import write_scene_sets
from vtd_jax.video.lists import catalog

SMALL = SceneBenchmark(classes=4, pool=20, val=2, unseen=2, unseen_val=1, length=10, size=32)


def _files(name):
    return {clip for clip, _ in SMALL.lists()[name].clips}


def test_lists_are_those_of_the_protocols():
    lists = SMALL.lists()
    counts = {name: len(listed.clips) for name, listed in lists.items()}
    assert counts == {
        "base_train": 40, **{f"fs_base_s{s}_train": 32 for s in SEEDS}, "base_val": 4,
        "novel_val": 4, "train": 80, **{f"train1_few_shot_{k}": 4 * k for k in SHOTS}, "val": 8,
        **{f"unseen{s}_val": 2 for s in SEEDS},
    }  # fmt: skip
    every = set(SMALL.clips())
    assert len(every) == len(SMALL.clips()) == 4 * 20 + 4 * 2 + 6
    assert set().union(*map(_files, lists)) == every
    names = SMALL.names()
    for name, listed in lists.items():
        assert {label for _, label in listed.clips} == set(range(len(names[listed.labels]))), name


def test_shots_are_nested_and_seeds_are_other_draws_of_the_base_videos():
    for fewer, more in ((2, 4), (4, 8), (8, 16)):
        assert _files(f"train1_few_shot_{fewer}") < _files(f"train1_few_shot_{more}")
    draws = [_files(f"fs_base_s{seed}_train") for seed in SEEDS]
    assert all(draw < _files("base_train") for draw in draws)
    assert len({frozenset(draw) for draw in draws}) == 3


def test_nothing_evaluated_was_learnt_and_halves_are_apart():
    names = SMALL.names()
    assert not set(names["base"]) & set(names["novel"])
    assert names["all"] == names["base"] + names["novel"]
    unseen = [names[f"unseen{s}"] for s in SEEDS]
    assert len(set(names["all"]).union(*unseen)) == 4 + 3 * 2
    learnt = _files("train")
    for name in ("base_val", "novel_val", "val", *(f"unseen{s}_val" for s in SEEDS)):
        assert not _files(name) & learnt


@pytest.mark.slow
def test_clips_show_the_class_of_their_list(monkeypatch):
    """The name that a clip is rendered with is the one that its list's label says."""
    shown = []

    def note(name, *_, **__):
        shown.append(name)
        return np.zeros((1, 2, 2, 3), np.uint8), np.ones(1, bool)

    monkeypatch.setattr("vtd_jax.scenes.benchmark.render_clip", note)
    names = SMALL.names()
    for listed in (*SMALL.lists().values(), *NoisyScenes(SMALL, 0.5).lists().values()):
        made = SMALL if listed.clips[0][0][0] != "noise" else NoisyScenes(SMALL, 0.5)
        for clip, label in listed.clips:
            made.render(clip)
            assert shown[-1] == names[listed.labels][label], (clip, label)


@pytest.mark.parametrize("share, kept", [(0.0, 10), (0.3, 7), (0.9, 1)])
def test_noisy_clips_keep_just_their_share(share, kept):
    frames, shows = NoisyScenes(SMALL, share).render(("noise", 1, 0))
    assert frames.shape == (10, 32, 32, 3)
    assert shows.sum() == kept


def test_written_lists_are_read_by_the_catalogue(tmp_path):
    write_scene_sets([(NoisyScenes(SMALL, 0.9, val=1), tmp_path)], workers=1)
    labels = catalog.read_labels(tmp_path / "novel_labels.csv")
    assert list(labels.names) == SMALL.names()["novel"]
    assert len(catalog.read_list(tmp_path / "novel_val.txt", labels)) == 2
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.mp4")}
    write_scene_sets([(NoisyScenes(SMALL, 0.9, val=1), tmp_path)], workers=1)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.mp4")} == before


def test_a_seed_fixes_classes_shots_and_pixels():
    again, other = SceneBenchmark(**vars(SMALL)), SceneBenchmark(**{**vars(SMALL), "seed": 1})
    assert again.lists() == SMALL.lists()
    assert other.names() != SMALL.names()
    for clip in (SMALL.clips()[0], SMALL.clips()[-1]):
        np.testing.assert_array_equal(again.render(clip)[0], SMALL.render(clip)[0])


@pytest.mark.parametrize("change", [{"classes": 5}, {"classes": 2}, {"unseen": 90}, {"pool": 8}])
def test_impossible_benchmarks(change):
    with pytest.raises(UserError, match="scene benchmark"):
        SceneBenchmark(**change)
