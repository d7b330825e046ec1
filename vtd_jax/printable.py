"""Texts of other people in a form that any file and any terminal takes."""


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


def printable(text: str) -> str:
    r"""As `utf8`, and control characters, which a terminal would obey, as `\x1b`."""
    return "".join(f"\\x{ord(c):02x}" if c < " " or "\x7f" <= c <= "\x9f" else c for c in utf8(text))
