"""Known labels of videos, from their folders or a CSV."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.untrusted.csv_text import csv_rows
from vtd_jax.video.lists.addresses import named
from vtd_jax.video.lists.catalog import read_text, spoken

FOLDERS = "folders"


def read_truth(value: str, videos: Sequence[Path], labels: Sequence[str]) -> dict[Path, str]:
    """Video -> known label; videos without one are left out.

    Args:
      value: "folders" if every video is in the folder of its label; or a CSV of `file,label` rows,
        with or without that header. Files are paths from the CSV's folder or the current one, or
        names if these are unique.
      videos: of the run.
      labels: to choose from; equal where CLIP reads the same text.

    Raises:
      UserError: no CSV, or one without any of the videos. With file and line: an unknown or missing
        label, or a file that is listed twice.
    """
    known = {spoken(label): label for label in labels}
    if value == FOLDERS:
        return {
            video: _label(video.absolute().parent.name, known, f"--truth={FOLDERS}: {named(video)}")
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
            f"{named(videos[0])!r}"
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
    """How the list names a video: a path from the list's folder or the current one, or a name."""
    paths = os.path.relpath(video, folder), os.path.relpath(video), os.path.normpath(video)
    # rows are normalised as paths, also addresses
    names = (*paths, os.path.abspath(video), os.path.normpath(named(video)), video.name)
    return next((name for name in names if name in rows), None)


def _label(text: str, known: Mapping[str, str], where: str) -> str:
    if spoken(text) not in known:
        raise UserError(
            f"{where}: {text!r:.100} is none of the {len(known)} labels; correct it, or add it to "
            "--labels"
        )
    return known[spoken(text)]
