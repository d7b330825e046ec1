"""Outputs for users: valid file names, CSV cells that are not formulas, checks of paths."""

import csv
import io
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vtd_jax.errors import UserError
from vtd_jax.fingerprints import fingerprint
from vtd_jax.printable import printable, utf8

# bytes of a file name on most file systems; encrypted ones allow 143, with suffixes and numbers
NAME_BYTES, STEM_BYTES = 255, 120
# characters that file systems of Windows do not allow in a name
_UNSAFE = re.compile(r'[\\/:*?"<>|\x00-\x1f\x7f-\x9f\ud800-\udfff]')
# first characters of a formula in a spreadsheet
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def file_stem(text: str) -> str:
    """The name of a file about `text`, without suffix, for any file system; deterministic.

    Invalid characters become `_`; a long name is cut and ends in a digest of `text`.
    """
    safe = _UNSAFE.sub("_", text).rstrip(" .") or "video"
    return safe if len(safe.encode()) <= STEM_BYTES else shortened(safe, STEM_BYTES, text)


def shortened(name: str, most: int, whole: str = "") -> str:
    """A name of at most `most` bytes: its beginning and a digest of it, or of `whole`."""
    digest = fingerprint(os.fsencode(whole or name))[:8]
    return f"{os.fsencode(name)[: most - 9].decode(errors='ignore')}-{digest}"


def beside_name(path: Path, ending: str) -> Path:
    """`path` with `ending` appended; a name that becomes too long is shortened."""
    room = NAME_BYTES - len(ending)
    name = path.name if len(os.fsencode(path.name)) <= room else shortened(path.name, room)
    return path.with_name(f"{name}{ending}")


def cell(value: Any) -> Any:
    """A CSV cell that is not a formula: text that begins like one gets an apostrophe in front.

    Numbers are unchanged.
    """
    if not isinstance(value, str):
        return value
    value = utf8(value)
    return f"'{value}" if value.startswith(_FORMULA) else value


class CsvWriter:
    """As `csv.writer`, for files that are opened in spreadsheets.

    Args:
      out: stream for the rows.
      guarded: whether to apply `cell`; not for files that programs read.
    """

    def __init__(self, out: io.TextIOBase, guarded: bool = True):
        self._cell = cell if guarded else lambda value: value
        # csv quotes a cell with a carriage return only if the line terminator has one
        self._out, self._row = out, io.StringIO(newline="")
        self._writer = csv.writer(self._row, lineterminator="\r\n")

    def writerow(self, row: Iterable[Any]) -> None:
        """Writes one row."""
        self._writer.writerow([self._cell(value) for value in row])
        self._out.write(self._row.getvalue()[:-2] + "\n")
        self._row.seek(0)
        self._row.truncate()

    def writerows(self, rows: Iterable[Iterable[Any]]) -> None:
        """Writes several rows."""
        for row in rows:
            self.writerow(row)


def csv_text(rows: Iterable[Iterable[Any]], guarded: bool = True) -> str:
    """Rows as CSV text, see `CsvWriter`."""
    out = io.StringIO()
    CsvWriter(out, guarded).writerows(rows)
    return out.getvalue()


def check_suffix(path: Path, *suffixes: str, where: str = "") -> None:
    """Refuses a path without one of `suffixes`.

    Args:
      path: of a file or folder.
      suffixes: each with its dot.
      where: name of the path in messages; "" for the path itself.

    Raises:
      UserError: another suffix.
    """
    if path.suffix not in suffixes:
        *others, last = suffixes
        expected = f"{', '.join(others)} or {last}" if others else last
        raise UserError(f"{where or path}: the name must end in {expected}")


def check_output(flag: str, value: str, *, folder: bool = False) -> None:
    """Refuses an output that cannot be written, without creating anything.

    Args:
      flag: name of the output in messages, such as "--json".
      value: path of a file or folder.
      folder: whether it is a folder.

    Raises:
      UserError: an empty or too long path, one of the other kind, below a file, or in a folder that
        cannot be written.
    """
    kind, where = "folder" if folder else "file", f"{flag}={printable(value)}"
    if not value:
        raise UserError(f"{flag}=: empty, expected the name of a {kind}")
    path = Path(value)
    try:
        there = path
        while not there.exists():
            if there.is_symlink():
                raise UserError(
                    f"{where}: {there} is a broken link to {os.readlink(there)}; remove it"
                )
            there = there.parent
    except OSError as error:
        # a name that is too long
        raise UserError(f"{where}: {error.strerror}; give another name of a {kind}") from None
    if there == path and there.is_dir() != folder:
        other = "file" if folder else "folder"
        raise UserError(f"{where}: is a {other}, expected the name of a {kind}; give another name")
    if there != path and not there.is_dir():
        raise UserError(
            f"{where}: {there} is a file, and nothing can be below it; give a {kind} below a "
            "folder, or move that away"
        )
    needed = there if there.is_dir() else there.absolute().parent
    if not os.access(needed, os.W_OK | os.X_OK):
        raise UserError(
            f"{where}: {needed} cannot be written (no permission); give a {kind} in a folder that "
            "can be"
        )
