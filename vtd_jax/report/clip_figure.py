"""One clip as a figure: its frames, the code that names each of them, and how much each counts for
each class.
"""

import contextlib
import os
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure

from vtd_jax import figures
from vtd_jax.errors import UserError
from vtd_jax.figures import short
from vtd_jax.predict.results import Explanation
from vtd_jax.printable import printable
from vtd_jax.report.html import evenly
from vtd_jax.untrusted.regular_files import open_regular

INK, FAINT, BLUE = "#1f2933", "#9aa5b1", "#3b6ea8"
_LINE, _GOOD, _BAD = "#c5ccd3", "#1b7f4d", "#b3261e"
_COLUMNS = 16  # frames that a figure can show
# what a figure of ours says, in which field of its metadata, and bytes of the file's ends that are
# searched for it
MADE_BY, _MAKER, _ENDS = (
    "vtd_jax figure",
    {".png": "Software", ".pdf": "Creator", ".svg": "Creator"},
    4096,
)


def clip_picture(
    path: Path,
    frames: UInt8[np.ndarray, "t h w 3"],
    words: Sequence[str],
    confidence: Float[np.ndarray, "t k"],
    scores: Float[np.ndarray, " k"],
    names: Sequence[str],
    label: Int[np.ndarray, ""] | int | None,
    *,
    title: str,
    top: int = 5,
    times: Sequence[str] | None = None,
    note: str = "a row sums to 1",
    brightest: float = 1.0,
) -> None:
    """Draws a clip's discretization as a PNG (or PDF, SVG by the path's ending); the file appears
    when it is whole.

    Text in a PDF is text. A letter that no installed font has is drawn as a box.

    Args:
      path: where to.
      frames: the T frames that the model saw.
      words: T names, the code nearest to each frame.
      confidence: `[T, K]`, sums to 1 over frames.
      scores: class probabilities, 0..1.
      names: the K class names.
      label: the clip's class; words are coloured by whether they are it. None where it is not
        known: no colours.
      title: one line above.
      top: classes shown, best first; the clip's own is always among them.
      times: T texts under the heat map; frames are counted from 1 without.
      note: what is said of the heat map.
      brightest: the confidence at the upper end of its colours, above 0.
    """
    shown = list(np.argsort(-scores, kind="stable")[:top])
    if label is not None and label not in shown:
        shown[-1] = label
    truth = None if label is None else names[label]
    with drawing(
        path, 1.15 * len(frames) + 4.2, 1.6 + 0.42 * len(shown), [title, *words, *names]
    ) as figure:
        grid = figure.add_gridspec(
            2,
            2,
            width_ratios=[len(frames), 2.2],
            height_ratios=[1.5, 0.45 * len(shown)],
            hspace=0.42,
            wspace=0.04,
        )
        figure.suptitle(title, color=INK, fontsize=11, x=0.5, y=0.99)
        _frames(figure, grid[0, 0].subgridspec(1, len(frames), wspace=0.06), frames, words, truth)
        heat = figure.add_subplot(grid[1, 0])
        columns = [str(i + 1) for i in range(len(frames))] if times is None else list(times)
        _heat(heat, confidence[:, shown].T, [names[k] for k in shown], truth, columns, brightest)
        heat.set_xlabel(f"frame: its confidence for each class ({note})", fontsize=8, color=INK)
        bars = figure.add_subplot(grid[1, 1])
        _bars(bars, scores[shown])


