"""Pieces of the report's pages: text that cannot break out of its place, pictures inside the page,
the page around.
"""

import base64
import functools
import hashlib
import html
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import simplejpeg
from jaxtyping import UInt8

from vtd_jax.printable import utf8

SIDE = 224  # of embedded frames, pixels at most
THUMBNAIL_BYTES = 4096  # of a thumbnail's data URI, at most
# name of the line of a page that says what an index needs to know of it
ENTRY = "vtd_jax:entry"
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
# nothing is fetched, and no script runs but the page's own
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {scripts}"


@dataclass(frozen=True)
class Beside:
    """What a page says beside its result.

    Attributes:
      path: below the title, where the file is; None for the path of the result, if it is relative.
      truth: the label that the video has; None where it is not known.
      notice: a warning above everything else, such as that the model is a toy.
      before, after: file names of the pages of the videos before and after this one; "" for none.
    """

    path: str | None = None
    truth: str | None = None
    notice: str = ""
    before: str = ""
    after: str = ""


# nothing is known but the result
ALONE = Beside()


def clean(text: str) -> str:
    r"""Text that UTF-8 can hold and a reader can see: control characters become U+FFFD, bytes of no
    text `\xff`.
    """
    return "".join("\ufffd" if c < " " or "\x7f" <= c <= "\x9f" else c for c in utf8(text))


def esc(text: str) -> str:
    """Text for HTML, quotes too."""
    return html.escape(clean(text), quote=True)


def bdi(text: str, slot: str = "") -> str:
    """A user's text, of any direction, that does not turn its surroundings round; `slot` is what
    scripts call it.
    """
    return f"<bdi{f' data-slot={slot}' if slot else ''}>{esc(text)}</bdi>"


def odd(note: str) -> str:
    """What is odd about a file, on a line of its own; nothing where nothing is."""
    return f"<br>{esc(note[:1].upper() + note[1:])}." if note else ""


def data_block(name: str, value: Any) -> str:
    """JSON that a script of the page reads; no text in it can end the block."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def jpeg(image: UInt8[np.ndarray, "h w 3"], side: int = SIDE, quality: int = 82) -> str:
    """A picture as a data URI, scaled down where it is larger than `side` pixels."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    data = simplejpeg.encode_jpeg(
        np.ascontiguousarray(image), quality=quality, colorsubsampling="420"
    )
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def thumbnail(image: UInt8[np.ndarray, "h w 3"]) -> str:
    """A data URI of at most `THUMBNAIL_BYTES`."""
    for side, quality in ((72, 70), (72, 40), (48, 40)):
        uri = jpeg(image, side, quality)
        if len(uri) <= THUMBNAIL_BYTES:
            return uri
    return jpeg(image, 24, 30)


def clock(seconds: float, *, tenths: bool = False, hours: bool = False) -> str:
    """`0:07`, `1:02:03`: hours where there are some, or always. With `tenths`, below a minute, `7.3
    s`.
    """
    if tenths and round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if hours or minutes >= 60:
        return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
    return f"{minutes}:{rest:02d}"


def tick_step(duration: float, most: int) -> int:
    """Seconds, a round number of them, from one tick of a time axis to the next; at most `most`
    steps, 1 s at least.
    """
    return next((step for step in _STEPS if duration / step <= most), _STEPS[-1])


def percent(score: float) -> str:
    """A probability for people: `83.4 %`; `100 %` and `0 %` are not claimed by rounding."""
    if 0 < score < 0.001:
        return "< 0.1 %"
    if 0.999 < score < 1:
        return "> 99.9 %"
    return f"{100 * score:.1f} %"


def signed(value: float) -> str:
    """`+1.25`, `−0.40`; with a minus sign that lines up."""
    return f"{'−' if round(value, 2) < 0 else '+'}{abs(value):.2f}"


