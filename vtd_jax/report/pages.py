"""HTML reports: a self-contained page for each video, and an index. Pages fetch nothing."""

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
from vtd_jax.predict.results import Explanation, Prediction, Timeline
from vtd_jax.printable import utf8
from vtd_jax.report import clip_page, scores_page, timeline_page
from vtd_jax.report.html import ALONE, ENTRY, Beside, document, thumbnail, ways
from vtd_jax.untrusted.json_text import convert, parse_json
from vtd_jax.untrusted.regular_files import open_regular, read_text
from vtd_jax.video.lists.addresses import is_address

# bytes at the start of a page that contain its entry
_HEAD = 32_768
_PICTURE = r"data:image/jpeg;base64,[A-Za-z0-9+/=]*"
# name of a page without suffix: a plain file name
PAGE_NAME = r"(?!index(?:\.html)?\Z)[^/\\\x00-\x1f]+"
# start of an index, also of versions without a generator
_INDEX = re.compile(
    rb'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    rb'(<meta name="generator" content="vtd_jax">|<meta http-equiv="Content-Security-Policy" '
    rb"content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-)"
)


class PageFields(TypedDict):
    """A `PageEntry` as JSON; that of a page or journal is untrusted."""

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
    """A page in the index.

    Attributes:
      video: path of the file.
      page: file name of the page.
      label: best label.
      score: its score, 0..1; of a long video the mean over its windows.
      duration: of the video, seconds; None if unknown.
      thumbnail: JPEG data URI of at most 4 kB.
      truth: the true label; None if unknown.
      date: when the page was made, as text.
      key: of the file, see `video_key`.
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
        """From `to_dict`; other fields are ignored."""
        known = (field.name for field in dataclasses.fields(cls))
        return cls(**{name: fields[name] for name in known if name in fields})


def video_key(video: str) -> str:
    """Identifies a file without its name: the fingerprint of its absolute path, or address."""
    return fingerprint(os.fsencode(video if is_address(video) else os.path.abspath(video)))


def write_page(
    folder: Path,
    result: Explanation | Timeline,
    name: str,
    about: Mapping[str, str],
    beside: Beside = ALONE,
) -> PageEntry:
    """Writes `<folder>/<name>.html`, whole or not at all; replaces an earlier page.

    Args:
      folder: of the report; created if missing.
      result: to show.
      name: of the page, without suffix: a file name other than "index".
      about: lines at the end, such as model, settings and version; the index shows "date".
      beside: what the page shows beside the result.

    Raises:
      UserError: not a plain file name.
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


def write_scores(
    path: Path, result: Prediction, about: Mapping[str, str], beside: Beside = ALONE
) -> None:
    """Writes the page of a prediction, whole or not at all; it is in no index.

    Args:
      path: of the file; its folder is created if missing.
      result: to show.
      about, beside: as for `write_page`.
    """
    title = Path(result.video).name or result.video
    pieces = document(
        scores_page.TEMPLATE,
        scores_page.content(result, beside) | {"name": title},
        title=f"{title} – {result.label}",
        about={"video": result.video} | dict(about),
        notice=beside.notice,
    )
    _write(path, pieces)


def relink(path: Path, before: str, after: str) -> None:
    """Replaces a page's links to its neighbours, for which no page was written in the end.

    A file that is not a page of a report is unchanged.
    """
    if read_entry(path) is None:
        return
    text = read_text(path, "page of a report")
    # cannot be text of users, whose < is written as &lt;
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

    Pages of earlier runs in the folder follow the entries.

    Args:
      folder: of the pages.
      entries: of the pages, in order; consumed one at a time.
      failed: files that could not be read, and why.
      about: lines at the end.
      notice: a warning above the list.
      right: number of videos with the true label on top, and with a known one; None for none.
    """
    path = folder / "index.html"
    content = {"cards": _cards(folder, entries), "failed": failed, "right": right}
    pieces = document(
        "index.html", content, title="Videos", about=about, script="index.js", notice=notice
    )
    _write(path, pieces)
    return path


def read_entry(path: Path) -> PageEntry | None:
    """The entry in a page, which is untrusted; None for a file that is not a page of a report."""
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


def is_ours(path: Path) -> bool:
    """Whether a file is a page of this package, of any kind."""
    return read_entry(path) is not None or is_index(path)


def check_report(flag: str, folder: Path) -> None:
    """Refuses a folder with an `index.html` that is not of a report, which would be overwritten.

    Args:
      flag: name of the folder in messages, such as "--report".
      folder: of the report; may be missing.

    Raises:
      UserError: there is another `index.html`.
    """
    path = folder / "index.html"
    if os.path.lexists(path) and not is_index(path):
        raise UserError(
            f"{flag}={folder}: has an index.html that is not of a report; give another folder, or "
            "move it away"
        )


def earlier_pages(folder: Path) -> Iterator[PageEntry]:
    """The entries of all pages in a folder, by name."""
    for path in sorted(folder.glob("*.html")):
        entry = read_entry(path)
        if entry is not None:
            yield entry


def _write(path: Path, pieces: Iterator[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("w", encoding="utf-8") as out:
        out.writelines(pieces)


def _cards(folder: Path, entries: Iterable[PageEntry]) -> Iterator[tuple[PageEntry, str, bool]]:
    """Yields a page's entry, its video's name, and whether an earlier run wrote it."""
    pages = set()
    for entry in entries:
        pages.add(entry.page)
        yield entry, Path(entry.video).name or entry.video, False
    for entry in earlier_pages(folder):
        if entry.page not in pages:
            yield entry, Path(entry.video).name or entry.video, True
