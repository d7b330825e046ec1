"""The halves of classes as they were published, and the rule that gives them."""

from functools import cache
from pathlib import Path

import pytest

from support.lists import listed, made
from vtd_jax.video.lists.catalog import Entry, VideoList, read_labels, read_list
from vtd_jax.video.lists.protocols import published_lists

pytestmark = pytest.mark.slow


PUBLISHED = {
    "hmdb51": {
        "base_train": (1820, 26),
        "base_val": (780, 26),
        "novel_val": (750, 25),
        "val1": (1530, 51),
    },
    "ucf101": {
        "base_train": (5385, 51),
        "base_val": (2088, 51),
        "novel_val": (1695, 50),
        "val1": (3783, 101),
    },
    "ssv2": {
        "base_train": (125937, 87),
        "base_val": (17562, 87),
        "novel_val": (7215, 87),
        "validation": (24777, 174),
    },
    "kinetics400": {"base_val": (9944, 200), "novel_val": (9933, 200), "val": (19877, 400)},
    "kinetics600": {"ZS_split1_K600_eval": (14084, 160), "ZS_split3_K600_eval": (14136, 160)},
}


@cache
def published(dataset: str, shared_dir: Path) -> dict[str, VideoList]:
    return {x.name: x for x in published_lists(dataset, shared_dir / "splits")}


@pytest.mark.shared
@pytest.mark.parametrize(("dataset", "number"), list(zip(PUBLISHED, (13, 13, 11, 6, 3))))
def test_the_real_tree(shared_dir, dataset, number):
    lists = published(dataset, shared_dir).values()
    found = {x.name: (len(x.entries), len(x.class_names)) for x in lists}
    assert len(found) == number
    assert found.items() >= PUBLISHED[dataset].items()


def published_names(shared_dir: Path, stem: str) -> tuple[str, ...]:
    return read_labels(shared_dir / "splits/labels" / f"{stem}.csv").names


@pytest.mark.shared
def test_the_rule_gives_the_published_halves_of_hmdb51(shared_dir):
    names = published_names(shared_dir, "hmdb_51_labels")
    train = VideoList("train1", listed("train1", [70] * 51).entries, names, "official", "")
    labels = read_labels(shared_dir / "splits/labels/hmdb_51_labels.csv")
    val1 = tuple(read_list(shared_dir / "splits/datasets_splits/hmdb_splits/val1.txt", labels))
    ours = made("hmdb51", train, VideoList("val1", val1, names, "official", ""))
    theirs = published("hmdb51", shared_dir)
    assert len(ours["base_train"].entries) == 1820
    for name in ("base_val", "novel_val"):
        assert ours[name].class_names == theirs[name].class_names
        assert {(e.file, e.label) for e in ours[name].entries} == {
            (e.file, e.label) for e in theirs[name].entries
        }


@pytest.mark.shared
@pytest.mark.parametrize(
    ("dataset", "whole", "base", "val"),
    [
        ("ucf101", "ucf_101_labels", "ucf_101_base_labels", "val1"),
        ("ssv2", "ssv2_labels", "ssv2_174_base_labels", "validation"),
    ],
)
def test_the_rule_gives_the_published_base_ids(shared_dir, dataset, whole, base, val):
    """Counts of the rare classes are not published: they get none here, which leaves the ids of
    base to be checked.
    """
    names, base_names = published_names(shared_dir, whole), published_names(shared_dir, base)
    theirs = published(dataset, shared_dir)
    place = {name: index for index, name in enumerate(names)}
    entries = tuple(
        Entry(e.file, place[base_names[e.label]], e.line) for e in theirs["base_train"].entries
    )
    train = VideoList("train1" if dataset == "ucf101" else "train", entries, names, "official", "")
    ours = made(dataset, train, theirs[val])
    assert ours["base_train"].class_names == base_names
    assert {(e.file, e.label) for e in ours["base_val"].entries} == {
        (e.file, e.label) for e in theirs["base_val"].entries
    }
    assert set(ours["novel_val"].class_names) == set(theirs["novel_val"].class_names)
    assert len(ours["novel_val"].entries) == len(theirs["novel_val"].entries)
