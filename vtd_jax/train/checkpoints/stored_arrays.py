"""Reads the arrays of a checkpoint without trusting it: sizes are checked before any allocation.

They are Zarr arrays in a B-tree of files (OCDBT), as orbax writes them, read without orbax. Names
come from orbax's list. Metadata, indices and the sizes of decompressed chunks are checked before
TensorStore reads the arrays.
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
# the first two magic bytes of an index; its compressed part starts 14 bytes after them
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
    """Orbax's list of arrays."""

    tree_metadata: dict[str, _Entry]
    use_ocdbt: Literal[True] = True
    use_zarr3: Literal[False] = False


class _Compressor(msgspec.Struct, forbid_unknown_fields=True):
    id: Literal["zstd"]
    level: int = 1


class _Array(msgspec.Struct, forbid_unknown_fields=True):
    """The Zarr (version 2) metadata of one array."""

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
    def chunk_bytes(self) -> int:
        return math.prod(self.chunks) * self.item_bytes

    @property
    def chunk_counts(self) -> list[int]:
        """The number of chunks along each dimension."""
        return [-(-size // chunk) for size, chunk in zip(self.shape, self.chunks)]

    def chunk_names(self) -> list[str]:
        return [".".join(map(str, index)) or "0" for index in np.ndindex(*self.chunk_counts)]


def read_arrays(folder: Path, room: int = CHECKPOINT_BYTES) -> dict[str, np.ndarray]:
    """All arrays of one item of a checkpoint, by name.

    Args:
      folder: of the item.
      room: bytes that all arrays may have.

    Raises:
      UserError: irregular files, sizes beyond the limits, missing chunks, or data of another kind.
      Exception: what TensorStore raises for damaged data.
    """
    check_folder(folder)
    _check_indices(folder)
    names = [entry.key_metadata[0].key for entry in _listed(folder).tree_metadata.values()]
    # a path, not a URL, in which `%`, `#` and `?` would have a meaning
    base = {"driver": "file", "path": f"{plain(folder)}/"}
    kept = {"driver": "ocdbt", "base": base, "cache_pool": "cache_pool"}
    context = tensorstore.Context({"cache_pool": {"total_bytes_limit": CHECKPOINT_INDEX_BYTES}})
    store = tensorstore.KvStore.open(kept, context=context).result()
    arrays = {name: _metadata(store, name) for name in names}
    claimed = sum(math.prod(array.shape) * array.item_bytes for array in arrays.values())
    if claimed > room:
        raise UserError(f"its arrays claim {claimed:,} bytes, expected at most {room:,}")
    if sum(math.prod(array.chunk_counts) for array in arrays.values()) > CHECKPOINT_FILES:
        raise UserError(f"its arrays claim more than {CHECKPOINT_FILES:,} chunks")
    _check_chunks(store, arrays)
    return {name: _read(kept | {"path": f"{name}/"}, context) for name in arrays}


def _read(kvstore: dict[str, Any], context: tensorstore.Context) -> np.ndarray:
    opened = tensorstore.open(
        {"driver": "zarr", "kvstore": kvstore}, context=context, open=True, read=True
    ).result()
    return np.asarray(opened.read().result())


def check_folder(folder: Path) -> int:
    """The bytes of all files below a folder.

    Links to regular files are allowed, since caches of downloads consist of them.

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
        status = entry.stat()
    except OSError as error:
        raise UserError(f"{entry.name}: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{entry.name}: not a regular file")
    return status.st_size


def _check_indices(folder: Path) -> None:
    """Raises a `UserError` where the indices would decompress to more than any that is written."""
    room = CHECKPOINT_INDEX_BYTES
    for path in (path for path in folder.rglob("*") if path.is_file()):
        content = read_bytes(path, "file", CHECKPOINT_BYTES)
        start = content.find(zstd_frames.MAGIC)
        while start >= 0:
            if content.startswith(_INDEX, max(start - _INDEX_HEADER, 0)):
                room -= zstd_frames.bound(content, start, room)[0]
            if room < 0:
                most = f"{CHECKPOINT_INDEX_BYTES:,} bytes"
                raise UserError(f"{path.name}: indices that would have more than {most}")
            start = content.find(zstd_frames.MAGIC, start + 1)


def _listed(folder: Path) -> _Names:
    listed = read_json(folder / _NAMES, _Names, what="list of arrays", most=SMALL_JSON_BYTES)
    if not 0 < len(listed.tree_metadata) <= CHECKPOINT_FILES:
        raise UserError(
            f"{_NAMES}: {len(listed.tree_metadata):,} arrays, expected 1 to {CHECKPOINT_FILES:,}"
        )
    return listed


def _metadata(store: tensorstore.KvStore, name: str) -> _Array:
    array = parse_json(_value(store, f"{name}/{_ARRAY}"), name, _Array)
    if len(array.shape) != len(array.chunks) or 0 in array.chunks:
        raise UserError(f"{name}: chunks of {array.chunks}, which do not fit {array.shape}")
    if array.chunk_bytes > CHECKPOINT_BYTES:
        most = f"expected at most {CHECKPOINT_BYTES:,}"
        raise UserError(f"{name}: claims chunks of {array.chunk_bytes:,} bytes, {most}")
    return array


def _check_chunks(store: tensorstore.KvStore, arrays: dict[str, _Array]) -> None:
    """Raises a `UserError` for chunks that are missing or would decompress to too much, also where
    many of them are the same bytes.
    """
    room = CHECKPOINT_BYTES
    for name, array in arrays.items():
        for key in array.chunk_names():
            chunk = _value(store, f"{name}/{key}")
            room -= len(chunk)
            if room < 0:
                raise UserError(f"{name}: more compressed data than {CHECKPOINT_BYTES:,} bytes")
            if array.compressor:
                _check_chunk(chunk, name, array.chunk_bytes)


def _check_chunk(chunk: bytes, name: str, size: int) -> None:
    # writers fill all blocks but the last one, so four times the size is far more than any needs
    room, end = 4 * size + 2**20, 0
    while end < len(chunk):
        if not chunk.startswith(zstd_frames.MAGIC, end):
            raise UserError(f"{name}: not compressed with zstd")
        decompressed, end = zstd_frames.bound(chunk, end, room)
        room -= decompressed
        if room < 0:
            raise UserError(f"{name}: data that would decompress to more than its {size:,} bytes")


def _value(store: tensorstore.KvStore, key: str) -> bytes:
    result = store.read(key).result()
    if result.state != "value":
        raise UserError(f"{key} is missing")
    return result.value
