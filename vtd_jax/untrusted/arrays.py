"""The only reader of arrays: checks a header against the file's size before allocating."""

import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from io import BufferedIOBase
from typing import Any

import numpy as np
from numpy.lib import format as npy

from vtd_jax.errors import UserError
from vtd_jax.untrusted.limits import ARRAY_BYTES, ARRAY_FREE_BYTES, ARRAY_RATIO
from vtd_jax.untrusted.regular_files import open_regular

# what NumPy and zipfile raise for damaged or foreign files
_DAMAGE = (OSError, ValueError, KeyError, EOFError, RuntimeError, MemoryError, SyntaxError)
_DAMAGE += (TypeError, OverflowError)
# NumPy tokenizes the header as Python source
_DAMAGE += (NotImplementedError, tokenize.TokenError, zipfile.BadZipFile, zlib.error)
_HEADER_BYTES, _DIMENSIONS, _ARRAYS = 10_000, 8, 10_000
# bytes that are read at once for a CRC-32
_BLOCK = 2**22


def read_array(
    file: BufferedIOBase,
    size: int,
    where: str,
    kinds: Collection[str] = "fiub",
    most: int = ARRAY_BYTES,
) -> np.ndarray:
    """One `.npy`, from where `file` stands.

    Args:
      file: opened for reading.
      size: bytes of the `.npy`, header and all, that are there.
      where: what messages call it.
      kinds: `dtype.kind` of what is expected; never "O", whose contents are pickled.
      most: bytes that the array may have.

    Raises:
      UserError: another dtype, more dimensions than 8, or a header that claims other bytes than
        there are.
    """
    try:
        shape, fortran, dtype, _ = _claims(file, size, where, kinds)
        count = math.prod(shape)
        if size > most:
            raise UserError(f"{where}: an array of {size:,} bytes, expected at most {most:,}")
        array = np.empty(count, dtype)
        _fill(file, memoryview(array.view(np.uint8)), where)
        _check_text(array, where)
        return array.reshape(shape, order="F" if fortran else "C")
    except UserError:
        raise
    except _DAMAGE as error:
        raise UserError(f"{where}: not an array of NumPy, or damaged ({_short(error)})") from None


def map_array(
    path: str | os.PathLike, shape: tuple[int, ...], dtype: Any = np.float32
) -> np.ndarray:
    """An `.npy` file, mapped into memory for reading; what it must be is known before.

    Args:
      path: of the file.
      shape: expected.
      dtype: expected.

    Raises:
      UserError: a pipe, a device or a folder; a header of something else; other bytes than it
        claims.
      OSError: it is not there, or cannot be read.
    """
    with open_regular(path, "file of an array") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            found, fortran, kind, header = _claims(file, size, str(path), np.dtype(dtype).kind)
            if (found, fortran, kind) != (tuple(shape), False, np.dtype(dtype)):
                raise UserError(
                    f"{path}: an array of {kind} {found}, expected {np.dtype(dtype)} {tuple(shape)}"
                )
            if math.prod(shape) == 0:
                return np.empty(shape, dtype)
            return np.memmap(file, kind, "r", header, found)
        except UserError:
            raise
        except _DAMAGE as error:
            raise UserError(
                f"{path}: not an array of NumPy, or damaged ({_short(error)})"
            ) from None


def map_rows(
    path: str | os.PathLike,
    offset: int,
    total: int,
    shape: tuple[int, ...],
    dtype: Any,
    crc: int | None = None,
) -> np.ndarray:
    """The end of a file, whose header was read before, mapped into memory for reading.

    Args:
      path: of the file.
      offset: bytes of the header.
      total: bytes of the file, when the header was read.
      shape: of the rows, which fill the file.
      dtype: of the rows.
      crc: their CRC-32; None is not compared. It is computed only once the size is right, so no
        file makes this read more than the bytes of the rows.

    Raises:
      UserError: no regular file, another size, or another CRC.
      OSError: it is not there, or cannot be read.
    """
    count = math.prod(shape) * np.dtype(dtype).itemsize
    with open_regular(path, "file of rows") as file:
        size = os.fstat(file.fileno()).st_size
        if size != total or offset + count != size:
            raise UserError(f"{path}: {size:,} bytes, expected {offset + count:,}")
        if crc is not None:
            file.seek(offset)
            if _crc(file, count) != crc:
                raise UserError(f"{path}: other bytes than were written")
        if count == 0:
            return np.empty(shape, dtype)
        return np.memmap(file, np.dtype(dtype), "r", offset, tuple(shape))


