"""Where every figure is made and saved: its texts are drawn as they are, whoever wrote them."""

import contextlib
import functools
import io
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vtd_jax.files import write_bytes


@contextlib.contextmanager
def drawing(
    width: float, height: float, texts: Iterable[str], dpi: int = 130, layout: str | None = None
) -> Iterator[Figure]:
    """A white figure, in inches, to be drawn on in the block; it can be saved there or later.

    Text in a PDF is text. A letter that no installed font has is drawn as a box.

    Args:
      width, height: in inches.
      texts: what will be written on it; gets fonts for letters that matplotlib's own lacks.
      dpi: pixels an inch.
      layout: matplotlib's.
    """
    with _plainly(texts):
        figure = Figure(figsize=(width, height), dpi=dpi, facecolor="white", layout=layout)
        FigureCanvasAgg(figure)
        yield figure


def save(
    figure: Figure,
    path: Path,
    *,
    metadata: Mapping[str, str | None] | None = None,
    tight: bool = False,
) -> None:
    """Saves a figure of `drawing` by the path's ending, whole or not at all.

    Args:
      figure: what to save.
      path: where to.
      metadata: fields of the file.
      tight: whether to cut what is empty around it.
    """
    # on a full disk matplotlib's own writing of a PDF fails with another error than the disk's
    content = io.BytesIO()
    with _plainly():
        box = "tight" if tight else None
        figure.savefig(content, format=path.suffix[1:] or None, bbox_inches=box, metadata=metadata)
    write_bytes(path, content.getbuffer())


def short(text: str, most: int = 40) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


@contextlib.contextmanager
def _plainly(texts: Iterable[str] = ()) -> Iterator[None]:
    fonts = [*matplotlib.rcParams["font.family"], *_fonts(frozenset("".join(texts)))]
    # a name with two $ is no formula, and would fail, or be drawn as one
    style = {"font.family": fonts, "pdf.fonttype": 42, "text.parse_math": False}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # a letter that no font has is a box in the figure, not a reason to have no figure
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from (current )?font", UserWarning)
        # nor are texts that leave no room for what they are about
        warnings.filterwarnings("ignore", "constrained_layout not applied", UserWarning)
        yield


@functools.cache
def _fonts(letters: frozenset[str]) -> tuple[str, ...]:
    """Installed families that have the letters which matplotlib's own font lacks, as few as are
    needed.
    """
    missing = {ord(c) for c in letters if c.isprintable()} - _covered(
        font_manager.findfont("DejaVu Sans")
    )
    found, families = [], {}
    if missing:
        for font in font_manager.fontManager.ttflist:
            families.setdefault(font.name, font.fname)
    # families made for many scripts first: a search through hundreds of Latin fonts takes seconds
    for name in sorted(
        families, key=lambda name: (not any(s in name for s in ("CJK", "Noto", "WenQuanYi")), name)
    ):
        covered = missing & _covered(families[name]) if missing else set()
        if covered:
            found.append(name)
            missing -= covered
    return tuple(found)


@functools.cache
def _covered(file: str) -> frozenset[int]:
    try:
        return frozenset(font_manager.get_font(file).get_charmap())
    except (OSError, RuntimeError):  # a font that FreeType cannot open helps nobody
        return frozenset()
