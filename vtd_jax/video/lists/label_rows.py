"""Rows of label files: their fields, their ids, and names that read the same to CLIP."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.texts import check_lengths, keys, quoted_pair, read_as, same_texts
from vtd_jax.untrusted.csv_text import csv_fields

# what parts the columns of a row -> how a row is written
SEPARATORS = {"\t": "id<TAB>name", ";": "id;name", ",": "id,name"}


@dataclass(frozen=True)
class LabelFile:
    """What a label file holds.

    Attributes:
      names: in the order of the ids; without ids in the order of the file (Kinetics' annotation:
        sorted).
      ids: the id of each name; None where the file has none.
      where: `file:line` of each name, or the file and its id.
      places: the line of each name, or its place in a JSON list.
      form: "lines", "rows", "annotation" or "json".
    """

    names: tuple[str, ...]
    ids: tuple[int, ...] | None
    where: tuple[str, ...]
    form: str
    places: tuple[int, ...] = ()


def whole_number(text: str) -> int | None:
    """An id; None if the text is no whole number >= 0 of at most 18 digits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def fields_of(line: str, separator: str) -> list[str] | None:
    """The stripped, unquoted fields of a line; None where quotes do not match."""
    try:
        return [field.strip() for field in csv_fields(line, "", separator)] or [""]
    except UserError:
        return None


def read_rows(
    lines: Sequence[tuple[int, str]],
    separator: str,
    places: tuple[int, int],
    width: int,
    path: str | Path,
) -> LabelFile:
    """Rows with an id and a name at these places."""
    found: dict[int, tuple[str, int]] = {}
    for number, line in lines:
        where = f"{path}:{number}"
        class_id, name = _row(fields_of(line, separator), places, width, where, separator)
        if class_id in found:
            raise UserError(
                f"{where}: class id {class_id} is already on line {found[class_id][1]}; each may "
                "appear once"
            )
        found[class_id] = (name, number)
    return with_ids(found, path)


def _row(
    fields: list[str] | None, places: tuple[int, int], width: int, where: str, separator: str
) -> tuple[int, str]:
    """Checks one row."""
    form = SEPARATORS[separator] if places == (0, 1) else "a name and its id"
    if fields is None:
        raise UserError(
            f"{where}: the quotes do not match; expected {form}, with quotes around the whole "
            "name or none"
        )
    if len(fields) != width:
        hint = "add the missing field"
        if len(fields) > width:
            hint = "put quotes around a name that contains a comma"
        like = f" ({form})" if width == 2 else ", as in the header"
        raise UserError(f"{where}: expected {width} fields{like}, found {len(fields)}; {hint}")
    value, name = fields[places[0]], fields[places[1]]
    class_id = whole_number(value)
    if class_id is None:
        raise UserError(
            f"{where}: class id {value!r:.60} is not a whole number >= 0; expected {form}"
        )
    if not name:
        raise UserError(f"{where}: class {class_id} has an empty name; give it one")
    return class_id, name


def with_ids(found: dict[int, tuple[str, int]], path: str | Path, unit: str = "line") -> LabelFile:
    """Id -> name and line (or another unit), in the order of the ids."""
    in_file = sorted(found.values(), key=lambda item: item[1])
    refuse_alike([name for name, _ in in_file], [place for _, place in in_file], path, unit)
    ids = tuple(sorted(found))
    return LabelFile(
        tuple(found[i][0] for i in ids), ids, tuple(f"{path}: class id {i}" for i in ids), "rows"
    )


def refuse_alike(
    names: Sequence[str], places: Sequence[int], path: str | Path, unit: str = "line"
) -> None:
    """Refuses class names in which CLIP reads nothing, or the same.

    Args:
      names: class names.
      places: where each stands in the file, from 1.
      path: of the file.
      unit: what `places` count, "line" or another.

    Raises:
      UserError: with the place of the first such name, and the text that CLIP reads.
    """
    at = [f"{path}:{place}" if unit == "line" else f"{path}: {unit} {place}" for place in places]
    check_lengths(names, at)
    found = keys(names, underscores=True)
    if "" in found:
        empty = found.index("")
        raise UserError(
            f"{at[empty]}: CLIP reads no text in the class name {names[empty]!a:.100}; give another"
        )
    for place, first in same_texts(names, underscores=True, found=found)[:1]:
        name, other = quoted_pair(names[place], names[first])
        text = read_as(names[place].replace("_", " "))
        same = "" if name == other else f" as {other:.200}, and CLIP reads {text!r:.200} in both"
        raise UserError(
            f"{at[place]}: class name {name:.200} is already {'on' if unit == 'line' else 'at'} "
            f"{unit} {places[first]}{same}; each may appear once"
        )
