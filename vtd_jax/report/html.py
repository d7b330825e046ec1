"""Parts of the report's pages: escaping templates, embedded pictures, formatted numbers."""

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
from vtd_jax.predict.display.texts import percent
from vtd_jax.printable import utf8

SIDE = 224  # of embedded frames, pixels at most
THUMBNAIL_BYTES = 4096  # of a thumbnail's data URI, at most
# scripts and styles that a page has beside those of every page, in this order
_SCRIPTS = {
    "clip.html": ("parts.js", "clip_view.js"),
    "timeline.html": ("parts.js", "timeline_view.js"),
    "app.html": (
        "parts.js",
        "clip_view.js",
        "timeline_view.js",
        *(
            f"app/{name}.js"
            for name in (
                "building",
                "server",
                "memory",
                "player",
                "clip",
                "timeline",
                "answers",
                "encoding",
                "choosing",
                "camera",
                "controls",
                "downloads",
            )
        ),
    ),
}
_STYLES = {"app.html": ("app/app.css",)}
# name of the <meta> of a page with its `PageEntry`
ENTRY = "vtd_jax:entry"
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Beside:
    """What a page shows beside its result.

    Attributes:
      path: of the file, below the title; None for that of the result if it is relative.
      truth: the true label; None if unknown.
      notice: a warning on top, such as that the model is a toy.
      before, after: file names of the pages of the previous and next video; "" for none.
      index: whether the page links to the index of a report.
    """

    path: str | None = None
    truth: str | None = None
    notice: str = ""
    before: str = ""
    after: str = ""
    index: bool = True


# nothing beside the result
ALONE = Beside()


def clean(text: str) -> str:
    r"""Text without control characters, which become U+FFFD, and raw bytes, which become `\xff`."""
    return text if text.isprintable() else _CONTROLS.sub("\ufffd", utf8(text))


def jpeg(image: UInt8[np.ndarray, "h w 3"], side: int = SIDE, quality: int = 82) -> str:
    """A picture as a data URI, scaled down to `side` pixels at most."""
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
    # smaller and coarser until it fits
    for side, quality in ((72, 70), (72, 40), (48, 40)):
        uri = jpeg(image, side, quality)
        if len(uri) <= THUMBNAIL_BYTES:
            return uri
    return jpeg(image, 24, 30)


def tick_step(duration: float, most: int) -> int:
    """Round seconds, at least 1, between ticks of a time axis, for at most `most` steps."""
    return next((step for step in _STEPS if duration / step <= most), _STEPS[-1])


def evenly(count: int, most: int) -> Int[np.ndarray, " n"]:
    """Indices of at most `most` of `count` items, evenly spaced from the first to the last."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)


def signed(value: float) -> str:
    """`+1.25`, `−0.40`, with a minus sign as wide as the plus."""
    return f"{'−' if round(value, 2) < 0 else '+'}{abs(value):.2f}"


def counted(count: int, noun: str, nouns: str = "") -> str:
    """`1 frame`, `1 200 frames`; `nouns` for irregular plurals."""
    return f"{count:,} {noun if count == 1 else nouns or f'{noun}s'}".replace(",", "\u202f")


def bar_width(share: float) -> str:
    """CSS width of a bar with a share of 0..1."""
    return f"{100 * min(1.0, max(0.0, share)):.1f}%"


def link(page: str) -> str:
    """The file name of a page as a URL."""
    return quote(os.fsencode(page))


def place(result: Any, beside: Beside) -> str:
    """The path of the file; "" if it is just a name."""
    path = beside.path
    if path is None:
        path = "" if os.path.isabs(result.video) else result.video
    return path if os.path.dirname(path) else ""


def known(beside: Beside, labels: tuple[str, ...], scores: np.ndarray) -> dict[str, Any] | None:
    """The true label and its score; None if it is unknown."""
    truth = beside.truth
    if truth is None:
        return None
    return {
        "truth": truth,
        "score": float(scores[labels.index(truth)]) if truth in labels else None,
    }


def remark(note: str) -> str:
    """A note with a capital letter."""
    return note[:1].upper() + note[1:]


@functools.cache
def asset(name: str) -> str:
    """A stylesheet or script beside this module."""
    return (files("vtd_jax.report") / "page" / name).read_text(encoding="utf-8")


@functools.cache
def templates() -> jinja2.Environment:
    """The templates; all text in them is cleaned and escaped."""
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
    # `tojson` also escapes <, >, & and ': no text can end a block of data
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return made


def _finalized(value: Any) -> Any:
    # Markup was cleaned before
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
    script: str = "",
    notice: str = "",
    entry: str = "",
) -> Iterator[str]:
    """Yields a page in pieces.

    Args:
      template: name of the template.
      content: its variables.
      title: of the window.
      about: lines for "How this was made"; "date" is visible when they are folded.
      script: name of the page's script beside those of its template; "" for none.
      notice: a warning above the content.
      entry: JSON for the index, see `pages.read_entry`.
    """
    scripts = ("common.js", *_SCRIPTS.get(template, ()), script)
    code = "\n".join(asset(name) for name in scripts if name)
    style = "\n".join(map(asset, ("page.css", *_STYLES.get(template, ()))))
    # the page's security policy allows only a script with this digest
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    return templates().get_template(template).generate(
        content, title=title, about=about, notice=notice, entry_name=ENTRY, entry=entry,
        style=Markup(style), code=Markup(code), digest=digest,
    )  # fmt: skip
