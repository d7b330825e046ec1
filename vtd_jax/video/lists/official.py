"""Official lists of HMDB-51, UCF-101, Something-Something v2 and Kinetics-400."""

import re
from collections import defaultdict
from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.untrusted.json_text import parse_json
from vtd_jax.video.lists.catalog import VideoList, more_columns, read_text
from vtd_jax.video.lists.label_rows import whole_number
from vtd_jax.video.lists.official_files import Collected, find_official, numbered_lines
from vtd_jax.video.lists.official_kinetics import kinetics400_lists

HMDB51_FILE = re.compile(r"(.+)_test_split([123])\.txt")
SSV2_PREFIXES = ("", "something-something-v2-")


def official_lists(dataset: str, source: Path) -> list[VideoList]:
    """Reads the official lists of a data set.

    Args:
      dataset: "hmdb51", "ucf101", "ssv2" or "kinetics400".
      source: the folder of the unpacked download; the annotation files may lie at any depth, the
        shallowest count.

    Returns:
      `train1`, `val1` … `val3` (HMDB-51, UCF-101), `train` and `validation` (SSv2) or `train` and
      `val` (Kinetics-400), with the class ids and names that the field's label files use.

    Raises:
      UserError: if there are no annotation files, or with `file:line` for a line that cannot be
        right.
    """
    readers = {
        "hmdb51": _hmdb51_lists,
        "ucf101": _ucf101_lists,
        "ssv2": _ssv2_lists,
        "kinetics400": kinetics400_lists,
    }
    if dataset not in readers:
        raise UserError(f"dataset={dataset!r}: there are official lists of {', '.join(readers)}")
    return readers[dataset](Path(source))


def _hmdb51_lists(source: Path) -> list[VideoList]:
    """`CLASS_test_split{1,2,3}.txt`: lines `NAME.avi 0|1|2` for unused, train and test."""
    origin = "testTrainMulti_7030_splits from HMDB-51's test_train_splits.rar"
    match_file = HMDB51_FILE.fullmatch
    first_file = lambda files: next(filter(match_file, files), None)  # noqa: E731
    first = find_official(source, first_file, "CLASS_test_split1.txt files", origin)
    found = [match.groups() for path in first.parent.iterdir() if (match := match_file(path.name))]
    folders = sorted({name for name, _ in found if not name.startswith(".")}, key=_hmdb51_order)
    names = tuple(name.replace("_", " ") for name in folders)
    lists = []
    for split in sorted({number for _, number in found}):
        train, val = Collected(), Collected()
        for label, folder in enumerate(folders):
            for line, where, text in numbered_lines(
                first.parent / f"{folder}_test_split{split}.txt", "HMDB-51 split"
            ):
                match = re.fullmatch(r"(.*\S)\s+([012])", text)
                if match is None or more_columns(match[1]):
                    raise UserError(
                        f"{where}: expected 'NAME.avi 0', 1 or 2, found {text!r:.200}; download "
                        "the file again"
                    )
                if match[2] != "0":
                    kept = train if match[2] == "1" else val
                    kept.add(f"{folder}/{match[1]}", label, line, where)
        read_from = first.parent / f"*_test_split{split}.txt"
        lists.append(train.as_list(f"train{split}", names, read_from))
        lists.append(val.as_list(f"val{split}", names, read_from))
    return lists


def _hmdb51_order(folder: str) -> str:
    """Sort key of the published ids: the site's `CLASS.rar` names without signs."""
    return folder.replace("_", "").lower() + "rar"


def _ucf101_lists(source: Path) -> list[VideoList]:
    """`classInd.txt` (`id Class`), `trainlist0N.txt` (`Class/file.avi id`), `testlist0N.txt`."""
    what = "classInd.txt with trainlist01.txt"
    origin = "ucfTrainTestlist from UCF-101's UCF101TrainTestSplits-RecognitionTask.zip"
    wanted = {"classInd.txt", "trainlist01.txt"}
    classes = find_official(
        source, lambda files: "classInd.txt" if wanted <= set(files) else None, what, origin
    )
    ids = _ucf101_classes(classes)
    names = tuple(ids[i] for i in sorted(ids))
    lists = []
    for split in "123":
        if not (classes.parent / f"trainlist0{split}.txt").is_file():
            continue
        for name, kind in (("train", "trainlist"), ("val", "testlist")):
            path = classes.parent / f"{kind}0{split}.txt"
            collected = _ucf101_entries(path, ids, names, needs_id=name == "train")
            lists.append(collected.as_list(f"{name}{split}", names, path))
    return lists


def _ucf101_classes(path: Path) -> dict[int, str]:
    """Class names by their ids."""
    ids: dict[int, str] = {}
    for _, where, text in numbered_lines(path, "UCF-101 class list"):
        match = re.fullmatch(r"([0-9]{1,18})\s+(\w+)", text)
        if match is None:
            raise UserError(
                f"{where}: expected 'id Class', found {text!r:.200}; download the file again"
            )
        if int(match[1]) in ids or match[2].lower() in {name.lower() for name in ids.values()}:
            raise UserError(f"{where}: {text!r:.200} repeats an id or a class; each may come once")
        ids[int(match[1])] = match[2]
    return ids


