"""A report to look at: one self-contained HTML page a video, and an index of them. Pages fetch nothing."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vtd_jax.errors import UserError
from vtd_jax.explain import report_clip, report_timeline
from vtd_jax.explain.report_html import bar, bdi, clock, counted, document, esc, percent, thumbnail
from vtd_jax.explain.results import Explanation, Timeline
from vtd_jax.files import replacing


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
    """

    video: str
    page: str
    label: str
    score: float
    duration: float | None
    thumbnail: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "PageEntry":
        """What `to_dict` gave."""
        return cls(**fields)


def write_page(folder: Path, result: Explanation | Timeline, name: str, about: Mapping[str, str]) -> PageEntry:
    """Writes `<folder>/<name>.html`, whole or not at all; what was there is replaced.

    Args:
      folder: of the report; made if it is not there.
      result: what to show.
      name: of the page, without ending: a file name, and not "index".
      about: lines for the page's foot, such as model, settings and version.

    Raises:
      UserError: a name that is no file name.
    """
    if name in ("", "index") or Path(name).name != name:
        raise UserError(f"page name {name!r}: expected a plain file name without folders, other than 'index'")
    view = report_clip if isinstance(result, Explanation) else report_timeline
    label, score, picture = view.verdict(result)
    title = Path(result.video).name or result.video
    heading = f"<p class=kicker>Video to text</p><h1>{bdi(title)}</h1>"
    page = f"{name}.html"
    _write(folder / page, document(f"{title} – {label}", heading, view.body(result), about, view.SCRIPT))
    return PageEntry(result.video, page, label, score, result.duration, thumbnail(picture))


def write_index(
    folder: Path, entries: Iterable[PageEntry], failed: Sequence[tuple[str, str]], about: Mapping[str, str]
) -> Path:
    """Writes `<folder>/index.html`, whole or not at all; returns its path.

    Args:
      folder: of the pages.
      entries: of the pages, in the order shown; taken one at a time.
      failed: files that could not be read, and why.
      about: lines for the foot.
    """
    heading = "<p class=kicker>Video to text</p><h1>Videos</h1>"
    path = folder / "index.html"
    _write(path, document("Videos", heading, _index(entries, failed), about, "index.js"))
    return path


def _write(path: Path, pieces: Iterator[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("w", encoding="utf-8") as out:
        out.writelines(pieces)


def _index(entries: Iterable[PageEntry], failed: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield (
        '<form class="js tools" role="search" id="tools">'
        '<label>Filter <input type="search" id="filter" placeholder="name or label" autocomplete="off"></label>'
        '<label>Sort by <select id="sort"><option value="">order of the run</option><option value="name">name</option>'
        '<option value="label">label</option><option value="score">score, highest first</option></select></label>'
        '<p id="shown" role="status"></p></form>\n<ul class=videos id="videos">\n'
    )
    count = 0
    for entry in entries:
        count += 1
        yield _card(entry)
    yield "</ul>\n"
    if not count:
        yield "<p class=note>No video could be shown.</p>\n"
    if failed:
        yield (
            f"<section class=failed aria-labelledby=h-failed><h2 id=h-failed>{counted(len(failed), 'file')} could not "
            "be read</h2><ul>\n"
        )
        for name, why in failed:
            yield f"<li><b>{bdi(name)}</b> {bdi(why)}</li>\n"
        yield "</ul></section>\n"


def _card(entry: PageEntry) -> str:
    name = Path(entry.video).name or entry.video
    length = "" if entry.duration is None else f"<span class=length>{clock(entry.duration, tenths=True)}</span>"
    return (
        f'<li data-name="{esc(entry.video)}" data-label="{esc(entry.label)}" data-score="{entry.score:.6f}">'
        f'<a href="{quote(os.fsencode(entry.page))}"><img src="{entry.thumbnail}" alt="" decoding=async>'
        f"<span class=name>{bdi(name)}</span><span class=label>{bdi(entry.label)}</span>{bar(entry.score)}"
        f"<span class=number>{percent(entry.score)}</span>{length}</a></li>\n"
    )
