"""Renames tensors by rules, each a pattern and what takes the place of its matches."""

import re
from collections.abc import Sequence

Rules = Sequence[tuple[re.Pattern[str], str]]


def rules(*pairs: tuple[str, str]) -> Rules:
    """Rules of regular expressions and their replacements, as `re.sub` takes them."""
    return [(re.compile(pattern), replacement) for pattern, replacement in pairs]


def renamed_by(given: Rules, name: str) -> str:
    """The name after all rules, in their order; one that no rule fits stays as it is."""
    for pattern, replacement in given:
        name = pattern.sub(replacement, name)
    return name
