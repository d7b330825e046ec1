"""A report to look at: one self-contained HTML page a video, and an index of them. Pages fetch
nothing.
"""

import dataclasses
import html
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from msgspec import Meta

from vtd_jax.errors import UserError
from vtd_jax.files import replacing
from vtd_jax.fingerprints import fingerprint
from vtd_jax.predict.results import Explanation, Timeline
from vtd_jax.printable import utf8
from vtd_jax.report import clip_page, timeline_page
from vtd_jax.report.html import ALONE, ENTRY, Beside, document, thumbnail, ways
from vtd_jax.untrusted.json_text import convert, parse_json
from vtd_jax.untrusted.regular_files import open_regular, read_text

# bytes of a page that are read for its entry, which is in the first lines
_HEAD = 32_768
_PICTURE = r"data:image/jpeg;base64,[A-Za-z0-9+/=]*"
# of a page without its ending: a name in the folder
PAGE_NAME = r"(?!index(?:\.html)?\Z)[^/\\\x00-\x1f]+"
# how an index begins, and began in versions that did not name themselves
_INDEX = re.compile(
    rb'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    rb'(<meta name="generator" content="vtd_jax">|<meta http-equiv="Content-Security-Policy" '
    rb"content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-)"
)


class PageFields(TypedDict):
    """A `PageEntry` as JSON; what a page or a journal says may come from anyone."""

    video: str
    page: Annotated[str, Meta(pattern=rf"\A{PAGE_NAME}\.html\Z", max_length=255)]
    label: str
    score: Annotated[float, Meta(ge=0)]
    duration: Annotated[float, Meta(ge=0)] | None
    thumbnail: Annotated[str, Meta(pattern=rf"\A{_PICTURE}\Z")]
    truth: NotRequired[str | None]
    date: NotRequired[str]
    key: NotRequired[str]


@dataclass(frozen=True)
class PageEntry:
    """What the index says of a page.

    Attributes:
      video: the file that the page shows.
      page: the page's file name.
      label: best label.
      score: its score, 0..1; for a long video the mean over its windows.
      duration: of the video, seconds; None where it is not known.
      thumbnail: JPEG data URI of at most 4 kB.
      truth: the label that the video has; None where it is not known.
      date: when the page was made, as text.
      key: of the file, whatever path was given for it; see `video_key`.
    """

    video: str
    page: str
    label: str
    score: float
    duration: float | None
    thumbnail: str
    truth: str | None = None
    date: str = ""
    key: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "PageEntry":
        """What `to_dict` gave; other fields are left out."""
        return cls(
            **{
                field.name: fields[field.name]
                for field in dataclasses.fields(cls)
                if field.name in fields
            }
        )


def video_key(video: str) -> str:
    """Tells a file from all others without naming it: the fingerprint of its absolute path."""
    return fingerprint(os.fsencode(os.path.abspath(video)))


def write_page(
    folder: Path,
    result: Explanation | Timeline,
    name: str,
    about: Mapping[str, str],
    beside: Beside = ALONE,
) -> PageEntry:
    """Writes `<folder>/<name>.html`, whole or not at all; what was there is replaced.

    Args:
      folder: of the report; made if it is not there.
      result: what to show.
      name: of the page, without ending: a file name, and not "index".
      about: lines for the page's foot, such as model, settings and version; "date" is also shown in
        the index.
      beside: what the page says beside the result.

    Raises:
      UserError: a name that is no file name.
    """
    if name in ("", "index") or Path(name).name != name:
        raise UserError(
            f"page name {name!r}: expected a plain file name without folders, other than 'index'"
        )
    view = clip_page if isinstance(result, Explanation) else timeline_page
    label, score, picture = view.verdict(result)
    title = Path(result.video).name or result.video
    entry = PageEntry(
        utf8(result.video),
        f"{name}.html",
        label,
        score,
        result.duration,
        thumbnail(picture),
        truth=beside.truth,
        date=about.get("date", ""),
        key=video_key(result.video),
    )
    pieces = document(
        view.TEMPLATE,
        view.content(result, beside) | {"name": title},
        title=f"{title} – {label}",
        about={"video": result.video} | dict(about),
        script=view.SCRIPT,
        notice=beside.notice,
        entry=json.dumps(entry.to_dict()),
    )
    _write(folder / entry.page, pieces)
    return entry


def relink(path: Path, before: str, after: str) -> None:
    """Gives a page other neighbours, in place: those that were expected when it was written have no
    page.

    A file that is no page of a report is left as it is.
    """
    if read_entry(path) is None:
        return
    text = read_text(path, "page of a report")
    # texts of users cannot be it: their < is written as &lt;
    path_from, path_to = text.find("<nav class=ways"), text.find("</nav>") + len("</nav>")
    if 0 <= path_from < path_to:
        _write(path, iter((text[:path_from], ways(before, after), text[path_to:])))


def write_index(
    folder: Path,
    entries: Iterable[PageEntry],
    failed: Sequence[tuple[str, str]],
    about: Mapping[str, str],
    *,
    notice: str = "",
    right: tuple[int, int] | None = None,
) -> Path:
    """Writes `<folder>/index.html`, whole or not at all; returns its path.

    Pages of earlier runs that are still in the folder come after the entries.

    Args:
      folder: of the pages.
      entries: of the pages, in the order shown; taken one at a time.
      failed: files that could not be read, and why.
      about: lines for the foot.
      notice: a warning above the list.
      right: videos whose best label is theirs, and videos whose label is known; None where none is.
    """
    path = folder / "index.html"
    content = {"cards": _cards(folder, entries), "failed": failed, "right": right}
    pieces = document(
        "index.html", content, title="Videos", about=about, script="index.js", notice=notice
    )
    _write(path, pieces)
    return path


def read_entry(path: Path) -> PageEntry | None:
    """What a page says of itself; None for a file that is no page of a report: it may come from
    anyone.
    """
    try:
        with open_regular(path, "page") as file:
            head = file.read(_HEAD).decode("utf-8", errors="ignore")
        found = re.search(f'<meta name="{ENTRY}" content="([^"]*)">', head)
        fields = parse_json(html.unescape(found[1]), str(path), dict[str, Any]) if found else None
        if fields is None or not fields.keys() <= PageFields.__annotations__.keys():
            return None
        convert(fields, str(path), PageFields)
    except (OSError, UserError):
        return None
    # a page may have been renamed
    return PageEntry.from_dict(fields | {"page": path.name})


def is_index(path: Path) -> bool:
    """Whether a file is the index of a report."""
    try:
        with open_regular(path, "page") as file:
            return _INDEX.match(file.read(_HEAD)) is not None
    except (OSError, UserError):
        return False


def check_report(flag: str, folder: Path) -> None:
    """Refuses a folder whose `index.html` is none of ours: it would be written over.

    Args:
      flag: what messages call the folder, such as "--report".
      folder: of the report; need not be there.

    Raises:
      UserError: there is another file of this name.
    """
    path = folder / "index.html"
    if os.path.lexists(path) and not is_index(path):
        raise UserError(
            f"{flag}={folder}: has an index.html that is no report's; give another folder, or "
            "move it away"
        )


def earlier_pages(folder: Path) -> Iterator[PageEntry]:
    """The entries of all pages that are in a folder, by name."""
    for path in sorted(folder.glob("*.html")):
        entry = read_entry(path)
        if entry is not None:
            yield entry


def _write(path: Path, pieces: Iterator[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("w", encoding="utf-8") as out:
        out.writelines(pieces)


def _cards(folder: Path, entries: Iterable[PageEntry]) -> Iterator[tuple[PageEntry, str, bool]]:
    """What the index shows, one at a time: a page's entry, its video's name, and whether an earlier
    run wrote it.
    """
    pages = set()
    for entry in entries:
        pages.add(entry.page)
        yield entry, Path(entry.video).name or entry.video, False
    for entry in earlier_pages(folder):
        if entry.page not in pages:
            yield entry, Path(entry.video).name or entry.video, True
