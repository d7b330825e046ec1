"""Videos and classes of a data set on a hub, from Parquet files, tables of files, or folders."""

import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vtd_jax.errors import UserError
from vtd_jax.printable import brief, listed
from vtd_jax.untrusted.csv_text import csv_rows
from vtd_jax.untrusted.json_text import parse_json
from vtd_jax.untrusted.limits import DATA_SET_ROWS, LINE_BYTES
from vtd_jax.untrusted.parquet import FILE, TEXT
from vtd_jax.untrusted.regular_files import read_text
from vtd_jax.video.hub_sets import files as of_files
from vtd_jax.video.hub_sets.columns import LABELS, VIDEOS, class_of, columns_of
from vtd_jax.video.hub_sets.tables import Tables
from vtd_jax.video.suffixes import is_video


class Row(NamedTuple):
    """A video of a data set.

    Attributes:
      split: the list that it belongs to.
      label: name of its class; None where that is kept secret.
      name: what its file is called, as a stranger wrote it; "" for nothing.
      content: its bytes; None where it is a file.
      file: of the repository; None where it is not there.
    """

    split: str
    label: str | None
    name: str
    content: bytes | None = None
    file: str | None = None


class Rows:
    """All videos of a data set.

    Attributes:
      classes: the classes in the order of their numbers; None where labels are texts.
      count: rows, at most.
      bytes: of the videos that lie in tables, by their footers.
    """

    def __init__(
        self,
        folder: Path,
        files: Sequence[str],
        card: Mapping[str, Sequence[str]],
        what: str,
        reader: Tables,
    ):
        """Looks at tables, but at none of their rows.

        Args:
          folder: that the files lie in.
          files: paths below it.
          card: class names by column, as the data set's card says them.
          what: the data set, for messages.
          reader: of Parquet files.

        Raises:
          UserError: tables that cannot be read, have other columns than needed, or differ.
        """
        self._folder, self._what, self._card = folder, what, card
        self._files = frozenset(files)
        self._tables = of_files.tables_of(files)
        self.classes: tuple[str, ...] | None = None
        self.count, self.bytes = 0, 0
        self._columns, self._kinds = [], []
        self._reader = reader
        for table in self._tables:
            place = folder / table.file, f"{what}: {table.file}"
            look = reader.look(*place)
            columns = columns_of(look, card, what)
            if self._columns and columns.classes != self._columns[0].classes:
                raise UserError(
                    f"{what}: {table.file} has other classes than {self._tables[0].file}"
                )
            self._columns.append(columns)
            self._kinds.append(look.kinds[columns.video])
            self.classes = columns.classes
            self.count += look.rows
            self.bytes += reader.check(*place, [columns.video, columns.label])
        if self.count > DATA_SET_ROWS:
            raise UserError(f"{what}: {self.count:,} videos, expected at most {DATA_SET_ROWS:,}")

    def __iter__(self) -> Iterator[Row]:
        if self._tables:
            for place in range(len(self._tables)):
                yield from self._of_table(place)
            return
        about = sorted(file for file in self._files if not is_video(file))
        if about:
            for file in about:
                yield from self._of_list(file)
            return
        for file in sorted(self._files):
            label = of_files.class_of(file)
            if label is None:
                raise UserError(
                    f"{self._what}: {file!r:.200} has no class: expected a folder of each class, "
                    f"or {of_files.METADATA[0]} with the columns {VIDEOS[4]} and {LABELS[0]}"
                )
            yield Row(of_files.split_of(file), label, posixpath.basename(file), file=file)

    def _of_table(self, place: int) -> Iterator[Row]:
        """The rows of a Parquet file."""
        table, kind = self._tables[place], self._kinds[place]
        video, label, classes = self._columns[place]
        where = f"{self._what}: {table.file}"
        rows = self._reader.read(self._folder / table.file, where, [video, label])
        for number, (value, label_value) in enumerate(rows):
            content, path = value if kind == FILE else (value, None)
            if kind == TEXT:
                content, path = None, value
            file = None if content else self._beside(table.file, path or "")
            name = class_of(label_value, classes, f"{where}: row {number}")
            yield Row(table.split, name, path or "", content or None, file)

    def _beside(self, table: str, path: str) -> str | None:
        """The file of the repository that a table names, from its own folder or the top."""
        if not path or os.path.isabs(path) or "\\" in path:
            return None
        for folder in (posixpath.dirname(table), ""):
            # what leads out of the repository is none of its files
            found = posixpath.normpath(posixpath.join(folder, path))
            if found in self._files and is_video(found):
                return found
        return None

    def _of_list(self, file: str) -> Iterator[Row]:
        """The rows of a table of files, as metadata.csv."""
        where = f"{self._what}: {file}"
        split = of_files.split_of_list(file)
        for line, row in _listed(self._folder / file, where):
            video, label = _column(row, VIDEOS), _column(row, LABELS)
            if video is None or label is None:
                raise UserError(
                    f"{where}:{line}: expected the columns {VIDEOS[4]} and {LABELS[0]}, found "
                    f"{listed([brief(name) for name in row], 8) or 'none'}"
                )
            path, value = row[video], row[label]
            right = isinstance(value, str | int | None) and not isinstance(value, bool)
            if not isinstance(path, str) or not right:
                raise UserError(f"{where}:{line}: expected texts, found {brief([path, value])}")
            classes = tuple(self._card.get(label, ()))
            if isinstance(value, str) and classes and _is_number(value, classes):
                # a CSV has texts only
                value = int(value)
            if isinstance(value, int) and not classes:
                raise UserError(f"{where}:{line}: class {value}, and nothing names the classes")
            if isinstance(value, int):
                self.classes = classes
            here = row.get("split")
            found = self._beside(file, path)
            of = of_files.split_named(here) if isinstance(here, str) and here else split
            name = class_of(value, classes or None, f"{where}:{line}")
            yield Row(of or of_files.split_of(found or path), name, path, file=found)


def _is_number(text: str, classes: Sequence[str]) -> bool:
    """Whether a text is the number of a class, and not the name of one."""
    return text.strip() not in classes and re.fullmatch(r"\s*-?[0-9]{1,9}\s*", text) is not None


def _column(row: Mapping[str, Any], known: Sequence[str]) -> str | None:
    return next((name for name in known if name in row), None)


def _listed(path: Path, where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a CSV or JSON lines, with their lines."""
    text = read_text(path, "table of files")
    if path.suffix == ".jsonl":
        for line, content in enumerate(text.split("\n"), start=1):
            if len(content) > LINE_BYTES:
                raise UserError(f"{where}:{line}: a line of {len(content):,} characters")
            if content.strip():
                yield line, parse_json(content, f"{where}:{line}", dict[str, Any])
        return
    header: list[str] = []
    for line, fields in csv_rows(text, where):
        if not header:
            header = [field.strip() for field in fields]
        elif len(fields) != len(header):
            raise UserError(f"{where}:{line}: {len(fields)} fields, expected {len(header)}")
        else:
            yield line, dict(zip(header, fields, strict=True))
