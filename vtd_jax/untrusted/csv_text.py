"""The only reader of CSV: one line is one row, and no line is longer than a limit."""

import csv
from collections.abc import Iterator

from vtd_jax.errors import UserError
from vtd_jax.untrusted.limits import LINE_BYTES


def csv_rows(text: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV text with their line numbers, counted from 1; empty lines are left out.

    A quoted field ends in its own line, so that a stray quote cannot swallow all rows behind it.

    Args:
      text: of the file; LF, CRLF and CR end a line.
      where: what messages call the file.

    Yields:
      `(line, fields)`.

    Raises:
      UserError: with `file:line`, for a quote that is not closed, text behind one that is, or a
        line that is too long.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for line, content in enumerate(lines, start=1):
        if content.strip():
            yield line, csv_fields(content, f"{where}:{line}")


def csv_fields(content: str, where: str, delimiter: str = ",") -> list[str]:
    """The fields of one line; raises UserError as `csv_rows` does, with `where` in front."""
    if len(content) > LINE_BYTES:
        raise UserError(
            f"{where}: a line of {len(content):,} characters, expected at most {LINE_BYTES:,}"
        )
    try:
        reader = csv.reader([content], delimiter=delimiter, strict=True, skipinitialspace=True)
        return next(reader, [])
    except csv.Error:
        raise UserError(
            f"{where}: a quote that is not closed in its line, or text behind a closed one; "
            'write a quote inside a quoted field twice, as "a ""b"" c"'
        ) from None
