"""One clip in words: its frames, the code that names each of them, and how much each counts for each class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vtd_jax.files import replacing

_INK, _FAINT, _GOOD, _BAD = "#1f2933", "#9aa5b1", "#1b7f4d", "#b3261e"


def clip_picture(
    path: Path,
    frames: UInt8[np.ndarray, "t h w 3"],
    words: Sequence[str],
    confidence: Float[np.ndarray, "t k"],
    scores: Float[np.ndarray, " k"],
    names: Sequence[str],
    label: Int[np.ndarray, ""] | int,
    *,
    title: str,
    top: int = 5,
) -> None:
    """Draws a clip's discretization as a PNG (or PDF, SVG by the path's ending); the file appears when it is whole.

    Args:
      path: where to.
      frames: the T frames that the model saw.
      words: T names, the code nearest to each frame.
      confidence: `[T, K]`, sums to 1 over frames.
      scores: class probabilities, 0..1.
      names: the K class names.
      label: the clip's class.
      title: one line above.
      top: classes shown, best first; the clip's own is always among them.
    """
    shown = list(np.argsort(-scores)[:top])
    if label not in shown:
        shown[-1] = label
    figure = Figure(figsize=(1.15 * len(frames) + 4.2, 1.6 + 0.42 * len(shown)), dpi=130, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        2, 2, width_ratios=[len(frames), 2.2], height_ratios=[1.5, 0.45 * len(shown)], hspace=0.42, wspace=0.04
    )
    figure.suptitle(title, color=_INK, fontsize=11, x=0.5, y=0.99)
    _frames(figure, grid[0, 0].subgridspec(1, len(frames), wspace=0.06), frames, words, names[label])
    heat = figure.add_subplot(grid[1, 0])
    _heat(heat, confidence[:, shown].T, [names[k] for k in shown], names[label])
    bars = figure.add_subplot(grid[1, 1])
    _bars(bars, scores[shown])
    with replacing(path) as part:
        figure.savefig(part, bbox_inches="tight")


def _frames(figure, grid, frames, words, truth):
    for i, (frame, word) in enumerate(zip(frames, words, strict=True)):
        axes = figure.add_subplot(grid[0, i])
        axes.imshow(frame, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        color = _GOOD if word == truth else _BAD
        # a word a line: compositional names are long, and frames are narrow
        axes.set_xlabel(word.replace(" ", "\n"), fontsize=7.5, color=color, labelpad=3)
        for side in axes.spines.values():
            side.set_color(color)
            side.set_linewidth(1.6)


def _heat(axes, values, names, truth):
    axes.imshow(values, aspect="auto", cmap="viridis", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(values):
        ink = "white" if value < 0.6 else "black"
        axes.text(column, row, f"{value:.2f}".lstrip("0") or "0", ha="center", va="center", fontsize=7, color=ink)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    for tick, name in zip(axes.get_yticklabels(), names, strict=True):
        tick.set_color(_GOOD if name == truth else _INK)
    axes.set_xticks(range(values.shape[1]), range(1, values.shape[1] + 1), fontsize=7, color=_FAINT)
    axes.set_xlabel("frame: its confidence for each class (a row sums to 1)", fontsize=8, color=_INK)
    axes.tick_params(length=0)


def _bars(axes, scores):
    rows = np.arange(len(scores))
    axes.barh(rows, scores, color="#3b6ea8", height=0.6)
    for row, score in zip(rows, scores, strict=True):
        axes.text(score + 0.03, row, f"{100 * score:.0f} %", va="center", fontsize=8, color=_INK)
    axes.set_ylim(len(scores) - 0.5, -0.5)
    axes.set_xlim(0, 1.3)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("class score", fontsize=8, color=_INK)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
