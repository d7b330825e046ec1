"""Label files in the forms that people have them in: read as what they are, or refused in one line.

One name a line; `id,name` rows parted by commas, semicolons or tabs, with a header or without;
lines of a number and a name, as in UCF-101's `classInd.txt`; the annotation CSV of Kinetics; JSON,
as SSv2's `labels.json`. What a file is follows from all of its lines: numbers count as ids only
where every line has one.
"""

import re
from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.untrusted.limits import LINE_BYTES
from vtd_jax.video.lists.label_json import labels_of, read_json
from vtd_jax.video.lists.label_refusals import (
    DIGITS,
    FORMS,
    Lines,
    counted,
    refuse_columns,
    refuse_marked,
    refuse_partly_numbered,
    refuse_videos,
)
from vtd_jax.video.lists.label_rows import (
    SEPARATORS,
    LabelFile,
    fields_of,
    read_rows,
    refuse_alike,
    whole_number,
    with_ids,
)

# what columns are called that hold ids, and names
_ID = (
    "|#|id|class_id|classid|class id|label_id|labelid|label id|index|idx|class_index|class_idx"
    "|label_index|no|num|number"
)
_SURE_NAME = "name|class_name|classname|class name|label_name|label name"
_NAME = f"{_SURE_NAME}|names|label|labels|class|classes|category|action|activity|text"
_IDS, _SURE_NAMES, _NAMES = (frozenset(words.split("|")) for words in (_ID, _SURE_NAME, _NAME))
_NUMBERED = re.compile(r"([0-9]+)[.):]?\s+(?![-–—|=:>])(\S.*)")


def parse_label_file(text: str, path: str | Path) -> LabelFile:
    """Reads the text of a label file.

    Args:
      text: the file's, with `\\n` at the ends of lines.
      path: the file's, whose ending counts: `.csv` and `.tsv` have columns, `.json` is JSON.

    Returns:
      The names, none where the file is empty. Names without ids are not compared with one another.

    Raises:
      UserError: with `file:line` for a file in another form than the ones above or in doubt, a row
        that is malformed, an empty name; of rows with ids also an id that is there twice, or names
        that read the same to CLIP.
    """
    # a file may have a million lines, so checks look at a line's first or last character first
    path, suffix = str(path), Path(path).suffix.lower()
    stripped = enumerate(map(str.strip, text.split("\n")), start=1)
    lines = [(number, line) for number, line in stripped if line]
    if not lines:
        return LabelFile((), None, (), "lines")
    content = read_json(text, path, suffix)
    if content is not None:
        return labels_of(content, path)
    for number, line in lines:
        if len(line) > LINE_BYTES:
            raise UserError(
                f"{path}:{number}: a line of {len(line):,} characters, expected at most "
                f"{LINE_BYTES:,}"
            )
    refuse_videos(lines, path)
    # a header may begin with an empty field, and a line of tabs with a blank one
    first = next(line for line in text.split("\n") if line.strip())
    for separator in SEPARATORS:
        columns = _header(first, separator)
        if columns is not None:
            return _under_header(lines, separator, columns, path)
    table = suffix in (".csv", ".tsv")
    separator = _separator(lines, table)
    if separator is not None:
        return read_rows(lines, separator, (0, 1), 2, path)
    if table:
        lines = _one_column(lines, path)
    elif (numbered := _numbered(lines, path)) is not None:
        return numbered
    refuse_marked(lines, path)
    refuse_columns(lines, path)
    names = tuple(
        _unquoted(line, f"{path}:{number}") if line[0] == '"' else line for number, line in lines
    )
    places = tuple(number for number, _ in lines)
    return LabelFile(names, None, tuple(f"{path}:{number}" for number in places), "lines", places)


def _separator(lines: Lines, table: bool) -> str | None:
    """What parts the columns of `id,name` rows; None where the file has no such rows."""
    for separator in SEPARATORS:
        if not all(re.match(rf'"?[0-9]+"?\s*{separator}', line) for _, line in lines):
            continue
        if separator != "," or table:
            return separator
        # 1,000 people: in a text file this may be a number
        thousands = any(re.match(r"[0-9]{1,3},[0-9]{3}(?![0-9])", line) for _, line in lines)
        if len(lines) > 1 and not thousands:
            return separator
    if table:
        return next((s for s in (",", ";", "\t") if len(fields_of(lines[0][1], s) or "") > 1), None)
    return None


