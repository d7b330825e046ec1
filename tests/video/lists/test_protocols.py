"""Protocol lists: the rule's halves and shots, and the published tree with its label files."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from support import layouts
from support.lists import listed, made
from vtd_jax.errors import UserError
from vtd_jax.video.lists.catalog import Entry, VideoList
from vtd_jax.video.lists.official import official_lists
from vtd_jax.video.lists.protocols import held_out, labels_for, own_splits, published_lists

HALVES = [
    "base_train",
    "fs_base_s1_train",
    "fs_base_s2_train",
    "fs_base_s3_train",
    "base_val",
    "novel_val",
]
SHOTS = [f"train1_few_shot_{shots}" for shots in (2, 4, 8, 16)]


def per_class(found: VideoList) -> list[int]:
    counts = Counter(entry.label for entry in found.entries)
    return [counts[label] for label in range(len(found.class_names))]


def test_the_frequent_half_is_base_and_ties_go_by_id():
    found = made("hmdb51", listed("train1", [20, 30, 20, 17, 30]), listed("val1", [1, 2, 3, 4, 5]))
    assert list(found) == HALVES + SHOTS
    # fewest first: 3 (17), 0 (20), 2 (20), 1 (30), 4 (30); two of five are novel
    assert found["novel_val"].class_names == ("class 3", "class 0")
    assert found["base_train"].class_names == ("class 2", "class 1", "class 4")
    assert per_class(found["base_train"]) == [20, 30, 30]
    assert per_class(found["base_val"]) == [3, 2, 5]
    assert per_class(found["novel_val"]) == [4, 1]
    assert found["novel_val"].entries[:2] == (
        Entry("val1_0_0.avi", 1, 1),
        Entry("val1_3_0.avi", 0, 4),
    )
    assert {x.origin for x in found.values()} == {"own split"}


def test_a_class_without_training_videos_is_the_rarest():
    found = made("ssv2", listed("train", [5, 0, 4]), listed("validation", [1, 1, 1]))
    assert found["novel_val"].class_names == ("class 1",)
    assert found["base_val"].class_names == ("class 2", "class 0")


def test_shots_of_base_classes():
    found = made(
        "kinetics400", listed("train", [18, 40, 17, 60]), listed("val", [1, 1, 1, 1]), seed=3
    )
    assert list(found) == HALVES
    draws = [found[f"fs_base_s{draw}_train"] for draw in (1, 2, 3)]
    whole = set(found["base_train"].entries)
    for draw in draws:
        assert per_class(draw) == [16, 16]
        assert draw.class_names == ("class 1", "class 3")
        assert set(draw.entries) < whole
    assert len({draw.entries for draw in draws}) == 3
    assert draws[1].source == (
        "own split: frequent half of the classes of train, 16 videos a class drawn with seed 3 (s2)"
    )


def test_few_shots_are_nested_and_of_all_classes():
    found = made("ucf101", listed("train1", [18, 40, 17]), listed("val1", [1, 1, 1]))
    drawn = [found[name] for name in SHOTS]
    assert [per_class(x) for x in drawn] == [[2] * 3, [4] * 3, [8] * 3, [16] * 3]
    assert all(set(a.entries) < set(b.entries) for a, b in pairwise(drawn))
    assert drawn[2].class_names == ("class 0", "class 1", "class 2")
    assert drawn[2].source == "own split: 8 videos a class of train1 drawn with seed 0"


def test_small_classes_give_all_and_the_source_says_so():
    found = made("hmdb51", listed("train1", [3, 20, 2, 5]), listed("val1", [1, 1, 1, 1]))
    assert per_class(found["fs_base_s1_train"]) == [5, 16]
    assert found["fs_base_s1_train"].source.endswith(
        " (s1); 1 of 2 classes have fewer and give all"
    )
    assert per_class(found["train1_few_shot_4"]) == [3, 4, 2, 4]
    assert found["train1_few_shot_4"].source.endswith(
        "with seed 0; 2 of 4 classes have fewer and give all"
    )
    assert per_class(found["train1_few_shot_2"]) == [2, 2, 2, 2]
    assert "fewer" not in found["train1_few_shot_2"].source


def test_the_seed_decides_the_shots_and_the_order_of_a_list_does_not():
    train, val = listed("train1", [40, 40, 40]), listed("val1", [1, 1, 1])
    shuffled = VideoList("train1", train.entries[::-1], train.class_names, "official", "train1.txt")
    first, again, other = (
        made("hmdb51", train, val, 7),
        made("hmdb51", shuffled, val, 7),
        made("hmdb51", train, val, 8),
    )
    for name in (*HALVES[1:4], *SHOTS):
        assert {e.file for e in first[name].entries} == {e.file for e in again[name].entries}
        assert {e.file for e in first[name].entries} != {e.file for e in other[name].entries}
    # no draw of one seed is a draw of the next
    draws = [frozenset(x[name].entries) for x in (first, other) for name in HALVES[1:4]]
    assert len(set(draws)) == 6


def test_a_share_of_each_class_is_held_out():
    whole = listed("mine", [10, 2, 3, 0])
    train, val = held_out(whole, 0.2, seed=0)
    assert (train.name, val.name) == ("mine_train", "mine_val")
    assert (per_class(train), per_class(val)) == ([8, 1, 2, 0], [2, 1, 1, 0])
    assert {e.file for e in train.entries} | {e.file for e in val.entries} == {
        e.file for e in whole.entries
    }
    assert {e.file for e in train.entries}.isdisjoint(e.file for e in val.entries)
    assert (val.origin, val.class_names) == ("own split", whole.class_names)
    assert val.source == "own split: 0.2 of the videos of each class of mine held out with seed 0"
    assert held_out(whole, 0.2, seed=0) == [train, val]
    assert held_out(whole, 0.2, seed=1)[1].entries != val.entries
    assert per_class(held_out(whole, 0.99, seed=0)[0]) == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("share", "counts", "words"), [(1.0, [2], "holdout=1.0"), (0.5, [3, 1], "'class 1' has one")]
)
def test_nothing_can_be_held_out(share, counts, words):
    with pytest.raises(UserError, match=words):
        held_out(listed("mine", counts), share, seed=0)


def test_what_is_missing_makes_no_lists():
    train, val = listed("train", [3, 4]), listed("val", [1, 1])
    assert own_splits("kinetics400", [val], 0) == []
    assert [found.name for found in own_splits("kinetics400", [train], 0)] == HALVES[:4]
    with pytest.raises(
        UserError, match="there is a rule for the splits of hmdb51, ucf101, ssv2, kinetics400"
    ):
        own_splits("kinetics600", [train, val], 0)


def test_halves_of_a_download(tmp_path):
    lists = official_lists("hmdb51", layouts.make_hmdb51(tmp_path))
    found = {x.name: x for x in own_splits("hmdb51", lists, 0)}
    assert found["base_train"].class_names == ("brush hair", "climb stairs", "kick")
    assert found["novel_val"].class_names == ("climb", "kick ball")
    assert [len(found[name].entries) for name in ("base_train", "base_val", "novel_val")] == [
        12,
        6,
        4,
    ]


def tree(root: Path, lists: str = "datasets_splits", labels: str = "labels") -> Path:
    """A little interchange tree of HMDB-51 with lists of every kind."""
    for name, names in (("", "abc"), ("base_", "bc"), ("novel_", "a")):
        path = root / labels / f"hmdb_51_{name}labels.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("id,name\n" + "".join(f"{i},{letter}\n" for i, letter in enumerate(names)))
    for file, text in {
        "hmdb_splits/train1.txt": "a.avi 0\nb.avi 1\nc.avi 2\n",
        "hmdb_splits/val1.txt": "d.avi 2\n",
        "base2novel_splits/hmdb_splits/base_train.txt": "c.avi 1\n",
        "base2novel_splits/hmdb_splits/novel_val.txt": "e.avi 0\n",
    }.items():
        path = root / lists / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("lists", "labels", "inner"),
    [
        ("datasets_splits", "labels", ""),
        ("datasets_splits", "labels", "datasets_splits"),
        ("Datasets_Splits", "Labels", ""),
        ("datasets_splits", "datasets_splits/labels", ""),
        ("mine", "labels", "mine"),
    ],
)
def test_published_tree(tmp_path, lists, labels, inner):
    root = tree(tmp_path, lists, labels) / inner
    found = published_lists("hmdb51", root)
    place = tmp_path / lists
    assert found == [
        VideoList(
            "base_train",
            (Entry("c.avi", 1, 1),),
            ("b", "c"),
            "given",
            str(place / "base2novel_splits/hmdb_splits/base_train.txt"),
        ),
        VideoList(
            "novel_val",
            (Entry("e.avi", 0, 1),),
            ("a",),
            "given",
            str(place / "base2novel_splits/hmdb_splits/novel_val.txt"),
        ),
        VideoList(
            "train1",
            (Entry("a.avi", 0, 1), Entry("b.avi", 1, 2), Entry("c.avi", 2, 3)),
            ("a", "b", "c"),
            "given",
            str(place / "hmdb_splits/train1.txt"),
        ),
        VideoList(
            "val1",
            (Entry("d.avi", 2, 1),),
            ("a", "b", "c"),
            "given",
            str(place / "hmdb_splits/val1.txt"),
        ),
    ]


def test_published_tree_errors(tmp_path):
    root = tree(tmp_path)
    with pytest.raises(
        UserError, match=r"no lists of ucf101; expected datasets_splits/ucf_splits/\*.txt"
    ):
        published_lists("ucf101", root)
    with pytest.raises(UserError, match="published lists are known of hmdb51"):
        published_lists("imagenet", root)
    with pytest.raises(UserError, match="there is no such folder of lists"):
        published_lists("hmdb51", root / "none")
    (root / "labels/hmdb_51_base_labels.csv").unlink()
    with pytest.raises(
        UserError, match=r"base_train.txt: its label file labels/hmdb_51_base_labels.csv is not in"
    ):
        published_lists("hmdb51", root)


def test_labels_of_a_single_list(tmp_path, monkeypatch):
    root = tree(tmp_path)
    lists = root / "datasets_splits"
    base = lists / "base2novel_splits/hmdb_splits"
    assert labels_for(lists / "hmdb_splits/val1.txt") == root / "labels/hmdb_51_labels.csv"
    assert labels_for(base / "fs_base_s1_train.txt") == root / "labels/hmdb_51_base_labels.csv"
    assert labels_for(base / "novel_val.txt") == root / "labels/hmdb_51_novel_labels.csv"
    assert labels_for(lists / "ucf_splits/val1.txt") is None
    assert labels_for(root / "val1.txt") is None
    monkeypatch.chdir(lists / "hmdb_splits")
    assert labels_for(Path("val1.txt")) == root / "labels/hmdb_51_labels.csv"
