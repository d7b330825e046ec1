"""Any video file, or frames in memory, as the T frames that a model sees."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from vtd_jax.errors import UserError
from vtd_jax.fields import check_choice, check_number, check_path, check_whole
from vtd_jax.video import decode, limits, sampling
from vtd_jax.video.clips.arguments import Video, described, local
from vtd_jax.video.clips.by_index import has_index, read_by_index
from vtd_jax.video.lists.addresses import Copy, named
from vtd_jax.video.scaling.fit import RELEASE, Fit, Whole

# how far a file is looked at: by its index, or every frame
CHECKS = ("index", "full")
# side of a crop that may be asked for, pixels
_LARGEST = 4096


@dataclass(frozen=True, eq=False)
class Clip:
    """T frames of a video, as `experiments.evaluate` would see them in its first view.

    Two clips are equal only if they are one object: compare their arrays.

    Attributes:
      name: of the file, or its address; "frames" for an array.
      frames: uint8 RGB, scaled and cropped in the middle.
      indices: places in the video, 0 is its first frame.
      seconds: when they are shown, from the first frame on; None for an array without `fps`.
      total: frames that the video has.
      duration: of the video in seconds; None for an array without `fps`.
      note: what is odd about the file, in one line; empty where nothing is.
    """

    name: str
    frames: UInt8[np.ndarray, "t h w 3"] = field(repr=False)
    indices: Int64[np.ndarray, " t"]
    seconds: Float64[np.ndarray, " t"] | None
    total: int
    duration: float | None
    note: str = ""


class TimedFrame(NamedTuple):
    """The frame that is shown at a moment.

    Attributes:
      seconds: the moment, from the first frame on.
      index: of the frame.
      image: uint8 RGB `[R, R, 3]`, scaled and cropped.
    """

    seconds: float
    index: int
    image: np.ndarray


def read_clip(
    video: Video,
    frames: int,
    size: int,
    *,
    fps: float | None = None,
    fit: Fit = RELEASE,
    check: str = "index",
) -> Clip:
    """The centre of each of T uniform segments of a video (docs/method.md, section 6).

    With `check="full"` a file is decoded to its end, in one pass and with one frame in memory
    beside those that are kept; a file whose container states another number of frames than decode
    is read a second time. With `check="index"` all its packets are counted and judged, and those
    are decoded that the wanted frames need. The clip is the same; damage in what is not decoded
    goes unnoticed. Where the packets do not prove it, the file is decoded to its end after all.

    Args:
      video: path of a file, or uint8 RGB frames `[N, H, W, 3]`.
      frames: T, wanted frames; they repeat where a video has fewer.
      size: R, side of the crop in pixels.
      fps: frames a second of an array; files say it themselves.
      fit: how frames are scaled and cropped.
      check: one of `CHECKS`.

    Raises:
      VideoError: no such file, or one that is not a whole video.
      UserError: an array of another kind, T below 1, or another check.
    """
    check_choice("check", check, CHECKS)
    if isinstance(video, np.ndarray):
        return _from_array(video, frames, size, fps, fit)
    with naming_copy(video) as name:
        return _from_file(Path(video), name, frames, size, fit, check)


def _from_file(path: Path, name: str, frames: int, size: int, fit: Fit, check: str) -> Clip:
    expected = None
    with decode.reading(path, name) as reader:
        if check == "index" and has_index(reader):
            found = read_by_index(reader, path, frames, lambda image: _fitted(image, size, fit))
            if found is not None:
                return _clip(name, *found, frames)
        else:
            expected = reader.expected_frames()
    if expected is None:
        with decode.reading(path, name) as reader:
            expected = reader.expected_frames()
    expected = sampling.test_indices(max(1, expected), frames)
    kept, info = _pass(path, expected, size, name, fit)
    indices = sampling.test_indices(info.frames, frames)
    if not kept.keys() >= set(indices.tolist()):
        kept, info = _pass(path, indices, size, name, fit)
    return _clip(name, kept, info, frames)


def _clip(name: str, kept: dict[int, Any], info: decode.VideoInfo, frames: int) -> Clip:
    indices = sampling.test_indices(info.frames, frames)
    images, seconds = zip(*(kept[int(i)] for i in indices))
    return Clip(
        name, np.stack(images), indices, np.array(seconds), info.frames, info.duration, info.note
    )


def read_video(
    path: str | os.PathLike,
    frames: int = 16,
    *,
    size: int | None = None,
    preprocess: str | None = None,
    download: bool | None = None,
) -> Clip:
    """Reads T evenly spaced frames of a video file: the centre of each of T equal segments.

    Example:
      >>> import vtd_jax
      >>> clip = vtd_jax.read_video("clip.mp4", frames=5)
      >>> clip.frames.shape, clip.frames.dtype
      ((5, 48, 64, 3), dtype('uint8'))
      >>> clip.indices.tolist(), clip.seconds.round(2).tolist()
      ([2, 7, 12, 17, 22], [0.08, 0.28, 0.48, 0.68, 0.88])
      >>> vtd_jax.read_video("clip.mp4", frames=5, size=32).frames.shape
      (5, 32, 32, 3)

    Args:
      path: of a file, or an address (`https://…`), which is copied after a question.
      frames: T; frames repeat if the video has fewer.
      size: side of the square middle crop, pixels; None keeps whole frames, as they are displayed.
      preprocess: with a size, how frames are scaled to it: "clip" (the default; smoothed, as images
        are prepared for CLIP) or "release" (docs/method.md, section 6).
      download: whether a video at an address may be copied to this machine; None asks
        `$VTD_JAX_DOWNLOAD`, then the terminal if there is one.

    Returns:
      A `Clip`: `frames` (uint8 RGB `[T, H, W, 3]`, 0..255), their `indices` and `seconds`, and
      `total` and `duration` of the video.

    Raises:
      VideoError: there is no such file, or it is not a complete video.
      UserError: an option out of range, or `preprocess` without a size.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"path: {described(path)}, expected the path of a video file")
    check_path("path", path, "the path of a video file")
    frames = check_whole("frames", frames, "1 or more frames of a video")
    if size is None and preprocess is not None:
        raise UserError(f"preprocess={preprocess}: without size nothing is scaled; give both")
    if size is not None:
        size = check_whole("size", size, f"pixels, 1 to {_LARGEST}", most=_LARGEST)
    fit = Whole() if size is None else Fit("clip" if preprocess is None else preprocess)
    return read_clip(local(path, download), frames, size or 0, fit=fit)


