"""The videos to index: where they are, and what says that they changed."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vtd_jax.errors import UserError
from vtd_jax.printable import utf8
from vtd_jax.untrusted.limits import NAME_CHARACTERS
from vtd_jax.video.lists.addresses import Copy, is_address, missing, named
from vtd_jax.video.lists.find import find_videos


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


def find_sources(given: Sequence[str], flag: str) -> list[Source]:
    """The videos of files, folders and globs, each once.

    Args:
      given: as for `find_videos`. A folder is the root of its videos; so is the part of a glob
        before its first sign, and the folder of a file.
      flag: what messages call them.

    Raises:
      UserError: as `find_videos`; or two names that are the same as text.
    """
    roots: dict[Path, str] = {}
    for one in given:
        for video in () if is_address(one) else find_videos([one], flag):
            roots.setdefault(video, utf8(os.path.abspath(_root(one))))
    found: dict[str, Source] = {}
    for video in find_videos(given, flag):
        size = mtime = 0
        try:
            # the encoder says why there is no copy
            if not missing(video):
                size, mtime = (status := os.stat(video)).st_size, status.st_mtime_ns
        except OSError as error:
            raise UserError(f"{video}: {error.strerror}; has it just been removed?") from None
        if isinstance(video, Copy):
            name = utf8(named(video))
            root, path = name.rpartition("/")[::2]
        else:
            name, root = utf8(os.path.abspath(video)), roots[video]
            path = os.path.relpath(name, root)
        source = Source(video, root, path, size, mtime)
        if len(name) > NAME_CHARACTERS:
            raise UserError(f"{name}: a path of {len(name):,} characters; move it further up")
        if source.name in found:
            raise UserError(
                f"{name}: two videos of this name, one with bytes that are not UTF-8; rename one"
            )
        found[source.name] = source
    return list(found.values())


def _root(given: str) -> str:
    if os.path.isdir(given):
        return given
    if os.path.exists(given):
        return os.path.dirname(given)
    parts = Path(given).parts
    plain = [glob.has_magic(part) for part in parts].index(True) if glob.has_magic(given) else 0
    return os.path.join(*parts[:plain]) if plain else "."
