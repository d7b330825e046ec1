"""What people are given: file names that fit, cells that are no formulas, outputs that can be
written.
"""

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

# of a file name, on most file systems; on encrypted ones 143, of which endings and numbers take
# some
NAME_BYTES, STEM_BYTES = 255, 120
# what Windows, and sticks that are formatted for it, do not take in a file name
_UNSAFE = re.compile(r'[\\/:*?"<>|\x00-\x1f\x7f-\x9f\ud800-\udfff]')
# a spreadsheet runs cells that begin so as formulas
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def file_stem(text: str) -> str:
    """A name for a file about something called `text`, without an ending; always the same, and fit
    for any file system.

    What some of these refuse becomes `_`; a long name is cut and ends in a digest of all of it.
    """
    safe = _UNSAFE.sub("_", text).rstrip(" .") or "video"
    return safe if len(safe.encode()) <= STEM_BYTES else shortened(safe, STEM_BYTES, text)


def shortened(name: str, most: int, whole: str = "") -> str:
    """A name of at most `most` bytes: its beginning, and a digest of it (or of `whole`), which
    sets it apart from others.
    """
    digest = fingerprint(os.fsencode(whole or name))[:8]
    return f"{os.fsencode(name)[: most - 9].decode(errors='ignore')}-{digest}"


def beside_name(path: Path, ending: str) -> Path:
    """`path` with an ending more, in the same folder; a name that is too long for it is shortened."""
    room = NAME_BYTES - len(ending)
    name = path.name if len(os.fsencode(path.name)) <= room else shortened(path.name, room)
    return path.with_name(f"{name}{ending}")


def cell(value: Any) -> Any:
    """A CSV cell that no spreadsheet takes for a formula: a text that begins like one gets an
      apostrophe in front.

    Numbers stay as they are.
    """
    if not isinstance(value, str):
        return value
    value = utf8(value)
    return f"'{value}" if value.startswith(_FORMULA) else value


class CsvWriter:
    """As `csv.writer`, for files that people open in spreadsheets.

    Args:
      out: gets the rows.
      guarded: whether cells go through `cell`; not in files that a program reads again.
    """

    def __init__(self, out: io.TextIOBase, guarded: bool = True):
        self._cell = cell if guarded else lambda value: value
        # csv quotes a cell with a carriage return, where a reader would begin a row, only if lines
        # end with one
        self._out, self._row = out, io.StringIO(newline="")
        self._writer = csv.writer(self._row, lineterminator="\r\n")

    def writerow(self, row: Iterable[Any]) -> None:
        """Writes one row."""
        self._writer.writerow([self._cell(value) for value in row])
        self._out.write(self._row.getvalue()[:-2] + "\n")
        self._row.seek(0)
        self._row.truncate()

    def writerows(self, rows: Iterable[Iterable[Any]]) -> None:
        """Writes several."""
        for row in rows:
            self.writerow(row)


def csv_text(rows: Iterable[Iterable[Any]], guarded: bool = True) -> str:
    """Rows as `CsvWriter` writes them."""
    out = io.StringIO()
    CsvWriter(out, guarded).writerows(rows)
    return out.getvalue()


def check_suffix(path: Path, *suffixes: str, where: str = "") -> None:
    """Refuses a path whose name ends in none of `suffixes`.

    Args:
      path: of a file or folder.
      suffixes: each with its point.
      where: what the message calls the path; "" for the path itself.

    Raises:
      UserError: names the suffixes.
    """
    if path.suffix not in suffixes:
        *others, last = suffixes
        expected = f"{', '.join(others)} or {last}" if others else last
        raise UserError(f"{where or path}: the name must end in {expected}")


def check_output(flag: str, value: str, *, folder: bool = False) -> None:
    """Refuses an output that could not be written, before there is anything to write; makes
    nothing.

    Args:
      flag: what messages call it, such as "--json".
      value: path of a file, or of a folder in which files will be.
      folder: whether it is a folder.

    Raises:
      UserError: empty, of the other kind, below a file, too long, or in a folder that cannot be
        written.
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
                    f"{where}: {there} is a link to {os.readlink(there)}, which is not there; "
                    "remove it"
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
