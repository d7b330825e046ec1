"""Rendered scenes with compositional names, for the demo's videos and its small CLIP's stills.

A class is colour + texture + shape, "red striped circle": 8 × 4 × 8 = 256 of them. One object moves
before a muted, cluttered background. Part of a clip's frames can be irrelevant: they do not show
the object that the clip is named after, which is what VTD-CLIP's frame confidence is for. NumPy and
OpenCV only; the same seed gives the same pixels in every process.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from vtd_jax.errors import UserError
from vtd_jax.files import replacing
from vtd_jax.scenes.objects import COLOURS, SHAPES, SUBPIXEL, TEXTURES, Pose, draw_object

# What an irrelevant frame shows. "one": the same other object in all of them; "others": another one
# in each; "corrupt": the right frame, scrambled; "mixture": each frame draws one of `_MIXTURE`.
KINDS = ("empty", "noise", "one", "others", "corrupt", "mixture")
_MIXTURE = ("empty", "noise", "others", "corrupt")


def class_names() -> tuple[str, ...]:
    """All 256 names, "red solid circle" first; the shape changes fastest."""
    return tuple(" ".join(parts) for parts in itertools.product(COLOURS, TEXTURES, SHAPES))


def render_still(
    name: str, rng: np.random.Generator, size: int = 64
) -> UInt8[np.ndarray, "size size 3"]:
    """One RGB image of the named object at a random pose before a random background.

    Raises:
      UserError: a name that is not "colour texture shape".
    """
    background, pose = _Background(rng), Pose.draw(rng)
    return _finish(draw_object(background.frame(0, size), name, pose, 0), background, rng)


def render_empty(rng: np.random.Generator, size: int = 64) -> UInt8[np.ndarray, "size size 3"]:
    """A background without an object."""
    background = _Background(rng)
    return _finish(background.frame(0, size), background, rng)


def render_noise(rng: np.random.Generator, size: int = 64) -> UInt8[np.ndarray, "size size 3"]:
    """Noise of random grain (1 to 8 pixels at 64 px), brightness and contrast, coloured or grey."""
    cells = max(2, size // int(rng.choice([1, 2, 4, 8])))
    noise = rng.integers(0, 256, (cells, cells, 1 if rng.random() < 0.3 else 3), dtype=np.uint8)
    noise = cv2.resize(noise, (size, size), interpolation=cv2.INTER_NEAREST).reshape(size, size, -1)
    noise = 128 + rng.uniform(0.3, 1) * (noise.astype(np.float32) - 128) + rng.uniform(-40, 40)
    return np.broadcast_to(np.clip(noise, 0, 255), (size, size, 3)).astype(np.uint8)


def render_clip(
    name: str,
    rng: np.random.Generator,
    *,
    frames: int,
    size: int = 64,
    irrelevant: float = 0.5,
    kind: str = "mixture",
    shift: float = 0.0,
    others: Sequence[str] | None = None,
) -> tuple[UInt8[np.ndarray, "frames size size 3"], Bool[np.ndarray, "frames"]]:
    """A clip of the named object in motion, some frames of which do not show it.

    Args:
      name: "colour texture shape".
      rng: everything random comes from it.
      frames: length of the clip.
      size: side in pixels.
      irrelevant: share of irrelevant frames in [0, 1), rounded to whole frames; one stays relevant.
      kind: what the irrelevant frames show, one of `KINDS`.
      shift: strength in [0, 1] of one change of all frames: blur, low contrast, warm tint.
      others: names that other objects are drawn from; all 256 by default. The clip's own name is
        never drawn.

    Returns:
      RGB frames, and True for each frame that shows the named object whole.
    """
    if kind not in KINDS:
        raise UserError(f"scene clip: kind {kind!r}, expected one of {', '.join(KINDS)}")
    if not 0 <= irrelevant < 1 or frames < 1:
        raise UserError(
            f"scene clip: irrelevant {irrelevant}, frames {frames}; expected 0 <= irrelevant < 1 "
            "<= frames"
        )
    pool = [other for other in (others or class_names()) if other != name]
    if not pool:
        raise UserError(f"scene clip: no other object than {name!r} to draw irrelevant frames from")
    # drawn before all else: the irrelevant frames do not depend on `kind` or `size`
    relevant = np.ones(frames, bool)
    relevant[rng.permutation(frames)[: min(round(irrelevant * frames), frames - 1)]] = False
    background, pose, one = _Background(rng), Pose.draw(rng), str(rng.choice(pool))
    clip = np.empty((frames, size, size, 3), np.uint8)
    for t in range(frames):
        shows = "name" if relevant[t] else kind if kind != "mixture" else str(rng.choice(_MIXTURE))
        if shows == "noise":
            clip[t] = render_noise(rng, size)
            continue
        image = background.frame(t, size)
        if shows in ("name", "corrupt"):
            image = draw_object(image, name, pose, t)
        elif shows != "empty":
            other = one if shows == "one" else str(rng.choice(pool))
            image = draw_object(image, other, Pose.draw(rng), t)
        image = _finish(image, background, rng)
        clip[t] = _scramble(image, rng) if shows == "corrupt" else image
    return _shift(clip, shift), relevant


def write_mp4(path: str | Path, frames: UInt8[np.ndarray, "t h w 3"], fps: int = 8) -> None:
    """Writes RGB frames as H.264 (libx264 veryfast, crf 18, yuv420p), atomically.

    Raises:
      UserError: no frames, or a side that is not even, which yuv420p needs.
    """
    import av  # here: rendering alone does not need FFmpeg

    from vtd_jax.video.codec.opening import target

    path = Path(path)
    if not len(frames) or frames.shape[1] % 2 or frames.shape[2] % 2:
        raise UserError(
            f"{path}: frames of shape {frames.shape}; H.264 needs at least one frame and even sides"
        )
    # x264's macroblock tree gives other bits from run to run on frames this small
    options = {"preset": "veryfast", "crf": "18", "x264-params": "mbtree=0"}
    with replacing(path) as part, av.open(target(part), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        stream.thread_count = 1  # small frames: threads cost more than they bring
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


class _Background:
    """A soft muted gradient, drifting blobs, a travelling wave; `_finish` adds pixel noise."""

    def __init__(self, rng: np.random.Generator, blobs: int = 5):
        grey = rng.uniform(60, 175, (4, 4, 1)) * 0.5 + 0.5 * rng.uniform(60, 175)
        self.gradient = np.clip(grey + rng.normal(0, 12, (4, 4, 3)), 0, 255).astype(np.float32)
        self.blobs = rng.random((blobs, 7))
        self.blob_colours = np.clip(
            rng.uniform(50, 190, (blobs, 1)) + rng.normal(0, 16, (blobs, 3)), 0, 255
        )
        self.wave = rng.random(5)
        self.noise = rng.uniform(2, 12)

    def frame(self, t: int, size: int) -> Float[np.ndarray, "size size 3"]:
        """Frame t without pixel noise, float32 in about 0..255."""
        canvas = cv2.resize(self.gradient, (size, size), interpolation=cv2.INTER_LINEAR)
        canvas = canvas.astype(np.uint8)
        for (x, y, dx, dy, a, b, angle), colour in zip(self.blobs, self.blob_colours.tolist()):
            moved = x + (dx - 0.5) * 0.04 * t, y + (dy - 0.5) * 0.04 * t
            centre = tuple(place % 1 * size for place in moved)
            axes = ((0.04 + 0.10 * a) * size, (0.04 + 0.10 * b) * size)
            centre, axes = (tuple(round(v * 2**SUBPIXEL) for v in pair) for pair in (centre, axes))
            cv2.ellipse(
                canvas, centre, axes, angle * 180, 0, 360, colour, -1, cv2.LINE_AA, SUBPIXEL
            )
        heading, frequency, height, phase, speed = self.wave
        steps = np.arange(size, dtype=np.float32) * (2 * np.pi * (1 + 5 * frequency) / size)
        along = steps[None] * np.cos(np.pi * heading) + steps[:, None] * np.sin(np.pi * heading)
        wave = (4 + 12 * height) * np.sin(along + (2 * np.pi * phase + 0.6 * speed * t)).astype(
            np.float32
        )
        return canvas + wave[..., None]


def _finish(image: np.ndarray, background: _Background, rng: np.random.Generator) -> np.ndarray:
    """Adds pixel noise and rounds to uint8."""
    noise = rng.integers(0, 256, image.shape, dtype=np.uint8)
    image = image + (noise - np.float32(127.5)) * np.float32(background.noise / 64)
    return np.clip(image, 0, 255).astype(np.uint8)


def _scramble(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A frame as a broken stream shows it: 4 × 4 tiles in a wrong order, a third of them grey."""
    side = image.shape[0] // 4
    whole = image[: 4 * side, : 4 * side].reshape(4, side, 4, side, 3)
    tiles = whole.swapaxes(1, 2).reshape(16, side, side, 3)
    tiles = tiles[rng.permutation(16)]
    tiles[rng.random(16) < 1 / 3] = 128
    broken = image.copy()
    tiles = tiles.reshape(4, 4, side, side, 3).swapaxes(1, 2)
    broken[: 4 * side, : 4 * side] = tiles.reshape(4 * side, 4 * side, 3)
    return broken


def _shift(clip: np.ndarray, strength: float) -> np.ndarray:
    """The same camera for all frames: 3 × 3 blur at 64 px, low contrast, warm tint."""
    if not strength:
        return clip
    width = max(3, round(clip.shape[1] * 3 / 64) | 1)
    tint = np.float32([1 + 0.12 * strength, 1, 1 - 0.25 * strength])
    out = np.empty_like(clip)
    for t, frame in enumerate(clip.astype(np.float32)):
        frame += strength * (cv2.blur(frame, (width, width)) - frame)
        out[t] = np.clip((128 + (1 - 0.5 * strength) * (frame - 128)) * tint, 0, 255)
    return out
