"""Lists as they lie in a record folder: positions of records with the classes of one protocol.

`lists/NAME.json` holds the class names of a list, record position and class of every video, the
videos left out with their reasons, and the origin of the list. Videos are stored once however many
lists name them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec
import numpy as np
from jaxtyping import Int64

from vtd_jax.errors import UserError, setting
from vtd_jax.files import write_text
from vtd_jax.fingerprints import fingerprint
from vtd_jax.printable import utf8
from vtd_jax.terminal import counted
from vtd_jax.untrusted.json_text import Count, read_json
from vtd_jax.video.lists.catalog import VideoList

FOLDER = "lists"


class _LeftOut(TypedDict):
    file: str
    where: str
    reason: str
    kind: NotRequired[str]


class _Content(TypedDict):
    name: str
    origin: Literal["own split", "official", "given"]
    source: str
    class_names: Annotated[list[str], msgspec.Meta(min_length=1)]
    records: Annotated[list[Count], msgspec.Meta(min_length=1)]
    labels: list[Count]
    left_out: list[_LeftOut]
    fingerprint: str


@dataclass(frozen=True, eq=False)
class StoredList:
    """One list of a record folder.

    Attributes:
      path: of its file.
      name: of the list.
      origin: "official", "given" or "own split".
      source: the file it was read from, or the rule that made it.
      class_names: K names.
      records: int64 `[N]`, positions of the list's videos in the records, ascending.
      labels: int64 `[N]`, in 0..K-1.
      left_out: file, place, kind ("missing" or "bad") and reason of every video that has no record.
      fingerprint: changes with the classes, the videos, their content, their order or how they are
        stored.
    """

    path: Path
    name: str
    origin: str
    source: str
    class_names: tuple[str, ...]
    records: Int64[np.ndarray, " n"]
    labels: Int64[np.ndarray, " n"]
    left_out: tuple[Mapping[str, str], ...]
    fingerprint: str

    @property
    def summary(self) -> str:
        """Name, origin, number of videos, and how many were left out, for tables."""
        origin = self.source if self.origin == "own split" else f"{self.origin} list"
        lacking = f", {len(self.left_out)} more left out" if self.left_out else ""
        return f"{self.name} ({origin}; {counted(len(self.records), 'video')}{lacking})"

    @property
    def noted(self) -> dict[str, str]:
        """What a training run stores about it, in its folder and checkpoints."""
        return {"origin": self.origin, "told": self.summary}


def list_content(
    listed: VideoList,
    found: Sequence[str | None],
    files: Mapping[str, tuple[int, int, str]],
    bad: Mapping[str, str],
    stored: Mapping,
) -> dict[str, Any]:
    """The content of the file of one list.

    Args:
      listed: the list.
      found: the file of every entry, None where there is none.
      files: file -> (position, bytes, SHA-256 or "") of every record.
      bad: file -> why it has no record.
      stored: settings of the records, part of the fingerprint.
    """
    rows, left_out = [], []
    for entry, file in zip(listed.entries, found):
        if file is not None and file in files:
            position, size, digest = files[file]
            # records of earlier versions have no digests, and lists of theirs keep their
            # fingerprints
            rows.append((position, entry.label, file, size, *filter(None, [digest])))
        else:
            kind, reason = "missing", "there is no such video file"
            if file is not None and file in bad:
                kind, reason = "bad", bad[file]
            row = {"file": entry.file, "where": listed.where(entry), "kind": kind, "reason": reason}
            left_out.append({key: utf8(text) for key, text in row.items()})
    rows.sort()
    identity = [dict(stored), listed.class_names, [row[1:] for row in rows]]
    return {
        "name": listed.name,
        "origin": listed.origin,
        "source": utf8(listed.source),
        # its JSON as it is, keys unsorted: lists of earlier versions have more of the same digits
        "fingerprint": fingerprint(json.dumps(identity)),
        "class_names": listed.class_names,
        "records": [row[0] for row in rows],
        "labels": [row[1] for row in rows],
        "left_out": left_out,
    }


def write_list(folder: Path, content: Mapping[str, Any]) -> Path:
    """Writes one list into a record folder, whole or not at all."""
    (folder / FOLDER).mkdir(exist_ok=True)
    return write_text(folder / FOLDER / f"{content['name']}.json", json.dumps(content) + "\n")


def list_names(folder: Path) -> list[str]:
    """Names of the lists in a record folder."""
    return sorted(
        path.stem for path in (folder / FOLDER).glob("*.json") if not path.name.startswith(".")
    )


def read_stored_list(folder: Path, name: str) -> StoredList:
    """Reads one list of a record folder.

    Raises:
      UserError: it cannot be read, its labels are not those of its classes, or its positions do not
        ascend.
    """
    path = folder / FOLDER / f"{name}.json"
    content = read_json(path, _Content, what="list of records", remedy=remedy())
    names = tuple(content["class_names"])
    records, labels = (np.asarray(content[key], np.int64) for key in ("records", "labels"))
    fault = ""
    if blank := [place for place, each in enumerate(names) if not each.strip()]:
        fault = f"class_names[{blank[0]}]: no text in it"
    elif len(labels) != len(records):
        fault = f"labels: {len(labels):,} of them, but {len(records):,} records"
    elif labels.max() >= len(names):
        place, classes = int(labels.argmax()), counted(len(names), "class", "classes")
        fault = f"labels[{place}]: {labels[place]:,}, but there are {classes}"
    elif len(steps := np.flatnonzero(np.diff(records) <= 0)):
        place = steps[0] + 1
        fault = f"records[{place}]: {records[place]:,}, expected more than the one before"
    if fault:
        raise UserError(f"{path}: {fault}; {remedy()}")
    origin, source, left_out = content["origin"], content["source"], tuple(content["left_out"])
    return StoredList(
        path, name, origin, source, names, records, labels, left_out, content["fingerprint"]
    )


def remedy() -> str:
    """What to do about a damaged list, for messages."""
    return (
        "remove this list and build with it again, or build all with "
        f"{setting('overwrite', of='build_records')}"
    )
