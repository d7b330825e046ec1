"""Copies of data sets that have names: a CSV of their fingerprints."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from vtd_jax.errors import UserError
from vtd_jax.fingerprints import DIGITS
from vtd_jax.untrusted.csv_text import csv_rows
from vtd_jax.untrusted.limits import KNOWN_COPIES, KNOWN_COPIES_BYTES
from vtd_jax.untrusted.regular_files import read_text
from vtd_jax.video.copies.data_copy import DataCopy

COLUMNS = ("dataset", "list", "copy", "source", "fingerprint")
# the data set of anyone's videos, of which no copies are published
_OWN = "video_folder"


class KnownCopy(NamedTuple):
    """A row: data set and list, what the copy is called, where it is from, its fingerprint."""

    dataset: str
    list: str
    copy: str
    source: str
    fingerprint: str


def read_known(path: str | os.PathLike) -> tuple[KnownCopy, ...]:
    """Reads the table of known copies.

    Raises:
      UserError: it cannot be read, or a row is not as it should be; says which.
    """
    try:
        text = read_text(path, "table of known copies", KNOWN_COPIES_BYTES)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    known: list[KnownCopy] = []
    for line, fields in csv_rows(text, str(path)):
        if not known and tuple(fields) == COLUMNS:
            continue
        blank = len(fields) != len(COLUMNS) or not all(field.strip() for field in fields)
        if blank or len(known) == KNOWN_COPIES:
            raise UserError(
                f"{path}:{line}: expected {','.join(COLUMNS)}, none of them empty, in at most "
                f"{KNOWN_COPIES:,} rows"
            )
        row = KnownCopy(*fields)
        if len(row.fingerprint) != DIGITS or set(row.fingerprint) - set("0123456789abcdef"):
            raise UserError(
                f"{path}:{line}: fingerprint {row.fingerprint!r:.60}, expected {DIGITS} hex digits"
            )
        known.append(row)
    return tuple(known)


def known_as(copy: DataCopy, dataset: str, known: Sequence[KnownCopy]) -> str:
    """What is known of a copy, for a line; empty for videos of one's own that no row has."""
    rows = [row for row in known if row.fingerprint == copy.fingerprint]
    if rows:
        return f"known copy: {rows[0].copy} ({rows[0].source})"
    if dataset == _OWN:
        return ""
    if any(row.dataset == dataset for row in known):
        return f"not among the known copies of {dataset}"
    return f"no copy of {dataset} is known by its fingerprint yet"


class NamedCopy(NamedTuple):
    """A copy, and what is known of it."""

    copy: DataCopy
    known: str

    def describe(self) -> str:
        """Fingerprint, counts, digests, and whether it is a known copy."""
        return f"{self.copy.describe()}{self.known and f'; {self.known}'}"
