"""A video file to one record: the TFDS feature spec, and what is kept of the file.

Two storages:

- `jpeg`: every frame (or at most `max_frames`, evenly spaced) as a JPEG with a bounded short side;
- `video`: the original file, byte for byte.
"""

import hashlib
from pathlib import Path

import numpy as np
import simplejpeg
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from vtd_jax.errors import setting
from vtd_jax.video import decode
from vtd_jax.video.augment import resize, short_side_size
from vtd_jax.video.lists.catalog import Entry
from vtd_jax.video.sampling import evenly_spaced

STORAGES = ("jpeg", "video")
JPEG_QUALITY = 90
# a record is one protocol buffer, which cannot reach 2 GiB, and is held in memory
MAX_RECORD_BYTES = 2**30


def features(storage: str) -> tfds.features.FeaturesDict:
    """The fields of one record.

    `num_frames` counts the frames that sampling sees; `source_frames` those of the file (larger if
    `max_frames` cut them), `damaged` those that the decoder patched up or left out.
    `fps`, `duration` (seconds), `width`, `height` and `bytes` describe the file. `frames` holds
    encoded JPEGs, `video` the file itself.
    """
    raw = tfds.features.Tensor(shape=(), dtype=np.object_)
    payload = {"frames": tfds.features.Sequence(raw)} if storage == "jpeg" else {"video": raw}
    return tfds.features.FeaturesDict(
        {
            "file": tfds.features.Text(),
            "label": tfds.features.ClassLabel(),
            "num_frames": np.int64,
            "source_frames": np.int64,
            "damaged": np.int64,
            "fps": np.float32,
            "duration": np.float32,
            "width": np.int64,
            "height": np.int64,
            "codec": tfds.features.Text(),
            "bytes": np.int64,
            "sha256": tfds.features.Text(),
            **payload,
        }
    )


def encode_video(
    entry: Entry, path: Path, storage: str, short_side: int = 256, max_frames: int | None = None
) -> dict:
    """Turns a video file into one record; the whole file is decoded, so a bad one is found here.

    Args:
      entry: file name and class index, copied into the record.
      path: the file.
      storage: "jpeg" or "video".
      short_side: JPEGs are scaled down (bilinear, never up) to this short side.
      max_frames: keep at most this many JPEGs, at the centres of as many uniform segments; None
        keeps all.

    Raises:
      decode.VideoError: if the file is missing or bad, or too long for one record.
    """
    if storage == "video":
        _check_size(path, path.stat().st_size if path.is_file() else 0, "its file")
        info = decode.probe(path, str(path))
        payload, stored = {"video": path.read_bytes()}, info.frames
    else:
        info, jpegs = _jpegs(path, short_side, max_frames)
        payload, stored = {"frames": jpegs}, len(jpegs)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "file": entry.file,
        "label": entry.label,
        "num_frames": stored,
        "source_frames": info.frames,
        "damaged": info.damaged,
        "fps": info.fps,
        "duration": info.duration,
        "width": info.width,
        "height": info.height,
        "codec": info.codec,
        "bytes": path.stat().st_size,
        "sha256": digest,
        **payload,
    }


def _jpegs(
    path: Path, short_side: int, max_frames: int | None
) -> tuple[decode.VideoInfo, list[bytes]]:
    """The kept frames of a file, in one pass where its header counts them rightly, else in two."""
    guess = decode.header(path, str(path))[0] if max_frames else 0
    while True:
        # of a header that knows nothing, one frame is kept, and the count of the pass
        wanted = evenly_spaced(max(guess, 1), max_frames) if max_frames else None
        info, jpegs = _pass(path, wanted, short_side)
        if wanted is None or (len(jpegs) == min(info.frames, max_frames) and info.frames == guess):
            return info, jpegs
        guess = info.frames


def _pass(
    path: Path, wanted: np.ndarray | None, short_side: int
) -> tuple[decode.VideoInfo, list[bytes]]:
    """Decodes a file to its end and encodes the wanted frames."""
    jpegs, size, frames = [], 0, decode.scan(path, wanted, str(path))
    while True:
        try:
            jpegs.append(jpeg(next(frames)[1], short_side))
        except StopIteration as end:
            return end.value, jpegs
        size += len(jpegs[-1])
        _check_size(path, size, f"JPEGs of its first {len(jpegs)} frames")


def _check_size(path: Path, size: int, what: str) -> None:
    if size > MAX_RECORD_BYTES:
        raise decode.VideoError(
            f"{path}: {what} take more than {MAX_RECORD_BYTES / 2**30:g} GiB, the most that a "
            "record may hold; cut the video into parts, or keep fewer frames with "
            f"{setting('max_frames')}"
        )


def jpeg(image: UInt8[np.ndarray, "h w 3"], short_side: int) -> bytes:
    """One RGB frame as a JPEG, scaled down to the short side."""
    if min(image.shape[:2]) > short_side:
        image = resize(image, *short_side_size(*image.shape[:2], short_side))
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=JPEG_QUALITY)
