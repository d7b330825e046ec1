"""Endings of video files."""

_KINDS = (
    "mp4",
    "avi",
    "webm",
    "mkv",
    "mov",
    "m4v",
    "mpg",
    "mpeg",
    "wmv",
    "flv",
    "gif",
    "ogv",
    "3gp",
)
SUFFIXES = frozenset(f".{kind}" for kind in _KINDS)
# as the end of a name in a pattern
ENDING = rf"\.(?:{'|'.join(_KINDS)})"
