"""Checksummed files of rows in the cache (frame features, text features), mapped into memory."""

import io
import os
from pathlib import Path

import numpy as np
from jaxtyping import Float

from vtd_jax.errors import UserError
from vtd_jax.files import CACHE_VARIABLE, make_folders, replacing
from vtd_jax.terminal import warn
from vtd_jax.untrusted.arrays import crc_bytes, map_array


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


def write_rows(file: Path, rows: Float[np.ndarray, "..."], what: str) -> None:
    """Writes rows as an `.npy` file, followed by its CRC-32, which NumPy does not read.

    Args:
      file: is replaced at once when complete.
      rows: float32.
      what: the rows, for messages.

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
        raise NotKept(file.parent, what, error) from None


def read_rows(file: Path, shape: tuple[int, ...], what: str) -> Float[np.ndarray, "..."] | None:
    """The rows of a file, mapped into memory; None if it is missing, or damaged with a warning.

    Args:
      file: as `write_rows` writes it.
      shape: the expected shape of the float32 rows.
      what: the rows, for the warning.
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
