"""Lists of videos and label files in the field's interchange format.

A label file is a CSV of `id,name` rows (a header row is optional, fields may be quoted). A list has one
`file class_id` line per video: the class id stands after the last blank, so file names may contain blanks, and a
leading `#` belongs to the name (HMDB-51 has such files). Blank lines are skipped.
"""

import csv
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.terminal import counted

# where a list comes from; what comes later in this order takes precedence
ORIGINS = ("own split", "official", "given")


@dataclass(frozen=True)
class LabelSet:
    """Class names and the ids that lists use for them.

    Attributes:
      names: one name per class, in the order of the ids; the position is the class index of the records.
      ids: the id of each class in the label file, ascending.
      path: the file they came from, for messages.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    path: str = ""

    def index(self, class_id: int) -> int:
        """The class index of an id; KeyError if there is no such id."""
        try:
            return self._positions[class_id]
        except AttributeError:
            object.__setattr__(self, "_positions", {value: i for i, value in enumerate(self.ids)})
            return self._positions[class_id]


@dataclass(frozen=True)
class Entry:
    """One line of a list: the file as written, its class index and the line it stands on (from 1; 0 for none)."""

    file: str
    label: int
    line: int


@dataclass(frozen=True)
class VideoList:
    """A named list of videos with classes of its own: what a protocol learns on or evaluates.

    Attributes:
      name: what configs call it, such as "base_train".
      entries: the videos; `label` is a place in `class_names`.
      class_names: one name a class.
      origin: one of `ORIGINS`: "official" (the data set's own annotation), "given" (a file of the user's), or "own
        split" (made here by the protocol's rule).
      source: the file it was read from, or the rule that made it; for messages and tables.
    """

    name: str
    entries: tuple[Entry, ...]
    class_names: tuple[str, ...]
    origin: str
    source: str

    def where(self, entry: Entry) -> str:
        """Where an entry stands: `file:line`, or the list's source.

        A star in the source stands for the entry's folder: HMDB-51 has a file for each class.
        """
        if not entry.line or self.origin == "own split":
            return self.source
        return f"{self.source.replace('*', entry.file.split('/')[0])}:{entry.line}"


@dataclass(frozen=True)
class Problem:
    """Something wrong with an entry of a list or with its video.

    Attributes:
      kind: "malformed", "missing", "unreadable", "no frames", "duplicate" or "mislabelled".
      where: the list, and the line where there is one, as `file:line`.
      file: the video as listed, or the line that cannot be read.
      reason: one line.
    """

    kind: str
    where: str
    file: str
    reason: str


def read_text(path: str | Path, what: str) -> str:
    """Reads a UTF-8 text file (a byte-order mark is dropped); `what` names it in the message of a failure."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such {what}; check the path")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8; save the {what} as UTF-8 text") from None


def read_labels(path: str | Path) -> LabelSet:
    """Reads a label CSV.

    Args:
      path: CSV of `id,name` rows; ids are integers >= 0, in any order, gaps allowed.

    Raises:
      UserError: with `file:line`, for a malformed row, an id or a name that appears twice, an empty name, or no
        classes at all. Names count as the same when CLIP would read the same text: case, underscores and runs of
        blanks make no difference.
    """
    rows = csv.reader(read_text(path, "label file").splitlines())
    found: dict[int, str] = {}
    lines: dict[int | str, int] = {}
    first = True
    for row in rows:
        if not any(field.strip() for field in row):
            continue
        where = f"{path}:{rows.line_num}"
        fields = [field.strip() for field in row]
        header = first and len(fields) == 2 and fields[0].lower() == "id"
        first = False
        if header:
            continue
        class_id, name = _label_row(fields, where)
        for key, text in ((class_id, f"class id {class_id}"), (spoken(name), f"class name {name!r}")):
            if key in lines:
                raise UserError(f"{where}: {text} is already on line {lines[key]}; each may appear once")
            lines[key] = rows.line_num
        found[class_id] = name
    if not found:
        raise UserError(f"{path}: no classes; expected rows of the form id,name")
    ids = tuple(sorted(found))
    return LabelSet(tuple(found[i] for i in ids), ids, str(path))


def spoken(name: str) -> str:
    """A class name as CLIP reads it: case, underscores and runs of blanks make no difference."""
    return " ".join(name.replace("_", " ").lower().split())


