"""The flags `--labels` and `--vocabulary` of commands."""

import sys

from vtd_jax.predict.inline_words import doubt
from vtd_jax.predict.words import ROOM, read_words
from vtd_jax.terminal import say


def given_words(value: str | None, flag: str, room: int = ROOM) -> tuple[str, ...] | None:
    """As `read_words`, None for None; notes on stderr what is probably a mistake."""
    if value is None:
        return None
    words = read_words(value, flag, room)
    if told := doubt(words, flag, are_labels=flag == "--labels"):
        say(f"note: {told}", sys.stderr)
    return words
