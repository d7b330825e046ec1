"""Lists as they lie in a record folder: positions of records with the classes of one protocol.

`lists/NAME.json` holds what a list needs besides the records: its class names, for every video the position of its
record and its class, which videos were left out and why, and where the list came from. Videos are stored once however
many lists name them.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from vtd_jax.errors import UserError
from vtd_jax.files import write_text
from vtd_jax.terminal import counted
from vtd_jax.video.catalog import VideoList

FOLDER = "lists"


@dataclass(frozen=True, eq=False)
class StoredList:
    """One list of a record folder.

    Attributes:
      name: of the list.
      origin: "official", "given" or "own split".
      source: the file it was read from, or the rule that made it.
      class_names: K names.
      records: int64 `[N]`, positions of the list's videos in the records, ascending.
      labels: int64 `[N]`, in 0..K-1.
      left_out: file, place, kind ("missing" or "bad") and reason of every video that has no record.
      fingerprint: changes with the classes, the videos, their order or how they are stored.
    """

    name: str
    origin: str
    source: str
    class_names: tuple[str, ...]
    records: Int64[np.ndarray, " n"]
    labels: Int64[np.ndarray, " n"]
    left_out: tuple[Mapping[str, str], ...]
    fingerprint: str

    @property
    def told(self) -> str:
        """Name, origin, number of videos, and how many were left out, for tables."""
        origin = self.source if self.origin == "own split" else f"{self.origin} list"
        lacking = f", {len(self.left_out)} more left out" if self.left_out else ""
        return f"{self.name} ({origin}; {counted(len(self.records), 'video')}{lacking})"


def list_content(
    listed: VideoList,
    found: Sequence[str | None],
    files: Mapping[str, tuple[int, int]],
    bad: Mapping[str, str],
    stored: Mapping,
) -> dict[str, Any]:
    """What the file of one list says.

    Args:
      listed: the list.
      found: the file of every entry, None where there is none.
      files: file -> (position, bytes) of every record.
      bad: file -> why it has no record.
      stored: settings of the records, part of the fingerprint.
    """
    rows, left_out = [], []
    for entry, file in zip(listed.entries, found):
        if file in files:
            rows.append((files[file][0], entry.label, file, files[file][1]))
        else:
            kind, reason = ("bad", bad[file]) if file in bad else ("missing", "there is no such video file")
            left_out.append({"file": entry.file, "where": listed.where(entry), "kind": kind, "reason": reason})
    rows.sort()
    identity = [dict(stored), listed.class_names, [row[1:] for row in rows]]
    return {
        "name": listed.name,
        "origin": listed.origin,
        "source": listed.source,
        "fingerprint": hashlib.sha256(json.dumps(identity).encode()).hexdigest(),
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
    return sorted(path.stem for path in (folder / FOLDER).glob("*.json") if not path.name.startswith("."))


def read_stored_list(folder: Path, name: str) -> StoredList:
    """Reads one list of a record folder.

    Raises:
      UserError: it cannot be read.
    """
    path = folder / FOLDER / f"{name}.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return StoredList(
            content["name"],
            content["origin"],
            content["source"],
            tuple(content["class_names"]),
            np.asarray(content["records"], np.int64),
            np.asarray(content["labels"], np.int64),
            tuple(content["left_out"]),
            content["fingerprint"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        told = f"{type(error).__name__}: {error}"
        raise UserError(f"{path}: this list cannot be read ({told}); build it again with --overwrite") from None
