"""Resizing as Pillow does it: bilinear or bicubic, smoothed where an image shrinks.

Pillow's own takes three to four times as long, and computes what a crop throws away. Here sums are
products of float32 matrices; those that lie near a half are computed again in whole numbers.
"""

import functools
import math
import threading
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float64, Int64, UInt8

# of one size
Frames = Sequence[UInt8[np.ndarray, "a b 3"]] | UInt8[np.ndarray, "t a b 3"]
# pixels to either side that a filter reaches at its own size
SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}
# weights are whole numbers of 2**-22, as Pillow rounds them
ONE = 1 << 22
# most results of one product; and most multiplications, as more would start BLAS's threads, which
# get in each other's way where several clips are read at once
_BLOCK, _MOST_PRODUCTS = 12, 2**18
# most numbers of a band of rows, so that they stay in a core's cache
_BAND = 2**18


class Axis(NamedTuple):
    """Pixels that are wanted along one side of a scaled image.

    Attributes:
      source: pixels of the image along this side.
      scale: pixels of the image to one of the result.
      first: number of the first wanted one, where 0 begins at `start`.
      count: how many are wanted.
      start: place in the image, in its pixels.
    """

    source: int
    scale: float
    first: int
    count: int
    start: float = 0.0

    @property
    def is_copy(self) -> bool:
        """Whether the wanted pixels are pixels of the image."""
        return self.scale == 1 and self.start == 0


def resample(
    frames: Frames,
    rows: Axis,
    columns: Axis,
    interpolation: str = "bicubic",
    out: UInt8[np.ndarray, "t h w 3"] | None = None,
) -> UInt8[np.ndarray, "t h w 3"]:
    """The wanted part of every frame, scaled: what Pillow's `resize` gives, to the last bit.

    First along the rows, rounded to uint8, then along the columns, as Pillow before 12.2 does with
    every image; later ones shrink tall images (13: above 2:1) the other way round.

    Args:
      frames: RGB.
      rows, columns: what is wanted, from top to bottom and from left to right.
      interpolation: "bicubic" (a = -0.5) or "bilinear"; the filter widens where a frame shrinks.
      out: where to write, in rows without gaps; None for a new array.
    """
    down, across = (
        None if axis.is_copy else _plan(axis, interpolation) for axis in (rows, columns)
    )
    top, bottom = (rows.first, rows.first + rows.count) if down is None else down.span
    if out is None:
        out = np.empty((len(frames), rows.count, columns.count, 3), np.uint8)
    for frame, result in zip(frames, out):
        image = np.ascontiguousarray(frame[top:bottom])
        if across is None:
            image = image[:, columns.first : columns.first + columns.count]
        else:
            image = _across(image, across)
        if down is None:
            result[...] = image
        else:
            _products(image.reshape(len(image), -1), down, result.reshape(rows.count, -1))
    return out