def explanation_figure(
    path: Path, explanation: Explanation, *, top: int = 5, title: str = ""
) -> None:
    """An explained clip as a figure for a paper: PNG, PDF or SVG by the path's ending, whole or not
      at all.

    Of more than 16 frames, 16 that are evenly spaced are shown. Text in a PDF is text (TrueType, no
    outlines); letters that matplotlib's own font lacks come from an installed font that has them,
    and are boxes where there is none.

    Args:
      path: where to.
      explanation: what to draw.
      top: labels shown, best first.
      title: one line above; the video's name for "".
    """
    kept = evenly(len(explanation.words), _COLUMNS)
    shown = explanation.order(top)
    left_out = len(explanation.words) - len(kept)
    times = [str(i + 1) for i in kept]
    if explanation.seconds is not None:
        times = [f"{explanation.seconds[i]:.1f} s" for i in kept]
    clip_picture(
        path,
        explanation.pictures[kept],
        [explanation.words[i][0] for i in kept],
        explanation.confidence[kept],
        explanation.scores,
        explanation.labels,
        None,
        title=title or f"{file_title(explanation.video)}: {explanation.label}",
        top=top,
        times=times,
        note="a row sums to 1"
        + (f" over the {len(explanation.words)} frames, {len(kept)} are shown" if left_out else ""),
        brightest=float(explanation.confidence[np.ix_(kept, shown)].max()) or 1.0,
    )


@contextlib.contextmanager
def drawing(path: Path, width: float, height: float, texts: Iterable[str]) -> Iterator[Figure]:
    """A white figure, in inches, with fonts for its texts; saved at `path` when the block ends
    without an error.
    """
    with figures.drawing(width, height, texts) as figure:
        yield figure
        metadata = {_MAKER[path.suffix]: MADE_BY} if path.suffix in _MAKER else None
        figures.save(figure, path, metadata=metadata, tight=True)


def is_figure(path: Path) -> bool:
    """Whether a file is a figure that this package drew."""
    try:
        with open_regular(path, "figure") as file:
            head = file.read(_ENDS)
            file.seek(-min(_ENDS, os.fstat(file.fileno()).st_size), os.SEEK_END)
            return MADE_BY.encode() in head + file.read(_ENDS)
    except (OSError, UserError):
        return False


def file_title(video: str) -> str:
    """A file's name for a line above a figure: short, and of letters that can be drawn."""
    return short(printable(Path(video).name), 60)


def _lines(word: str) -> str:
    """At most three lines, a word a line where that is enough: compositional names are long, and
    frames are narrow.
    """
    lines = word.split(" ")
    if len(lines) > 3 or max(map(len, lines)) > 14:
        lines = textwrap.wrap(word, 14) or [""]
    return "\n".join(
        lines if len(lines) <= 3 else [*lines[:2], short(lines[2], 13).rstrip("…") + "…"]
    )


def _frames(figure, grid, frames, words, truth):
    for i, (frame, word) in enumerate(zip(frames, words, strict=True)):
        axes = figure.add_subplot(grid[0, i])
        axes.imshow(frame, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        color = INK if truth is None else _GOOD if word == truth else _BAD
        axes.set_xlabel(_lines(word), fontsize=7.5, color=color, labelpad=3)
        for side in axes.spines.values():
            side.set_color(_LINE if truth is None else color)
            side.set_linewidth(0.8 if truth is None else 1.6)


def _heat(axes, values, names, truth, columns, brightest):
    axes.imshow(values, aspect="auto", cmap="viridis", vmin=0, vmax=brightest)
    for (row, column), value in np.ndenumerate(values):
        ink = "white" if value < 0.6 * brightest else "black"
        axes.text(
            column,
            row,
            f"{value:.2f}".lstrip("0") or "0",
            ha="center",
            va="center",
            fontsize=7,
            color=ink,
        )
    axes.set_yticks(range(len(names)), [short(name) for name in names], fontsize=8)
    for tick, name in zip(axes.get_yticklabels(), names, strict=True):
        tick.set_color(_GOOD if name == truth else INK)
    axes.set_xticks(range(values.shape[1]), columns, fontsize=7, color=FAINT)
    axes.tick_params(length=0)


def _bars(axes, scores):
    rows = np.arange(len(scores))
    axes.barh(rows, scores, color=BLUE, height=0.6)
    for row, score in zip(rows, scores, strict=True):
        axes.text(score + 0.03, row, f"{100 * score:.0f} %", va="center", fontsize=8, color=INK)
    axes.set_ylim(len(scores) - 0.5, -0.5)
    axes.set_xlim(0, 1.3)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("class score", fontsize=8, color=INK)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
