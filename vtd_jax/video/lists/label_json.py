"""JSON label files: an object of names and ids (either way round), or a list of names."""

from pathlib import Path
from typing import Any

from vtd_jax.errors import UserError
from vtd_jax.untrusted.json_text import parse_pairs
from vtd_jax.video.lists.label_rows import LabelFile, whole_number, with_ids


def read_json(text: str, path: str | Path, suffix: str) -> Any:
    """The content of a JSON file; None for other files."""
    if suffix != ".json" and text.lstrip()[:1] not in "{[":
        return None
    try:
        content = parse_pairs(text, str(path), remedy="expected names and ids")
    except UserError:
        if suffix != ".json":
            return None
        raise
    # [1] may be a name
    if suffix != ".json" and not (
        isinstance(content, list) and content and not isinstance(content[0], (int, float))
    ):
        return None
    return content


def labels_of(content: Any, path: str | Path) -> LabelFile:
    """`{name: id}`, `{id: name}` or a list of names; objects come as lists of pairs."""
    expected = 'expected names and ids, as in {"hug": 0, "kick": 1}, or a list of names'
    if not isinstance(content, list):
        raise UserError(f"{path}: {str(content)!r:.60} is no object and no list; {expected}")
    if all(isinstance(item, str) for item in content):
        names = tuple(item.strip() for item in content)
        where = tuple(f"{path}: entry {place}" for place in range(1, len(names) + 1))
        if "" in names:
            raise UserError(f"{where[names.index('')]} is empty; give it a name")
        return LabelFile(names, None, where, "json", tuple(range(1, len(names) + 1)))
    if not all(isinstance(item, tuple) for item in content):
        raise UserError(f"{path}: the list holds other things than names; {expected}")
    values = [[_json_id(pair[side]) for pair in content] for side in (0, 1)]
    sides = [side for side in (0, 1) if None not in values[side]]
    names = [] if len(sides) != 1 else [pair[1 - sides[0]] for pair in content]
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise UserError(f"{path}: the object is not one of names and their ids; {expected}")
    found: dict[int, tuple[str, int]] = {}
    for place, (class_id, name) in enumerate(zip(values[sides[0]], names), start=1):
        if class_id in found:
            raise UserError(
                f"{path}: {name!r:.100} and {found[class_id][0]!r:.100} have the same id, "
                f"{class_id}"
            )
        # names that need quotes in Kinetics' CSV keep them in the JSON files made from it
        found[class_id] = (name.strip().strip('"').strip(), place)
    return with_ids(found, path, "entry")


def _json_id(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value >= 0 else None
    return whole_number(value) if isinstance(value, str) else None
