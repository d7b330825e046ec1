"""Nested fields of a config: flattened, built into typed dataclasses, and close names of typos; and
checks of single values, fields or arguments of the library.
"""

import dataclasses
import difflib
import inspect
import math
import numbers
import operator
import os
import re
import types
import typing
from collections.abc import Hashable, Iterable, Mapping, Set, Sized
from typing import Any

from vtd_jax.errors import UserError, setting
from vtd_jax.printable import brief

# of a text field (a path may have 4096), and of a group with free keys, such as splits
_MOST_CHARACTERS, _MOST_KEYS = 4096, 1000


def flatten(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields as `{"a.b": value}`."""
    flat = {}
    for key, value in fields.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def unknown_field(name: str, known: typing.Iterable[str]) -> str:
    """A message about an unknown field, with the closest known ones."""
    known = list(known)
    if close := close_fields(name, known):
        return f"unknown config field {name}: did you mean {', '.join(close)}?"
    group = name.rpartition(".")[0]
    in_group = [field for field in known if group and field.startswith(f"{group}.")]
    # if the group does not exist either: the groups, as `optimizer.…`
    expected = in_group or [
        f"{field.split('.')[0]}.…" if "." in field else field for field in known
    ]
    return f"unknown config field {name}: expected one of {', '.join(sorted(set(expected)))}"


def close_fields(name: str, known: typing.Iterable[str]) -> list[str]:
    """The known fields with a similar name, or with a similar one in another group."""
    known = list(known)
    if name in known:
        return [name]
    close = difflib.get_close_matches(name, known, 3, 0.8)
    last = name.rpartition(".")[2]
    in_groups = {field.rpartition(".")[2] for field in known}
    nearly = difflib.get_close_matches(last, in_groups, 1, 0.8)
    return close + [
        field for field in known if field.rpartition(".")[2] in nearly and field not in close
    ]


class Field(typing.NamedTuple):
    """A field's type and meaning, for help texts."""

    kind: str
    help: str


def described(cls: type, prefix: str = "") -> dict[str, Field]:
    """All fields of a dataclass and of those in it, by full name, from their docstrings."""
    texts, found = _attributes(cls), {}
    for name, hint in typing.get_type_hints(cls).items():
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            found |= described(hint, f"{prefix}{name}.")
        else:
            found[prefix + name] = Field(_kind(hint), texts.get(name, ""))
    return found


def _attributes(cls: type) -> dict[str, str]:
    """Field -> its first sentence in the docstring."""
    section = (inspect.getdoc(cls) or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    texts: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        if start := re.match(r"  (\w+(?:, \w+)*): (.*)", line):
            names, text = start[1].split(", "), start[2]
        else:
            text = line.strip()
        texts |= {name: f"{texts.get(name, '')} {text}".strip() for name in names}
    return {name: re.split(r"(?<!e\.g)\.(?= |$)", text)[0] for name, text in texts.items()}


def _kind(hint: Any) -> str:
    if typing.get_origin(hint) is tuple:
        return f"tuple of {typing.get_args(hint)[0].__name__}"
    is_plain = isinstance(hint, type) and typing.get_origin(hint) is None
    return hint.__name__ if is_plain else "group of str"


def build(cls: type, fields: Mapping[str, Any], where: str = "", *, whole: bool = False) -> Any:
    """Builds a dataclass, and those in it, from nested fields.

    Args:
      cls: the dataclass.
      fields: its fields by name; a missing one takes its default.
      where: name of their group, with a dot.
      whole: whether `fields` must have all fields of `cls` itself, also those with a default.

    Raises:
      UserError: unknown, missing or mistyped fields, by their full name.
    """
    # not msgspec.convert: for dataclasses it ignores unknown fields
    hints = typing.get_type_hints(cls)
    for key in fields:
        if key not in hints:
            raise UserError(unknown_field(f"{where}{key}", [where + field for field in hints]))
    # fields that were added later default to what older runs did
    needed = [field.name for field in dataclasses.fields(cls) if whole or not _has_default(field)]
    missing = [where + field for field in needed if field not in fields]
    if missing:
        raise UserError(f"config: fields {', '.join(missing)} are missing")
    return cls(**{key: _convert(hints[key], value, where + key) for key, value in fields.items()})


def _convert(kind: Any, value: Any, where: str) -> Any:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise UserError(f"config field {where}: {brief(value)}, expected a group of fields")
        return build(kind, value, where + ".")
    # always of the form `T | None`
    if isinstance(kind, types.UnionType):
        return None if value is None else _convert(typing.get_args(kind)[0], value, where)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(
                f"config field {where}: {brief(value)}, expected a tuple, as ('a', 'b')"
            )
        return tuple(
            _convert(typing.get_args(kind)[0], item, f"{where}[{place}]")
            for place, item in enumerate(value)
        )
    if typing.get_origin(kind) is not None:
        return _group(typing.get_args(kind)[1], value, where)
    # float() overflows for larger integers
    if kind is float and type(value) is int and abs(value) < 2**1000:
        value = float(value)
    if type(value) is not kind:
        raise UserError(f"config field {where}: {brief(value)}, expected {kind.__name__}")
    if kind is float and not math.isfinite(value):
        raise UserError(f"config field {where}: {value}, expected a finite number")
    if isinstance(value, str):
        _check_text(value, where)
    return value


def _group(kind: Any, value: Any, where: str) -> dict[str, Any]:
    """A mapping with free keys; values of type `Any` are checked where they are used."""
    if not isinstance(value, Mapping):
        raise UserError(f"config field {where}: {brief(value)}, expected a group of fields")
    if len(value) > _MOST_KEYS:
        raise UserError(
            f"config field {where}: {len(value):,} fields, expected at most {_MOST_KEYS:,}"
        )
    for key in value:
        if not isinstance(key, str):
            raise UserError(f"config field {where}: {brief(key)}, expected text for names")
        _check_text(key, where)
    return {
        key: item if kind is Any else _convert(kind, item, f"{where}.{key}")
        for key, item in value.items()
    }


def _check_text(value: str, where: str) -> None:
    """Refuses text that cannot be a name or path, before the system does so elsewhere."""
    if len(value) > _MOST_CHARACTERS:
        raise UserError(
            f"config field {where}: {value[:40]!r}…, {len(value):,} characters, expected at most "
            f"{_MOST_CHARACTERS:,}"
        )
    if "\0" in value:
        raise UserError(f"config field {where}: {brief(value)} has a zero byte, expected text")


def check_choice(field: str, value: Any, allowed: tuple) -> None:
    """Raises a `UserError` if the value of a field is not allowed."""
    # an array compares element by element
    if not isinstance(value, Hashable) or value not in allowed:
        raise UserError(f"{field}: {brief(value)}, expected one of {', '.join(map(str, allowed))}")


def check_whole(
    argument: str, value: Any, expected: str, *, least: int = 1, most: int = 2**31 - 1
) -> int:
    """An argument that is a whole number, Python's or NumPy's, as an `int`.

    Args:
      argument: its name.
      value: given for it.
      expected: for the message, e.g. "1 or more frames of a video".
      least, most: its range.

    Raises:
      UserError: another kind of value (also True and False), or one out of range.
    """
    try:
        found = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        found = None
    if found is None or not least <= found <= most:
        kind = ", a whole number" if found is None else ""
        raise UserError(f"{setting(argument, brief(value))}: expected {expected}{kind}")
    return found


def check_number(
    argument: str, value: Any, expected: str, *, above: float = 0.0, most: float = math.inf
) -> float:
    """An argument that is a finite number, Python's or NumPy's, as a `float`.

    Args:
      argument, value, expected: as for `check_whole`.
      above, most: the number is more than the first, and at most the second.

    Raises:
      UserError: another kind of value (also True and False), or one out of range.
    """
    try:
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        found = float(value) if is_number else math.nan
    except OverflowError:
        found = math.inf
    if not (math.isfinite(found) and above < found <= most):
        raise UserError(f"{setting(argument, brief(value))}: expected {expected}")
    return found


def check_switch(argument: str, value: Any) -> bool:
    """An argument that is True or False, Python's or NumPy's, as a `bool`; else a `UserError`."""
    import numpy as np  # imported here: commands read fields before they import libraries

    if not isinstance(value, bool | np.bool_):
        raise UserError(f"{setting(argument, brief(value))}: expected True or False")
    return bool(value)


def check_path(argument: str, value: Any, expected: str) -> str:
    """An argument that is a path, as text; else a `UserError`.

    Args:
      argument, value, expected: as for `check_whole`.
    """
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str) or not text:
        raise UserError(f"{argument}: {brief(value)}, expected {expected}")
    return text


def check_listed(argument: str, value: Any, expected: str) -> list[Any]:
    """An argument of several values in an order, as a list.

    Args:
      argument, value, expected: as for `check_whole`.

    Raises:
      UserError: a text, a set or a mapping, an iterator, or a single value.
    """
    others = str | bytes | bytearray | Set | Mapping
    if isinstance(value, others) or not isinstance(value, Sized) or not isinstance(value, Iterable):
        raise UserError(f"{argument}: {brief(value)}, expected {expected}")
    return list(value)


def check_call(argument: str, value: Any) -> None:
    """Raises a `UserError` for an argument that is neither None nor can be called."""
    if value is not None and not callable(value):
        raise UserError(f"{argument}: {brief(value)}, expected a function, or None")


def check_known(given: typing.Iterable[str], known: typing.Iterable[str]) -> None:
    """Raises a `UserError` for the name of an argument that is none of the known ones."""
    known = list(known)
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(known)}"
            raise UserError(f"unknown argument {name}: {meant}")


def check_ranges(group: str, config: Any, **ranges: tuple[float, float]) -> None:
    """Raises a `UserError` if a field of a group is out of its range.

    Args:
      group: its name; "" for fields without a group.
      config: the group.
      **ranges: field -> its least and largest value.
    """
    for field, (least, most) in ranges.items():
        value = getattr(config, field)
        expected = (
            f"{least} or more" if value < least else f"at most {most:,}" if value > most else ""
        )
        if expected:
            raise UserError(
                f"{f'{group}.{field}' if group else field}: {brief(value)}, expected {expected}"
            )


def _has_default(field: dataclasses.Field) -> bool:
    return (
        field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
    )
