"""Texts of other people in a form that any file and any terminal takes."""

import unicodedata

# joiners of emoji and of Persian and Indic scripts, and signs that are seen: all other format characters are escaped
_SHOWN_FORMATS = frozenset("\u200c\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def utf8(text: str) -> str:
    r"""The text as UTF-8 can hold it: bytes of a file name that are not UTF-8 become `\xff`, what remains U+FFFD."""
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

    Control characters (ESC, line ends, tabs, C1), format characters that cannot be seen (bidirectional overrides,
    zero-width spaces, byte-order marks) and bytes of file names that are not UTF-8 become `\x1b`, `\n`, `\u202e`,
    `\xff`, …; everything else stays as it is.
    """
    return "".join(map(_escaped, utf8(str(text))))


def _escaped(character: str) -> str:
    kind = unicodedata.category(character)
    if kind not in ("Cc", "Cf", "Zl", "Zp") or character in _SHOWN_FORMATS:
        return character
    number = ord(character)
    escaped = f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
    return _NAMED.get(character, escaped)
