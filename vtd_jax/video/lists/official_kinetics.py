"""The lists of a Kinetics-400 download: its CSV files or, without them, its folders of classes."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from vtd_jax.errors import UserError, setting
from vtd_jax.untrusted.csv_text import csv_rows
from vtd_jax.video.lists.catalog import VideoList, read_text
from vtd_jax.video.lists.locate import VideoIndex, split_name
from vtd_jax.video.lists.official_files import Collected, NoAnnotations, find_shallowest

COLUMNS = ("label", "youtube_id", "time_start", "time_end")
CSV_NAMES = {
    split: re.compile(rf"(kinetics[-_]?(400)?[-_])?({words})\.csv", re.IGNORECASE)
    for split, words in (("train", "train"), ("val", "val|validate|validation"))
}


def kinetics400_lists(source: Path) -> list[VideoList]:
    """`train` and `val`, from CSV files or else from `train/CLASS/` and `val/CLASS/`.

    Classes are sorted by name over both lists. A list whose CSV or folder is not there is left out.

    Raises:
      UserError: if there is neither, or with `file:line` for a row that cannot be right.
    """
    return _csv_lists(source) or _folder_lists(source)


def _csv_lists(source: Path) -> list[VideoList]:
    paths = {}
    for split, pattern in CSV_NAMES.items():
        first = lambda files, p=pattern: next(filter(p.fullmatch, files), None)  # noqa: E731
        path = find_shallowest(source, first, f"{split}.csv")
        if path is not None:
            paths[split] = path
    rows = {split: _rows(path) for split, path in paths.items()}
    names = sorted({row[0] for found in rows.values() for row in found})
    places = {name: index for index, name in enumerate(names)}
    lists = []
    for split, path in paths.items():
        collected = Collected()
        for name, stem, line in rows[split]:
            collected.add(f"{split}/{stem}.mp4", places[name], line, f"{path}:{line}")
        lists.append(collected.as_list(split, names, path))
    return lists


def _rows(path: Path) -> list[tuple[str, str, int]]:
    """`(class name, ID_START_END, line)` of every row of a CSV."""
    columns: list[int] = []
    rows = []
    for line, fields in csv_rows(read_text(path, "Kinetics CSV"), str(path)):
        where = f"{path}:{line}"
        if not any(field.strip() for field in fields):
            continue
        if not columns:
            header = [field.strip().lower() for field in fields]
            if not set(COLUMNS) <= set(header):
                raise UserError(
                    f"{where}: expected the header {','.join(COLUMNS)},split; is this Kinetics' "
                    "own CSV?"
                )
            columns = [header.index(name) for name in COLUMNS]
            continue
        if len(fields) <= max(columns):
            raise UserError(
                f"{where}: expected {','.join(COLUMNS)}, found {','.join(fields)!r:.200}; mend "
                "the row"
            )
        rows.append((*_clip([fields[i].strip().strip("\"'") for i in columns], where), line))
    return rows


def _clip(values: Iterable[str], where: str) -> tuple[str, str]:
    """Checks one row and names its file as the published lists do."""
    name, video, start, end = values
    if not name:
        raise UserError(f"{where}: the label is empty; expected a class name")
    if not re.fullmatch(r"[\w-]{1,100}", video):
        raise UserError(f"{where}: youtube_id {video!r:.60} is no id of a video; mend the row")
    seconds = [re.fullmatch(r"([0-9]{1,9})(\.[0-9]*)?", text) for text in (start, end)]
    if not all(seconds):
        raise UserError(
            f"{where}: expected times in seconds, found {start!r:.60} and {end!r:.60}; mend the row"
        )
    return name, f"{video}_{int(seconds[0][1]):06d}_{int(seconds[1][1]):06d}"


def _folder_lists(source: Path) -> list[VideoList]:
    """Lists from the shallowest `train` and `val` (or `train_256`, …) with class folders."""
    found: dict[str, dict[str, list[tuple[str, str]]]]
    found = {"train": defaultdict(list), "val": defaultdict(list)}
    for file in VideoIndex(source).files():
        parts = file.split("/")
        for depth, part in enumerate(parts[:-2]):
            if split_name(part) in found:
                place = "/".join(parts[: depth + 1])
                found[split_name(part)][place].append((parts[depth + 1].replace("_", " "), file))
                break
    chosen = {split: _shallowest(source, places) for split, places in found.items() if places}
    if not chosen:
        raise NoAnnotations(
            f"{source}: found neither train.csv and val.csv nor train/CLASS/ and val/CLASS/ with "
            "videos, in it or below; put the annotations of Kinetics-400 (DeepMind's site or the "
            "CVD Foundation's copy) there"
        )
    names = sorted({name for place in chosen for name, _ in found[place][chosen[place]]})
    labels = {name: index for index, name in enumerate(names)}
    lists = []
    for split, place in chosen.items():
        collected = Collected()
        for name, file in found[split][place]:
            collected.add(file, labels[name], 0, file)
        lists.append(collected.as_list(split, names, source / place))
    return lists


def _shallowest(source: Path, places: Iterable[str]) -> str:
    """The place with the fewest folders above it; UserError if there are several such."""
    ranked = sorted(places, key=lambda place: (place.count("/"), place))
    same = [place for place in ranked if place.count("/") == ranked[0].count("/")]
    if len(same) > 1:
        raise UserError(
            f"{source}: {', '.join(same)} look the same; point {setting('source')} at the "
            "folder of one of them"
        )
    return ranked[0]
