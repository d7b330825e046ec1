"""The arrays of a checkpoint, read without trust: what they claim is held against limits before
memory is asked for.

They are Zarr arrays in a B-tree of files (OCDBT), as orbax writes them. Nothing of orbax reads them here: names come
from its list, every array is looked up by its name, and what its metadata, indices and compressed pieces would become
is known before TensorStore sees them.
"""

import math
import os
import stat
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import tensorstore

from vtd_jax.errors import UserError
from vtd_jax.train.checkpoints.plain_path import plain
from vtd_jax.untrusted import zstd_frames
from vtd_jax.untrusted.json_text import Count, parse_json, read_json
from vtd_jax.untrusted.limits import (
    CHECKPOINT_BYTES,
    CHECKPOINT_FILES,
    CHECKPOINT_INDEX_BYTES,
    SMALL_JSON_BYTES,
)
from vtd_jax.untrusted.regular_files import read_bytes

_NAMES, _ARRAY = "_METADATA", ".zarray"
# an index begins with two bytes of its kind's four; its compressed part comes 14 bytes after them
_INDEX, _INDEX_HEADER = b"\x0c\xdb", 14

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
_Sizes = Annotated[list[Count], msgspec.Meta(max_length=32)]
_DType = Literal[
    "bfloat16", "<f2", "<f4", "<f8", "<i2", "<i4", "<i8", "<u2", "<u4", "<u8", "|i1", "|u1", "|b1"
]


class _Key(msgspec.Struct):
    key: _Name


class _Entry(msgspec.Struct):
    key_metadata: Annotated[list[_Key], msgspec.Meta(min_length=1, max_length=1)]


class _Names(msgspec.Struct):
    """Orbax's list of what there is."""

    tree_metadata: dict[str, _Entry]
    use_ocdbt: Literal[True] = True
    use_zarr3: Literal[False] = False


class _Compressor(msgspec.Struct, forbid_unknown_fields=True):
    id: Literal["zstd"]
    level: int = 1


