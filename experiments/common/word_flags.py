"""The flags `--labels` and `--vocabulary` of commands."""

import sys
from typing import Any

from vtd_jax.clip import tokenizer as openais
from vtd_jax.predict.inline_words import doubt
from vtd_jax.predict.words import ROOM, read_words
from vtd_jax.terminal import say


def given_words(
    value: str | None, flag: str, room: int = ROOM, tokenizer: Any = openais
) -> tuple[str, ...] | None:
    """As `read_words`, None for None; prints a note about a probable mistake."""
    if value is None:
        return None
    words = read_words(value, flag, room, tokenizer)
    if note := doubt(words, flag, are_labels=flag == "--labels"):
        say(f"note: {note}", sys.stderr)
    return words
