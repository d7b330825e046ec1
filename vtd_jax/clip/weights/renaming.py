"""Renames tensors by rules, each a pattern and what takes the place of its matches."""

import re
from collections.abc import Sequence

from vtd_jax.clip.weights.lazy import LazyTensor
from vtd_jax.errors import UserError

Rules = Sequence[tuple[re.Pattern[str], str]]


def rules(*pairs: tuple[str, str]) -> Rules:
    """Rules of regular expressions and their replacements, as `re.sub` takes them."""
    return [(re.compile(pattern), replacement) for pattern, replacement in pairs]


def renamed_by(given: Rules, name: str) -> str:
    """The name after all rules, in their order; one that no rule fits stays as it is."""
    for pattern, replacement in given:
        name = pattern.sub(replacement, name)
    return name


def put(found: dict[str, LazyTensor], name: str, tensor: LazyTensor, where: str) -> None:
    """Adds a tensor under a name that no other one has.

    Raises:
      UserError: another one has it, as where a file holds a tensor in two namings.
    """
    if name in found:
        raise UserError(f"{where}: holds {name} (in OpenAI's naming) twice: remove one of the two")
    found[name] = tensor
