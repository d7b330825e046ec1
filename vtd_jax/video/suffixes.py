"""Endings of video files."""

import os

_KINDS = "mp4|avi|webm|mkv|mov|m4v|mpg|mpeg|wmv|flv|gif|ogv|3gp"
SUFFIXES = frozenset(f".{kind}" for kind in _KINDS.split("|"))
# as the end of a name in a pattern
ENDING = rf"\.(?:{_KINDS})"


def is_video(name: str | os.PathLike) -> bool:
    """Whether a file's name ends as videos' do, in capitals or not."""
    return os.path.splitext(name)[1].lower() in SUFFIXES
