"""Which columns of a data set on a hub hold its videos and labels, and what its classes are."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vtd_jax.errors import UserError
from vtd_jax.printable import brief, listed
from vtd_jax.untrusted.limits import DATA_SET_CLASSES, TEXT_CHARACTERS
from vtd_jax.untrusted.parquet import BYTES, FILE, NUMBER, TEXT
from vtd_jax.video.hub_sets.tables import Look

VIDEOS = ("video", "videos", "clip", "file", "file_name", "filename", "video_path", "path", "mp4")
# what a column of videos can hold
_OF_VIDEOS = (FILE, BYTES, TEXT)
LABELS = ("label", "labels", "class", "class_name", "label_name", "action", "category", "activity")


class Columns(NamedTuple):
    """The columns of a table that are read.

    Attributes:
      video, label: their names.
      classes: names of the numbers in `label`; None where that has texts.
    """

    video: str
    label: str
    classes: tuple[str, ...] | None


def columns_of(table: Look, card: Mapping[str, Sequence[str]], what: str) -> Columns:
    """The columns of a Parquet file.

    Args:
      table: what is in the file.
      card: class names by column, as the data set's card says them.
      what: the data set, for messages.

    Raises:
      UserError: none can be a video or label, or several can; or labels are numbers without names.
    """
    kinds = table.kinds
    types = {name: _type(feature) for name, feature in table.features.items() if name in kinds}
    # a stranger can call any column a video
    videos = [n for n, type_ in types.items() if type_ == "Video" and kinds[n] in _OF_VIDEOS]
    if not videos:
        # pictures and sounds have the same form
        others = {name for name, type_ in types.items() if type_ in ("Image", "Audio")}
        files = [n for n, kind in kinds.items() if kind in (FILE, BYTES) and n not in others]
        videos = files or [name for name in VIDEOS if kinds.get(name) == TEXT]
    video = _one(videos, VIDEOS)
    labels = [name for name, type_ in types.items() if type_ == "ClassLabel"]
    labels = labels or [name for name in LABELS if kinds.get(name) in (TEXT, NUMBER)]
    label = _one(labels, LABELS)
    if not video or not label:
        found = listed([f"{name!r:.60} ({kind})" for name, kind in kinds.items()], 12)
        lacks = "videos" if not video else "labels"
        raise UserError(
            f"{what}: no one column of {lacks}, expected {VIDEOS[0]!r} (bytes and path) and "
            f"{LABELS[0]!r}; {table.where} has {found or 'none'}"
        )
    if kinds[label] == TEXT:
        return Columns(video, label, None)
    names = class_names(table.features.get(label)) or tuple(card.get(label, ()))
    if kinds[label] != NUMBER or not names:
        raise UserError(
            f"{what}: the labels in column {label!r:.60} of {table.where} are numbers, and neither "
            "the file nor the data set's card names their classes"
        )
    return Columns(video, label, names)


def class_names(feature: Any) -> tuple[str, ...]:
    """The names of a ClassLabel, as `datasets` writes it into files; () for anything else."""
    names = feature.get("names") if isinstance(feature, dict) else None
    if not isinstance(names, list) or len(names) > DATA_SET_CLASSES:
        return ()
    right = all(isinstance(name, str) and len(name) <= TEXT_CHARACTERS for name in names)
    return tuple(names) if right else ()


def class_of(value: str | int | None, classes: Sequence[str] | None, where: str) -> str | None:
    """The class name that a label stands for; None where a row has none.

    Raises:
      UserError: a number that no class has, or a text that cannot be a name.
    """
    if isinstance(value, str):
        if not value.strip():
            return None
        if not value.isprintable() or len(value) > TEXT_CHARACTERS:
            raise UserError(f"{where}: {brief(value)} is no name of a class")
        return value.strip()
    # -1 is `datasets`' number for a label that is kept secret
    if value is None or value == -1 or classes is None:
        return None
    if not 0 <= value < len(classes):
        raise UserError(f"{where}: class {value}, and there are {len(classes)} class names")
    return classes[value]


def _type(feature: Any) -> str:
    found = feature.get("_type") if isinstance(feature, dict) else ""
    return found if isinstance(found, str) else ""


def _one(found: Sequence[str], known: Sequence[str]) -> str:
    """The one column; of several the one with the first of the known names, "" for none."""
    if len(found) == 1:
        return found[0]
    return next((name for name in known if name in found), "")
