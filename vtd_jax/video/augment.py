"""Resizing, cropping and colour changes of uint8 clips (docs/method.md, sections 5 and 6)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from jaxtyping import UInt8

from vtd_jax.errors import UserError

# short side before a crop of R, as 256 is to 224
SHORT_SIDE_RATIO = 256 / 224


@dataclass(frozen=True)
class Augment:
    """Training augmentation; the defaults are the release's.

    Attributes:
      enabled: off means the centre crop of evaluation.
      scales: sides of the multi-scale crop, as shares of the short side.
      scale_gap: how many of the crop's scales its width and height may lie apart.
      flip: probability of a horizontal flip (turn it off where left and right matter).
      jitter: probability of colour jitter.
      brightness, contrast, saturation: s, where factors of the jitter are drawn from
        [max(0, 1 - s), 1 + s].
      hue: shift drawn from [-hue, hue], in turns of the colour circle, at most 0.5.
      per_frame_jitter: one draw of the jitter for each frame (release) or one for the clip.
      grey: probability of turning the clip grey.
    """

    enabled: bool = True
    scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66)
    scale_gap: int = 1
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    per_frame_jitter: bool = True
    grey: float = 0.2

    def __post_init__(self):
        object.__setattr__(self, "scales", tuple(float(scale) for scale in self.scales))
        for name in ("flip", "jitter", "grey"):
            _check_range(name, getattr(self, name), 1.0)
        for name in ("brightness", "contrast", "saturation"):
            _check_range(name, getattr(self, name), float("inf"))
        _check_range("hue", self.hue, 0.5)
        if not self.scales or not all(0 < scale <= 1 for scale in self.scales):
            raise UserError(
                f"augment.scales={self.scales}: expected shares of the short side, above 0, at "
                "most 1"
            )
        if self.scale_gap < 0:
            raise UserError(f"augment.scale_gap={self.scale_gap}: expected 0 or more")


def _check_range(name: str, value: float, high: float) -> None:
    if not 0 <= value <= high:
        raise UserError(f"augment.{name}={value}: expected a number from 0 to {high}")


@dataclass(frozen=True)
class Jitter:
    """One draw of colour jitter: factors (1 = no change), hue shift in turns, order of steps.

    `order` permutes 0 brightness, 1 contrast, 2 saturation, 3 hue.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float
    order: tuple[int, ...]


@dataclass(frozen=True)
class Draw:
    """Everything random about one augmented clip.

    Attributes:
      box: x, y, width, height of the crop, in pixels of the resized clip.
      flip: mirror left and right.
      jitters: none, one for the clip, or one a frame.
      grey: turn grey, after the jitter.
    """

    box: tuple[int, int, int, int]
    flip: bool = False
    jitters: tuple[Jitter, ...] = field(default=())
    grey: bool = False


def draw_augment(
    augment: Augment, height: int, width: int, frames: int, rng: np.random.Generator
) -> Draw:
    """Draws one augmentation for a clip whose short side has been resized already.

    Args:
      augment: strengths and probabilities.
      height, width: of the resized frames.
      frames: frames in the clip.
      rng: the only source of randomness.
    """
    boxes = crop_boxes(height, width, augment.scales, augment.scale_gap)
    box = boxes[rng.integers(len(boxes))]
    flip = bool(rng.random() < augment.flip)
    jitters = ()
    if rng.random() < augment.jitter:
        count = frames if augment.per_frame_jitter else 1
        jitters = tuple(_draw_jitter(augment, rng) for _ in range(count))
    return Draw(box, flip, jitters, bool(rng.random() < augment.grey))


def _draw_jitter(augment: Augment, rng: np.random.Generator) -> Jitter:
    strengths = (augment.brightness, augment.contrast, augment.saturation)
    factors = [float(rng.uniform(max(0.0, 1 - s), 1 + s)) for s in strengths]
    hue = float(rng.uniform(-augment.hue, augment.hue))
    return Jitter(*factors, hue, tuple(int(step) for step in rng.permutation(4)))