def plain(
    image: UInt8[np.ndarray, "a b 3"], rows: Axis, columns: Axis, interpolation: str = "bicubic"
) -> UInt8[np.ndarray, "h w 3"]:
    """What `resample` computes, as Pillow writes it, in whole numbers."""
    out = image
    for side, axis in ((1, columns), (0, rows)):
        first, weights = kernels(axis, interpolation)
        # weights beyond the end are 0
        places = np.minimum(first[:, None] + np.arange(weights.shape[1]), axis.source - 1)
        pixels = np.moveaxis(out, side, 0)[places].astype(np.int64)
        sums = np.einsum("nt,nt...->n...", weights, pixels)
        out = np.moveaxis(((sums + ONE // 2) >> 22).clip(0, 255).astype(np.uint8), 0, side)
    return np.ascontiguousarray(out)


def kernels(
    axis: Axis, interpolation: str
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, "n t"]]:
    """For every wanted pixel the first pixel that it is made of, and the weights from there on.

    Weights are multiples of 2**-22 and sum to about 1; those beyond the image are 0.
    """
    wide = max(axis.scale, 1.0)
    reach = SUPPORT[interpolation] * wide
    centres = axis.start + (axis.first + np.arange(axis.count) + 0.5) * axis.scale
    first = np.maximum((centres - reach + 0.5).astype(np.int64), 0)
    end = np.minimum((centres + reach + 0.5).astype(np.int64), axis.source)
    taps = np.arange(max(1, int((end - first).max())))
    weights = _FILTERS[interpolation]((first[:, None] + taps - centres[:, None] + 0.5) / wide)
    weights[taps >= (end - first)[:, None]] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    # halves away from zero
    return first, np.trunc(weights * ONE + np.copysign(0.5, weights)).astype(np.int64)


def _bicubic(x: Float64[np.ndarray, "n t"]) -> Float64[np.ndarray, "n t"]:
    """Keys' cubic with a = -1/2."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((x - 5) * x + 8) * x - 4
    return np.where(x < 1, near, np.where(x < 2, -0.5 * far, 0.0))


def _bilinear(x: Float64[np.ndarray, "n t"]) -> Float64[np.ndarray, "n t"]:
    return np.maximum(1 - np.abs(x), 0.0)


_FILTERS = {"bilinear": _bilinear, "bicubic": _bicubic}


class _Plan(NamedTuple):
    """An axis as products of small matrices.

    Attributes:
      span: the first pixel of the image that is needed, and the one behind the last.
      count: pixels of the result.
      parts: first result of a product, its first and its last pixel from the span's start, and the
        weights, `[results, pixels]`.
      places, weights: `[taps, count]`, pixels from the span's start, and their whole weights.
      doubt: float32 sums are nearer than this to the true ones.
    """

    span: tuple[int, int]
    count: int
    parts: tuple[tuple[int, int, int, np.ndarray], ...]
    places: np.ndarray
    weights: np.ndarray
    doubt: float


@functools.lru_cache(maxsize=128)
def _plan(axis: Axis, interpolation: str) -> _Plan:
    first, weights = kernels(axis, interpolation)
    last = np.minimum(first + weights.shape[1], axis.source)
    start, end = int(first[0]), int(last[-1])
    parts = []
    # of as many columns as the result of a usual tower is wide
    room = _MOST_PRODUCTS / (3 * max(axis.count, 224) * max(axis.scale, 1.0))
    # a block of n results is made of about (n + 2 · support) · scale pixels
    block = min(
        _BLOCK, max(1, int(math.sqrt(room + SUPPORT[interpolation] ** 2) - SUPPORT[interpolation]))
    )
    for begin in range(0, axis.count, block):
        rows = slice(begin, begin + block)
        low, high = int(first[begin]), int(last[rows][-1])
        matrix = np.zeros((len(first[rows]), high - low + weights.shape[1]), np.float32)
        places = (first[rows] - low)[:, None] + np.arange(weights.shape[1])
        np.put_along_axis(matrix, places, weights[rows] / ONE, axis=1)
        matrix = np.ascontiguousarray(matrix[:, : high - low])
        parts.append((begin, low - start, high - start, matrix))
    # a sum of n products is off by at most n + 1 roundings of their absolute values' sum; and one
    # more where the doubt is added
    greatest = 255 * int(np.abs(weights).sum(axis=1).max()) / ONE
    doubt = (weights.shape[1] + 2) * greatest * 2**-24
    # weights beyond the end are 0
    places = np.minimum(first[:, None] + np.arange(weights.shape[1]), end - 1) - start
    places, weights = np.ascontiguousarray(places.T), np.ascontiguousarray(weights.T)
    return _Plan((start, end), axis.count, tuple(parts), places, weights, doubt)


class _Scratch(threading.local):
    """Arrays that a thread uses again and again: new pages take as long as the arithmetic."""

    def __init__(self):
        self._kept: dict[str, np.ndarray] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """An array without content, valid until the name is taken again."""
        size, there = math.prod(shape), self._kept.get(name)
        if there is None or there.size < size:
            there = self._kept[name] = np.empty(size, dtype)
        return there[:size].reshape(shape)


_SCRATCH = _Scratch()


def _across(image: np.ndarray, plan: _Plan) -> np.ndarray:
    """Scales every row; a band of rows at a time. The result is valid until the next call."""
    left, right = plan.span
    flat = image.reshape(len(image), -1)[:, 3 * left : 3 * right]
    out = _SCRATCH.take("across", (len(image), 3 * plan.count), np.uint8)
    step = max(1, _BAND // (3 * max(right - left, plan.count)))
    for top in range(0, len(image), step):
        band = flat[top : top + step]
        # as single numbers, which are turned three times as fast as pixels
        turned = _SCRATCH.take("turned", band.shape[::-1], np.uint8)
        cv2.transpose(band, dst=turned)
        scaled = _SCRATCH.take("scaled", (plan.count, 3 * len(band)), np.uint8)
        _products(turned.reshape(right - left, -1), plan, scaled)
        cv2.transpose(scaled.reshape(3 * plan.count, -1), dst=out[top : top + step])
    return out.reshape(len(image), plan.count, 3)


def _products(rows: np.ndarray, plan: _Plan, out: np.ndarray) -> None:
    """The plan's weighted sums of uint8 rows `[n, m]`, rounded and clipped, into `[count, m]`."""
    numbers = _SCRATCH.take("numbers", rows.shape, np.float32)
    np.copyto(numbers, rows)
    sums = _SCRATCH.take("sums", out.shape, np.float32)
    for begin, low, high, matrix in plan.parts:
        # half the overhead of `matmul`
        np.dot(matrix, numbers[low:high], out=sums[begin : begin + len(matrix)])
    # the conversion takes absolute values
    cv2.threshold(sums, 0, 0, cv2.THRESH_TOZERO, dst=sums)
    cv2.convertScaleAbs(sums, dst=out, beta=plan.doubt)
    below = _SCRATCH.take("below", out.shape, np.uint8)
    cv2.convertScaleAbs(sums, dst=below, beta=-plan.doubt)
    # eight at a time, as few are in doubt
    differs = _SCRATCH.take("differs", (-(-out.size // 8), 8), bool)
    differs[-1] = False
    np.not_equal(below, out, out=differs.reshape(-1)[: out.size].reshape(out.shape))
    if len(eights := np.flatnonzero(differs.view(np.uint64))):
        places, which = np.nonzero(differs[eights])
        _settle(rows, plan, 8 * eights[places] + which, out)


def _settle(rows: np.ndarray, plan: _Plan, doubted: np.ndarray, out: np.ndarray) -> None:
    """Rounds sums that are in doubt once more, in whole numbers; `doubted` numbers them."""
    # not all at once: in flat pictures every sum may be a half
    step, width = max(1, _BAND // len(plan.weights)), out.shape[1]
    numbers, found = rows.reshape(-1), out.reshape(-1)
    for begin in range(0, len(doubted), step):
        some = doubted[begin : begin + step]
        results, columns = np.divmod(some, width)
        pixels = numbers.take(plan.places.take(results, axis=1) * width + columns)
        sums = (plan.weights.take(results, axis=1) * pixels).sum(axis=0)
        found[some] = ((sums + ONE // 2) >> 22).clip(0, 255)
