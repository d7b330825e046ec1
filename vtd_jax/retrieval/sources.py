"""The videos to index: where they are, and what says that they changed."""

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from vtd_jax.errors import UserError
from vtd_jax.printable import utf8
from vtd_jax.untrusted.limits import NAME_CHARACTERS
from vtd_jax.video.lists.addresses import Copy, is_address, missing, named
from vtd_jax.video.lists.find import find_by_source


class Source(NamedTuple):
    """A video to index.

    Attributes:
      video: path that opens it.
      root: the folder that its path begins at, absolute; or that of its address.
      path: from there.
      size: of the file, bytes.
      mtime: when it was changed, ns since 1970.
    """

    video: Path
    root: str
    path: str
    size: int
    mtime: int

    @property
    def name(self) -> str:
        """What an index calls it."""
        return os.path.join(self.root, self.path)


def find_sources(given: Sequence[str], flag: str, *, may_be_empty: bool = False) -> list[Source]:
    """The videos of files, folders and globs, each once.

    A video is called by its absolute path, in which links stay as they are: who moves the disk
    behind a link keeps the names.

    Args:
      given: as for `find_videos`. A folder is the root of its videos; so is the part of a glob
        before its first sign, and the folder of a file.
      flag: what messages call them.
      may_be_empty: whether folders may have no videos; they must exist.

    Raises:
      UserError: as `find_videos`; or two names that are the same as text.
    """
    folders = {one: _root(one) for one in given if not is_address(one)}
    roots = {one: utf8(_absolute(folder)) for one, folder in folders.items()}
    found: dict[str, Source] = {}
    for video, one in find_by_source(given, flag, may_be_empty=may_be_empty):
        size = mtime = 0
        try:
            # the encoder says why there is no copy
            if not missing(video):
                size, mtime = (status := os.stat(video)).st_size, status.st_mtime_ns
        except OSError as error:
            raise UserError(f"{video}: {error.strerror}; has it just been removed?") from None
        if isinstance(video, Copy):
            root, path = utf8(named(video)).rpartition("/")[::2]
        else:
            root, path = roots[one], utf8(os.path.relpath(video, folders[one] or "."))
        source = Source(video, root, path, size, mtime)
        name = source.name
        if len(name) > NAME_CHARACTERS:
            raise UserError(f"{name}: a path of {len(name):,} characters; move it further up")
        if name in found:
            raise UserError(
                f"{name}: two videos of this name, one with bytes that are not UTF-8; rename one"
            )
        found[name] = source
    return list(found.values())


def real_names(names: Iterable[str]) -> dict[str, str]:
    """Absolute paths of files, with the links in their folders resolved, of each name.

    Two names of one file differ, and these do not. What is no absolute path stays as it is.
    """
    folders: dict[str, str] = {}
    found = {}
    for name in names:
        folder, file = os.path.split(name)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder) if os.path.isabs(folder) else folder
        found[name] = os.path.join(folders[folder], file)
    return found


def is_gone(name: str) -> bool:
    """Whether there is certainly no such file; False where its folder cannot be read."""
    try:
        os.lstat(name)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass
    return False


def _absolute(folder: str) -> str:
    """The absolute path of a folder, without `..`; links in it stay."""
    plain = os.path.abspath(folder)
    # link/.. is not the folder that has the link
    there = os.path.realpath(folder)
    return plain if os.path.realpath(plain) == there else there


def _root(given: str) -> str:
    if os.path.isdir(given):
        return given
    if os.path.exists(given):
        return os.path.dirname(given)
    parts = Path(given).parts
    plain = [glob.has_magic(part) for part in parts].index(True) if glob.has_magic(given) else 0
    return os.path.join(*parts[:plain]) if plain else "."