def counted(count: int, noun: str) -> str:
    """`1 frame`, `1 200 frames`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}".replace(",", "\u202f")


def bar(share: float, slot: str = "") -> str:
    """A bar of 0..1 of its track; its number stands beside it as text."""
    width = 100 * min(1.0, max(0.0, share))
    name = f" data-slot={slot}" if slot else ""
    return f'<span class=bar aria-hidden=true><i{name} style="width:{width:.1f}%"></i></span>'


def link(page: str) -> str:
    """A page's file name as the target of a link, quoted for HTML."""
    return quote(os.fsencode(page))


def ways(beside: Beside) -> str:
    """The links from a page to the index and to the pages beside it; see `report.relink`."""
    found = [f'<a rel={rel} href="{link(page)}">{text}</a>' for rel, page, text in (
        ("prev", beside.before, "‹ Previous"), ("next", beside.after, "Next ›"),
    ) if page]  # fmt: skip
    return (
        '<nav class=ways aria-label=Videos><a href="index.html">All '
        f"videos</a>{''.join(found)}</nav>"
    )


def place(result: Any, beside: Beside) -> str:
    """Where the file is, HTML; "" where the title says all."""
    path = beside.path
    if path is None:
        path = "" if os.path.isabs(result.video) else result.video
    return f"<br><span class=path>{bdi(path)}</span>" if os.path.dirname(path) else ""


def truth(label: str, score: float | None, beside: Beside) -> str:
    """The label that the video has, and whether it was found, HTML; "" where it is not known."""
    if beside.truth is None:
        return ""
    if beside.truth == label:
        return "<p class='truth right'>Right: this is the video's label.</p>"
    told = "" if score is None else f", which scores {percent(score)}"
    return (
        f"<p class='truth wrong'>Wrong: the video's label is <b>{bdi(beside.truth)}</b>{told}.</p>"
    )


@functools.cache
def asset(name: str) -> str:
    """A stylesheet or script beside this module."""
    return (files("vtd_jax.report") / "page" / name).read_text(encoding="utf-8")


def document(
    title: str,
    heading: str,
    body: Iterable[str],
    about: Mapping[str, str],
    script: str,
    *,
    notice: str = "",
    entry: str = "",
) -> Iterator[str]:
    """A whole page, piece by piece.

    Args:
      title: of the window, text.
      heading: the page's h1, HTML.
      body: what `main` holds, HTML.
      about: lines for "How this was made", text; "date" is also shown when they are folded.
      script: name of the asset that makes the page answer.
      notice: a warning above the body, text.
      entry: what an index needs to know of the page, text; see `report.read_entry`.
    """
    code = "\n".join((asset("common.js"), asset(script)))
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    style = asset("page.css")
    policy = _POLICY.format(scripts=f"'sha256-{digest}'")
    yield (
        "<!doctype html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="generator" content="vtd_jax">\n'
        f"{_meta(entry)}"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<link rel="icon" href="data:,">\n<title>{esc(title)}</title>\n<style>\n{style}</style>\n'
        "</head>\n<body>\n<header>\n"
        f"<div>{heading}</div>\n"
        '<button type="button" class="js theme" id="theme" aria-label="Switch to the dark theme">Dark</button>\n'
        "</header>\n<main>\n"
    )
    yield f"<p class=notice role=note>{esc(notice)}</p>\n" if notice else ""
    yield from body
    lines = "".join(
        f"<div><dt>{esc(name)}</dt><dd>{bdi(value)}</dd></div>" for name, value in about.items()
    )
    yield "</main>\n"
    if lines:
        date = f" · {esc(about['date'])}" if about.get("date") else ""
        yield (
            "<footer><details><summary>How this was "
            f"made{date}</summary><dl>{lines}</dl></details></footer>\n"
        )
    yield f"<script>{code}</script>\n</body>\n</html>\n"


def _meta(entry: str) -> str:
    return f'<meta name="{ENTRY}" content="{esc(entry)}">\n' if entry else ""
