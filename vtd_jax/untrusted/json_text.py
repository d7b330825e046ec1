"""The only reader of JSON: bounded in size and depth, strict, and checked against a type."""

import json
import os
import re
from typing import Annotated, Any

import msgspec

from vtd_jax.errors import UserError
from vtd_jax.untrusted.limits import JSON_BYTES, JSON_DEPTH
from vtd_jax.untrusted.regular_files import read_bytes

# whole numbers >= 0 that index or count something in memory, and numbers that NumPy's int64 holds
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

_PLACE = re.compile(r" - at `\$(.*)`$")
# at the beginning: a message may quote a value, which stays as it is
_LENGTH = re.compile(r"^Expected (array|str|object) of length ([<>]=) (\d+)")
_COUNTED = {
    "array": ("entry", "entries"),
    "str": ("character", "characters"),
    "object": ("key", "keys"),
}
# characters of a message of msgspec, which may quote a value
_LONG = 200
_BYTE = re.compile(r" \(byte (\d+)\)$")


def parse_json(content: bytes | str, where: str, kind: Any = Any, *, remedy: str = "") -> Any:
    """A JSON text as a value of a type.

    NaN and Infinity, which JSON does not have, are refused; so are numbers that no float64 holds,
    half surrogates, text behind the value, and brackets more than 64 deep.

    Args:
      content: UTF-8.
      where: what messages begin with: the file, or file and line.
      kind: what msgspec converts to: `dict[str, int]`, a dataclass, a TypedDict, `Annotated[int,
        msgspec.Meta(ge=0)]`.
      remedy: what to do, put behind the message.

    Raises:
      UserError: it is not JSON, or not of that type; says where in the value.
    """
    try:
        value = msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise UserError(f"{where}: {_placed(str(error))}{_after(remedy)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: {_malformed(str(error), content)}{_after(remedy)}") from None
    except RecursionError:
        raise UserError(f"{where}: brackets nested too deep to be read{_after(remedy)}") from None
    _check_depth(value, f"{where}: brackets nested more than {JSON_DEPTH} deep{_after(remedy)}")
    return value


def read_json(
    path: str | os.PathLike,
    kind: Any = Any,
    *,
    what: str = "JSON file",
    most: int = JSON_BYTES,
    remedy: str = "",
) -> Any:
    """A JSON file as a value of a type; see `parse_json`.

    Raises:
      UserError: it is not there, cannot be read, is no regular file, larger than `most` bytes, not
        JSON, or of another type.
    """
    try:
        content = read_bytes(path, what, most)
    except UserError as error:
        raise UserError(f"{error}{_after(remedy)}") from None
    except OSError as error:
        # the cause distinguishes a file that may appear later from a wrong one
        raise UserError(f"{path}: cannot be read ({error.strerror}){_after(remedy)}") from error
    return parse_json(content.removeprefix(b"\xef\xbb\xbf"), str(path), kind, remedy=remedy)


def parse_pairs(content: bytes | str, where: str, *, remedy: str = "") -> Any:
    """Parses JSON with every object as a list of `(key, value)` pairs, so keys may repeat.

    Raises:
      UserError: as `parse_json` does.
    """
    parse_json(content, where, remedy=remedy)
    try:
        return json.loads(content, object_pairs_hook=lambda pairs: pairs)
    except ValueError as error:
        # whole numbers of thousands of digits
        raise UserError(f"{where}: not JSON that can be read ({error}){_after(remedy)}") from None


def convert(value: Any, where: str, kind: Any, *, remedy: str = "") -> Any:
    """What was read already (as by orbax), checked against a type as `parse_json` does.

    Raises:
      UserError: it is of another type; says where in the value.
    """
    try:
        return msgspec.convert(value, type=kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise UserError(f"{where}: {_placed(str(error))}{_after(remedy)}") from None


def _after(remedy: str) -> str:
    return remedy and f"; {remedy}"


def _placed(text: str) -> str:
    """msgspec's message with the place in front, as `epochs[3]: expected …`."""
    place = _PLACE.search(text)
    reason = _LENGTH.sub(_counted, _PLACE.sub("", text).replace("`", ""))
    reason = reason[:1].lower() + (reason[1:] if len(reason) <= _LONG else f"{reason[1:_LONG]}…")
    return f"{place[1].lstrip('.')}: {reason}" if place else reason


def _counted(found: re.Match) -> str:
    """A bound of a length, as a person would say it."""
    one, many = _COUNTED[found[1]]
    bound = "at most" if found[2] == "<=" else "at least"
    return f"expected {bound} {int(found[3]):,} {one if found[3] == '1' else many}"


def _malformed(text: str, content: bytes | str) -> str:
    found = _BYTE.search(text)
    why = _BYTE.sub("", text).removeprefix("JSON is malformed: ").lower()
    if not content.strip():
        return "empty, expected JSON"
    if not found:
        return f"not JSON, or cut short ({why})"
    raw = content.encode(errors="replace") if isinstance(content, str) else content
    before = raw[: int(found[1])]
    line, column = before.count(b"\n") + 1, len(before) - (before.rfind(b"\n") + 1) + 1
    return f"not JSON (line {line}, column {column}: {why})"


def _check_depth(value: Any, message: str) -> None:
    """Refuses depth that would end other people's recursion (json.dumps, repr) later."""
    level = [value]
    for _ in range(JSON_DEPTH):
        level = [
            child
            for parent in level
            if isinstance(parent, (dict, list, tuple))
            for child in _children(parent)
        ]
        if not level:
            return
    raise UserError(message)


def _children(parent: dict | list | tuple) -> list[Any]:
    values = parent.values() if isinstance(parent, dict) else parent
    return [child for child in values if isinstance(child, (dict, list, tuple))]
