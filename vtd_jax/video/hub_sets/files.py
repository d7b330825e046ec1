"""Which files of a data set on a hub are needed, and which split each belongs to, by names."""

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from vtd_jax.errors import UserError
from vtd_jax.printable import listed
from vtd_jax.video.suffixes import is_video

# words for the parts of a data set in names of files and folders -> the hub's word
_SPLITS = {
    "train": "train", "training": "train", "test": "test", "testing": "test", "eval": "test",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
}  # fmt: skip
_SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}(-[0-9a-f]+)?")
# folders that say nothing
_PLAIN = ("data", "videos", "clips")
# where `datasets` writes the tables of a set without configurations, and the hub's converter
_DEFAULTS = ("data", "default")
METADATA = ("metadata.csv", "metadata.jsonl")
_MOST = 60


class Table(NamedTuple):
    """A Parquet file of a data set.

    Attributes:
      file: path in the repository.
      config: folder of the configuration that it belongs to.
      split: as its name or folder says.
    """

    file: str
    config: str
    split: str


def chosen(
    sizes: Mapping[str, int | None], folder: str, wanted: Callable[[str], bool], what: str
) -> list[str]:
    """The files of a listing that hold videos, or say what is in them.

    Args:
      sizes: path -> bytes.
      folder: that all of them lie below; "" for all.
      wanted: whether a split is needed.
      what: the data set, for messages.

    Raises:
      UserError: there are no videos, none of the wanted splits, or several configurations.
    """
    below = f"{folder.rstrip('/')}/" if folder else ""
    names = sorted(name for name in sizes if name.startswith(below) and not _is_hidden(name))
    tables = tables_of(names)
    videos = [name for name in names if is_video(name)]
    if tables:
        configs = {table.config for table in tables}
        config = next((one for one in (folder.rstrip("/"), *_DEFAULTS) if one in configs), None)
        if len(configs) > 1 and config is None:
            known = listed(sorted(config or "." for config in configs), 8)
            raise UserError(
                f"{what}: tables of several configurations ({known}); name one, as {what}/FOLDER"
            )
        tables = [table for table in tables if config in (None, table.config)]
        found = [table.file for table in tables if wanted(table.split)]
        splits = [table.split for table in tables]
    else:
        about = [name for name in names if posixpath.basename(name) in METADATA or _is_list(name)]
        splits = [split_of(name) for name in videos]
        # a table of files may say another split than a folder
        found = [*about, *(videos if about else [v for v in videos if wanted(split_of(v))])]
        videos = []
    if not splits:
        there = listed([name for name in names if "/" not in name[len(below) :]], 6) or "nothing"
        raise UserError(
            f"{what}: neither Parquet files nor videos; there: {there}; archives are not read: "
            "unpack them, and give the folder"
        )
    if not found:
        known = listed(sorted(set(splits)), 8)
        raise UserError(f"{what}: none of the splits has a name that was asked for; there: {known}")
    # tables may name videos that lie beside them
    return [*found, *videos]


def tables_of(names: Iterable[str]) -> list[Table]:
    """The Parquet files among names: `CONFIG/SPLIT-00000-of-00002.parquet`, or of a branch that
    the hub makes `CONFIG/SPLIT/0000.parquet`.
    """
    found = []
    for name in names:
        stem, ending = posixpath.splitext(posixpath.basename(name))
        if ending != ".parquet" or _is_hidden(name):
            continue
        folder = posixpath.dirname(name)
        if stem.isdigit() and folder:
            folder, stem = posixpath.split(folder)
        shard = _SHARD.fullmatch(stem)
        split = shard[1] if shard else stem
        found.append(Table(name, folder, plain(_SPLITS.get(split.lower(), split))))
    return found


def split_of(file: str) -> str:
    """The split of a video, by the first folder that is called as one; "train" for none."""
    folders = file.split("/")[:-1]
    return next((_SPLITS[part.lower()] for part in folders if part.lower() in _SPLITS), "train")


def split_named(text: str) -> str:
    """The hub's word for a split; the text itself, in letters of file names, where it has none."""
    return plain(_SPLITS.get(text.strip().lower(), text.strip()))


def class_of(file: str) -> str | None:
    """The class of a video by its folder; None where no folder is called after one."""
    folders = [part for part in file.split("/")[:-1] if part.lower() not in (*_SPLITS, *_PLAIN)]
    return folders[-1] if folders else None


def split_of_list(file: str) -> str | None:
    """The split that a table of files is of, by its name or folder; None where it does not say."""
    stem = posixpath.splitext(posixpath.basename(file))[0].lower()
    if stem in _SPLITS:
        return _SPLITS[stem]
    folders = [part.lower() for part in file.split("/")[:-1]]
    return next((_SPLITS[part] for part in folders if part in _SPLITS), None)


def plain(text: str) -> str:
    """A text as the name of a list: letters, digits and _."""
    return re.sub(r"\W", "_", text)[:_MOST] or "train"


def _is_list(name: str) -> bool:
    stem, ending = posixpath.splitext(posixpath.basename(name))
    return ending in (".csv", ".jsonl") and stem.lower() in _SPLITS


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))
