"""Texts of other people in a form that any file and any terminal takes."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from vtd_jax.untrusted.limits import SHOWN_CHARACTERS, SHOWN_WORD

# joiners of emoji and of Persian and Indic scripts, and signs that are seen: all other format
# characters are escaped
_SHOWN_FORMATS = frozenset(
    "\u200c\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2"
)
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

_LONG_WORD = re.compile(rf"[^/\s]{{{SHOWN_WORD + 1},}}")


def utf8(text: str) -> str:
    r"""The text as UTF-8 can hold it: bytes of a file name that are not UTF-8 become `\xff`, what
    remains U+FFFD.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join(_shown(c) if "\ud800" <= c <= "\udfff" else c for c in text)
    return text


def _shown(surrogate: str) -> str:
    byte = ord(surrogate) - 0xDC00
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else "\ufffd"


def printable(text: object) -> str:
    r"""Text in one line that does nothing to a terminal but to be shown.

    Control characters (ESC, line ends, tabs, C1), format characters that cannot be seen
    (bidirectional overrides, zero-width spaces, byte-order marks) and bytes of file names that are
    not UTF-8 become `\x1b`, `\n`, `\u202e`, `\xff`, …; everything else stays as it is.
    """
    return "".join(map(_escaped, utf8(str(text))))


def shown(text: object, most: int = SHOWN_CHARACTERS) -> str:
    """`printable` text of at most about `most` characters: of a longer one the beginning and the
      end are kept.

    So are those of a word without a slash that is longer than any name of a file. Where text goes
    into a file, `printable` keeps all of it.
    """
    text = _LONG_WORD.sub(_shorter, str(text))
    if len(text) <= most and len(whole := printable(text)) <= most:
        return whole
    room = most * 2 // 3
    head = _fitting(text[:room], room)
    tail = _fitting(reversed(text[max(len(head), len(text) - most) :]), most - room)
    return f"{''.join(head)}{_left_out(len(text) - len(head) - len(tail))}{''.join(reversed(tail))}"


def brief(value: object) -> str:
    """A value of a file as Python writes it, short enough to stand in a message."""
    return shown(repr(value), 120)


def listed(items: Sequence[object], most: int = 8, joint: str = ", ", last: str = "and") -> str:
    """The first items, and how many more there are: "a, b and 3 more"."""
    told = joint.join(str(item) for item in items[:most])
    return told if len(items) <= most else f"{told} {last} {len(items) - most} more"


def _shorter(found: re.Match) -> str:
    word, end = found[0], SHOWN_WORD // 4
    return f"{word[: SHOWN_WORD - end]}{_left_out(len(word) - SHOWN_WORD)}{word[-end:]}"


def _left_out(count: int) -> str:
    return f" … ({count:,} characters left out) … "


def _fitting(characters: Iterable[str], room: int) -> list[str]:
    """The first characters, escaped, that there is room for."""
    taken = []
    for character in characters:
        taken.append(utf8(character) if "\ud800" <= character <= "\udfff" else _escaped(character))
        room -= len(taken[-1])
        if room < 0:
            return taken[:-1]
    return taken


def _escaped(character: str) -> str:
    kind = unicodedata.category(character)
    if kind not in ("Cc", "Cf", "Zl", "Zp") or character in _SHOWN_FORMATS:
        return character
    number = ord(character)
    escaped = (
        f"\\x{number:02x}"
        if number < 0x100
        else f"\\u{number:04x}"
        if number < 0x10000
        else f"\\U{number:08x}"
    )
    return _NAMED.get(character, escaped)