def frames_at(
    video: str | os.PathLike, step: float, size: int, fit: Fit = RELEASE
) -> Iterator[TimedFrame]:
    """The frames shown at `step / 2`, `3 step / 2`, … seconds, one at a time.

    A video without a whole step has one such moment, its middle.

    Args:
      video: path of a file.
      step: seconds, above 0.
      size: side of the crop in pixels.
      fit: as for `read_clip`.

    Returns:
      VideoInfo (the generator's return value).

    Raises:
      VideoError: as for `read_clip`; where a file breaks off, after the frames before; or its times
        make more moments than its frames may have.
    """
    with naming_copy(video) as name, decode.reading(Path(video), name) as reader:
        shown, image, count = None, None, 0
        for index, seconds, frame in reader:
            limits.check_moments(seconds / step, index + 1, seconds, name)
            # a frame is shown until the next one; 1e-6 absorbs rounding of time stamps
            while shown is not None and (count + 0.5) * step < seconds - 1e-6:
                image = _fitted(reader.image(shown[1]), size, fit) if image is None else image
                yield TimedFrame((count + 0.5) * step, shown[0], image)
                count += 1
            shown, image = (index, frame), None
        info = reader.info()
        limits.check_moments(info.duration / step, info.frames, info.duration, name)
        while shown is not None and ((count + 0.5) * step < info.duration or not count):
            image = _fitted(reader.image(shown[1]), size, fit) if image is None else image
            yield TimedFrame(min((count + 0.5) * step, info.duration), shown[0], image)
            count += 1
        return info


def _pass(
    path: Path, wanted: np.ndarray, size: int, name: str, fit: Fit
) -> tuple[dict[int, Any], decode.VideoInfo]:
    """`(image, seconds)` of the wanted frames that there are, and what the whole file showed."""
    kept, keep = {}, set(wanted.tolist())
    with decode.reading(path, name) as reader:
        for index, seconds, frame in reader:
            if index in keep:
                kept[index] = _fitted(reader.image(frame), size, fit), seconds
        return kept, reader.info()


def _fitted(image: np.ndarray, size: int, fit: Fit) -> np.ndarray:
    """Scaled and cropped as in the first view of evaluation."""
    return np.ascontiguousarray(fit.views(image[None], size)[0, 0])


def check_frames(video: Any) -> None:
    """Raises a `UserError` unless this is an array of frames, uint8 `[N, H, W, 3]`, N above 0."""
    if not isinstance(video, np.ndarray):
        raise UserError(
            f"frames: a {type(video).__name__}, expected a NumPy array, uint8 RGB frames "
            "[N, height, width, 3]"
        )
    if video.dtype != np.uint8 or video.ndim != 4 or video.shape[-1] != 3 or not video.size:
        raise UserError(
            f"frames: an array {list(video.shape)} of {video.dtype}, expected uint8 RGB frames "
            "[N, height, width, 3] with values 0..255, N at least 1"
        )


def _from_array(video: np.ndarray, frames: int, size: int, fps: float | None, fit: Fit) -> Clip:
    check_frames(video)
    if fps is not None:
        check_number("fps", fps, "frames a second, above 0")
    indices = sampling.test_indices(len(video), frames)
    images = np.stack([_fitted(video[i], size, fit) for i in indices])
    seconds, duration = (None, None) if fps is None else (indices / fps, len(video) / fps)
    return Clip("frames", images, indices, seconds, len(video), duration)


@contextlib.contextmanager
def naming_copy(video: str | os.PathLike) -> Iterator[str]:
    """Gives what results call a video file, while it is read.

    Raises:
      VideoError: as the block; of an address also where its copy is, or why there is none.
    """
    if not isinstance(video, Copy):
        yield os.fspath(video)
        return
    if video.why:
        raise decode.VideoError(video.why)
    try:
        yield named(video)
    except decode.VideoError as error:
        again = f"; its copy is {video}: remove it to copy the video again"
        raise type(error)(f"{error}{again}") from None
