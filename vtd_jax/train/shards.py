"""Files of rows that are there whole or not at all, are mapped into memory, and are not believed when damaged."""

import io
import os
import zlib
from pathlib import Path

import numpy as np

from vtd_jax.cache_folder import VARIABLE
from vtd_jax.errors import UserError
from vtd_jax.files import replacing
from vtd_jax.terminal import warn

_CHECKSUM, _BLOCK = 4, 2**22


class NotKept(UserError):
    """Files cannot be written where they should be."""

    def __init__(self, folder: Path, error: OSError):
        super().__init__(
            f"{folder}: frame features cannot be kept there ({error.strerror or error}); set {VARIABLE} to a folder "
            "that can be written and has space"
        )


def make_folder(folder: Path) -> None:
    """Makes a folder; tells of one that cannot be written before the work, not after it.

    Raises:
      NotKept: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotKept(folder, error) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise NotKept(folder, OSError(0, "no permission"))


def write_rows(file: Path, rows: np.ndarray) -> None:
    """An `.npy` file, followed by the CRC-32 of it, which NumPy does not read.

    Raises:
      NotKept: no space, or no permission.
    """
    content = io.BytesIO()
    np.save(content, rows)
    try:
        with replacing(file) as part, part.open("wb") as out:
            out.write(content.getbuffer())
            out.write(zlib.crc32(content.getbuffer()).to_bytes(_CHECKSUM, "little"))
    except OSError as error:
        raise NotKept(file.parent, error) from None


def read_rows(file: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The rows of a file, float32 of this shape, mapped into memory; None where there is none, or a damaged one, which
    is told on stderr."""
    try:
        if _whole(file):
            rows = np.load(file, mmap_mode="r", allow_pickle=False)
            if rows.shape == shape and rows.dtype == np.float32:
                return rows
        why = "truncated or changed"
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
    warn(f"{file}: damaged frame features ({why}); computing them again")
    return None


def _whole(file: Path) -> bool:
    """Whether a file is what was written."""
    left, checksum = file.stat().st_size - _CHECKSUM, 0
    with file.open("rb") as content:
        while left > 0:
            block = content.read(min(_BLOCK, left))
            if not block:
                return False
            checksum, left = zlib.crc32(block, checksum), left - len(block)
        return content.read() == checksum.to_bytes(_CHECKSUM, "little")
