"""A picture of one video in training and evaluation: sampled frames, augmentations, views."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vtd_jax import figures
from vtd_jax.video.augment import Draw
from vtd_jax.video.batches import BatchSpec, draw_train_clip, eval_views
from vtd_jax.video.records import Example
from vtd_jax.video.sampling import test_indices

_INK, _FAINT, _BOX = "#1f2933", "#6b7785", "#ffdd33"
# inches: width of the text; heights of the title, of the number below a frame, of a row's text
_TEXT, _HEAD, _NUMBER, _LINES = 1.95, 0.62, 0.26, 0.92
_NARROW = 6.0  # least width: room for the heading above a single frame


@dataclass(frozen=True)
class ClipRow:
    """One row of the picture.

    Attributes:
      heading, details: what it is, and how it was drawn, in lines.
      clip: the T frames for the model.
      indices: of these frames in the video.
      whole: the first of them before it was cropped.
      box: x, y, width, height of the crop in `whole`; None shows no box.
    """

    heading: str
    details: tuple[str, ...]
    clip: UInt8[np.ndarray, "t r r 3"]
    indices: Int[np.ndarray, " t"]
    whole: UInt8[np.ndarray, "h w 3"]
    box: tuple[int, int, int, int] | None = None


def clip_rows(
    example: Example, spec: BatchSpec, index: int, epochs: Sequence[int]
) -> list[ClipRow]:
    """Clips of one video: that of evaluation, training clips, and three spatial views, which
    squashed frames do not have.

    Args:
      example: the video.
      spec: of training; evaluation has its `frames` and `size`.
      index: of the video in its records, on which training draws depend.
      epochs: of the training clips.
    """
    evaluation = replace(spec, kind="eval", temporal_views=1, spatial_views=1)
    # frames of the first temporal view, for the numbers below them
    indices = test_indices(example.num_frames, spec.frames)
    whole = example.frames(indices[:1])[0]
    height, width = whole.shape[:2]
    size = f"{spec.size} × {spec.size}"
    part = f"whole frames to {size}" if spec.fit.squash else f"centre crop {size}"
    lines = ("centres of the segments", part, f"of a video of {width} × {height}")
    clip = eval_views(example, evaluation)[0]
    rows = [ClipRow("evaluation, one view", lines, clip, indices, whole)]
    rows += [_training_row(example, spec, index, epoch) for epoch in epochs]
    if spec.fit.squash:
        # whole frames have no other views
        return rows
    sides = ("left", "right", "middle") if width >= height else ("top", "bottom", "middle")
    views = eval_views(example, replace(evaluation, spatial_views=3))
    for number, (side, clip) in enumerate(zip(sides, views, strict=True), 1):
        lines = (f"spatial view {number} of 3", f"{side} {size}", f"short side {spec.size}")
        rows.append(ClipRow("evaluation, views", lines, clip, indices, whole))
    return rows


def _training_row(example: Example, spec: BatchSpec, index: int, epoch: int) -> ClipRow:
    made = draw_train_clip(example, spec, epoch, index)
    whole, heading = example.frames(made.indices[:1])[0], f"training, epoch {epoch}"
    if made.draw is None:
        return ClipRow(heading, ("centre crop, no augmentation",), made.frames, made.indices, whole)
    # from pixels of the resized frame to those of the stored frame
    scale = np.array(whole.shape[:2]) / made.resized
    x, y, w, h = made.draw.box
    box = (round(x * scale[1]), round(y * scale[0]), round(w * scale[1]), round(h * scale[0]))
    return ClipRow(
        heading, _details(made.draw, made.resized), made.frames, made.indices, whole, box
    )


def _details(draw: Draw, resized: tuple[int, int]) -> tuple[str, ...]:
    """Lines about an augmentation."""
    x, y, width, height = draw.box
    jitter = {0: "no colour jitter", 1: "colour jitter of the clip"}.get(
        len(draw.jitters), "colour jitter frame by frame"
    )
    changes = [jitter, *(["grey"] if draw.grey else []), "flipped" if draw.flip else "not flipped"]
    return (
        f"box {width} × {height} at ({x}, {y})",
        f"of {resized[1]} × {resized[0]}",
        changes[0],
        ", ".join(changes[1:]),
    )


def augmentations_picture(path: Path, rows: Sequence[ClipRow], title: str) -> None:
    """Draws the rows as PNG, PDF or SVG, by the suffix; written whole or not at all.

    Args:
      path: of the file.
      rows: from `clip_rows`.
      title: line above.
    """
    frames = max(len(row.clip) for row in rows)
    cell = min(1.0, max(0.75, 12 / frames))
    # a row is as high as its frames and number, or as its text
    step = max(cell + _NUMBER, _LINES)
    width, height = max(_column(frames, cell) + 0.16, _NARROW), _HEAD + len(rows) * step + 0.05
    texts = [title, *(text for row in rows for text in (row.heading, *row.details))]
    with figures.drawing(width, height, texts, dpi=100) as figure:
        figure.text(0.12 / width, 1 - 0.22 / height, title, fontsize=11, color=_INK, va="center")
        seen = _column(0, cell)
        for text, left in (
            ("first frame, whole", _TEXT),
            ("what the model sees, and the frame's number", seen),
        ):
            figure.text(
                left / width, 1 - 0.5 / height, text, fontsize=7.5, color=_FAINT, va="center"
            )
        for number, row in enumerate(rows):
            _draw_row(figure, row, height - _HEAD - number * step, cell)
        figures.save(figure, path)


def _draw_row(figure: Figure, row: ClipRow, top: float, cell: float) -> None:
    """Text, the uncropped frame with its box, and the clip; `top` in inches from below."""
    width, height = figure.get_size_inches()
    figure.text(
        0.12 / width, top / height, row.heading, fontsize=8, color=_INK, weight="bold", va="top"
    )
    figure.text(
        0.12 / width, (top - 0.19) / height, "\n".join(row.details),
        fontsize=7.5, color=_INK, va="top", linespacing=1.35,
    )  # fmt: skip
    shown = _image(figure, row.whole, (_TEXT, top - cell, 1.33 * cell, cell))
    if row.box is not None:
        x, y, w, h = row.box
        shown.add_patch(
            Rectangle((x - 0.5, y - 0.5), w, h, fill=False, edgecolor=_BOX, linewidth=1.6)
        )
    for column, (frame, index) in enumerate(zip(row.clip, row.indices, strict=True)):
        axes = _image(figure, frame, (_column(column, cell), top - cell, cell, cell))
        axes.set_xlabel(str(index), fontsize=7, color=_FAINT, labelpad=2)


def _column(number: int, cell: float) -> float:
    """Left edge of a column of frames, inches."""
    return _TEXT + 1.4 * cell + number * (cell + 0.04)


def _image(figure: Figure, image: np.ndarray, place: tuple[float, float, float, float]):
    """An image in a rectangle given in inches: left, bottom, width, height."""
    width, height = figure.get_size_inches()
    left, bottom, wide, high = place
    axes = figure.add_axes((left / width, bottom / height, wide / width, high / height))
    axes.imshow(image, interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    return axes
