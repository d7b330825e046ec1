"""How frames of any size become square: as the release does it, or as CLIP's images were made."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from vtd_jax.fields import check_choice
from vtd_jax.video import augment
from vtd_jax.video.scaling.resample import SUPPORT, Axis, Frames, resample

PREPROCESS = ("release", "clip")
# sides above this are averaged first where whole frames are squashed: no video has such, and a
# filter along them would take memory without end
_LONGEST = 16_384

Clip = UInt8[np.ndarray, "t r r 3"]


@dataclass(frozen=True)
class Fit:
    """How frames are scaled and cropped (docs/method.md, section 6).

    Attributes:
      preprocess: "release": bilinear without smoothing, short side `round(R * 256 / 224)`, middle;
        "clip": as Pillow (before 12.2) and torchvision prepare images for CLIP: smoothed, short
        side R, middle.
      squash: whether whole frames are scaled to a square instead, for a CLIP whose images were.
      interpolation: of "clip": "bicubic" (OpenAI's) or "bilinear".
    """

    preprocess: str = "release"
    squash: bool = False
    interpolation: str = "bicubic"

    def __post_init__(self):
        check_choice("preprocess", self.preprocess, PREPROCESS)
        check_choice("interpolation", self.interpolation, tuple(SUPPORT))

    @property
    def is_release(self) -> bool:
        """Whether frames are scaled as the release does it."""
        return self.preprocess == "release"

    @property
    def key(self) -> tuple[str, ...]:
        """What distinguishes other ways than the release's, for fingerprints; () for that one."""
        squash = ("squash",) if self.squash else ()
        return squash if self.is_release else (*squash, self.preprocess, self.interpolation)

    def describe(self, size: int) -> str:
        """The way in words, for tables and pages.

        Args:
          size: R.
        """
        if self.is_release:
            short, how = augment.crop_short_side(size), "unsmoothed bilinear"
        else:
            short, how = size, f"smoothed {self.interpolation}"
        place = "squashed to a square" if self.squash else f"short side {short}, crop {size}"
        return f"{self.preprocess}: {how}, {place}"

    def views(self, frames: Frames, size: int, views: int = 1) -> UInt8[np.ndarray, "v t r r 3"]:
        """Crops for evaluation.

        Args:
          frames: of one size.
          size: R, side of the crops.
          views: 1 = the middle; 3 = left (or top), right (or bottom) and middle of the long side,
            in this order, from a short side of R.
        """
        if self.is_release:
            return augment.spatial_views(np.asarray(frames), size, views, self.squash)
        augment.check_views(views, self.squash)
        if self.squash:
            return self._squashed(frames, size)[None]
        height, width = frames[0].shape[:2]
        high, wide = clip_size(height, width, size)
        found = np.empty((views, len(frames), size, size, 3), np.uint8)
        for view, share in zip(found, (0.5,) if views == 1 else (0.0, 1.0, 0.5)):
            # Python rounds halves to even, as torchvision's crop in the middle does
            top, left = round((high - size) * share), round((wide - size) * share)
            rows = Axis(height, height / high, top, size)
            columns = Axis(width, width / wide, left, size)
            resample(frames, rows, columns, self.interpolation, view)
        return found

    def resized(self, height: int, width: int, size: int) -> tuple[int, int]:
        """Height and width of frames before a training crop of `augment.Draw.box`."""
        return augment.short_side_size(height, width, augment.crop_short_side(size))

    def crop(self, frames: Frames, box: tuple[int, int, int, int], size: int) -> Clip:
        """A box of frames of `resized`, scaled to R × R.

        With "clip" the box is taken from the frames as they are, so that they are scaled once.
        """
        height, width = frames[0].shape[:2]
        if self.is_release:
            frames = augment.resize_short_side(np.asarray(frames), augment.crop_short_side(size))
            x, y, w, h = box
            boxes = (frame[y : y + h, x : x + w] for frame in frames)
            return np.stack([augment.resize(part, size, size) for part in boxes])
        return resample(frames, *self.axes(height, width, box, size), self.interpolation)

    def axes(
        self, height: int, width: int, box: tuple[int, int, int, int], size: int
    ) -> tuple[Axis, Axis]:
        """What `crop` takes of rows and columns of frames of this size, with "clip"."""
        high, wide = self.resized(height, width, size)
        x, y, w, h = box
        return (
            Axis(height, h / size * height / high, 0, size, y * height / high),
            Axis(width, w / size * width / wide, 0, size, x * width / wide),
        )

    def _squashed(self, frames: Frames, size: int) -> Clip:
        height, width = (min(side, _LONGEST) for side in frames[0].shape[:2])
        if frames[0].shape[:2] != (height, width):
            frames = [cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA) for f in frames]
        rows, columns = (Axis(side, side / size, 0, size) for side in (height, width))
        return resample(frames, rows, columns, self.interpolation)


class Whole(Fit):
    """Frames as they are, neither scaled nor cropped; `size` has no meaning."""

    def views(self, frames: Frames, size: int, views: int = 1) -> UInt8[np.ndarray, "v t h w 3"]:
        """The frames, in one view."""
        return np.stack(list(frames))[None]


def clip_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width once the short side is `short_side`; the long one is rounded down."""
    short, long = sorted((height, width))
    scaled = int(short_side * long / short)
    return (short_side, scaled) if height <= width else (scaled, short_side)


RELEASE = Fit()
