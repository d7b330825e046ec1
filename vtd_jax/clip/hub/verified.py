"""Checks files of weights against their hash, once: what was checked is noted in our cache."""

import contextlib
import hashlib
import os
import stat
from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.files import cache_folder, make_folders, write_text
from vtd_jax.fingerprints import fingerprint
from vtd_jax.untrusted.json_text import read_json
from vtd_jax.untrusted.regular_files import open_regular

_BLOCK = 2**20
_NOTE_BYTES = 4096


def is_right(path: Path, digest: str) -> bool:
    """Whether a file has a hash; read only if it changed since it was last found right.

    Args:
      path: of the file; links are followed.
      digest: hex digits of its SHA-256 (64), or of its SHA-1 as a blob of git (40).

    Raises:
      OSError: it is not there, or cannot be read.
    """
    real = Path(os.path.realpath(path))
    state = _state(real, digest)
    if _noted(real) == state:
        return True
    with open_regular(real, "file of weights") as file:
        size = os.fstat(file.fileno()).st_size
        found = new_hash(digest, size)
        while block := file.read(_BLOCK):
            found.update(block)
    if found.hexdigest() != digest:
        return False
    note(real, digest)
    return True


def new_hash(digest: str, size: int) -> "hashlib._Hash":
    """The hash that a file of `size` bytes is held against: SHA-256, or SHA-1 where `digest` is of
    a blob of git, which begins with its size.
    """
    if len(digest) == 64:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def note(path: Path, digest: str) -> None:
    """Notes that a file has this hash; where nothing can be written it is hashed each time."""
    real = Path(os.path.realpath(path))
    with contextlib.suppress(OSError):
        place = _note_of(real)
        make_folders(place.parent)
        write_text(place, _state(real, digest))


def _note_of(real: Path) -> Path:
    return cache_folder() / "weights" / "verified" / f"{fingerprint(str(real))}.json"


def _state(real: Path, digest: str) -> str:
    found = os.stat(real)
    return f'{{"size": {found.st_size}, "mtime": {found.st_mtime_ns}, "hash": "{digest}"}}'


def _noted(real: Path) -> str | None:
    """The state that was noted; None for none, or one that others could have written."""
    place = _note_of(real)
    try:
        for part in (place, place.parent):
            found = os.lstat(part)
            others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if others or (hasattr(os, "getuid") and found.st_uid not in (os.getuid(), 0)):
                return None
        kept = read_json(place, dict[str, int | str], most=_NOTE_BYTES)
        return f'{{"size": {kept["size"]}, "mtime": {kept["mtime"]}, "hash": "{kept["hash"]}"}}'
    except (OSError, UserError, KeyError):
        return None
