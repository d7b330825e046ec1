"""The labels that videos have, where they are known: of their folders, or of a CSV."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.video.catalog import read_text, spoken

FOLDERS = "folders"


def read_truth(value: str, videos: Sequence[Path], labels: Sequence[str]) -> dict[Path, str]:
    """The label of every video of which one is known.

    Args:
      value: "folders": every video is in the folder of its label; or a CSV of `file,label` rows (a header of these two
        words is left out), files as paths from the CSV's folder or from here, or as names where that is enough.
      videos: what is asked about.
      labels: those that are chosen from; one is the same as another when CLIP reads the same text.

    Raises:
      UserError: with the file and line, a label that is none of these, a file without one, one listed twice, no CSV; or
        a CSV that has none of the videos.
    """
    known = {spoken(label): label for label in labels}
    if value == FOLDERS:
        return {video: _label(video.absolute().parent.name, known, f"--truth={FOLDERS}: {video}") for video in videos}
    path = Path(value)
    if path.suffix.lower() != ".csv":
        raise UserError(f"--truth={value}: expected {FOLDERS!r}, or a file ending in .csv with rows of file,label")
    rows = _rows(path, known)
    by_name: dict[str, set[str]] = {}
    for file in rows:
        by_name.setdefault(os.path.basename(file), set()).add(file)
    found = {}
    for video in videos:
        file = _listed(video, path.parent, rows, by_name)
        if file is not None:
            found[video] = rows[file]
    if not found:
        first = next(iter(rows), "")
        raise UserError(
            f"--truth={value}: has none of the videos ({first!r} is its first, {str(videos[0])!r} was given)"
        )
    return found


def _rows(path: Path, known: Mapping[str, str]) -> dict[str, str]:
    """File to label."""
    rows, found = csv.reader(read_text(path, "list of labels of videos").splitlines()), {}
    for row in rows:
        fields = [field.strip() for field in row]
        where = f"{path}:{rows.line_num}"
        if not any(fields) or (not found and [field.lower() for field in fields] == ["file", "label"]):
            continue
        if len(fields) != 2 or "" in fields:
            raise UserError(f"{where}: expected 2 fields, file,label, with quotes around one that has a comma")
        file = os.path.normpath(fields[0])
        if file in found:
            raise UserError(f"{where}: {fields[0]!r} is listed before; each file may appear once")
        found[file] = _label(fields[1], known, where)
    if not found:
        raise UserError(f"{path}: no rows, expected file,label")
    return found


def _listed(video: Path, folder: Path, rows: Mapping[str, str], by_name: Mapping[str, set[str]]) -> str | None:
    """The file of the list that a video is: the whole path, from the list's folder or from here, or its name alone."""
    places = (
        os.path.relpath(video, folder or "."),
        os.path.relpath(video),
        os.path.normpath(video),
        str(video.absolute()),
    )
    for place in places:
        if place in rows:
            return place
    alike = by_name.get(video.name, set())
    return next(iter(alike)) if len(alike) == 1 and os.path.dirname(next(iter(alike))) == "" else None


def _label(text: str, known: Mapping[str, str], where: str) -> str:
    if spoken(text) not in known:
        raise UserError(f"{where}: {text!r} is none of the {len(known)} labels; correct it, or add it to --labels")
    return known[spoken(text)]
