"""A long video as a figure: what it shows when, over pictures of it."""

from pathlib import Path

import numpy as np

from vtd_jax.explain.picture import BLUE, FAINT, INK, drawing, evenly
from vtd_jax.explain.report_html import clock
from vtd_jax.explain.results import Timeline

_PICTURES = 12


def timeline_figure(path: Path, timeline: Timeline, *, top: int = 12, title: str = "") -> None:
    """A timeline as a figure for a paper: PNG, PDF or SVG by the path's ending, whole or not at all.

    Rows are the labels that have segments, most time first; a segment is darker the higher its score. Text in a PDF is
    text; for letters that matplotlib's own font lacks, see `explanation_figure`.

    Args:
      path: where to.
      timeline: what to draw.
      top: labels shown at most.
      title: one line above; the video's name for "".
    """
    seconds: dict[str, float] = {}
    for segment in timeline.segments:
        seconds[segment.label] = seconds.get(segment.label, 0.0) + segment.end - segment.start
    labels = sorted(seconds, key=lambda label: -seconds[label])[:top]
    title = title or Path(timeline.video).name
    with drawing(path, 10, 1.7 + 0.27 * len(labels), [title, *labels]) as figure:
        grid = figure.add_gridspec(2, 1, height_ratios=[1, 0.27 * max(1, len(labels))], hspace=0.08)
        figure.suptitle(title, color=INK, fontsize=11, x=0.5, y=0.99, parse_math=False)
        _pictures(figure.add_subplot(grid[0]), timeline)
        _lanes(figure.add_subplot(grid[1]), timeline, labels)


def _pictures(axes, timeline):
    """Evenly spaced in time, each over the stretch that it stands for."""
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
    for segment in timeline.segments:
        if segment.label in labels:
            place, length = (segment.start, labels.index(segment.label) - 0.35), segment.end - segment.start
            axes.broken_barh(
                [(place[0], length)], (place[1], 0.7), facecolor=BLUE, alpha=0.35 + 0.65 * segment.score, linewidth=0
            )
    axes.set_xlim(0, timeline.duration)
    axes.set_ylim(max(1, len(labels)) - 0.5, -0.5)
    axes.set_yticks(range(len(labels)), labels, fontsize=8, color=INK, parse_math=False)
    ticks = np.linspace(0, timeline.duration, 7)
    short = timeline.duration < 60
    texts = [clock(float(t), tenths=short, hours=timeline.duration >= 3600) for t in ticks]
    axes.set_xticks(ticks, texts, fontsize=7, color=FAINT)
    axes.tick_params(length=0)
    axes.set_xlabel(f"time; segments score {timeline.threshold:g} or are the best label", fontsize=8, color=INK)
    for side in axes.spines.values():
        side.set_color(FAINT)
        side.set_linewidth(0.6)
