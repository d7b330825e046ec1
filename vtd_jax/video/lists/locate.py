"""Finds the file that a list's name means, whatever the user's folders and containers."""

import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from vtd_jax.errors import UserError
from vtd_jax.files import folded
from vtd_jax.printable import listed, printable
from vtd_jax.terminal import counted, warn
from vtd_jax.texts import quoted_pair
from vtd_jax.video.lists.catalog import Entry, VideoList, spoken
from vtd_jax.video.suffixes import is_video

# what the two halves of a data set are called in folder names
HALVES = {"train", "val", "test"}
SPLITS = {"training": "train", "validation": "val", "validate": "val", "valid": "val"}


def scan_folders(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Walks a folder, shallow first; skips hidden names, follows folder links once.

    Yields:
      `(path, files)` a folder: its path relative to `folder` in posix style ("" for `folder`
      itself) and the names of its files, both sorted.

    Raises:
      UserError: if `folder` is no folder, or one cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; check the path")
    level, seen = [""], set()
    while level:
        inner: list[tuple[bool, str]] = []
        for path in level:
            status = os.stat(folder / path)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            files, folders = _read_folder(folder / path)
            yield path, files
            inner.extend((linked, f"{path}/{name}" if path else name) for linked, name in folders)
        # real folders before links, so that a link to a folder beside it does not rename its files
        level = [path for _, path in sorted(inner)]


def _read_folder(folder: Path) -> tuple[list[str], list[tuple[bool, str]]]:
    """Names of the files of a folder, and `(is a link, name)` of its folders."""
    files, folders = [], []
    try:
        with os.scandir(folder) as found:
            for item in found:
                if item.name.startswith("."):
                    continue
                try:
                    if item.is_dir():
                        folders.append((item.is_symlink(), item.name))
                    elif item.is_file():
                        files.append(item.name)
                except OSError:
                    continue  # a broken or circular link
    except OSError as error:
        raise UserError(
            f"{folder}: the folder cannot be read ({error.strerror}); check its permissions"
        ) from None
    return sorted(files), folders


def split_name(folder: str) -> str:
    """The split in a folder's name: "train" for `train_256`, "val" for `validation`."""
    word = re.split(r"[^a-z0-9]", folder.lower(), maxsplit=1)[0]
    return SPLITS.get(word, word)


class VideoIndex:
    """The videos under a folder, found by the names that lists use."""

    def __init__(self, video_dir: Path):
        self.video_dir = Path(video_dir)
        self._paths: set[str] = set()
        self._names: dict[str, list[str]] = defaultdict(list)
        self._stems: dict[str, list[str]] = defaultdict(list)
        self._folded: dict[str, list[str]] | None = None
        for folder, files in scan_folders(self.video_dir):
            for name in files:
                stem, _ = os.path.splitext(name)
                if is_video(name):
                    path = f"{folder}/{name}" if folder else name
                    self._paths.add(path)
                    self._names[name].append(path)
                    self._stems[stem].append(path)

    def files(self) -> list[str]:
        """Every video, as a posix path relative to the folder, sorted."""
        return sorted(self._paths)

    def find(self, file: str) -> str | None:
        """The video that a list's file name means.

        The path itself comes first, then the only video of that base name, then the only one of
        that stem: so `train/ID.mp4` finds `train_256/abseiling/ID.mkv`. Of several, the one whose
        last folders are those of the list counts, then the one under folders of the same names or
        of the same half (train, val).

        Args:
          file: the name as the list has it.

        Returns:
          A posix path relative to the folder; None if there is no such video.

        Raises:
          UserError: if several videos fit equally well.
        """
        wanted = PurePosixPath(file)
        path = str(wanted)
        for spelling in (path, posixpath.normpath(path), self._below(path)):
            if spelling in self._paths:
                return spelling
        # an exact path also finds hidden files, other suffixes, and files outside the folder
        if os.path.isfile(self.video_dir / path):
            return path
        found = self._names.get(wanted.name) or self._stems.get(wanted.stem) or []
        if len(found) < 2:
            return found[0] if found else None
        ranks = {other: _likeness(wanted, PurePosixPath(other)) for other in found}
        best = sorted(other for other in found if ranks[other] == max(ranks.values()))
        if len(best) > 1:
            # folders are named after classes, whose spellings differ
            best = [other for other in best if _spoken(other).endswith(_spoken(path))] or best
        if len(best) > 1:
            raise UserError(
                f"{self.video_dir}: {file!r:.200} of the list may be any of {listed(best, 4)}; "
                "write the path in the list, or point at a folder that holds one of them"
            )
        return best[0]

    def is_outside(self, file: str) -> bool:
        """Whether `find` left the folder by `..` or an absolute path; links may."""
        if not os.path.isabs(file) and ".." not in file.split("/"):
            return False
        root = os.path.realpath(self.video_dir)
        # not the spelling: behind a link, .. is another folder than the one before
        return os.path.commonpath((root, os.path.realpath(self.video_dir / file))) != root

    def near(self, file: str) -> list[str]:
        """Videos that differ from a missing name in Unicode form, case or backslashes only."""
        if self._folded is None:
            self._folded = defaultdict(list)
            for path in sorted(self._paths):
                for key in set(_spellings(path)):
                    self._folded[key].append(path)
        wanted = _spellings(posixpath.normpath(file.replace("\\", "/")))
        return next((self._folded[key] for key in wanted if key in self._folded), [])

    def _below(self, path: str) -> str:
        """An absolute path relative to the folder; others as they are."""
        if not os.path.isabs(path):
            return path
        return os.path.relpath(path, os.path.abspath(self.video_dir))


def _spellings(path: str) -> tuple[str, str, str]:
    """A path, its name and its stem, all case-folded."""
    whole = folded(path)
    name = whole.rpartition("/")[2]
    return whole, name, posixpath.splitext(name)[0]


def _spoken(path: str) -> str:
    """A path with its folders as class names read."""
    return "/" + "/".join(map(spoken, path.split("/")))


def akin(wanted: str, found: str) -> bool:
    """Whether listed and found folders may match: they share a name, or one says nothing."""
    ours, theirs = (_folder_names(path) for path in (wanted, found))
    return not ours or not theirs or bool(ours & theirs) or ours <= HALVES


def _folder_names(path: str) -> set[str]:
    """The folders of a path as class names read, and "train" for `train_256`."""
    return {
        half if (half := split_name(part)) in HALVES else spoken(part)
        for part in PurePosixPath(path).parts[:-1]
    }


def _likeness(wanted: PurePosixPath, found: PurePosixPath) -> tuple[int, int, int]:
    """How well two paths agree: equal last folders, shared folder names, shared splits."""
    ours, theirs = wanted.parts[:-1], found.parts[:-1]
    last = 0
    while last < min(len(ours), len(theirs)) and ours[-1 - last] == theirs[-1 - last]:
        last += 1
    halves = {split_name(name) for name in ours} & {split_name(name) for name in theirs}
    return last, len(set(ours) & set(theirs)), len(halves & HALVES)


def class_folders(video_dir: Path) -> VideoList:
    """Lists videos laid out as `CLASS/…/file`: the top folders that hold videos are the classes.

    Args:
      video_dir: the folder of the class folders; videos that lie in it directly belong to no class
        and are left out, with a warning.

    Returns:
      A list named after the folder, sorted by class and path, with the folders' names as they are.

    Raises:
      UserError: if no folder in it holds a video, or two folders' names read the same to CLIP.
    """
    found = VideoIndex(video_dir).files()
    files = [file for file in found if "/" in file]
    names = sorted({file.split("/", 1)[0] for file in files})
    if not names:
        raise UserError(
            f"{video_dir}: no folder in it holds a video; expected {video_dir}/CLASS/video.mp4"
        )
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(spoken(name), name)
        if other != name:
            other, name = quoted_pair(other, name)
            raise UserError(
                f"{video_dir}: folders {other} and {name} name the same class; merge them"
            )
    if loose := [printable(file) for file in found if "/" not in file]:
        lie, are = ("lies", "is") if len(loose) == 1 else ("lie", "are")
        warn(
            f"{video_dir}: {counted(len(loose), 'video')} {lie} outside the class folders and "
            f"{are} left out: {listed(loose, 3)}; move each into the folder of its class"
        )
    place = {name: index for index, name in enumerate(names)}
    entries = sorted(
        (Entry(file, place[file.split("/", 1)[0]], 0) for file in files),
        key=lambda e: (e.label, e.file),
    )
    return VideoList(
        Path(video_dir).resolve().name, tuple(entries), tuple(names), "given", str(video_dir)
    )
