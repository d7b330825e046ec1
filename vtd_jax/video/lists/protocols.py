"""The lists of the protocols: own splits, or the interchange tree of ViFi-CLIP."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from vtd_jax.errors import UserError, setting
from vtd_jax.video.lists.catalog import (
    Entry,
    Problem,
    VideoList,
    file_key,
    read_labels,
    read_list,
    select_shots,
)

BASE_SHOTS, BASE_DRAWS = 16, (1, 2, 3)
FEW_SHOTS = (2, 4, 8, 16)
# the lists that a data set's halves and shots are made from
TRAIN = {"hmdb51": "train1", "ucf101": "train1", "ssv2": "train", "kinetics400": "train"}
VAL = {"hmdb51": "val1", "ucf101": "val1", "ssv2": "validation", "kinetics400": "val"}
FEW_SHOT_SETS = ("hmdb51", "ucf101", "ssv2")

# folder of the tree -> stems of the label files: all classes, base, novel
TREE = {
    "hmdb51": ("hmdb_splits", "hmdb_51_labels", "hmdb_51_base_labels", "hmdb_51_novel_labels"),
    "ucf101": ("ucf_splits", "ucf_101_labels", "ucf_101_base_labels", "ucf_101_novel_labels"),
    "ssv2": ("ssv2_splits", "ssv2_labels", "ssv2_174_base_labels", "ssv2_174_novel_labels"),
    "kinetics400": (
        "k400_splits",
        "kinetics_400_labels",
        "kinetics_400_base_labels",
        "kinetics_400_novel_labels",
    ),
    "kinetics600": ("k600_splits", "kinetics_600_labels", "", ""),
}
HALVES = "base2novel_splits"
K600_UNSEEN = {f"ZS_split{i}_K600_eval".lower(): f"ZS_split{i}_K600" for i in (1, 2, 3)}


def own_splits(dataset: str, lists: Sequence[VideoList], seed: int) -> list[VideoList]:
    """Makes base-to-novel and few-shot lists, the same for the same seed.

    Classes are ordered by their number of training videos (`train1`, or `train`), fewest first,
    ties by class id. The first half of them, rounded down, is novel, the rest base; ids within a
    half follow that order. This gives the classes and the ids of the published HMDB-51 lists, and
    the order of the published base ids of UCF-101 and SSv2. The videos of the shots are drawn here
    and are other ones than in the published lists.

    Args:
      dataset: "hmdb51", "ucf101", "ssv2" or "kinetics400".
      lists: the official lists of the data set.
      seed: which videos are drawn.

    Returns:
      `base_train`, `base_val`, `novel_val`, `fs_base_s{1,2,3}_train` and, but for Kinetics-400,
      `train1_few_shot_{2,4,8,16}`; those that would hold no videos are left out, so nothing without
      a training list.

    Raises:
      UserError: for a data set that has no rule.
    """
    if dataset not in TRAIN:
        raise UserError(
            f"dataset={dataset!r}: there is a rule for the splits of {', '.join(TRAIN)}"
        )
    named = {listed.name: listed for listed in lists}
    train, val = named.get(TRAIN[dataset]), named.get(VAL[dataset])
    if train is None:
        return []
    made = _halves(train, val, seed)
    if dataset in FEW_SHOT_SETS:
        for shots in FEW_SHOTS:
            about = f"own split: {shots} videos a class of {train.name} drawn with seed {seed}"
            made.append(_draw(train, f"train1_few_shot_{shots}", shots, _draw_seed(seed, 0), about))
    return [listed for listed in made if listed.entries]


def _draw_seed(seed: int, draw: int) -> int:
    """One number for a seed and a draw; draws 0 to 3 of different seeds never meet."""
    return 4 * seed + draw


def _halves(train: VideoList, val: VideoList | None, seed: int) -> list[VideoList]:
    """The lists of base-to-novel."""
    counts = Counter(entry.label for entry in train.entries)
    order = sorted(range(len(train.class_names)), key=lambda label: (counts[label], label))
    novel, base = order[: len(order) // 2], order[len(order) // 2 :]
    frequent = f"own split: frequent half of the classes of {train.name}"
    made = [_restrict(train, "base_train", base, frequent)]
    for draw in BASE_DRAWS:
        about = f"{frequent}, {BASE_SHOTS} videos a class drawn with seed {seed} (s{draw})"
        made.append(
            _draw(made[0], f"fs_base_s{draw}_train", BASE_SHOTS, _draw_seed(seed, draw), about)
        )
    if val is not None:
        made.append(_restrict(val, "base_val", base, f"{frequent}, videos of {val.name}"))
        rare = f"own split: rare half of the classes of {train.name}, videos of {val.name}"
        made.append(_restrict(val, "novel_val", novel, rare))
    return made


def _restrict(listed: VideoList, name: str, classes: Sequence[int], source: str) -> VideoList:
    """The videos of some classes, which are renumbered in the given order."""
    place = {label: index for index, label in enumerate(classes)}
    entries = tuple(
        Entry(e.file, place[e.label], e.line) for e in listed.entries if e.label in place
    )
    return VideoList(
        name, entries, tuple(listed.class_names[label] for label in classes), "own split", source
    )


def _draw(listed: VideoList, name: str, shots: int, seed: int, source: str) -> VideoList:
    """Some videos of every class; smaller classes give all, noted in `source`."""
    counts = Counter(entry.label for entry in listed.entries)
    fewer = sum(counts[label] < shots for label in range(len(listed.class_names)))
    if fewer:
        source += f"; {fewer} of {len(listed.class_names)} classes have fewer and give all"
    entries = select_shots(listed.entries, shots, seed)
    return _own(listed, name, entries, source)


def held_out(listed: VideoList, share: float, seed: int) -> list[VideoList]:
    """Cuts a list into `NAME_train` and `NAME_val`, class by class, the same way for the same seed.

    Args:
      listed: every class with a video in it has at least two.
      share: of the videos of a class, for validation: at least one, and never all.
      seed: which videos.

    Raises:
      UserError: for a share that is not between 0 and 1, or a class with a single video.
    """
    if not 0 < share < 1:
        raise UserError(
            f"{setting('holdout', share)}: expected a share between 0 and 1, such as 0.2"
        )
    classes: dict[int, list[Entry]] = {}
    for entry in listed.entries:
        classes.setdefault(entry.label, []).append(entry)
    chosen: set[str] = set()
    for label, members in sorted(classes.items()):
        if len(members) < 2:
            raise UserError(
                f"{listed.source}: class {listed.class_names[label]!r} has one video, too few to "
                f"hold one out; add videos, or build without {setting('holdout')}"
            )
        count = min(max(1, round(share * len(members))), len(members) - 1)
        members.sort(key=lambda entry: file_key(entry.file, seed))
        chosen.update(entry.file for entry in members[:count])
    share_of = f"{share:g} of the videos of each class of {listed.name}"
    about = f"own split: {share_of} held out with seed {seed}"
    parts = {
        "train": [entry for entry in listed.entries if entry.file not in chosen],
        "val": [entry for entry in listed.entries if entry.file in chosen],
    }
    return [
        _own(listed, f"{listed.name}_{part}", entries, about) for part, entries in parts.items()
    ]


def _own(listed: VideoList, name: str, entries: Iterable[Entry], source: str) -> VideoList:
    """Some entries of a list as an own split with the same classes."""
    return VideoList(name, tuple(entries), listed.class_names, "own split", source)


def published_lists(
    dataset: str,
    root: Path,
    problems: list[Problem] | None = None,
    wanted: Callable[[str], bool] = lambda name: True,
) -> list[VideoList]:
    """Reads the lists of a data set that an interchange tree has.

    Args:
      dataset: "hmdb51", "ucf101", "ssv2", "kinetics400" or "kinetics600".
      root: the folder that holds `datasets_splits` and `labels`, or `datasets_splits` with `labels`
        in or beside it; case in the names of folders and files does not count.
      problems: as for `catalog.read_list`.
      wanted: whether to read the list of a name.

    Returns:
      Lists named after their files, sorted by name; their source is the path.

    Raises:
      UserError: if the tree has no list of this data set, a list has no label file, or either
        cannot be read.
    """
    if dataset not in TREE:
        raise UserError(f"dataset={dataset!r}: published lists are known of {', '.join(TREE)}")
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder of lists; check the path")
    top = _child(root, "datasets_splits") or root
    folder = TREE[dataset][0]
    places = [_child(top, folder), _child(_child(top, HALVES), folder)]
    paths = [path for place in places if place for path in place.iterdir() if _is_list(path)]
    if not paths:
        raise UserError(
            f"{root}: no lists of {dataset}; expected datasets_splits/{folder}/*.txt or "
            f"datasets_splits/{HALVES}/{folder}/*.txt in it"
        )
    return [
        _published(path, problems)
        for path in sorted(paths, key=lambda path: path.stem)
        if wanted(path.stem)
    ]


def _published(path: Path, problems: list[Problem] | None) -> VideoList:
    labels = labels_for(path)
    if labels is None:
        raise UserError(
            f"{path}: its label file labels/{_label_stem(path)}.csv is not in the tree; put it "
            "there"
        )
    names = read_labels(labels)
    return VideoList(
        path.stem, tuple(read_list(path, names, problems)), names.names, "given", str(path)
    )


def labels_for(list_path: Path) -> Path | None:
    """The label file of a list in an interchange tree; None if there is none."""
    path = Path(list_path).absolute()
    stem = _label_stem(path)
    if stem is None:
        return None
    # labels/ stands beside datasets_splits/ or in it
    for parent in path.parents[1:4]:
        found = _child(_child(parent, "labels"), f"{stem}.csv", Path.is_file)
        if found is not None:
            return found
    return None


def _label_stem(path: Path) -> str | None:
    """Which label file belongs to a list, by its folders and its name."""
    name = path.stem.lower()
    row = next((row for row in TREE.values() if row[0] == path.parent.name.lower()), None)
    if row is None:
        return None
    _, whole, base, novel = row
    if path.parent.parent.name.lower() == HALVES:
        return (novel if name.startswith("novel") else base) or None
    return K600_UNSEEN.get(name, whole)


def _is_list(path: Path) -> bool:
    return path.suffix.lower() == ".txt" and path.is_file() and not path.name.startswith(".")


def _child(
    folder: Path | None, name: str, kind: Callable[[Path], bool] = Path.is_dir
) -> Path | None:
    """An entry of a folder by its name, whatever its case; the exact name comes first."""
    if folder is None or not folder.is_dir():
        return None
    found: Iterator[Path] = (
        path for path in folder.iterdir() if path.name.lower() == name.lower() and kind(path)
    )
    return min(found, key=lambda path: (path.name != name, path.name), default=None)
