"""Finding and reading the annotation files of official downloads."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vtd_jax.errors import UserError, setting
from vtd_jax.untrusted.limits import NAME_CHARACTERS
from vtd_jax.video.lists.catalog import Entry, VideoList, read_text
from vtd_jax.video.lists.locate import scan_folders


class NoAnnotations(UserError):
    """There are no official annotation files in the source folder."""


def find_shallowest(
    source: Path, matches: Callable[[list[str]], str | None], what: str
) -> Path | None:
    """The shallowest file under a folder that is looked for; None if there is none.

    Args:
      source: where to look, at any depth.
      matches: gives the file it looks for among the names of a folder's files, or None.
      what: what is looked for, for the message.

    Raises:
      UserError: if several folders of the same depth hold it.
    """
    found: list[Path] = []
    for folder, files in scan_folders(source):
        depth = len(Path(folder).parts)
        if found and depth + len(source.parts) >= len(found[0].parts):
            break
        name = matches(files)
        if name is not None:
            found.append(source / folder / name)
    if len(found) > 1:
        places = ", ".join(str(path.parent) for path in found)
        raise UserError(
            f"{source}: {what} lies in several folders ({places}); point "
            f"{setting('source')} at one of them"
        )
    return found[0] if found else None


def find_official(
    source: Path, matches: Callable[[list[str]], str | None], what: str, origin: str
) -> Path:
    """As `find_shallowest`, but UserError, saying where the files come from, if there are none."""
    found = find_shallowest(source, matches, what)
    if found is None:
        raise NoAnnotations(f"{source}: found no {what} in it or below; unpack {origin} there")
    return found


def numbered_lines(path: Path, what: str) -> Iterator[tuple[int, str, str]]:
    """Yields `(line, "file:line", stripped text)` of every line that is not blank.

    Raises:
      UserError: there are none, or one is too long.
    """
    empty = True
    for line, text in enumerate(read_text(path, what).split("\n"), start=1):
        if text.strip():
            empty = False
            if len(text) > NAME_CHARACTERS:
                raise UserError(
                    f"{path}:{line}: a line of {len(text):,} characters, expected at most "
                    f"{NAME_CHARACTERS:,}; download the file again"
                )
            yield line, f"{path}:{line}", text.strip()
    if empty:
        raise UserError(f"{path}: the {what} is empty; download it again")


class Collected:
    """The entries of one list while it is read; a video may come once."""

    def __init__(self):
        self._entries: list[Entry] = []
        self._seen: dict[str, str] = {}

    def add(self, file: str, label: int, line: int, where: str) -> None:
        """Appends a video; raises UserError for a duplicate."""
        if file in self._seen:
            raise UserError(
                f"{where}: {file!r:.200} is already at {self._seen[file]}; list each video once"
            )
        self._seen[file] = where
        self._entries.append(Entry(file, label, line))

    def as_list(self, name: str, class_names: Sequence[str], source: Path) -> VideoList:
        """The official list of the collected videos; raises UserError if there are none."""
        if not self._entries:
            raise UserError(f"{source}: it lists no videos; download it again")
        entries, names = tuple(self._entries), tuple(class_names)
        return VideoList(name, entries, names, "official", str(source))
