"""One spelling of "the same as before": 16 hex digits of a SHA-256.

What is hashed, so that anybody can compute it again (`sha256sum` does for a text):
- bytes: as they are;
- a text: its UTF-8;
- an array: its dtype and shape as `float32 (3, 4)` and a line feed, then its bytes in C order;
- anything else: its JSON, keys sorted.

Not of this kind, and left as they are: checksums that a file format prescribes (zip, PNG, records,
`.npy` rows with their CRC-32), whole SHA-256s of files, which others compute too, and hashes that
seed or sort something.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

DIGITS = 16


def fingerprint(value: Any) -> str:
    """Sixteen hex digits that tell a value from any other of its kind.

    Args:
      value: bytes, a text, an array, or what JSON can hold.

    Returns:
      The digits; the same in every process, on every machine.
    """
    return fingerprint_all((value,))


def fingerprint_all(values: Iterable[Any]) -> str:
    """The fingerprint of values one after another, of which one at a time is in memory.

    Nothing separates them: a text of any length needs an end that shows, such as a line feed.
    """
    found = hashlib.sha256()
    for value in values:
        if isinstance(value, (bytes, bytearray, memoryview)):
            found.update(value)
        elif isinstance(value, str):
            # file names may have bytes that are no text
            found.update(value.encode(errors="surrogatepass"))
        elif hasattr(value, "dtype") and hasattr(value, "shape"):
            array = np.asarray(value)
            found.update(f"{array.dtype} {array.shape}\n".encode())
            found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        else:
            found.update(json.dumps(value, sort_keys=True).encode())
    return found.hexdigest()[:DIGITS]


def same(
    noted: Any, here: str, *, least: int = DIGITS, legacy: Callable[[], str] | None = None
) -> bool:
    """Whether a fingerprint that some version noted is that of what is here.

    Args:
      noted: as it was read; what is no text is another. Earlier versions noted more or fewer digits
        of the same SHA-256.
      here: as `fingerprint` gives it.
      least: digits that earlier versions noted, where those were fewer than 16.
      legacy: computes what earlier versions noted, where that was another algorithm: what is noted
        in another length than 16 is compared with it.
    """
    if not isinstance(noted, str):
        return False
    if legacy is not None and len(noted) != DIGITS:
        return noted == legacy()
    digits = min(len(noted), len(here))
    return noted == here or (digits >= least and noted[:digits] == here[:digits])
