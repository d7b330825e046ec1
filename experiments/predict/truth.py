"""The labels that videos have, where they are known: of their folders, or of a CSV."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.untrusted.csv_text import csv_rows
from vtd_jax.video.lists.catalog import read_text, spoken

FOLDERS = "folders"


def read_truth(value: str, videos: Sequence[Path], labels: Sequence[str]) -> dict[Path, str]:
    """The label of every video of which one is known.

    Args:
      value: "folders": every video is in the folder of its label; or a CSV of `file,label` rows (a
        header of these two words is left out), files as paths from the CSV's folder or from here,
        or as names where that is enough.
      videos: what is asked about.
      labels: those that are chosen from; one is the same as another when CLIP reads the same text.

    Raises:
      UserError: with the file and line, a label that is none of these, a file without one, one
        listed twice, no CSV; or a CSV that has none of the videos.
    """
    known = {spoken(label): label for label in labels}
    if value == FOLDERS:
        return {
            video: _label(video.absolute().parent.name, known, f"--truth={FOLDERS}: {video}")
            for video in videos
        }
    path = Path(value)
    if path.suffix.lower() != ".csv":
        raise UserError(
            f"--truth={value}: expected {FOLDERS!r}, or a file ending in .csv with rows of "
            "file,label"
        )
    rows = _rows(path, known)
    found = {
        video: rows[file]
        for video in videos
        if (file := _listed(video, path.parent, rows)) is not None
    }
    names = Counter(video.name for video in found)
    for file in rows:
        if names[file] > 1 and not os.path.dirname(file):
            raise UserError(
                f"{path}: {file!r:.200} is the name of {names[file]} videos; write their paths"
            )
    if not found:
        first = next(iter(rows))
        raise UserError(
            f"--truth={value}: none of the videos is in it; it begins with {first!r:.200}, not "
            f"{str(videos[0])!r}"
        )
    return found


def _rows(path: Path, known: Mapping[str, str]) -> dict[str, str]:
    """File to label."""
    found: dict[str, str] = {}
    for line, row in csv_rows(read_text(path, "list of labels of videos"), str(path)):
        fields = [field.strip() for field in row]
        where = f"{path}:{line}"
        if not any(fields) or (
            not found and [field.lower() for field in fields] == ["file", "label"]
        ):
            continue
        if len(fields) != 2 or "" in fields:
            raise UserError(
                f"{where}: expected 2 fields, file,label, with quotes around one that has a comma"
            )
        file = os.path.normpath(fields[0])
        if file in found:
            raise UserError(
                f"{where}: {fields[0]!r:.200} is listed before; each file may appear once"
            )
        found[file] = _label(fields[1], known, where)
    if not found:
        raise UserError(f"{path}: no rows, expected file,label")
    return found


def _listed(video: Path, folder: Path, rows: Mapping[str, str]) -> str | None:
    """The file of the list that a video is: its path from the list's folder or from here, or its
    name.
    """
    here, there = os.path.relpath(video), os.path.relpath(video, folder)
    places = (there, here, os.path.normpath(video), os.path.abspath(video), video.name)
    return next((place for place in places if place in rows), None)


def _label(text: str, known: Mapping[str, str], where: str) -> str:
    if spoken(text) not in known:
        raise UserError(
            f"{where}: {text!r:.100} is none of the {len(known)} labels; correct it, or add it to "
            "--labels"
        )
    return known[spoken(text)]
