"""Applies the display matrix that phones and cameras store, as `ffmpeg` and `ffplay` do."""

import math
import struct
from dataclasses import dataclass
from fractions import Fraction

import av.filter
import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

# kinds of side data in FFmpeg, rounded up; the installed PyAV may not know the newest
_SIDE_DATA = 64


@dataclass(frozen=True)
class Orientation:
    """What turns a stored frame into the one that is shown, in this order.

    Attributes:
      transpose: exchange rows and columns.
      flip_rows, flip_columns: upside down, left to right.
      angle: whole degrees clockwise where that is no right angle; FFmpeg turns the picture inside
        its borders.
    """

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False
    angle: int = 0

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what is shown."""
        return (width, height) if self.transpose else (height, width)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Turns an image `[h, w, 3]` by right angles and mirrors it."""
        if self.transpose:
            image = image.transpose(1, 0, 2)
        rows, columns = (
            slice(None, None, -1 if flip else 1) for flip in (self.flip_rows, self.flip_columns)
        )
        return np.ascontiguousarray(image[rows, columns])


def orientation(frame: av.VideoFrame) -> Orientation:
    """Reads a frame's display matrix; an invalid or missing one changes nothing."""
    matrix = _display_matrix(frame)
    return Orientation() if matrix is None else from_matrix(matrix)


def from_matrix(m: tuple[int, ...]) -> Orientation:
    """Decodes the 9 numbers of a display matrix; angles are rounded to whole degrees."""
    columns, rows = math.hypot(m[0], m[3]), math.hypot(m[1], m[4])
    if not columns or not rows:
        return Orientation()
    degrees = math.degrees(math.atan2(m[1] / rows, m[0] / columns))
    # C's round: halves away from zero
    angle = int(math.copysign(math.floor(abs(degrees) + 0.5), degrees)) % 360
    if angle == 0:
        return Orientation(flip_rows=m[4] < 0)
    if angle == 1:
        # FFmpeg turns by more than one degree only; by -1, which is 359, it does
        return Orientation()
    if angle == 90:
        return Orientation(transpose=True, flip_columns=m[3] <= 0)
    if angle == 180:
        return Orientation(flip_rows=m[4] < 0, flip_columns=m[0] < 0)
    if angle == 270:
        return Orientation(transpose=True, flip_rows=True, flip_columns=m[3] < 0)
    return Orientation(angle=angle)


def shown_shape(frame: av.VideoFrame) -> tuple[int, int]:
    """Height and width of a frame as it is shown."""
    return orientation(frame).shape(frame.height, frame.width)


def shown(frame: av.VideoFrame, converter: VideoReformatter) -> UInt8[np.ndarray, "h w 3"]:
    """A frame as it is shown, in RGB."""
    turn = orientation(frame)
    if turn.angle:
        frame = _filtered(frame, [("rotate", f"{turn.angle}*PI/180")])
    # one converter for all frames: each frame would set up its own
    return turn.apply(converter.reformat(frame, format="rgb24").to_ndarray())


def _display_matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
    try:
        # `frame.side_data` makes a reference cycle, whose memory waits for the garbage collector
        data = SideDataContainer(frame).get("DISPLAYMATRIX")
    except ValueError:
        # PyAV lists nothing where it does not know the name of one
        known = {kind.value for kind in Type}
        unknown = [
            ("sidedata", f"mode=delete:type={i}") for i in range(_SIDE_DATA) if i not in known
        ]
        data = SideDataContainer(_filtered(frame, unknown)).get("DISPLAYMATRIX")
    return None if data is None else struct.unpack("=9i", bytes(data))


def _filtered(frame: av.VideoFrame, filters: list[tuple[str, str]]) -> av.VideoFrame:
    """The frame after some of FFmpeg's filters."""
    graph = av.filter.Graph()
    clock = frame.time_base or Fraction(1, av.time_base)
    source = last = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=clock
    )
    for name, args in [*filters, ("buffersink", "")]:
        following = graph.add(name, args)
        last.link_to(following)
        last = following
    graph.configure()
    source.push(frame)
    return last.pull()
