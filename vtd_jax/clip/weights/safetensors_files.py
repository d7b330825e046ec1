"""The only reader of untrusted safetensors files."""

import contextlib
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from vtd_jax.clip.weights.claims import check_names, check_shape
from vtd_jax.errors import UserError
from vtd_jax.untrusted.limits import SAFETENSORS_HEADER_BYTES
from vtd_jax.untrusted.regular_files import open_regular

# what to do about a damaged file of weights
AGAIN = "download or copy it again"


def open_safetensors(path: Path, stack: contextlib.ExitStack) -> Any:
    """Opens a file whose header, tensor names and shapes are within the limits of weights.

    Args:
      path: the file.
      stack: keeps it open for as long as tensors are read.

    Returns:
      What `safetensors.safe_open` gives, for NumPy.

    Raises:
      UserError: no regular file, a truncated or damaged one, or a header beyond the limits.
    """
    try:
        with open_regular(path, "safetensors file") as raw:
            size, header = os.fstat(raw.fileno()).st_size, int.from_bytes(raw.read(8), "little")
        if SAFETENSORS_HEADER_BYTES < header <= size:
            raise UserError(
                f"{path}: a header of {header:,} bytes, expected at most "
                f"{SAFETENSORS_HEADER_BYTES:,}"
            )
        file = stack.enter_context(safe_open(path, "numpy"))
        names = list(file.keys())
        check_names(names, str(path))
        for name in names:
            check_shape(name, file.get_slice(name).get_shape(), str(path))
        return file
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (SafetensorError, OSError, ValueError, TypeError, OverflowError) as error:
        raise UserError(
            f"{path}: truncated or damaged safetensors file of {_size(path)} bytes ({error}); "
            f"{AGAIN}"
        ) from None


def safetensors_metadata(path: Path) -> dict[str, str]:
    """The text that a header carries; raises UserError as `open_safetensors`."""
    with contextlib.ExitStack() as stack:
        return open_safetensors(path, stack).metadata() or {}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
