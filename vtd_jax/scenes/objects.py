"""The objects of rendered scenes: colours, textures, outlines, and how one is drawn."""

import itertools
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from jaxtyping import Float

from vtd_jax.errors import UserError

COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "white")
TEXTURES = ("solid", "striped", "dotted", "checkered")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "moon", "arrow")
SUBPIXEL = 4  # bits after the binary point in coordinates given to OpenCV

_RGB = {
    "red": (214, 36, 40),
    "orange": (244, 134, 22),
    "yellow": (244, 224, 40),
    "green": (44, 168, 58),
    "cyan": (52, 208, 220),
    "blue": (40, 74, 214),
    "purple": (150, 52, 190),
    "white": (244, 244, 244),
}


@dataclass(frozen=True)
class Pose:
    """Where an object is, in units of the image side, and how it moves per frame."""

    x: float
    y: float
    radius: float
    angle: float  # radians
    dx: float
    dy: float
    spin: float
    gain: float  # brightness

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Pose":
        u = rng.random(8)
        radius, heading = 0.25 + 0.11 * u[0], 2 * np.pi * u[4]
        speed = 0.02 + 0.05 * u[5]
        return cls(
            x=1 - radius - u[1] * (1 - 2 * radius),
            y=1 - radius - u[2] * (1 - 2 * radius),
            radius=radius,
            angle=(u[3] - 0.5) * 0.8,
            dx=-speed * np.cos(heading),
            dy=-speed * np.sin(heading),
            spin=(u[6] - 0.5) * 0.08,
            gain=0.85 + 0.3 * u[7],
        )

    def at(self, t: int) -> tuple[float, float, float]:
        """Position and angle at frame t; the object bounces off the edges and swings."""
        span = 1 - 2 * self.radius
        x, y = (
            self.radius + span * (1 - abs((start + t * step) / span % 2 - 1))
            for start, step in ((self.x - self.radius, self.dx), (self.y - self.radius, self.dy))
        )
        return x, y, self.angle + 0.3 * np.sin(self.spin * 10 * t)


def draw_object(
    image: Float[np.ndarray, "size size 3"], name: str, pose: Pose, t: int
) -> Float[np.ndarray, "size size 3"]:
    """An image in 0..255 with the named object blended in, where its pose puts it at frame t.

    Raises:
      UserError: a name that is not "colour texture shape".
    """
    colour, texture, shape = _parse(name)
    size = image.shape[0]
    x, y, angle = pose.at(t)
    radius, cos, sin = pose.radius * size, np.cos(angle), np.sin(angle)
    # row vectors: the outline turns clockwise as y points down
    turn = np.array([[cos, sin], [-sin, cos]])
    outlines = [outline @ turn * radius + (x * size, y * size) for outline in _outline(shape)]
    mask = np.zeros((size, size), np.uint8)
    points = [np.round(outline * 2**SUBPIXEL).astype(np.int32) for outline in outlines]
    cv2.fillPoly(mask, points, 255, cv2.LINE_AA, SUBPIXEL)
    light = np.float32(_RGB[colour]) * np.float32(pose.gain)
    paint = light
    if texture != "solid":
        scale = 32 / radius  # pixels of the tile in a pixel of the image; the tile repeats every 64
        to_tile = np.array([[cos, sin], [-sin, cos]]) * scale
        offset = 32 - to_tile @ (x * size, y * size)
        tile = cv2.warpAffine(
            _tile(texture),
            np.column_stack([to_tile, offset]),
            (size, size),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_WRAP,
        )
        paint = light * (0.3 + 0.7 * tile[..., None])
    alpha = mask[..., None] * np.float32(1 / 255)
    return image + alpha * (paint - image)


def _parse(name: str) -> list[str]:
    parts = name.split()
    for part, known in itertools.zip_longest(parts, (COLOURS, TEXTURES, SHAPES)):
        if known is None or part not in known:
            raise UserError(
                f"scene {name!r}: expected 'colour texture shape', for example 'red striped circle'"
            )
    return parts


@cache
def _outline(shape: str) -> tuple[np.ndarray, ...]:
    """Polygons in units of the radius, y down; a second one is a hole."""

    def arc(radius: float, start: float = 0, stop: float = 2 * np.pi, at: float = 0) -> np.ndarray:
        angles = np.linspace(start, stop, 40)
        return np.stack([at + radius * np.cos(angles), radius * np.sin(angles)], axis=1)

    if shape == "circle":
        return (arc(0.9),)
    if shape == "ring":
        return arc(1.0), arc(0.55)
    if shape == "moon":  # a disc less a second one to its right; their circles meet at the two tips
        tip, second = (0.28, 0.96), 0.55
        outer, inner = np.arctan2(tip[1], tip[0]), np.arctan2(tip[1], tip[0] - second)
        hollow = arc(np.hypot(tip[0] - second, tip[1]), -inner, inner - 2 * np.pi, second)
        return (np.concatenate([arc(1, outer, 2 * np.pi - outer), hollow]) + (0.25, 0),)
    if shape == "star":
        turns = np.arange(10) * np.pi / 5 - np.pi / 2
        radii = np.where(np.arange(10) % 2, 0.42, 1.08)
        return (np.stack([np.cos(turns), np.sin(turns)], 1) * radii[:, None],)
    a = 0.34  # half the width of an arm
    points = {
        "square": [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
        "triangle": [(0, -0.95), (1.0, 0.8), (-1.0, 0.8)],
        "cross": [
            (-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a),
            (a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a), (-a, -a),
        ],
        "arrow": [
            (1.05, 0), (0.1, 0.9), (0.1, 0.36), (-1, 0.36), (-1, -0.36), (0.1, -0.36), (0.1, -0.9),
        ],
    }  # fmt: skip
    return (np.array(points[shape], float),)


@cache
def _tile(texture: str) -> np.ndarray:
    """A 64 × 64 tile in 0..1 that repeats seamlessly."""
    y, x = (np.mgrid[:64, :64] + 0.5) / 64 * 2 * np.pi
    wave = {
        "striped": np.sin(3 * y),
        "checkered": np.sin(2 * x) * np.sin(2 * y),
        "dotted": 0.45 - 0.5 * np.cos(3 * x) - 0.5 * np.cos(3 * y),
    }[texture]
    return np.clip(0.5 + 4 * wave, 0, 1).astype(np.float32)