def read_npz(
    path: str | os.PathLike,
    what: str = "file of arrays",
    kinds: Collection[str] = "fiubU",
    most: int = ARRAY_BYTES,
) -> dict[str, np.ndarray]:
    """All arrays of an `.npz`, by name, in the order of the file; nothing pickled.

    Args:
      path: of the file.
      what: what messages call it.
      kinds: as for `read_array`.
      most: bytes that all arrays may have in total.

    Raises:
      UserError: it is missing, damaged, no such archive, or claims more than `most`, or more than
        64 MiB and 100 times its own bytes.
    """
    try:
        with open_regular(path, what) as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            total = sum(entry.file_size for entry in entries)
            packed = os.fstat(file.fileno()).st_size
            allowed = min(most, max(ARRAY_FREE_BYTES, ARRAY_RATIO * packed))
            if len(entries) > _ARRAYS or total > allowed:
                raise UserError(
                    f"{path}: {len(entries):,} arrays of {total:,} bytes in a file of {packed:,}; "
                    f"expected at most {_ARRAYS:,}, {most:,} and {ARRAY_RATIO:,} times the file's"
                )
            arrays: dict[str, np.ndarray] = {}
            for entry in entries:
                name = entry.filename.removesuffix(".npy")
                if name in arrays or name == entry.filename:
                    raise UserError(
                        f"{path}: entry {entry.filename!r} is there twice, or is no .npy"
                    )
                with archive.open(entry) as content:
                    arrays[name] = read_array(
                        content, entry.file_size, f"{path}: {name}", kinds, most
                    )
                    if content.read(1):
                        raise UserError(f"{path}: {name}: more bytes than its header says")
            return arrays
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such {what}") from None
    except _DAMAGE as error:
        raise UserError(f"{path}: not a {what}, or damaged ({_short(error)})") from None


def _short(error: Exception) -> str:
    """NumPy repeats the whole header."""
    return f"{type(error).__name__}: {error}"[:150]


def _claims(
    file: BufferedIOBase, size: int, where: str, kinds: Collection[str]
) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Reads the header and checks it against the file's size."""
    shape, fortran, dtype, header = _header(file)
    if dtype.kind not in kinds or dtype.hasobject or dtype.itemsize == 0:
        raise UserError(f"{where}: an array of {dtype}, which is not expected there")
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != size - header:
        raise UserError(
            f"{where}: the header claims {claimed:,} bytes, {size - header:,} are there"
        )
    return shape, fortran, dtype, header


def _crc(file: BufferedIOBase, size: int) -> int:
    """The CRC-32 of the next `size` bytes."""
    checksum = 0
    while size > 0 and (block := file.read(min(_BLOCK, size))):
        checksum, size = zlib.crc32(block, checksum), size - len(block)
    return checksum


def _header(file: BufferedIOBase) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, whether it is in Fortran's order, dtype, and bytes of the header."""
    version = npy.read_magic(file)
    counting = _Counting(file)
    read: Any = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"version {version} of the format")
    shape, fortran, dtype = read(counting, max_header_size=_HEADER_BYTES)
    if len(shape) > _DIMENSIONS or any(size < 0 for size in shape):
        raise ValueError(f"shape {shape}"[:100])
    return shape, fortran, dtype, npy.MAGIC_LEN + counting.count


class _Counting:
    """A file that counts the bytes read, and refuses reads longer than a header may be."""

    def __init__(self, file: BufferedIOBase):
        self._file, self.count = file, 0

    def read(self, size: int) -> bytes:
        if size > 2 * _HEADER_BYTES:
            raise ValueError(f"a header of {size:,} bytes")
        content = self._file.read(size)
        self.count += len(content)
        return content


def _fill(file: BufferedIOBase, view: memoryview, where: str) -> None:
    done = 0
    while done < len(view):
        part = file.read(min(len(view) - done, 2**24))
        if not part:
            raise UserError(f"{where}: ends after {done:,} of {len(view):,} bytes")
        view[done : done + len(part)] = part
        done += len(part)


def _check_text(array: np.ndarray, where: str) -> None:
    """Refuses invalid code points: using such text raises SystemError."""
    if array.dtype.kind == "U" and array.size:
        codes = array.view(np.uint32 if array.dtype.isnative else array.dtype.byteorder + "u4")
        if ((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes <= 0xDFFF))).any():
            raise UserError(f"{where}: text that is not Unicode")