class _Array(msgspec.Struct, forbid_unknown_fields=True):
    """What Zarr (version 2) says of one array."""

    shape: _Sizes
    chunks: _Sizes
    dtype: _DType
    zarr_format: Literal[2]
    compressor: _Compressor | None = None
    filters: None = None
    fill_value: float | bool | None = None
    order: Literal["C", "F"] = "C"
    dimension_separator: Literal["."] = "."

    @property
    def item_bytes(self) -> int:
        return 2 if self.dtype == "bfloat16" else int(self.dtype[2])

    @property
    def piece_bytes(self) -> int:
        return math.prod(self.chunks) * self.item_bytes

    @property
    def pieces(self) -> list[int]:
        """How many pieces there are along each dimension."""
        return [-(-size // chunk) for size, chunk in zip(self.shape, self.chunks)]

    def names(self) -> list[str]:
        """Names of all pieces."""
        return [".".join(map(str, place)) or "0" for place in np.ndindex(*self.pieces)]


def read_arrays(folder: Path, room: int = CHECKPOINT_BYTES) -> dict[str, np.ndarray]:
    """All arrays of one item of a checkpoint, by name.

    Args:
      folder: of the item.
      room: bytes that the arrays may have together.

    Raises:
      UserError: files that are none, claims beyond the limits, pieces that are missing, or data of
        another kind.
      Exception: what TensorStore raises for damaged data.
    """
    check_folder(folder)
    _check_indices(folder)
    names = [entry.key_metadata[0].key for entry in _listed(folder).tree_metadata.values()]
    # the folder's path as it is: in a URL, `%`, `#` and `?` would be something else
    base = {"driver": "file", "path": f"{plain(folder)}/"}
    kept = {"driver": "ocdbt", "base": base, "cache_pool": "cache_pool"}
    context = tensorstore.Context({"cache_pool": {"total_bytes_limit": CHECKPOINT_INDEX_BYTES}})
    store = tensorstore.KvStore.open(kept, context=context).result()
    described = {name: _described(store, name) for name in names}
    claimed = sum(math.prod(array.shape) * array.item_bytes for array in described.values())
    if claimed > room:
        raise UserError(f"its arrays claim {claimed:,} bytes, expected at most {room:,}")
    if sum(math.prod(array.pieces) for array in described.values()) > CHECKPOINT_FILES:
        raise UserError(f"its arrays claim more than {CHECKPOINT_FILES:,} pieces")
    _check_pieces(store, described)
    return {name: _read(kept | {"path": f"{name}/"}, context) for name in described}


def _read(kvstore: dict[str, Any], context: tensorstore.Context) -> np.ndarray:
    opened = tensorstore.open(
        {"driver": "zarr", "kvstore": kvstore}, context=context, open=True, read=True
    ).result()
    return np.asarray(opened.read().result())


def check_folder(folder: Path) -> int:
    """Bytes of the files below a folder, all of which are regular ones.

    Links to regular files are taken, as caches of downloads have them; links to folders are not.

    Raises:
      UserError: a pipe, a device, a link to a folder, too many files, or too many bytes.
    """
    todo, files, total = [folder], 0, 0
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                files += 1
                total += _size(entry, todo)
                if files > CHECKPOINT_FILES:
                    raise UserError(f"more than {CHECKPOINT_FILES:,} files")
    if total > CHECKPOINT_BYTES:
        raise UserError(f"files of {total:,} bytes, expected at most {CHECKPOINT_BYTES:,}")
    return total


def _size(entry: os.DirEntry, todo: list[Path]) -> int:
    if entry.is_dir(follow_symlinks=False):
        todo.append(Path(entry.path))
        return 0
    try:
        found = entry.stat()
    except OSError as error:
        raise UserError(f"{entry.name}: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{entry.name}: not a regular file")
    return found.st_size


def _check_indices(folder: Path) -> None:
    """Refuses indices that would become larger, all together, than any that is written."""
    room = CHECKPOINT_INDEX_BYTES
    for path in (path for path in folder.rglob("*") if path.is_file()):
        content = read_bytes(path, "file", CHECKPOINT_BYTES)
        place = content.find(zstd_frames.MAGIC)
        while place >= 0:
            if content.startswith(_INDEX, max(place - _INDEX_HEADER, 0)):
                room -= zstd_frames.bound(content, place, room)[0]
            if room < 0:
                raise UserError(
                    f"{path.name}: indices that would have more than {CHECKPOINT_INDEX_BYTES:,} "
                    "bytes"
                )
            place = content.find(zstd_frames.MAGIC, place + 1)


def _listed(folder: Path) -> _Names:
    listed = read_json(folder / _NAMES, _Names, what="list of arrays", most=SMALL_JSON_BYTES)
    if not 0 < len(listed.tree_metadata) <= CHECKPOINT_FILES:
        raise UserError(
            f"{_NAMES}: {len(listed.tree_metadata):,} arrays, expected 1 to {CHECKPOINT_FILES:,}"
        )
    return listed


def _described(store: tensorstore.KvStore, name: str) -> _Array:
    array = parse_json(_value(store, f"{name}/{_ARRAY}"), name, _Array)
    if len(array.shape) != len(array.chunks) or 0 in array.chunks:
        raise UserError(f"{name}: pieces of {array.chunks}, which do not fit {array.shape}")
    if array.piece_bytes > CHECKPOINT_BYTES:
        raise UserError(
            f"{name}: claims pieces of {array.piece_bytes:,} bytes, expected at most "
            f"{CHECKPOINT_BYTES:,}"
        )
    return array


def _check_pieces(store: tensorstore.KvStore, described: dict[str, _Array]) -> None:
    """Refuses pieces that are missing, that would become more than they are, or that are the same
    one many times.
    """
    room = CHECKPOINT_BYTES
    for name, array in described.items():
        for key in array.names():
            piece = _value(store, f"{name}/{key}")
            room -= len(piece)
            if room < 0:
                raise UserError(f"{name}: more compressed data than {CHECKPOINT_BYTES:,} bytes")
            if array.compressor:
                _check_piece(piece, name, array.piece_bytes)


def _check_piece(piece: bytes, name: str, size: int) -> None:
    # a writer's blocks are full but for the last one; four times as many are far more than any
    # leaves
    room, end = 4 * size + 2**20, 0
    while end < len(piece):
        if not piece.startswith(zstd_frames.MAGIC, end):
            raise UserError(f"{name}: not compressed with zstd")
        found, end = zstd_frames.bound(piece, end, room)
        room -= found
        if room < 0:
            raise UserError(
                f"{name}: compressed data that would become more than its {size:,} bytes"
            )


def _value(store: tensorstore.KvStore, key: str) -> bytes:
    found = store.read(key).result()
    if found.state != "value":
        raise UserError(f"{key} is missing")
    return found.value