def crop_boxes(
    height: int, width: int, scales: Sequence[float], gap: int
) -> list[tuple[int, int, int, int]]:
    """Every box `(x, y, width, height)` of the multi-scale crop; one is drawn with equal chances.

    Sides are `floor(scale * short side)`, width and height at most `gap` scales apart; positions
    are the four corners and the centre. The release rounds corner offsets down to multiples of
    four; here corners are exact.
    """
    sides = [max(1, int(min(height, width) * scale)) for scale in scales]
    boxes = []
    for i, h in enumerate(sides):
        for j, w in enumerate(sides):
            if abs(i - j) <= gap:
                right, low = width - w, height - h
                corners = [(0, 0), (right, 0), (0, low), (right, low), (right // 2, low // 2)]
                boxes += [(x, y, w, h) for x, y in corners]
    return boxes


def apply_augment(
    frames: UInt8[np.ndarray, "t h w 3"], draw: Draw, size: int
) -> UInt8[np.ndarray, "t r r 3"]:
    """Crop, resize to `size` x `size` (bilinear), flip, colour jitter, grey: in this order."""
    x, y, w, h = draw.box
    clip = np.empty((len(frames), size, size, 3), np.uint8)
    for i, frame in enumerate(frames):
        # crop before resizing, so that only the box is scaled
        clip[i] = resize(frame[y : y + h, x : x + w], size, size)
    return apply_changes(clip, draw)


def apply_changes(clip: UInt8[np.ndarray, "t r r 3"], draw: Draw) -> UInt8[np.ndarray, "t r r 3"]:
    """Flip, colour jitter, grey of a clip that is cropped, in this order; changes it in place."""
    for i, image in enumerate(clip):
        if draw.flip:
            image = cv2.flip(image, 1)
        if draw.jitters:
            image = apply_jitter(image, draw.jitters[i % len(draw.jitters)])
        clip[i] = _grey_rgb(image) if draw.grey else image
    return clip


def apply_jitter(image: UInt8[np.ndarray, "h w 3"], jitter: Jitter) -> UInt8[np.ndarray, "h w 3"]:
    """Colour jitter of one image, rounded to uint8 after every step, as on images in torchvision.

    Brightness scales; contrast blends with the mean grey of the image; saturation blends with each
    pixel's grey (ITU-R 601); hue turns the colour circle in 256 steps.
    """
    for step in jitter.order:
        if step == 0:
            image = _blend_constant(image, 0.0, jitter.brightness)
        elif step == 1:
            grey = _grey(image)
            # the sum of whole numbers is exact, and faster than NumPy's mean
            image = _blend_constant(
                image, float(int(cv2.sumElems(grey)[0] / grey.size + 0.5)), jitter.contrast
            )
        elif step == 2:
            image = cv2.addWeighted(
                image, jitter.saturation, _grey_rgb(image), 1 - jitter.saturation, 0
            )
        else:
            image = _turn_hue(image, round(jitter.hue * 256) % 256)
    return image


def _turn_hue(image: np.ndarray, steps: int) -> np.ndarray:
    """Turns the colour circle by `steps` / 256."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    # whole rows are added, wrapping round: a strided channel takes five times as long
    rows = hsv.reshape(len(hsv), -1)
    np.add(rows, np.tile(np.array([steps, 0, 0], np.uint8), image.shape[1]), out=rows)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def _blend_constant(image: np.ndarray, constant: float, factor: float) -> np.ndarray:
    """`factor * image + (1 - factor) * constant`, rounded and clipped, by a lookup table."""
    table = np.rint(np.arange(256) * factor + constant * (1 - factor)).clip(0, 255).astype(np.uint8)
    return cv2.LUT(image, table)


def _grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)


def _grey_rgb(image: np.ndarray) -> np.ndarray:
    """The grey image in three equal channels."""
    return cv2.cvtColor(_grey(image), cv2.COLOR_GRAY2RGB)


def short_side_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width once the short side is `short_side`, rounded to whole pixels."""
    short = min(height, width)
    return (int(height * short_side / short + 0.5), int(width * short_side / short + 0.5))


def resize(
    image: UInt8[np.ndarray, "a b 3"], height: int, width: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Bilinear resize without antialiasing, as in the release; a no-op at the same size."""
    if image.shape[:2] == (height, width):
        return image
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def resize_short_side(
    frames: UInt8[np.ndarray, "t a b 3"], short_side: int
) -> UInt8[np.ndarray, "t h w 3"]:
    """Scales a clip so that its short side is `short_side` pixels."""
    height, width = short_side_size(*frames.shape[1:3], short_side)
    if frames.shape[1:3] == (height, width):
        return frames
    return np.stack([resize(frame, height, width) for frame in frames])


def centre_crop(frames: UInt8[np.ndarray, "t h w 3"], size: int) -> UInt8[np.ndarray, "t r r 3"]:
    """The middle `size` x `size` pixels; the clip must be at least that large."""
    y, x = (frames.shape[1] - size) // 2, (frames.shape[2] - size) // 2
    return frames[:, y : y + size, x : x + size]


def crop_short_side(size: int) -> int:
    """Short side before a training or centre crop: `round(size * 256 / 224)`."""
    return round(size * SHORT_SIDE_RATIO)


def spatial_views(
    frames: UInt8[np.ndarray, "t h w 3"], size: int, views: int, squash: bool = False
) -> UInt8[np.ndarray, "v t r r 3"]:
    """Crops for evaluation.

    Args:
      frames: a clip of any size.
      size: side of the crops.
      views: 1 = short side `round(size * 256 / 224)`, centre crop; 3 = short side `size`, crops at
        the left (or top), right (or bottom) and middle of the long side, in this order.
      squash: one view, of whole frames scaled to `size` × `size`: for a CLIP whose images were.
    """
    check_views(views, squash)
    if squash:
        return np.stack([resize(frame, size, size) for frame in frames])[None]
    if views == 1:
        return centre_crop(resize_short_side(frames, crop_short_side(size)), size)[None]
    frames = resize_short_side(frames, size)
    y, x = frames.shape[1] - size, frames.shape[2] - size
    offsets = [(0, 0), (y, x), (y // 2, x // 2)]
    return np.stack([frames[:, a : a + size, b : b + size] for a, b in offsets])


def check_views(views: int, squash: bool = False) -> None:
    """Raises UserError unless `views` is 1 or 3, or 1 where frames are squashed."""
    if squash and views != 1:
        raise UserError(
            f"spatial_views={views}: this CLIP sees whole frames, squashed to a square, of which "
            "there is 1 view: set 1"
        )
    if views not in (1, 3):
        raise UserError(f"spatial_views={views}: expected 1 (centre) or 3 (left, right, middle)")
