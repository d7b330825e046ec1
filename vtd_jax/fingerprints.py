"""Fingerprints of values: the first 16 hex digits of a SHA-256.

Hashed are:
- bytes: unchanged;
- a text: its UTF-8 (`sha256sum` gives the same);
- an array: its dtype and shape as `float32 (3, 4)` and a line feed, then its bytes in C order;
- anything else: its JSON, with sorted keys.

Other hashes are not fingerprints: checksums of file formats (zip, PNG, records, shards of rows
with their CRC-32), complete SHA-256s of files, and hashes that seed or sort something.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

DIGITS = 16


def fingerprint(value: Any) -> str:
    """The fingerprint of a value, the same in every process and on every machine.

    Args:
      value: bytes, a text, an array, or a value for JSON.
    """
    return fingerprint_all((value,))


def fingerprint_all(values: Iterable[Any]) -> str:
    """The fingerprint of concatenated values; only one at a time is in memory.

    Nothing separates them: texts need a terminator, such as a line feed.
    """
    found = hashlib.sha256()
    for value in values:
        if isinstance(value, (bytes, bytearray, memoryview)):
            found.update(value)
        elif isinstance(value, str):
            # file names may have bytes that are not text
            found.update(value.encode(errors="surrogatepass"))
        elif hasattr(value, "dtype") and hasattr(value, "shape"):
            array = np.asarray(value)
            found.update(f"{array.dtype} {array.shape}\n".encode())
            # as bytes: bfloat16 arrays have no buffer of their own dtype
            found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        else:
            found.update(json.dumps(value, sort_keys=True).encode())
    return found.hexdigest()[:DIGITS]


def same(
    noted: Any, here: str, *, least: int = DIGITS, legacy: Callable[[], str] | None = None
) -> bool:
    """Whether a stored fingerprint, also of an earlier version, is that of the present value.

    Args:
      noted: the stored one, of any type. Earlier versions stored more or fewer digits of the same
        SHA-256.
      here: of `fingerprint`.
      least: fewest digits that earlier versions stored.
      legacy: computes the hash of earlier versions with another algorithm; compared with `noted` if
        that has not 16 digits.
    """
    if not isinstance(noted, str):
        return False
    if legacy is not None and len(noted) != DIGITS:
        return noted == legacy()
    digits = min(len(noted), len(here))
    return noted == here or (digits >= least and noted[:digits] == here[:digits])
