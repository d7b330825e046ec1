"""Untrusted text in a form that is safe in files and on terminals."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from vtd_jax.untrusted.limits import SHOWN_CHARACTERS, SHOWN_WORD

# format characters that are not escaped: joiners of emoji and of Persian and Indic scripts, and
# visible signs
_SHOWN_FORMATS = frozenset(
    "\u200c\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2"
)

_LONG_WORD = re.compile(rf"[^/\s]{{{SHOWN_WORD + 1},}}")


def utf8(text: str) -> str:
    r"""Text that can be encoded as UTF-8: raw bytes of a file name become `\xff`, other surrogates
    U+FFFD.
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
    r"""Text in one line that cannot control a terminal.

    Control characters (ESC, line ends, tabs, C1), invisible format characters (bidirectional
    overrides, zero-width spaces, byte-order marks) and bytes of file names that are not UTF-8 are
    escaped: `\x1b`, `\n`, `\u202e`, `\xff`. Everything else is unchanged.
    """
    return "".join(map(_escaped, utf8(str(text))))


def shown(text: object, most: int = SHOWN_CHARACTERS) -> str:
    """`printable` text shortened to about `most` characters: its beginning and end.

    A word without a slash that is longer than any file name is shortened, too. For text in files,
    use `printable`.
    """
    text = _LONG_WORD.sub(_shorter, str(text))
    if len(text) <= most and len(whole := printable(text)) <= most:
        return whole
    room = most * 2 // 3
    head = _fitting(text[:room], room)
    tail = _fitting(reversed(text[max(len(head), len(text) - most) :]), most - room)
    return f"{''.join(head)}{_left_out(len(text) - len(head) - len(tail))}{''.join(reversed(tail))}"


def brief(value: object) -> str:
    """The `repr` of a value, shortened for a message."""
    return shown(repr(value), 120)


def listed(items: Sequence[object], most: int = 8, joint: str = ", ", last: str = "and") -> str:
    """The first items, and how many more there are: "a, b and 3 more"."""
    text = joint.join(str(item) for item in items[:most])
    return text if len(items) <= most else f"{text} {last} {len(items) - most} more"


def _shorter(found: re.Match) -> str:
    word, end = found[0], SHOWN_WORD // 4
    return f"{word[: SHOWN_WORD - end]}{_left_out(len(word) - SHOWN_WORD)}{word[-end:]}"


def _left_out(count: int) -> str:
    return f" … ({count:,} characters left out) … "


def _fitting(characters: Iterable[str], room: int) -> list[str]:
    """The first characters, escaped, that fit into `room`."""
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
    # ASCII and Latin-1, other plane 0 and all others: \x1b, \u202e, \U000e0001
    return character.encode("unicode_escape").decode()
