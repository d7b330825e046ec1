"""Lists of videos and label files in the field's interchange format.

A label file is a CSV of `id,name` rows, or has another form that `label_files` reads. A list has
one `file class_id` line per video. The class id follows the last blank, so names may contain
blanks. A leading `#` belongs to the name, as in HMDB-51. Blank lines are skipped.
"""

import hashlib
import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.files import is_possible, likely
from vtd_jax.texts import quoted_pair, read_as
from vtd_jax.untrusted import regular_files
from vtd_jax.untrusted.limits import NAME_CHARACTERS
from vtd_jax.video.lists.label_files import FORMS, parse_label_file
from vtd_jax.video.lists.label_rows import refuse_alike, whole_number
from vtd_jax.video.suffixes import ENDING

# where a list comes from; what comes later in this order takes precedence
ORIGINS = ("own split", "official", "given")


@dataclass(frozen=True)
class LabelSet:
    """Class names and the ids that lists use for them.

    Attributes:
      names: one name per class, in the order of the ids; the position is the class index of the
        records.
      ids: the id of each class in the label file, ascending.
      path: the file they came from, for messages.
      counted: whether the file has no ids, so that they were counted from 0 in its order.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    path: str = ""
    counted: bool = False

    def index(self, class_id: int) -> int:
        """The class index of an id; KeyError if there is no such id."""
        return self._positions[class_id]

    @cached_property
    def _positions(self) -> dict[int, int]:
        return {value: i for i, value in enumerate(self.ids)}


@dataclass(frozen=True)
class Entry:
    """One line of a list: file as written, class index, line number (from 1; 0 for none)."""

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
      origin: one of `ORIGINS`: "official" (the data set's own annotation), "given" (a file of the
        user's), or "own split" (made here by the protocol's rule).
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
      kind: "malformed", "missing", "outside", "unreadable", "no frames", "duplicate" or
        "mislabelled".
      where: the list, and the line where there is one, as `file:line`.
      file: the video as listed, or the line that cannot be read.
      reason: one line.
    """

    kind: str
    where: str
    file: str
    reason: str


def read_text(path: str | Path, what: str) -> str:
    """Reads a UTF-8 text file (a byte-order mark is dropped), with `\\n` at the ends of lines.

    Args:
      path: of the file.
      what: names it in the message of a failure.

    Raises:
      UserError: it is not there, is no regular file, too large, or not UTF-8.
    """
    path = Path(path)
    # `regular_files` reports folders, pipes and devices
    if not os.path.isfile(path) and not (is_possible(path) and path.exists() and not path.is_dir()):
        meant = likely(path)
        hint = f"was {quoted_pair(str(path), str(meant))[1]} meant?" if meant else "check the path"
        raise UserError(f"{path}: there is no such {what}; {hint}")
    return regular_files.read_text(path, what).replace("\r\n", "\n").replace("\r", "\n")


def read_labels(path: str | Path) -> LabelSet:
    """Reads a label file.

    Args:
      path: rows of ids and names, whose ids are whole numbers >= 0, in any order, gaps allowed; or
        one name a line, counted from 0; or another form that `parse_label_file` reads.

    Raises:
      UserError: with `file:line`, for a malformed row, an id or a name that appears twice, an empty
        name, or a file in another form; without a line for no classes at all, or an annotation.
        Names count as the same when CLIP would read the same text: Unicode form, case, underscores
        and blanks make no difference.
    """
    found = parse_label_file(read_text(path, "label file"), path)
    if not found.names:
        raise UserError(f"{path}: no classes; expected rows of the form id,name")
    if found.form == "annotation":
        raise UserError(
            f"{path}: an annotation of videos, which has no class ids; expected {FORMS}"
        )
    if found.ids is not None:
        return LabelSet(found.names, found.ids, str(path))
    unit = "entry" if found.form == "json" else "line"
    refuse_alike(found.names, found.places, path, unit)
    return LabelSet(found.names, tuple(range(len(found.names))), str(path), counted=True)


def spoken(name: str) -> str:
    """A class name as CLIP reads it, without differences of Unicode form, case or blanks."""
    return read_as(name.replace("_", " "))


