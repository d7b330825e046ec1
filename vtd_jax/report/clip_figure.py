"""A figure of a clip: its frames, their words, and their confidence for each class."""

import contextlib
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure

from vtd_jax import figures
from vtd_jax.figures import short
from vtd_jax.predict.results import Explanation, Prediction
from vtd_jax.printable import printable
from vtd_jax.report.figure_files import MADE_BY
from vtd_jax.report.html import evenly

INK, FAINT, BLUE = "#1f2933", "#9aa5b1", "#3b6ea8"
_LINE, _GOOD, _BAD = "#c5ccd3", "#1b7f4d", "#b3261e"
_COLUMNS = 16  # frames that a figure can show
_WORD = 200  # characters of a word that are looked at for the three lines under a frame
# the field of MADE_BY by suffix
_MAKER = {".png": "Software", ".pdf": "Creator", ".svg": "Creator"}


def clip_picture(
    path: Path | None,
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
) -> Figure:
    """Draws a clip's discretization as PNG, PDF or SVG, by the suffix; whole or not at all.

    Args:
      path: of the file; None only returns the figure.
      frames: the T frames of the model.
      words: of the T frames, those of the nearest codes.
      confidence: `[T, K]`, sums to 1 over frames.
      scores: class probabilities, 0..1.
      names: the K class names.
      label: the clip's class, which colours right and wrong words; None if unknown.
      title: line above.
      top: classes shown, best first; the clip's class is always among them.
      times: T texts under the heat map; numbers from 1 by default.
      note: in the label of the heat map.
      brightest: the confidence at the upper end of the colours, above 0.
    """
    shown = list(np.argsort(-scores, kind="stable")[:top])
    if label is not None and label not in shown:
        shown[-1] = label
    truth = None if label is None else names[int(label)]
    width, height = 1.15 * len(frames) + 4.2, 1.6 + 0.42 * len(shown)
    with drawing(path, width, height, [title, *words, *names]) as figure:
        grid = figure.add_gridspec(
            2, 2, width_ratios=[len(frames), 2.2], height_ratios=[1.5, 0.45 * len(shown)],
            hspace=0.42, wspace=0.04,
        )  # fmt: skip
        figure.suptitle(title, color=INK, fontsize=11, x=0.5, y=0.99)
        _frames(figure, grid[0, 0].subgridspec(1, len(frames), wspace=0.06), frames, words, truth)
        heat = figure.add_subplot(grid[1, 0])
        columns = [str(i + 1) for i in range(len(frames))] if times is None else list(times)
        _heat(heat, confidence[:, shown].T, [names[k] for k in shown], truth, columns, brightest)
        heat.set_xlabel(f"frame: its confidence for each class ({note})", fontsize=8, color=INK)
        _bars(figure.add_subplot(grid[1, 1]), scores[shown])
    return figure


def scores_figure(prediction: Prediction, *, top: int = 5, title: str = "") -> Figure:
    """Draws the best labels of a prediction and their scores.

    Args:
      prediction: to draw.
      top: labels shown, best first.
      title: line above; the video's name for "".
    """
    shown = prediction.order(top)
    title = title or f"{file_title(prediction.video)}: {short(prediction.label)}"
    names = [short(prediction.labels[k]) for k in shown]
    with drawing(None, 6, 0.9 + 0.36 * len(shown), [title, *names]) as figure:
        grid = figure.add_gridspec(1, 1, left=0.42, top=1 - 0.45 / figure.get_figheight())
        figure.suptitle(title, color=INK, fontsize=11)
        axes = figure.add_subplot(grid[0])
        _bars(axes, prediction.scores[shown])
        axes.set_yticks(range(len(names)), names, fontsize=8, color=INK)
        axes.tick_params(length=0)
    return figure


def explanation_figure(
    path: Path | None, explanation: Explanation, *, top: int = 5, title: str = ""
) -> Figure:
    """Draws an explained clip for a paper as PNG, PDF or SVG, by the suffix; whole or not at all.

    Of more than 16 frames, 16 evenly spaced ones are shown. Text in a PDF is text (TrueType).

    Args:
      path: of the file; None only returns the figure.
      explanation: to draw.
      top: labels shown, best first.
      title: line above; the video's name for "".
    """
    kept = evenly(len(explanation.words), _COLUMNS)
    shown = explanation.order(top)
    left_out = len(explanation.words) - len(kept)
    times = [str(i + 1) for i in kept]
    if explanation.seconds is not None:
        times = [f"{explanation.seconds[i]:.1f} s" for i in kept]
    return clip_picture(
        path,
        explanation.pictures[kept],
        [explanation.words[i][0] for i in kept],
        explanation.confidence[kept],
        explanation.scores,
        explanation.labels,
        None,
        title=title or f"{file_title(explanation.video)}: {short(explanation.label)}",
        top=top,
        times=times,
        note="a row sums to 1"
        + (f" over the {len(explanation.words)} frames, {len(kept)} are shown" if left_out else ""),
        brightest=float(explanation.confidence[np.ix_(kept, shown)].max()) or 1.0,
    )


@contextlib.contextmanager
def drawing(
    path: Path | None, width: float, height: float, texts: Iterable[str]
) -> Iterator[Figure]:
    """A white figure, in inches, with fonts for its texts; saved when the block ends."""
    with figures.drawing(width, height, texts) as figure:
        yield figure
        if path is None:
            return
        metadata = {_MAKER[path.suffix]: MADE_BY} if path.suffix in _MAKER else None
        figures.save(figure, path, metadata=metadata, tight=True)


def file_title(video: str) -> str:
    """The name of a file for the title of a figure, shortened."""
    return short(Path(video).name, 60)


def _lines(word: str) -> str:
    """At most three lines, if possible a word each: names are long, and frames are narrow."""
    word = printable(word[:_WORD])
    lines = word.split(" ")
    if len(lines) > 3 or max(map(len, lines)) > 14:
        lines = textwrap.wrap(word, 14) or [""]
    if len(lines) > 3:
        lines = [*lines[:2], short(lines[2], 13).rstrip("…") + "…"]
    return "\n".join(lines)


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
        text = f"{value:.2f}".lstrip("0") or "0"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=ink)
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
