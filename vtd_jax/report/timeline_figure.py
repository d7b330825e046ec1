"""A figure of a long video: its pictures, and its segments below them."""

from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from vtd_jax.durations import clock
from vtd_jax.figures import short
from vtd_jax.predict.results import Timeline
from vtd_jax.report.clip_figure import BLUE, FAINT, INK, drawing, file_title
from vtd_jax.report.html import evenly, tick_step

_PICTURES = 12


def timeline_figure(
    path: Path | None, timeline: Timeline, *, top: int = 12, title: str = ""
) -> Figure:
    """Draws a timeline for a paper as PNG, PDF or SVG, by the suffix; whole or not at all.

    Rows are labels with segments, longest total time first. Segments with a higher score are
    darker.

    Args:
      path: of the file; None only returns the figure.
      timeline: to draw.
      top: most labels shown.
      title: line above; the video's name for "".
    """
    seconds: dict[str, float] = {}
    for segment in timeline.segments:
        seconds[segment.label] = seconds.get(segment.label, 0.0) + segment.end - segment.start
    labels = sorted(seconds, key=lambda label: -seconds[label])[:top]
    title = title or file_title(timeline.video)
    rows = 0.27 * max(1, len(labels))
    with drawing(path, 10, 1.2 + rows, [title, *labels]) as figure:
        grid = figure.add_gridspec(
            2, 1, height_ratios=[0.66, rows], hspace=0.06 / (0.33 + rows / 2), top=0.9, bottom=0.1
        )
        above = figure.add_subplot(grid[0])
        above.set_title(title, color=INK, fontsize=11, pad=8)
        _pictures(above, timeline)
        _lanes(figure.add_subplot(grid[1]), timeline, labels)
    return figure


def _pictures(axes, timeline):
    """Draws evenly spaced pictures, each over its part of the time axis."""
    kept, height = evenly(len(timeline.pictures), _PICTURES), 1.0
    width = timeline.duration / len(kept)
    for n, i in enumerate(kept):
        axes.imshow(
            timeline.pictures[i],
            extent=(n * width, (n + 0.96) * width, 0, height),
            aspect="auto",
            interpolation="nearest",
        )
    axes.set_xlim(0, timeline.duration)
    axes.set_ylim(0, height)
    axes.set_axis_off()


def _lanes(axes, timeline, labels):
    for row, label in enumerate(labels):
        mine = [segment for segment in timeline.segments if segment.label == label]
        colors = [to_rgba(BLUE, 0.35 + 0.65 * segment.score) for segment in mine]
        spans = [(segment.start, segment.end - segment.start) for segment in mine]
        axes.broken_barh(spans, (row - 0.35, 0.7), facecolors=colors, linewidth=0)
    axes.set_xlim(0, timeline.duration)
    axes.set_ylim(max(1, len(labels)) - 0.5, -0.5)
    axes.set_yticks(range(len(labels)), [short(label) for label in labels], fontsize=8, color=INK)
    ticks = np.arange(0, timeline.duration, tick_step(timeline.duration, 10))
    texts = [clock(float(t), hours=timeline.duration >= 3600) for t in ticks]
    axes.set_xticks(ticks, texts, fontsize=7, color=FAINT)
    axes.tick_params(length=0)
    axes.set_xlabel("time; darker is a higher score", fontsize=8, color=INK)
    for side in axes.spines.values():
        side.set_color(FAINT)
        side.set_linewidth(0.6)
