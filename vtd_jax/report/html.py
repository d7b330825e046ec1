"""What the report's pages are made of: templates that escape every text, pictures inside the page,
numbers for people.
"""

import base64
import functools
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import cv2
import jinja2
import numpy as np
import simplejpeg
from jaxtyping import Int, UInt8
from markupsafe import Markup

from vtd_jax.durations import clock
from vtd_jax.printable import utf8

SIDE = 224  # of embedded frames, pixels at most
THUMBNAIL_BYTES = 4096  # of a thumbnail's data URI, at most
# name of the line of a page that says what an index needs to know of it
ENTRY = "vtd_jax:entry"
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")


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
    return text if text.isprintable() else _CONTROLS.sub("\ufffd", utf8(text))


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


def tick_step(duration: float, most: int) -> int:
    """Seconds, a round number of them, from one tick of a time axis to the next; at most `most`
    steps, 1 s at least.
    """
    return next((step for step in _STEPS if duration / step <= most), _STEPS[-1])


def evenly(count: int, most: int) -> Int[np.ndarray, " n"]:
    """Places of at most `most` of `count` things, evenly spaced, with the first and the last."""
    return (
        np.arange(count) if count <= most else np.linspace(0, count - 1, most).round().astype(int)
    )


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


def counted(count: int, noun: str, nouns: str = "") -> str:
    """`1 frame`, `1 200 frames`; `nouns` where the plural is not the noun and an s."""
    return f"{count:,} {noun if count == 1 else nouns or f'{noun}s'}".replace(",", "\u202f")


def bar_width(share: float) -> str:
    """The width of a bar of 0..1 of its track."""
    return f"{100 * min(1.0, max(0.0, share)):.1f}%"


def link(page: str) -> str:
    """A page's file name as the target of a link."""
    return quote(os.fsencode(page))


def place(result: Any, beside: Beside) -> str:
    """Where the file is; "" where the title says all."""
    path = beside.path
    if path is None:
        path = "" if os.path.isabs(result.video) else result.video
    return path if os.path.dirname(path) else ""


def known(beside: Beside, labels: tuple[str, ...], scores: np.ndarray) -> dict[str, Any] | None:
    """The label that the video has and what it scores; None where the label is not known."""
    truth = beside.truth
    if truth is None:
        return None
    return {
        "truth": truth,
        "score": float(scores[labels.index(truth)]) if truth in labels else None,
    }


def remark(note: str) -> str:
    """What is odd about a file, as the beginning of a sentence; "" where nothing is."""
    return note[:1].upper() + note[1:]


@functools.cache
def asset(name: str) -> str:
    """A stylesheet or script beside this module."""
    return (files("vtd_jax.report") / "page" / name).read_text(encoding="utf-8")


@functools.cache
def templates() -> jinja2.Environment:
    """The pages' templates: every text that enters one is cleaned and escaped."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("vtd_jax.report"),
        autoescape=True,
        auto_reload=False,
        finalize=_finalized,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "clock": clock,
        "counted": counted,
        "link": link,
        "percent": percent,
        "signed": signed,
        "width": bar_width,
    }
    # `tojson` also writes <, >, & and ' as escapes: no text in a block of data can end it
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return made


def _finalized(value: Any) -> Any:
    # what is marked as HTML has been through here
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def ways(before: str, after: str) -> str:
    """The links from a page to the index and to the pages beside it, HTML."""
    return str(templates().get_template("parts.html").module.ways(before, after))


def document(
    template: str,
    content: Mapping[str, Any],
    *,
    title: str,
    about: Mapping[str, str],
    script: str,
    notice: str = "",
    entry: str = "",
) -> Iterator[str]:
    """A whole page, piece by piece.

    Args:
      template: its name.
      content: what the template shows.
      title: of the window.
      about: lines for "How this was made"; "date" is also shown when they are folded.
      script: name of the asset that makes the page answer.
      notice: a warning above the content.
      entry: what an index needs to know of the page; see `pages.read_entry`.
    """
    code = "\n".join((asset("common.js"), asset(script)))
    return (
        templates()
        .get_template(template)
        .generate(
            content,
            title=title,
            about=about,
            notice=notice,
            entry_name=ENTRY,
            entry=entry,
            style=Markup(asset("page.css")),
            code=Markup(code),
            digest=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
        )
    )
