"""The four benchmarks in miniature: the real lists and classes, generated videos where the official
ones lie.
"""

import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import mini_benchmarks
from experiments.configs import base_to_novel
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.records import build_records
from vtd_jax.video.lists.official import official_lists
from vtd_jax.video.lists.protocols import published_lists
from vtd_jax.video.records import open_records, record_names

pytestmark = [pytest.mark.command, pytest.mark.shared]


ROOT = Path(__file__).resolve().parents[3]
CLASSES = {
    "hmdb51": (51, 26, 25),
    "ucf101": (101, 51, 50),
    "ssv2": (174, 87, 87),
    "kinetics400": (400, 200, 200),
}
# lists that the tree lacks come from the annotation files
OFFICIAL = {
    "hmdb51": {"train1", "train2", "train3"},
    "ucf101": {"train1", "train2", "train3"},
    "ssv2": {"train"},
    "kinetics400": {"train"},
}
SHOTS = tuple(f"fs_base_s{seed}_train" for seed in (1, 2, 3))
every_dataset = pytest.mark.parametrize("dataset", mini_benchmarks.LAYOUTS)


@every_dataset
def test_records_have_every_list_with_its_classes_and_origin(dataset, mini_layout, mini_records):
    given = {listed.name: listed for listed in published_lists(dataset, mini_layout / "splits")}
    folder = mini_records / dataset
    assert set(record_names(folder)) == set(given) | OFFICIAL[dataset]
    for name, listed in given.items():
        stored = open_records(folder, name)
        assert stored.stored.origin == "given"
        assert (len(stored), stored.class_names) == (len(listed.entries), listed.class_names)
    whole, base, novel = CLASSES[dataset]
    for name in OFFICIAL[dataset]:
        stored = open_records(folder, name).stored
        assert (stored.origin, len(stored.class_names)) == ("official", whole)
    halves = {"base_val": base, "novel_val": novel} | dict.fromkeys(SHOTS, base)
    # of Kinetics-400 there is no list of all base videos
    assert ("base_train" in given) == (dataset != "kinetics400")
    for name, classes in (halves | ({"base_train": base} if "base_train" in given else {})).items():
        counts = Counter(open_records(folder, name).stored.labels.tolist())
        assert sorted(counts) == list(range(classes)), name
        assert min(counts.values()) >= mini_benchmarks.LAYOUTS[dataset].videos, name


@every_dataset
@pytest.mark.parametrize("listed", SHOTS)
def test_a_step_of_the_release_fits(dataset, listed, mini_records):
    config = base_to_novel.get_config(f"{dataset},shots=16")
    assert (
        len(open_records(mini_records / dataset, listed))
        >= config.data.batch_size * config.optimizer.gradient_accumulation_steps
    )


def test_lists_are_the_real_ones_without_the_videos_that_are_not_there(mini_layout, shared_dir):
    tree = mini_layout / "splits"
    assert list(tree.rglob("*.txt"))
    for path in tree.rglob("*.txt"):
        real = (shared_dir / "splits" / path.relative_to(tree)).read_text().splitlines()
        kept = path.read_text().splitlines()
        assert kept == [line for line in real if line in set(kept)], path
    for path in (tree / "labels").iterdir():
        assert path.read_bytes() == (shared_dir / "splits/labels" / path.name).read_bytes()


@every_dataset
def test_annotations_agree_with_the_given_lists(dataset, mini_layout):
    """The same videos, class names and ids by either way, where both have the list."""
    given = {listed.name: listed for listed in published_lists(dataset, mini_layout / "splits")}
    official = {listed.name: listed for listed in official_lists(dataset, mini_layout / dataset)}
    both = set(given) & set(official)
    assert both == set(official) - OFFICIAL[dataset]
    for name in both:
        assert official[name].class_names == given[name].class_names
        pairs = [
            {(e.file.split("/")[-1], e.label) for e in lists[name].entries}
            for lists in (official, given)
        ]
        assert pairs[0] == {(file.split("/")[-1], label) for file, label in pairs[1]}


def test_all_real_lists_with_missing_videos_skipped_give_the_same(
    mini_layout, mini_records, shared_dir, tmp_path
):
    """What one does who has a part of the videos and the lists as they are: 48 000 lines of missing
    ones.
    """
    source = str(mini_layout / "kinetics400")
    splits = str(shared_dir / "splits")
    settings = dict(name="rest", dataset="kinetics400", source=source, splits=splits)
    built = build_records(BuildConfig(**settings, on_error="skip"), tmp_path)
    assert "base_val (given list; 200 videos, 9744 more left out)" in built.lists
    for name in record_names(tmp_path):
        ours, theirs = (
            open_records(tmp_path, name),
            open_records(mini_records / "kinetics400", name),
        )
        assert [(e.file, e.label) for e in ours] == [(e.file, e.label) for e in theirs]


def test_the_printed_commands_build(shared_dir, tmp_path):
    made = subprocess.run(
        [
            sys.executable,
            "tests/mini_benchmarks.py",
            f"--splits={shared_dir / 'splits'}",
            f"--out={tmp_path / 'with a blank'}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    commands = [shlex.split(line) for line in made.stdout.splitlines()]
    assert [command[3] for command in commands] == [
        f"--dataset={name}" for name in mini_benchmarks.LAYOUTS
    ]
    done = subprocess.run(
        [sys.executable, *commands[0][1:]], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "novel_val (given list; 75 videos)" in done.stdout
