"""Nested fields of a config: flat and back, from plain values to typed dataclasses, and names that nearly fit."""

import dataclasses
import difflib
import math
import typing
from collections.abc import Mapping
from typing import Any

from vtd_jax.errors import UserError


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
    """One line about a field that does not exist, with the closest ones that do."""
    known = list(known)
    close = difflib.get_close_matches(name, known, 3, 0.8)
    last = name.rpartition(".")[2]
    close += [field for field in known if field.rpartition(".")[2] == last and field not in close]
    told = f"did you mean {', '.join(close)}?" if close else f"expected one of {', '.join(sorted(known))}"
    return f"unknown config field {name}: {told}"


def build(cls: type, fields: Mapping[str, Any], where: str = "") -> Any:
    """A dataclass, and those in it, from nested fields; `where` is the name of the group that they are in, with a dot.

    Raises:
      UserError: unknown, missing or mistyped fields, by their full name.
    """
    hints = typing.get_type_hints(cls)
    for key in fields:
        if key not in hints:
            raise UserError(unknown_field(where + key, [where + field for field in hints]))
    # fields that came later have the default that older runs ran with
    needed = [field.name for field in dataclasses.fields(cls) if not _has_default(field)]
    missing = [where + field for field in needed if field not in fields]
    if missing:
        raise UserError(f"config: fields {', '.join(missing)} are missing")
    return cls(**{key: _convert(hints[key], value, where + key) for key, value in fields.items()})


def _convert(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise UserError(f"config field {where}: {value!r}, expected a group of fields")
        return build(kind, value, where + ".")
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"config field {where}: {value!r}, expected a tuple, as ('a', 'b')")
        return tuple(_convert(typing.get_args(kind)[0], item, f"{where}[{place}]") for place, item in enumerate(value))
    if typing.get_origin(kind) is not None:
        if not isinstance(value, Mapping):
            raise UserError(f"config field {where}: {value!r}, expected a group of fields")
        return dict(value)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise UserError(f"config field {where}: {value!r}, expected {kind.__name__}")
    if kind is float and not math.isfinite(value):
        raise UserError(f"config field {where}: {value}, expected a finite number")
    return value


def _has_default(field: dataclasses.Field) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
