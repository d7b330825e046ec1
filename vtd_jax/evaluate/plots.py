"""Plots of accuracies: lines over a number of videos or frames, bars of an ablation."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from vtd_jax import figures
from vtd_jax.errors import UserError
from vtd_jax.figures import short

_INK, _FAINT, _GRID = "#1f2933", "#9aa5b1", "#e4e7eb"
# Okabe and Ito's colours, distinct with every kind of colour blindness; markers and dashes are
# distinct in grey, too
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", "--", "-.", ":")
_MOST = 90  # letters of a title, or of a name outside the column of names
_BAR, _BETTER = "#0072b2", "#d55e00"


def lines(
    path: Path, series: Mapping[str, Sequence[tuple[float, float, float]]], **options: Any
) -> None:
    """Saves `line_figure(series, **options)` as PNG or PDF, by the suffix; whole or not at all."""
    _save(line_figure(series, **options), path)


def bars(path: Path, rows: Sequence[tuple[str, float, float]], **options: Any) -> None:
    """Saves `bar_figure(rows, **options)` as PNG or PDF, by the suffix; whole or not at all."""
    _save(bar_figure(rows, **options), path)


def line_figure(
    series: Mapping[str, Sequence[tuple[float, float, float]]],
    *,
    title: str,
    x_label: str,
    y_label: str = "top-1, %",
    log2_x: bool = False,
) -> Figure:
    """Draws a line for each name.

    Args:
      series: name -> points (x, mean, deviation), in any order; a deviation of 0 or nan has no
        error bar.
      title: of the plot.
      x_label, y_label: of the axes.
      log2_x: whether the x axis is logarithmic to base 2.

    Raises:
      UserError: nothing to draw, a mean or x that is not finite, or x <= 0 on a logarithmic axis.
    """
    points = {name: np.array(sorted(found), float).reshape(-1, 3) for name, found in series.items()}
    _check_lines(points, title, log2_x)
    with figures.drawing(
        7.0, 4.2, [title, x_label, y_label, *points], layout="constrained"
    ) as figure:
        axes = _axes(figure, title)
        for place, (name, found) in enumerate(points.items()):
            _line(axes, place, name, found)
        ticks = sorted({float(x) for found in points.values() for x in found[:, 0]})
        if log2_x:
            axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(x_label, color=_INK)
        axes.set_ylabel(y_label, color=_INK)
        axes.grid(True, axis="y", color=_GRID)
        if len(points) > 1 or next(iter(points)):
            axes.legend(frameon=False, labelcolor=_INK, fontsize=10)
    return figure


def bar_figure(
    rows: Sequence[tuple[str, float, float]],
    *,
    title: str,
    x_label: str,
    reference: float | None = None,
    groups: Sequence[str] | None = None,
) -> Figure:
    """Draws a horizontal bar for each row, the first on top.

    Args:
      rows: (name, mean, deviation); a deviation of 0 or nan has no error bar.
      title: of the plot.
      x_label: of the values.
      reference: value of a vertical line, that of the full method; larger bars have another colour.
      groups: of each row; the name of a group is above its first row.

    Raises:
      UserError: nothing to draw, a mean or reference that is not finite, or another number of
        groups than of rows.
    """
    _check_bars(rows, title, reference, groups)
    heights, heads = _places(groups or [""] * len(rows))
    names, means = [name for name, _, _ in rows], np.array([mean for _, mean, _ in rows], float)
    deviations = np.array([deviation for _, _, deviation in rows], float)
    deviations = np.where(np.isfinite(deviations) & (deviations > 0), deviations, 0.0)
    texts = [title, x_label, *names, *(name for _, name in heads)]
    height = 1.2 + 0.27 * (heights[-1] + 1)
    with figures.drawing(7.0, height, texts, layout="constrained") as figure:
        axes = _axes(figure, title)
        better = np.full(len(means), False) if reference is None else means > reference
        colors = [_BETTER if found else _BAR for found in better]
        axes.barh(heights, means, height=0.68, color=colors, zorder=2)
        for place, mean, deviation in zip(heights, means, deviations, strict=True):
            _value(axes, place, mean, deviation)
        axes.set_yticks(heights, [short(name) for name in names])
        for place, name in heads:
            # at the left edge of the names, in the gap above its rows
            axes.annotate(
                short(name, _MOST), (0, place), (4, 0),
                xycoords=("axes fraction", "data"), textcoords="offset points",
                va="center", color=_INK, fontsize=9.5, fontweight="bold",
            )  # fmt: skip
        if reference is not None:
            axes.axvline(reference, color=_INK, linewidth=1.2, linestyle=(0, (4, 3)), zorder=4)
        axes.set_ylim(heights[-1] + 0.6, min(0.0, *heights) - 0.7)
        ends = [0.0, *(means + deviations), *(means - deviations)]
        ends += [] if reference is None else [reference]
        # room for the values beyond the ends
        room = 0.2 * (max(ends) - min(ends) or 1.0)
        axes.set_xlim(min(ends) - room if min(ends) < 0 else 0.0, max(ends) + room)
        axes.set_xlabel(x_label, color=_INK)
        axes.grid(True, axis="x", color=_GRID)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(min(ends) >= 0)
    return figure


def _line(axes: Axes, place: int, name: str, points: np.ndarray) -> None:
    color = _COLORS[place % len(_COLORS)]
    x, mean, deviation = points.T
    axes.plot(
        x, mean, label=short(name, _MOST) or None, color=color,
        marker=_MARKERS[place % len(_MARKERS)], markersize=6,
        linestyle=_DASHES[place // len(_COLORS) % len(_DASHES)], linewidth=2, zorder=3,
    )  # fmt: skip
    known = np.isfinite(deviation) & (deviation > 0)
    if known.any():
        axes.errorbar(
            x[known], mean[known], deviation[known],
            fmt="none", ecolor=color, elinewidth=1.4, capsize=4, zorder=2,
        )  # fmt: skip


def _value(axes: Axes, place: float, mean: float, deviation: float) -> None:
    """A bar's number beyond its end, and its error bar."""
    sign = -1 if mean < 0 else 1
    text = f"{mean:.1f}"
    if deviation:
        axes.errorbar(
            mean, place, xerr=deviation,
            fmt="none", ecolor=_INK, elinewidth=1.2, capsize=3, zorder=3,
        )  # fmt: skip
        text += f" ± {deviation:.1f}"
    axes.annotate(
        text, (mean + sign * deviation, place), (5 * sign, 0), textcoords="offset points",
        ha="left" if sign > 0 else "right", va="center", fontsize=9, color=_INK, zorder=5,
        bbox=dict(boxstyle="square,pad=0.1", facecolor="white", edgecolor="none"),
    )  # fmt: skip


