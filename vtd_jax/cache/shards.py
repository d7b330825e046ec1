"""Shards: rows of numbers in safetensors files with a checksum, written whole and read in place.

The frame features of training, the text features of long lists and the index of
`vtd_jax.retrieval` are kept in this one format: one tensor, `rows`, and its CRC-32 in the header.
"""

import contextlib
import os
import re
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float
from safetensors import numpy as safetensors

from vtd_jax.clip.weights.safetensors_files import AGAIN, open_safetensors
from vtd_jax.errors import UserError
from vtd_jax.files import CACHE_VARIABLE, make_folders, replacing
from vtd_jax.terminal import warn
from vtd_jax.untrusted.arrays import map_rows
from vtd_jax.untrusted.regular_files import open_regular

ENDING = ".safetensors"
_ROWS, _CRC = "rows", "crc32"
# dtypes of shards, as safetensors names them
_DTYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16)}
# bytes of a header; ours have about 120
_HEADER_BYTES = 4096


class NotKept(UserError):
    """Files of the cache cannot be written."""

    def __init__(self, folder: Path, what: str, error: OSError):
        super().__init__(
            f"{folder}: {what} cannot be kept there ({error.strerror or error}); set "
            f"{CACHE_VARIABLE} to a folder that can be written and has space"
        )


def make_folder(folder: Path, what: str) -> None:
    """Makes a folder for rows and checks, before the work, that it can be written.

    Args:
      folder: is made with its parents.
      what: the rows, for messages: "frame features".

    Raises:
      NotKept: it cannot be made or written.
    """
    try:
        make_folders(folder)
    except OSError as error:
        raise NotKept(folder, what, error) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise NotKept(folder, what, OSError(0, "no permission"))


def write_shard(file: Path, rows: Float[np.ndarray, "..."]) -> str:
    """Writes rows, whole or not at all; the same rows make the same bytes.

    Args:
      file: is replaced at once when complete.
      rows: float32 or float16.

    Returns:
      Their CRC-32, eight hex digits.

    Raises:
      OSError: no space, or no permission.
    """
    rows = np.ascontiguousarray(rows)
    crc = f"{zlib.crc32(rows.data):08x}"
    with replacing(file) as part, part.open("wb") as out:
        out.write(safetensors.save({_ROWS: rows}, {_CRC: crc}))
    return crc


def map_shard(
    file: Path,
    shape: tuple[int, ...],
    dtype: type[np.floating] = np.float32,
    *,
    crc: str | None = None,
    check: bool = True,
) -> Float[np.ndarray, "..."]:
    """The rows of a shard, mapped into memory for reading.

    Args:
      file: as `write_shard` writes it.
      shape: expected.
      dtype: expected, float32 or float16.
      crc: expected CRC-32; None for the one in the header.
      check: whether to compute the CRC-32, which reads all rows once.

    Raises:
      UserError: a pipe, a folder, something else than such a shard, or a damaged one.
      OSError: it is not there, or cannot be read.
    """
    with open_regular(file, "shard of rows") as opened:
        size = int.from_bytes(opened.read(8), "little")
        total = os.fstat(opened.fileno()).st_size
    if not 0 < size <= _HEADER_BYTES:
        raise UserError(
            f"{file}: not a shard of rows: a header of {size:,} bytes, expected 1 to "
            f"{_HEADER_BYTES:,}"
        )
    with contextlib.ExitStack() as stack:
        opened = open_safetensors(file, stack)
        noted = (opened.metadata() or {}).get(_CRC, "")
        if list(opened.keys()) != [_ROWS] or not re.fullmatch("[0-9a-f]{8}", noted):
            raise UserError(f"{file}: not a shard of rows, expected one tensor {_ROWS} and {_CRC}")
        part = opened.get_slice(_ROWS)
        found = _DTYPES.get(part.get_dtype()), tuple(part.get_shape())
    if found != (np.dtype(dtype), tuple(shape)):
        raise UserError(
            f"{file}: rows of {found[0] or 'another kind'} {found[1]}, expected {np.dtype(dtype)} "
            f"{tuple(shape)}"
        )
    if crc is not None and crc != noted:
        raise UserError(f"{file}: rows of another time, with the checksum {noted} and not {crc}")
    return map_rows(file, 8 + size, total, shape, dtype, int(noted, 16) if check else None)


def write_rows(file: Path, rows: Float[np.ndarray, "..."], what: str) -> None:
    """As `write_shard`, for files of the cache.

    Args:
      file: is replaced at once when complete.
      rows: float32.
      what: the rows, for messages.

    Raises:
      NotKept: no space, or no permission.
    """
    try:
        write_shard(file, rows)
    except OSError as error:
        raise NotKept(file.parent, what, error) from None


def read_rows(file: Path, shape: tuple[int, ...], what: str) -> Float[np.ndarray, "..."] | None:
    """The rows of a file of the cache; None if it is missing, or damaged with a warning.

    Args:
      file: as `write_rows` writes it.
      shape: the expected shape of the float32 rows.
      what: the rows, for the warning.
    """
    try:
        return map_shard(file, shape)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        why = error.strerror or str(error)
    except UserError as error:
        why = str(error).removeprefix(f"{file}: ").removesuffix(f"; {AGAIN}")
    warn(f"{file}: damaged {what} ({why}); computing them again")
    return None
