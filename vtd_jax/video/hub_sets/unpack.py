"""Lays a data set of a hub out as lists and files, in our cache folder, for `build_records`."""

import json
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vtd_jax.console.consent import amount, check_room
from vtd_jax.errors import UserError
from vtd_jax.files import cache_folder, make_folders, remedy, replacing, write_text
from vtd_jax.locks import locked
from vtd_jax.terminal import counted, log, warn
from vtd_jax.untrusted.json_text import read_json
from vtd_jax.untrusted.limits import (
    DATA_SET_CLASSES,
    DATA_SET_ROWS,
    DATA_SET_SPLITS,
    NAME_CHARACTERS,
)
from vtd_jax.video.hub_sets.rows import Row, Rows
from vtd_jax.video.hub_sets.tables import Tables
from vtd_jax.video.suffixes import is_video

_WHOLE = "whole.json"
_LABELS = "labels.csv"
_NAME_BYTES = 150


class Unpacked(NamedTuple):
    """A data set as lists and files.

    Attributes:
      folder: with the videos, and all else.
      lists: pairs of a list and its labels.
    """

    folder: Path
    lists: tuple[tuple[str, str], ...]


def finished(mark: str, files: Sequence[str]) -> Unpacked | None:
    """What was laid out before, if it is whole; None where it is to be made.

    Args:
      mark: of the data set and its files.
      files: of the hub's cache: without tables they are what is laid out, and needed.
    """
    folder = _folder(mark)
    try:
        kept = read_json(folder / _WHOLE, dict[str, list[str] | bool], most=2**20)
    except UserError:
        return None
    splits, linked = kept.get("splits"), kept.get("linked")
    if not isinstance(splits, list) or linked is not False or not files:
        return None
    return _unpacked(folder, splits)


def unpacked(
    folder: Path, files: Sequence[str], card: Mapping[str, Sequence[str]], mark: str, what: str
) -> Unpacked:
    """Writes the videos of tables, and links others, with a list for each split.

    Args:
      folder: that the files lie in.
      files: paths below it.
      card: class names by column, as the data set's card says them.
      mark: of the data set and its files; what was laid out by it is continued.
      what: the data set, for messages.

    Raises:
      UserError: tables that cannot be read, no labels, more than the limits, or no room.
    """
    if (found := finished(mark, files)) is not None:
        return found
    target = _folder(mark)
    try:
        make_folders(target)
        lock = target.with_name(f".{target.name}.lock")
        with locked(lock, what, stays=False, waits=True), Tables() as reader:
            rows = Rows(folder, files, card, what, reader)
            check_room(what, max(0, rows.bytes - _held(target)), target)
            return _Laid(folder, target, rows, what).out()
    except OSError as error:
        raise UserError(
            f"{what}: {error.filename or target}: {error.strerror or error}{remedy(error)}"
        ) from None


def _folder(mark: str) -> Path:
    return cache_folder() / "videos" / "hub" / mark


def _unpacked(folder: Path, splits: Sequence[str]) -> Unpacked:
    lists = [(str(folder / f"{split}.txt"), str(folder / _LABELS)) for split in splits]
    return Unpacked(folder, tuple(lists))