def _label_row(fields: list[str], where: str) -> tuple[int, str]:
    """Checks one `id,name` row."""
    if len(fields) != 2:
        hint = "put quotes around a name that contains a comma" if len(fields) > 2 else "add the missing field"
        raise UserError(f"{where}: expected 2 fields (id,name), found {len(fields)}; {hint}")
    class_id = _class_id(fields[0])
    if class_id is None:
        raise UserError(f"{where}: class id {fields[0]!r} is not a whole number >= 0; expected id,name")
    if not fields[1]:
        raise UserError(f"{where}: class {class_id} has an empty name; give it one")
    return class_id, fields[1]


def _class_id(text: str) -> int | None:
    """Parses a class id; None if it is not one."""
    return int(text) if text.isascii() and text.isdigit() else None


def read_list(path: str | Path, labels: LabelSet, problems: list[Problem] | None = None) -> list[Entry]:
    """Reads a list of videos.

    Args:
      path: text file of `file class_id` lines.
      labels: the classes that the ids refer to.
      problems: gets what is wrong with single lines, which are then left out; None raises at the first.

    Returns:
      Entries in the order of the file.

    Raises:
      UserError: with `file:line`, for a malformed line, an id outside the label file or a video listed twice (it
        would count twice in every accuracy); without a line, for a missing or empty list.
    """
    entries: list[Entry] = []
    seen: dict[str, int] = {}
    for line, text in enumerate(read_text(path, "list of videos").split("\n"), start=1):
        if not text.strip():
            continue
        try:
            entry = _list_line(text.strip(), line, labels)
            if entry.file in seen:
                first = seen[entry.file]
                raise _BadLine(
                    "duplicate", entry.file, f"{entry.file!r} is already on line {first}; list each video once"
                )
        except _BadLine as bad:
            kind, file, reason = bad.args
            if problems is None:
                raise UserError(f"{path}:{line}: {reason}") from None
            problems.append(Problem(kind, f"{path}:{line}", file, reason))
            continue
        seen[entry.file] = line
        entries.append(entry)
    if not entries and not problems:
        raise UserError(f"{path}: the list is empty; expected lines of the form 'file class_id'")
    return entries


class _BadLine(Exception):
    """Kind, file and reason of a line that cannot be used."""


def _list_line(text: str, line: int, labels: LabelSet) -> Entry:
    """Reads one `file class_id` line."""
    parts = text.rsplit(None, 1)
    class_id = _class_id(parts[-1])
    if len(parts) != 2 or class_id is None:
        raise _BadLine("malformed", text, f"expected 'file class_id', found {text!r}")
    file = parts[0].rstrip()
    try:
        return Entry(file, labels.index(class_id), line)
    except KeyError:
        raise _BadLine(
            "mislabelled",
            file,
            f"class id {class_id} of {file!r} is not in {labels.path or 'the label file'}, which has "
            f"{len(labels.ids)} ids from {labels.ids[0]} to {labels.ids[-1]}; is it the label file of this list?",
        ) from None


def select_shots(entries: Sequence[Entry], shots: int, seed: int, *, all_of_fewer: bool = False) -> list[Entry]:
    """Draws `shots` videos of every class that occurs, the same ones for the same seed whatever the order.

    With one seed, fewer shots are among more shots: the 2 of a class are two of its 4.

    Args:
      entries: the videos to draw from, each file once.
      shots: how many a class.
      seed: which ones.
      all_of_fewer: take every video of a class that has fewer than `shots`, instead of failing.

    Raises:
      UserError: if `shots` is below 1, or a class has fewer videos and `all_of_fewer` is off.
    """
    if shots < 1:
        raise UserError(f"shots={shots}: expected at least 1 video a class")
    classes = defaultdict(list)
    for entry in entries:
        classes[entry.label].append(entry)
    chosen = set()
    for label, members in sorted(classes.items()):
        if len(members) < shots and not all_of_fewer:
            raise UserError(f"class index {label} has {counted(len(members), 'video')}, fewer than shots={shots}")
        members.sort(key=lambda entry: file_key(entry.file, seed))
        chosen.update(entry.file for entry in members[:shots])
    return [entry for entry in entries if entry.file in chosen]


def file_key(file: str, seed: int) -> bytes:
    """A sort key that looks random, fixed by the seed and the file name alone."""
    return hashlib.sha256(f"{seed}:{file}".encode(errors="surrogateescape")).digest()


def utf8(name: str) -> bool:
    """Whether a file's name is UTF-8; names that are not come from the file system with stand-ins."""
    return name.isascii() or not any("\udc80" <= sign <= "\udcff" for sign in name)


def printable(name: str) -> str:
    """A file's name for messages, with the bytes that are not UTF-8 as `\\xNN`."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")
