"""Strict reading of foreign JSON configs: no key is ignored unless known to be irrelevant."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vtd_jax.errors import UserError
from vtd_jax.printable import brief


class Keys:
    """The keys of one object of a config file. `finish` refuses those that were not read."""

    def __init__(self, content: Mapping[str, Any], file: Path, prefix: str = ""):
        """
        Args:
          content: the object.
          file: that it is from, for messages.
          prefix: where it is in the file, e.g. "model_cfg.vision_cfg.".
        """
        self.file = file
        self._content, self._prefix, self._read = content, prefix, set()

    def __contains__(self, key: str) -> bool:
        return key in self._content

    def get(self, key: str, default: Any = None) -> Any:
        """The value, or the default where it is absent or null; the caller must use it."""
        self._read.add(key)
        value = self._content.get(key)
        return default if value is None else value

    def part(self, key: str) -> "Keys":
        """The object at a key; an empty one where it is absent or null."""
        value = self.get(key, {})
        if not isinstance(value, dict):
            raise self._error(key, f"{type(value).__name__}, expected an object")
        return Keys(value, self.file, f"{self._prefix}{key}.")

    def merged(self, other: "Keys") -> "Keys":
        """Both objects in one, the other's values where both have a key."""
        return Keys({**self._content, **other._content}, self.file, self._prefix)

    def same(self, key: str, *allowed: Any) -> None:
        """Refuses any value but these; absent or null is fine."""
        value = self.get(key)
        if value is None or any(_equal(value, one) for one in allowed):
            return
        expected = " or ".join(dict.fromkeys(repr(one) for one in allowed))
        raise self.wrong(
            key,
            f"{expected}: either a config of other weights than those beside it, or a variant of "
            "CLIP that is not supported",
        )

    def off(self, *keys: str) -> None:
        """Refuses settings that are on: not absent, null, false or empty."""
        for key in keys:
            if self.get(key, False) not in (False, "", {}, []):
                value = brief(self._content[key])
                raise self._error(key, f"{value}: a variant of CLIP that is not supported")

    def ignore(self, *groups: str | Iterable[str]) -> None:
        """Keys known to change nothing that is computed."""
        for group in groups:
            self._read.update([group] if isinstance(group, str) else group)

    def positive(self, key: str, default: int) -> int:
        """A whole number above 0."""
        value = self.get(key, default)
        if type(value) is not int or value < 1:
            raise self.wrong(key, "a positive whole number")
        return value

    def wrong(self, key: str, expected: str) -> UserError:
        """The error to raise for another value than expected."""
        return self._error(key, f"{brief(self._content.get(key))}, expected {expected}")

    def _error(self, key: str, problem: str) -> UserError:
        return UserError(f"{self.file}: {self._prefix}{key} is {problem}")

    def finish(self) -> None:
        """Raises a `UserError` for the first key that was not read."""
        for key, value in self._content.items():
            if key not in self._read:
                raise self._error(
                    key,
                    f"{brief(value)}: a setting that is not known here, so what it changes would "
                    "be lost; if it changes nothing that the towers compute, take it out",
                )


def _equal(value: Any, expected: Any) -> bool:
    """Equality of numbers and of sequences, whatever their types; True is no number."""
    if isinstance(value, bool) or isinstance(expected, bool):
        return value is expected
    if isinstance(value, list | tuple) and isinstance(expected, list | tuple):
        return len(value) == len(expected) and all(map(_equal, value, expected))
    return type(value) in (int, float, str) and value == expected
