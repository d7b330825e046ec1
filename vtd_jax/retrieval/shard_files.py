"""The files of an index's shards: written, checked and read."""

import dataclasses
import hashlib
import itertools
import json
import os
import re
import stat
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from jaxtyping import Float16

from vtd_jax.cache.shards import map_shard, write_shard
from vtd_jax.errors import UserError, function, setting
from vtd_jax.files import remove_tree, write_bytes
from vtd_jax.printable import utf8
from vtd_jax.retrieval.sources import Source
from vtd_jax.retrieval.store import Contents, Shard, file_names
from vtd_jax.untrusted.json_text import Count, Whole, parse_json
from vtd_jax.untrusted.limits import NAME_CHARACTERS, SMALL_JSON_BYTES, TEXT_CHARACTERS
from vtd_jax.untrusted.regular_files import open_regular, read_bytes
from vtd_jax.video.clip import Clip

# of a video; what a broken file claims beyond is cut off
SECONDS = 1e9
# files of shards, of any number; and parts of files whose writer was killed
_OURS = re.compile(r"\d{5,}\.(safetensors|json)")
_PARTS = re.compile(r"\.(\d{5,}|index)\.[0-9a-f]{12}\.part\.(safetensors|json)")

_Path = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_CHARACTERS)]
_Text = Annotated[str, msgspec.Meta(max_length=TEXT_CHARACTERS)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=SECONDS)]


@dataclasses.dataclass(frozen=True)
class Row:
    """What is known of an indexed clip.

    Attributes:
      root: index of its folder among those of the index.
      path: from that folder.
      size: of the file, bytes.
      mtime: when it was changed, ns since 1970.
      total: frames of the video.
      duration: of the video, seconds.
      indices: places of the T encoded frames in the video.
      seconds: their times.
      note: what is odd about the file; "" for nothing.
      sha256: of the file's bytes; "" where they were not read.
    """

    root: Count
    path: _Path
    size: Count
    mtime: Whole
    total: Count
    duration: _Seconds
    indices: list[Count]
    seconds: list[_Seconds]
    note: _Text = ""
    sha256: Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{64})?\Z")] = ""


def row_of(source: Source, clip: Clip, root: int) -> Row:
    """What is known of a clip that was read.

    Args:
      source: its file.
      clip: as it was read.
      root: index of the source's root.
    """
    seconds = np.zeros(len(clip.indices)) if clip.seconds is None else clip.seconds
    return Row(
        root=root,
        path=source.path,
        size=source.size,
        mtime=source.mtime,
        total=int(clip.total),
        duration=min(max(0.0, float(clip.duration or 0)), SECONDS),
        indices=np.asarray(clip.indices).tolist(),
        seconds=np.clip(seconds, 0.0, SECONDS).tolist(),
        note=utf8(clip.note)[:TEXT_CHARACTERS],
        sha256=_sha256(source.video),
    )


def _sha256(video: Path) -> str:
    """Of a file's bytes, in hex; "" if it has just been removed."""
    try:
        with open_regular(video, "video") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, UserError):
        return ""


class Damaged(UserError):
    """A file of an index that is not as it was written, or is missing; says what to do."""

    def __init__(self, path: Path, why: str):
        again = setting("restart", of="Index.build")
        super().__init__(
            f"{path}: {why}; copy the index again, or give the folders of the videos to "
            f"{function('Index.build')}, which encodes damaged parts again (all: {again})"
        )


def with_shard(
    folder: Path, contents: Contents, features: Float16[np.ndarray, "n t d"], rows: Sequence[Row]
) -> Contents:
    """Writes the files of one shard more, and returns what the manifest has to say then.

    Args:
      folder: of the index.
      contents: before; no file of it is replaced.
      features: raw, finite.
      rows: of the N clips.
    """
    first = 1 + max((shard.number for shard in contents.shards), default=-1)
    # something else may have the name, such as a folder
    number = next(n for n in itertools.count(first) if not _taken(folder, n))
    names = file_names(number)
    crc = write_shard(folder / names[0], features)
    text = json.dumps([dataclasses.asdict(row) for row in rows], ensure_ascii=False).encode()
    write_bytes(folder / names[1], text)
    shard = Shard(number, len(rows), crc, f"{zlib.crc32(text):08x}")
    sizes = {name: (folder / name).stat().st_size for name in names}
    return dataclasses.replace(
        contents, shards=(*contents.shards, shard), sizes=contents.sizes | sizes
    )


def _taken(folder: Path, number: int) -> bool:
    return any(os.path.lexists(folder / name) for name in file_names(number))


def without(contents: Contents, dropped: dict[int, set[int]]) -> Contents:
    """What the manifest has to say without some clips, and without shards that have none left.

    Args:
      contents: before.
      dropped: number of a shard -> clips of it.
    """
    shards = [
        dataclasses.replace(shard, dropped=sorted({*shard.dropped, *dropped[shard.number]}))
        if shard.number in dropped
        else shard
        for shard in contents.shards
    ]
    left = tuple(shard for shard in shards if shard.kept)
    names = [name for shard in left for name in file_names(shard.number)]
    sizes = {name: contents.sizes[name] for name in names if name in contents.sizes}
    return dataclasses.replace(contents, shards=left, sizes=sizes)