def read_list(
    path: str | Path, labels: LabelSet, problems: list[Problem] | None = None
) -> list[Entry]:
    """Reads a list of videos.

    Args:
      path: text file of `file class_id` lines.
      labels: the classes that the ids refer to.
      problems: gets what is wrong with single lines, which are then left out; None raises at the
        first.

    Returns:
      Entries in the order of the file.

    Raises:
      UserError: with `file:line`, for a malformed line, an id outside the label file or a video
        listed twice (it would count twice in every accuracy); without a line, for a missing or
        empty list.
    """
    entries: list[Entry] = []
    seen: dict[str, int] = {}
    for line, text in enumerate(read_text(path, "list of videos").split("\n"), start=1):
        if not text.strip():
            continue
        try:
            entry = _list_line(text.strip(), line, labels)
            # ./x.mp4 is x.mp4
            first = seen.setdefault(posixpath.normpath(entry.file), line)
            if first != line:
                reason = f"{entry.file!r:.200} is already on line {first}; list each video once"
                raise _BadLine("duplicate", entry.file, reason)
        except _BadLine as bad:
            kind, file, reason = bad.args
            if problems is None:
                raise UserError(f"{path}:{line}: {reason}") from None
            problems.append(Problem(kind, f"{path}:{line}", file, reason))
            continue
        entries.append(entry)
    if not entries and not problems:
        raise UserError(f"{path}: the list is empty; expected lines of the form 'file class_id'")
    return entries


class _BadLine(Exception):
    """Kind, file and reason of a line that cannot be used."""


def _list_line(text: str, line: int, labels: LabelSet) -> Entry:
    """Reads one `file class_id` line."""
    if len(text) > NAME_CHARACTERS:
        found = f"a line of {len(text):,} characters"
        reason = f"{found}, expected 'file class_id' of at most {NAME_CHARACTERS:,}"
        raise _BadLine("malformed", f"{text[:60]}…", reason)
    parts = text.rsplit(None, 1)
    class_id = whole_number(parts[-1])
    if len(parts) != 2 or class_id is None:
        raise _BadLine("malformed", text, f"expected 'file class_id', found {text!r:.200}")
    file = parts[0].rstrip()
    if more := more_columns(file):
        reason = f"expected 'file class_id', found {more} in {text!r:.200}"
        raise _BadLine("malformed", text, reason)
    try:
        return Entry(file, labels.index(class_id), line)
    except KeyError:
        counted = ", counted from 0 as the file has none," if labels.counted else ""
        raise _BadLine(
            "mislabelled",
            file,
            f"class id {class_id} of {file!r:.200} is not in {labels.path or 'the label file'}, "
            f"which has {len(labels.ids)} ids{counted} from {labels.ids[0]} to {labels.ids[-1]}; "
            "is it the label file of this list?",
        ) from None


def more_columns(file: str) -> str:
    """What stands between a video's name and its class id, for a message; "" for nothing."""
    match = re.fullmatch(rf"\S.*?{ENDING}[\"']?([\s,;|][\s,;|0-9.+-]*)", file, re.IGNORECASE)
    if match is None:
        return ""
    return "more than one number" if re.search("[0-9]", match[1]) else f"{match[1].strip()!r}"


def select_shots(entries: Sequence[Entry], shots: int, seed: int) -> list[Entry]:
    """Draws `shots` videos of every class, the same for one seed whatever the order.

    With one seed, fewer shots are among more shots: the 2 of a class are two of its 4.

    Args:
      entries: the videos to draw from, each file once.
      shots: how many a class; a class with fewer gives all.
      seed: which ones.

    Raises:
      UserError: if `shots` is below 1.
    """
    if shots < 1:
        raise UserError(f"shots={shots}: expected at least 1 video a class")
    classes = defaultdict(list)
    for entry in entries:
        classes[entry.label].append(entry)
    chosen = set()
    for members in classes.values():
        members.sort(key=lambda entry: file_key(entry.file, seed))
        chosen.update(entry.file for entry in members[:shots])
    return [entry for entry in entries if entry.file in chosen]


def file_key(file: str, seed: int) -> bytes:
    """A sort key that looks random, fixed by the seed and the file name alone."""
    return hashlib.sha256(f"{seed}:{file}".encode(errors="surrogateescape")).digest()


def is_utf8(name: str) -> bool:
    """Whether a file's name is UTF-8; os.fsdecode puts surrogates for other bytes."""
    return name.isascii() or not any("\udc80" <= sign <= "\udcff" for sign in name)
