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
from vtd_jax.report.html import (  # fmt: skip
    ALONE,
    ENTRY,
    Beside,
    bar,
    bdi,
    clock,
    counted,
    document,
    esc,
    link,
    percent,
    thumbnail,
    ways,
)
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
      about: lines for the page's foot, such as model, settings and version; "date" is also told in
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
        utf8(result.video), f"{name}.html", label, score, result.duration, thumbnail(picture), beside.truth,
        about.get("date", ""), video_key(result.video),
    )  # fmt: skip
    heading = f"{ways(beside)}<h1>{bdi(title)}</h1>"
    pieces = document(
        f"{title} – {label}", heading, view.body(result, beside), {"video": result.video} | dict(about), view.SCRIPT,
        notice=beside.notice, entry=json.dumps(entry.to_dict()),
    )  # fmt: skip
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
        _write(
            path, iter((text[:path_from], ways(Beside(before=before, after=after)), text[path_to:]))
        )


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
    heading = "<p class=kicker>Video to text</p><h1>Videos</h1>"
    path = folder / "index.html"
    _write(
        path,
        document(
            "Videos",
            heading,
            _index(folder, entries, failed, right),
            about,
            "index.js",
            notice=notice,
        ),
    )
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


def _index(
    folder: Path,
    entries: Iterable[PageEntry],
    failed: Sequence[tuple[str, str]],
    right: tuple[int, int] | None,
) -> Iterator[str]:
    wrong = (
        ""
        if right is None
        else '<option value="wrong">wrong first</option><option value="truth">truth</option>'
    )
    yield (
        '<form class="js tools" role="search" id="tools"><label>Filter <input type="search" '
        'id="filter" placeholder="name or label" autocomplete="off"></label><label>Sort by '
        '<select id="sort"><option value="">order of the run</option><option '
        'value="name">name</option><option value="label">label</option><option '
        'value="score">score, highest first</option><option value="low">score, lowest '
        f'first</option>{wrong}</select></label><p id="shown" role="status"></p></form>\n'
    )
    if right is not None:
        share = f" ({percent(right[0] / right[1])})" if right[1] else ""
        yield (
            f"<p class=tally>{right[0]} of {counted(right[1], 'video')} with a known label are "
            f"right{share}.</p>\n"
        )
    yield '<ul class=videos id="videos">\n'
    pages = set()
    for entry in entries:
        pages.add(entry.page)
        yield _card(entry)
    count = len(pages)
    for entry in earlier_pages(folder):
        if entry.page not in pages:
            count += 1
            yield _card(entry, earlier=True)
    yield "</ul>\n"
    if not count:
        yield "<p class=note>No video could be shown.</p>\n"
    if failed:
        yield (
            "<section class=failed aria-labelledby=h-failed><h2 "
            f"id=h-failed>{counted(len(failed), 'file')} could not be read</h2><ul>\n"
        )
        for name, why in failed:
            yield f"<li><b>{bdi(name)}</b> {bdi(why)}</li>\n"
        yield "</ul></section>\n"


def _card(entry: PageEntry, earlier: bool = False) -> str:
    name = Path(entry.video).name or entry.video
    length = (
        ""
        if entry.duration is None
        else f"<span class=length>{clock(entry.duration, tenths=True)}</span>"
    )
    known = ""
    if entry.truth is not None:
        known = f' data-truth="{esc(entry.truth)}" data-wrong={int(entry.truth != entry.label)}'
    return (
        f'<li data-name="{esc(entry.video)}" data-label="{esc(entry.label)}" data-score="{entry.score:.6f}"{known}>'
        f'<a href="{link(entry.page)}"><img src="{entry.thumbnail}" alt="" decoding=async>'
        f"<span class=name>{bdi(name)}</span><span class=label>{bdi(entry.label)}</span>{bar(entry.score)}"
        f"<span class=number>{percent(entry.score)}</span>{length}{_below(entry, earlier)}</a></li>\n"
    )


def _below(entry: PageEntry, earlier: bool) -> str:
    """The last line of a card: whether it is right, and that it is of an earlier run."""
    told = []
    if entry.truth is not None:
        right = entry.truth == entry.label
        told.append(
            "<span class=right>✓ right</span>"
            if right
            else f"<span class=wrong>✗ truth: {bdi(entry.truth)}</span>"
        )
    if earlier:
        told.append(
            f"<span class=earlier>earlier{f', {esc(entry.date)}' if entry.date else ''}</span>"
        )
    return f"<span class=below>{' · '.join(told)}</span>" if told else ""