def _header(line: str, separator: str) -> list[str] | None:
    """The column names, if a line is the header of a label file or a Kinetics annotation."""
    columns = [column.lower() for column in fields_of(line, separator) or []]
    if len(columns) < 2:
        return None
    if "youtube_id" in columns:
        return columns
    # of more columns than two a `category` may be that of the classes
    known = _NAMES if len(columns) == 2 else _SURE_NAMES
    ids, names = ([column for column in columns if column in some] for some in (_IDS, known))
    if len(columns) == 2:
        return columns if names and len(ids) + len(names) == 2 else None
    return columns if len(ids) == len(names) == 1 else None


def _under_header(lines: Lines, separator: str, columns: list[str], path: str | Path) -> LabelFile:
    """The rows below a header."""
    if "youtube_id" in columns:
        return _annotation(lines, separator, columns, path)
    below = lines[1:]
    cells = [fields_of(line, separator) or [] for _, line in below]
    ids = [i for i, column in enumerate(columns) if column in _IDS]
    if len(columns) == 2:
        # headers such as `name,label`: the column of numbers holds the ids
        pairs = bool(cells) and all(len(row) == 2 for row in cells)
        numbers = [
            i for i in (0, 1) if pairs and None not in [whole_number(row[i]) for row in cells]
        ]
        unsure = len(numbers) == 2 and not _SURE_NAMES & set(columns)
        if (not ids and len(numbers) != 1) or unsure:
            raise UserError(
                f"{path}:{lines[0][0]}: it is not clear which column holds the ids; call the "
                "columns id and name"
            )
        ids = ids or numbers
    name = 1 - ids[0]
    if len(columns) > 2:
        name = next(i for i, column in enumerate(columns) if column in _SURE_NAMES)
    return read_rows(below, separator, (ids[0], name), len(columns), path)


def _annotation(lines: Lines, separator: str, columns: list[str], path: str | Path) -> LabelFile:
    """The classes of a Kinetics annotation, each once, sorted as in its label files."""
    if not {"label", "time_start", "time_end"} <= set(columns):
        raise UserError(
            f"{path}:{lines[0][0]}: an annotation of videos without Kinetics' columns "
            f"label,youtube_id,time_start,time_end; expected {FORMS}"
        )
    place, found = columns.index("label"), {}
    for number, line in lines[1:]:
        fields = fields_of(line, separator)
        if fields is None or len(fields) <= place:
            raise UserError(
                f"{path}:{number}: expected {','.join(columns)}, found {line!r:.80}; mend the row"
            )
        found.setdefault(fields[place].strip("\"'"), number)
    if "" in found:
        raise UserError(f"{path}:{found['']}: the label is empty; expected a class name")
    refuse_alike(list(found), list(found.values()), path)
    names = tuple(sorted(found))
    return LabelFile(names, None, tuple(f"{path}:{found[name]}" for name in names), "annotation")


def _one_column(lines: Lines, path: str | Path) -> Lines:
    """A table of one column, without its header."""
    for number, line in lines:
        if any(len(fields_of(line, separator) or "") > 1 for separator in SEPARATORS):
            raise UserError(
                f"{path}:{number}: expected one name a line, as on line {lines[0][0]}, found "
                f"{line!r:.60}; put quotes around a name that contains a comma, or write rows of "
                "the form id,name"
            )
    return lines[1:] if len(lines) > 1 and lines[0][1].lower().strip('"') in _NAMES else lines


def _numbered(lines: Lines, path: str | Path) -> LabelFile | None:
    """Lines of a number and a name; None where lines are names."""
    if len(lines) < 2 or 2 * sum(line[0] in DIGITS for _, line in lines) <= len(lines):
        return None
    found = [_NUMBERED.fullmatch(line) for _, line in lines]
    numbers = [match and whole_number(match[1]) for match in found]
    if None not in numbers and len(set(numbers)) == len(numbers):
        if not counted(sorted(numbers)):
            raise UserError(
                f"{path}:{lines[0][0]}: every line begins with a number, and these do not count "
                "from 0 or 1, so they may be ids or belong to the names; write rows of the form "
                f"id,name, as in {f'0,{lines[0][1]}'!r:.60}"
            )
        return with_ids({int(m[1]): (m[2].strip(), line[0]) for m, line in zip(found, lines)}, path)
    refuse_partly_numbered(lines, path)
    return None


def _unquoted(line: str, where: str) -> str:
    """A name without the quotes that a CSV writer puts around it."""
    fields = fields_of(line, ",")
    if fields is None:
        return line
    if len(fields) > 1:
        raise UserError(f"{where}: found {len(fields)} fields in {line!r:.60}; expected {FORMS}")
    if not fields[0]:
        raise UserError(f"{where}: the name is empty; give it one")
    return fields[0]