def _held(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*-videos/*") if path.is_file())


class _Laid:
    """A data set on its way into a folder."""

    def __init__(self, source: Path, target: Path, rows: Rows, what: str):
        self._source, self._target, self._rows, self._what = source, target, rows, what
        self._names: set[str] = set()
        self._lists: dict[str, list[tuple[str, str]]] = {}
        # bytes of videos: that were read, and that are in lists
        self._read, self._bytes, self._secret, self._linked = 0, 0, 0, False

    def out(self) -> Unpacked:
        """Lays everything out; the mark of wholeness comes last."""
        # rich, which only this needs
        from vtd_jax.console.progress import Progress

        label = f"unpacking {self._what}"
        with Progress(label, self._rows.count, form=lambda done: f"{done:.0f} videos") as progress:
            for number, row in enumerate(self._rows):
                if number >= DATA_SET_ROWS:
                    raise UserError(f"{self._what}: more than {DATA_SET_ROWS:,} videos")
                self._add(number, row)
                progress.update(number + 1)
        if self._secret:
            there = counted(self._secret, "video")
            warn(f"{self._what}: {there} without a label left out: a secret test set")
        if not self._lists:
            raise UserError(f"{self._what}: no video with a label")
        if len(self._lists) > DATA_SET_SPLITS:
            raise UserError(
                f"{self._what}: {len(self._lists):,} splits, expected at most {DATA_SET_SPLITS}"
            )
        places = self._places()
        for split, entries in self._lists.items():
            lines = [f"{file} {places[label]}\n" for file, label in entries]
            write_text(self._target / f"{split}.txt", "".join(lines))
        quoted = [f'{place},"{_quoted(name)}"\n' for name, place in places.items()]
        write_text(self._target / _LABELS, "".join(quoted))
        kept = {"splits": list(self._lists), "linked": self._linked}
        write_text(self._target / _WHOLE, json.dumps(kept))
        said = ", ".join(f"{split} {len(entries)}" for split, entries in self._lists.items())
        size = f"{amount(self._bytes)} unpacked into" if self._bytes else "laid out in"
        log(f"{self._what}: {said}; {size} {self._target}")
        return _unpacked(self._target, list(self._lists))

    def _add(self, number: int, row: Row) -> None:
        if row.content is not None:
            # before anything is left out: one value of a dictionary can be that of a million rows
            self._read += len(row.content)
            if self._read > self._rows.bytes:
                raise UserError(
                    f"{self._what}: more bytes of videos than the tables' footers claim"
                )
        if row.label is None:
            self._secret += 1
            return
        path = self._free(number, row)
        self._lists.setdefault(row.split, []).append((path, row.label))
        place = self._target / path
        if row.content is not None:
            self._bytes += len(row.content)
            _write(place, row.content)
        elif row.file is not None:
            self._linked = True
            _link(place, self._source / row.file)

    def _free(self, number: int, row: Row) -> str:
        """A path that no other row has, also where letters of both cases are one."""
        name = _safe(row.name, row.content)
        missing = row.content is None and row.file is None
        path, again = f"{row.split}-videos/{name}", 0
        while missing or _folded(path) in self._names:
            # a name of its own: no other video is taken for one that is missing
            mark = "missing-" if row.content is None and row.file is None else ""
            path = f"{row.split}-videos/{mark}{number:07d}{'.' * again}-{name}"
            missing, again = False, again + 1
        self._names.add(_folded(path))
        return path

    def _places(self) -> dict[str, int]:
        """The number of each class."""
        used = {label for entries in self._lists.values() for _, label in entries}
        names = sorted(used) if self._rows.classes is None else list(self._rows.classes)
        if other := used.difference(names):
            raise UserError(
                f"{self._what}: some labels are numbers, and {min(other)!r:.100} is none"
            )
        if len(names) > DATA_SET_CLASSES:
            raise UserError(
                f"{self._what}: {len(names):,} classes, expected at most {DATA_SET_CLASSES:,}"
            )
        if bad := [name for name in names if not name.strip() or not name.isprintable()]:
            raise UserError(f"{self._what}: {bad[0]!r:.100} is no name of a class")
        places = {name: place for place, name in enumerate(names)}
        if len(places) < len(names):
            twice = next(name for place, name in enumerate(names) if places[name] != place)
            raise UserError(f"{self._what}: two classes are called {twice!r:.100}")
        return places


def _folded(path: str) -> str:
    """What two paths have in common that are one on some file systems."""
    return unicodedata.normalize("NFC", path).casefold()


def _write(place: Path, content: bytes) -> None:
    """Writes a video; one of its name and size was written whole before."""
    if place.is_file() and place.stat().st_size == len(content):
        return
    make_folders(place.parent)
    with replacing(place) as temporary:
        temporary.write_bytes(content)


def _link(place: Path, source: Path) -> None:
    # the hub's cache may have moved
    if not place.is_symlink() or os.readlink(place) != str(source):
        make_folders(place.parent)
        place.unlink(missing_ok=True)
        os.symlink(source, place)


def _safe(name: str, content: bytes | None) -> str:
    """A stranger's name of a video as that of a file here, without folders.

    Names stay as they are where they can: a hash of the name orders records and draws shots.
    """
    name = name[-NAME_CHARACTERS:].replace("\\", "/").rpartition("/")[2]
    name = re.sub(r"[^\w.,+=()#@& -]", "_", name).strip()
    stem, ending = os.path.splitext(name)
    if not is_video(name):
        stem, ending = name, _ending(content or b"")
    # file systems count bytes; a dot in front would hide the file
    stem = stem.encode()[-_NAME_BYTES:].decode(errors="ignore").lstrip(". ")
    return f"{stem or 'video'}{ending}"


def _ending(content: bytes) -> str:
    """The ending of a video's name, by how its bytes begin."""
    if content[:4] == b"RIFF":
        return ".avi"
    if content[:4] == b"\x1a\x45\xdf\xa3":
        return ".webm"
    return ".gif" if content[:4] == b"GIF8" else ".mp4"


def _quoted(name: str) -> str:
    return name.replace('"', '""')