def _ucf101_entries(
    path: Path, ids: dict[int, str], names: tuple[str, ...], needs_id: bool
) -> Collected:
    """The videos of one list; the folder is the class, ignoring case (HandStandPushups)."""
    places = {name.lower(): index for index, name in enumerate(names)}
    collected = Collected()
    for line, where, text in numbered_lines(path, "UCF-101 list"):
        match = re.fullmatch(r"([^/]+)/(.*?\S)(?:\s+([0-9]{1,18}))?", text)
        if match is None or (needs_id and match[3] is None) or more_columns(match[2]):
            form = "Class/file.avi id" if needs_id else "Class/file.avi"
            raise UserError(
                f"{where}: expected '{form}', found {text!r:.200}; download the file again"
            )
        folder, file, class_id = match.groups()
        label = places.get(folder.lower())
        if label is None:
            raise UserError(
                f"{where}: class {folder!r:.100} is not in classInd.txt beside it; are they of "
                "one download?"
            )
        if class_id is not None and ids.get(int(class_id)) != names[label]:
            named = repr(ids.get(int(class_id), "no class"))
            raise UserError(
                f"{where}: id {class_id} is {named} in classInd.txt, the folder {folder!r:.100}; "
                "fix one"
            )
        collected.add(f"{folder}/{file}", label, line, where)
    return collected


def _ssv2_lists(source: Path) -> list[VideoList]:
    """`labels.json` (name: id), `train.json` and `validation.json` (id and template)."""
    origin = "the labels package of Something-Something v2 from Qualcomm's site"
    needed = ("labels.json", "train.json", "validation.json")
    names = "labels.json, train.json and validation.json (or something-something-v2-*.json)"

    def labels_file(files: list[str]) -> str | None:
        prefixes = (p for p in SSV2_PREFIXES if {f"{p}{name}" for name in needed} <= set(files))
        return next((f"{p}labels.json" for p in prefixes), None)

    path = find_official(source, labels_file, f"{names} in one folder", origin)
    names = _ssv2_names(path)
    places = {_ssv2_key(name): index for index, name in enumerate(names)}
    lists = []
    for split in ("train", "validation"):
        listed = path.with_name(path.name.replace("labels", split))
        lists.append(_ssv2_entries(listed, places, path).as_list(split, names, listed))
    return lists


def _ssv2_key(text: str) -> str:
    """A template or a name without brackets, quotes, case and extra blanks."""
    return " ".join(re.sub("[][\"'`’‘“”]", "", text).lower().split())


def _ssv2_names(path: Path) -> tuple[str, ...]:
    """Class names in the order of their ids."""
    ids: dict[int, str] = {}
    keys: dict[str, str] = defaultdict(str)
    for name, class_id in _json(path, dict).items():
        if whole_number(str(class_id)) is None:
            raise UserError(
                f"{path}: the id of {name!r:.100} is {class_id!r:.100}; expected a whole number, "
                'as in "0"'
            )
        other = ids.get(int(class_id)) or keys[_ssv2_key(name)]
        if other:
            raise UserError(
                f"{path}: {name!r:.100} and {other!r:.100} share an id or a name; each may come "
                "once"
            )
        ids[int(class_id)] = keys[_ssv2_key(name)] = name
    if not ids:
        raise UserError(f"{path}: no classes; expected an object of names and ids")
    return tuple(re.sub(r"[][]", "", ids[i]) for i in sorted(ids))


def _ssv2_entries(path: Path, places: dict[str, int], labels: Path) -> Collected:
    """The videos of one list, as `ID.webm`."""
    collected = Collected()
    for place, item in enumerate(_json(path, list), start=1):
        where = f"{path}: entry {place}"
        if not isinstance(item, dict) or not {"id", "template"} <= set(item):
            raise UserError(
                f"{where}: expected an object with id and template; download the file again"
            )
        video, template = str(item["id"]), str(item["template"])
        if not re.fullmatch("[0-9]{1,18}", video):
            raise UserError(f"{where}: id {video!r:.60} is not a number; download the file again")
        label = places.get(_ssv2_key(template))
        if label is None:
            raise UserError(
                f"{where}: video {video} has template {template!r:.200}, not in {labels}; is it "
                "of this release?"
            )
        collected.add(f"{video}.webm", label, 0, where)
    return collected


def _json(path: Path, kind: type):
    """Reads a JSON file that holds an object or a list."""
    form = "an object of names and ids" if kind is dict else "a list of videos"
    remedy = f"expected {form}; download the file again"
    return parse_json(read_text(path, "annotation file"), str(path), kind, remedy=remedy)
