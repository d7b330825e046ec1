"""Files that are there whole or not at all."""

import contextlib
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary sibling of `path`, with its ending, that takes its place when the block ends without an error.

    Nobody sees half a file, and what was at `path` stays until the new one is whole; after an error nothing is left.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Writes UTF-8 text whole or not at all; returns the path."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def is_possible(path: str | os.PathLike) -> bool:
    """Whether a file could have this name; `Path.exists` and the like raise for one that is too long."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return True
    except (OSError, ValueError):
        return False
    return True


def folded(name: str) -> str:
    """A file's name without what people, disks and systems write differently: Unicode form, case, backslashes."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name.replace("\\", "/")).casefold())


def likely(path: Path) -> Path | None:
    """What a path that is not there probably means: the only one that differs from it as `folded` says; else None."""
    parts = Path(str(path).replace("\\", "/")).parts
    here = Path()
    for part in parts:
        if not os.path.lexists(here / part):
            try:
                found = [name for name in os.listdir(here) if folded(name) == folded(part)]
            except (OSError, ValueError):
                return None
            if len(found) != 1:
                return None
            part = found[0]
        here /= part
    return here if parts and str(here) != str(path) else None