def _places(groups: Sequence[str]) -> tuple[list[float], list[tuple[float, str]]]:
    """Positions of the rows, and of the names of their groups, from the top."""
    heights, heads, at, last = [], [], 0.0, None
    for group in groups:
        if group != last and group:
            at += 0.25 * (last is not None)
            heads.append((at, group))
            at += 0.95
        elif group != last and last is not None:
            at += 0.5
        heights.append(at)
        at, last = at + 1.0, group
    return heights, heads


def _axes(figure: Figure, title: str) -> Axes:
    axes = figure.add_subplot()
    axes.set_title(short(title, _MOST), color=_INK, fontsize=11.5, loc="left", pad=10)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, labelsize=9.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_FAINT)
    return axes


def _save(figure: Figure, path: Path) -> None:
    # neither the time nor matplotlib's version, so that the same numbers make the same file
    pdf = {"CreationDate": None, "Creator": None, "Producer": None}
    metadata = pdf if path.suffix == ".pdf" else {"Software": None}
    figures.save(figure, path, metadata=metadata)


def _check_lines(points: Mapping[str, np.ndarray], title: str, log2_x: bool) -> None:
    if not points:
        raise UserError(f"plot {title!r}: no lines, expected at least one")
    for name, found in points.items():
        if not len(found):
            raise UserError(f"plot {title!r}, line {name!r}: no points, expected at least one")
        if not np.isfinite(found[:, :2]).all():
            raise UserError(
                f"plot {title!r}, line {name!r}: a point is not finite; leave out what is not known"
            )
        if log2_x and found[0, 0] <= 0:
            raise UserError(
                f"plot {title!r}, line {name!r}: x={found[0, 0]:g} on an axis that doubles; set "
                "log2_x=False"
            )


def _check_bars(
    rows: Sequence[tuple[str, float, float]],
    title: str,
    reference: float | None,
    groups: Sequence[str] | None,
) -> None:
    if not rows:
        raise UserError(f"plot {title!r}: no bars, expected at least one")
    for name, mean, _ in rows:
        if not math.isfinite(mean):
            raise UserError(
                f"plot {title!r}, bar {name!r}: {mean} is not finite; leave out what is not known"
            )
    if reference is not None and not math.isfinite(reference):
        raise UserError(f"plot {title!r}: reference {reference} is not finite; leave it out")
    if groups is not None and len(groups) != len(rows):
        raise UserError(
            f"plot {title!r}: {len(groups)} groups of {len(rows)} bars, expected one a bar"
        )