def remove_others(folder: Path, contents: Contents | None) -> None:
    """Removes files of shards that a manifest does not name, and parts of files.

    Only who holds the lock of the index may do that. Folders stay, whatever their names.

    Args:
      folder: of the index.
      contents: its manifest, as it is on disk; None removes all shards.
    """
    shards = () if contents is None else contents.shards
    named = {name for shard in shards for name in file_names(shard.number)}
    with os.scandir(folder) as entries:
        others = [
            entry.path
            for entry in entries
            if entry.name not in named
            and (_OURS.fullmatch(entry.name) or _PARTS.fullmatch(entry.name))
            and not entry.is_dir(follow_symlinks=False)
        ]
    for path in others:
        remove_tree(path)


def check_files(folder: Path, contents: Contents, place: int) -> None:
    """Checks, without reading them, that the files of a shard are there.

    Args:
      folder: of the index.
      contents: its manifest.
      place: of the shard in it.

    Raises:
      UserError: one is missing, a link or no regular file, has another size, or cannot be read.
    """
    for name in file_names(contents.shards[place].number):
        path = folder / name
        found = _read(path, lambda path=path: os.lstat(path))
        if not stat.S_ISREG(found.st_mode):
            raise Damaged(path, "a link, a pipe or a folder, expected a file of the index")
        if found.st_size != contents.sizes.get(name):
            size = contents.sizes.get(name)
            expected = "none" if size is None else f"{size:,}"
            raise Damaged(path, f"{found.st_size:,} bytes, expected {expected}")


def features_of(
    folder: Path, contents: Contents, place: int, *, check: bool
) -> Float16[np.ndarray, "n t d"]:
    """The features of a shard, mapped into memory.

    Args:
      folder: of the index.
      contents: its manifest.
      place: of the shard in it.
      check: whether to compare their CRC-32, and to refuse NaN and infinite numbers.

    Raises:
      UserError: the file is damaged, or cannot be read; says what to do.
    """
    check_files(folder, contents, place)
    shard = contents.shards[place]
    path = folder / file_names(shard.number)[0]
    shape = (shard.clips, contents.frames, contents.width)
    found = _read(path, lambda: map_shard(path, shape, np.float16, crc=shard.features, check=check))
    # the exponent of NaN and infinity; `np.isfinite` takes ten times as long for float16
    if check and ((found.view(np.uint16) & 0x7C00) == 0x7C00).any():
        raise Damaged(path, "features that are NaN or infinite")
    return found


def rows_of(folder: Path, contents: Contents, place: int) -> list[Row]:
    """The clips of a shard, those that are dropped too.

    Args:
      folder: of the index.
      contents: its manifest.
      place: of the shard in it.

    Raises:
      UserError: the file is damaged, or cannot be read; says what to do.
    """
    check_files(folder, contents, place)
    shard = contents.shards[place]
    path = folder / file_names(shard.number)[1]
    content = _read(path, lambda: read_bytes(path, "list of clips", SMALL_JSON_BYTES))
    if f"{zlib.crc32(content):08x}" != shard.rows:
        raise Damaged(path, "other bytes than were written")
    rows: list[Row] = _read(path, lambda: parse_json(content, str(path), list[Row]))
    if len(rows) != shard.clips:
        raise Damaged(path, f"{len(rows)} clips, expected {shard.clips}")
    for row in rows:
        if not len(row.indices) == len(row.seconds) == contents.frames:
            raise Damaged(path, f"{row.path}: not {contents.frames} frames")
        if row.root >= len(contents.roots):
            raise Damaged(path, f"{row.path}: a folder that the index does not have")
    return rows


def _read(path: Path, read: Callable[[], Any]) -> Any:
    """What `read` returns, with one kind of error for every kind of damage.

    A file that exists and cannot be read is not damaged: nothing is lost by a disk that is away
    for a while.
    """
    try:
        return read()
    except FileNotFoundError as error:
        raise Damaged(path, error.strerror or "not there") from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}); see that the disk is there and "
            "that you may read it, and try again"
        ) from None
    except UserError as error:
        raise Damaged(path, str(error).removeprefix(f"{path}: ")) from None


def as_float16(features: Any, video: str) -> Float16[np.ndarray, "t d"]:
    """Frame features as an index keeps them.

    Args:
      features: raw, float32 `[T, D]`.
      video: for the message.

    Raises:
      UserError: a number that float16 does not hold.
    """
    with np.errstate(over="ignore"):
        rounded = np.asarray(features).astype(np.float16)
    if not np.isfinite(rounded).all():
        raise UserError(
            f"{video}: frame features up to {np.abs(features).max():.3g} cannot be kept as "
            "float16, whose largest number is 65504; this model has no index"
        )
    return rounded
