"""Makes and saves all figures: texts are drawn literally, with fonts for all their letters."""

import contextlib
import functools
import io
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from vtd_jax.files import write_bytes
from vtd_jax.printable import printable


@contextlib.contextmanager
def drawing(
    width: float,
    height: float,
    texts: Iterable[str],
    dpi: int = 130,
    layout: Literal["constrained"] | None = None,
) -> Iterator[Figure]:
    """A white figure to draw on in the block.

    Text in a PDF is text. A letter that no installed font has is drawn as a box, and a control
    character escaped, as on a terminal.

    Args:
      width, height: in inches.
      texts: that will be on the figure, to find fonts for letters that matplotlib's font lacks.
      dpi: pixels an inch.
      layout: of matplotlib.
    """
    with _plainly(texts):
        figure = _Shown(figsize=(width, height), dpi=dpi, facecolor="white", layout=layout)
        _Canvas(figure)
        yield figure


def save(
    figure: Figure,
    path: Path,
    *,
    metadata: Mapping[str, str | None] | None = None,
    tight: bool = False,
) -> None:
    """Saves a figure of `drawing` in the format of the path's suffix, whole or not at all.

    Args:
      figure: to save.
      path: of the file.
      metadata: fields of the file.
      tight: whether to crop the margins.
    """
    # in memory first: on a full disk matplotlib raises an error that does not say so
    content = io.BytesIO()
    box = "tight" if tight else None
    figure.savefig(content, format=path.suffix[1:] or None, bbox_inches=box, metadata=metadata)
    write_bytes(path, content.getbuffer())


def short(text: str, most: int = 40) -> str:
    """`printable` text in one line, or its beginning and an ellipsis."""
    # a character may become ten
    text = printable(text[:most]) + ("" if len(text) <= most else "…" * most)
    return text if len(text) <= most else text[: most - 1] + "…"


class _Shown(Figure):
    """A figure that a notebook shows, although pyplot does not know it."""

    def draw(self, renderer: Any) -> None:
        """Draws all texts in a form that can be drawn, whoever wrote them."""
        for text in self.findobj(Text):
            lines = text.get_text().split("\n")
            if not all(line.isprintable() for line in lines):
                text.set_text("\n".join(map(printable, lines)))
        with _plainly():
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png", bbox_inches="tight")
        return content.getvalue()


class _Canvas(FigureCanvasAgg):
    """What saves a figure, also for a caller of `Figure.savefig`."""

    def print_figure(self, *args: Any, **kwargs: Any) -> Any:
        """As matplotlib's, without its warnings about letters."""
        with _plainly():
            return super().print_figure(*args, **kwargs)


@contextlib.contextmanager
def _plainly(texts: Iterable[str] = ()) -> Iterator[None]:
    fonts = [*matplotlib.rcParams["font.family"], *_fonts(frozenset("".join(texts)))]
    # a name with two $ is not a formula, and one with a backslash no command of TeX
    # fonttype 42 is TrueType: text in a PDF can be searched
    style: dict[Any, Any] = {
        "font.family": fonts, "pdf.fonttype": 42, "text.parse_math": False, "text.usetex": False,
    }  # fmt: skip
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # a letter that no font has is drawn as a box
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from (current )?font", UserWarning)
        # long texts may leave no room for the layout
        warnings.filterwarnings("ignore", "constrained_layout not applied", UserWarning)
        yield


@functools.cache
def _fonts(letters: frozenset[str]) -> tuple[str, ...]:
    """Installed families with the letters that matplotlib's own font lacks, as few as possible."""
    missing = {ord(c) for c in letters if c.isprintable()} - _covered(
        font_manager.findfont("DejaVu Sans")
    )
    found, families = [], {}
    if missing:
        for font in font_manager.fontManager.ttflist:
            families.setdefault(font.name, font.fname)
    # families for many scripts first: searching hundreds of Latin fonts takes seconds
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
    except (OSError, RuntimeError):  # FreeType cannot open the font
        return frozenset()
