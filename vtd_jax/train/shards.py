"""Files of rows that are there whole or not at all, are mapped into memory, and are not believed when damaged."""

import io
import os
from pathlib import Path

import numpy as np

from vtd_jax.cache_folder import VARIABLE, make_folders
from vtd_jax.errors import UserError
from vtd_jax.files import replacing
from vtd_jax.terminal import warn
from vtd_jax.untrusted.arrays import crc_bytes, map_array


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
        make_folders(folder)
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
            out.write(crc_bytes(content.getbuffer()))
    except OSError as error:
        raise NotKept(file.parent, error) from None


def read_rows(file: Path, shape: tuple[int, ...], what: str = "frame features") -> np.ndarray | None:
    """The rows of a file, float32 of this shape, mapped into memory; None where there is no such file.

    One that is damaged, or a pipe in its place, is a warning and None.

    Args:
      file: as `write_rows` writes it.
      shape: expected.
      what: what the warning calls the rows.
    """
    try:
        return map_array(file, shape, crc=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        why = error.strerror or str(error)
    except UserError as error:
        why = str(error).removeprefix(f"{file}: ")
    warn(f"{file}: damaged {what} ({why}); computing them again")
    return None
