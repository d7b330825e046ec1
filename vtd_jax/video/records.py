"""Records of videos: TFDS folders of ArrayRecord shards, written and read without TensorFlow.

One list of videos makes one TFDS config: `DATA_DIR/video_folder/NAME/1.0.0/`, with the single split `videos`. Plain
TFDS reads them too (`tfds.builder_from_directory(...).as_data_source("videos")`). Two storages:

- `jpeg`: every frame (or at most so many, evenly spaced) as a JPEG with a bounded short side;
- `video`: the original file, byte for byte.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from vtd_jax.errors import UserError
from vtd_jax.video import decode
from vtd_jax.video.augment import resize, short_side_size
from vtd_jax.video.catalog import Entry
from vtd_jax.video.sampling import evenly_spaced

DATASET = "video_folder"
SPLIT = "videos"
VERSION = "1.0.0"
STORAGES = ("jpeg", "video")
JPEG_QUALITY = 90


def features(storage: str) -> tfds.features.FeaturesDict:
    """The fields of one record.

    `num_frames` counts the frames that sampling sees; `source_frames` those of the file (larger if only so many were
    kept). `fps`, `duration` (seconds), `width`, `height` and `bytes` describe the file. `frames` holds encoded JPEGs,
    `video` the file itself.
    """
    raw = tfds.features.Tensor(shape=(), dtype=np.object_)
    payload = {"frames": tfds.features.Sequence(raw)} if storage == "jpeg" else {"video": raw}
    return tfds.features.FeaturesDict(
        {
            "file": tfds.features.Text(),
            "label": tfds.features.ClassLabel(),
            "num_frames": np.int64,
            "source_frames": np.int64,
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


def encode_video(entry: Entry, path: Path, storage: str, short_side: int = 256, max_frames: int | None = None) -> dict:
    """Turns a video file into one record; the whole file is decoded, so a bad one is found here.

    Args:
      entry: file name and class index, copied into the record.
      path: the file.
      storage: "jpeg" or "video".
      short_side: JPEGs are scaled down (bilinear, never up) to this short side.
      max_frames: keep at most this many JPEGs, at the centres of as many uniform segments; None keeps all.

    Raises:
      decode.VideoError: if the file is missing or bad.
    """
    name = str(path)
    if storage == "video":
        info = decode.probe(path, name)
        payload, stored = {"video": path.read_bytes()}, info.frames
        content = payload["video"]
    else:
        # a record of few frames needs their number first; counting costs no conversion
        wanted = None if max_frames is None else evenly_spaced(decode.probe(path, name).frames, max_frames)
        jpegs = []
        frames = decode.scan(path, wanted, name)
        while True:
            try:
                jpegs.append(_jpeg(next(frames)[1], short_side))
            except StopIteration as end:
                info = end.value
                break
        payload, stored = {"frames": jpegs}, len(jpegs)
        content = path.read_bytes()
    return {
        "file": entry.file,
        "label": entry.label,
        "num_frames": stored,
        "source_frames": info.frames,
        "fps": info.fps,
        "duration": info.duration,
        "width": info.width,
        "height": info.height,
        "codec": info.codec,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        **payload,
    }


def _jpeg(image: np.ndarray, short_side: int) -> bytes:
    """One frame as a JPEG, scaled down to the short side."""
    if min(image.shape[:2]) > short_side:
        image = resize(image, *short_side_size(*image.shape[:2], short_side))
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=JPEG_QUALITY)


@dataclass(frozen=True)
class Example:
    """One video of the records.

    Attributes:
      file: name as in the list.
      label: class index.
      num_frames: frames that can be read.
      record: all stored fields.
      name: what messages call it.
    """

    file: str
    label: int
    num_frames: int
    record: Mapping
    name: str

    def frames(self, indices: Sequence[int] | np.ndarray) -> UInt8[np.ndarray, "t h w 3"]:
        """Decodes chosen frames only; indices in 0 .. num_frames - 1, repeats allowed, in the order asked for.

        Raises:
          UserError: if stored frames do not decode.
        """
        if "video" in self.record:
            return decode.decode_frames(self.record["video"], indices, name=self.name)
        jpegs = self.record["frames"]
        try:
            images = {int(i): simplejpeg.decode_jpeg(jpegs[int(i)]) for i in set(np.asarray(indices).tolist())}
        except ValueError as error:
            raise UserError(f"{self.name}: a stored frame does not decode ({error}); build the records again") from None
        return np.stack([images[int(i)] for i in indices])


class Records:
    """Random access to the videos of one record folder; open it with `open_records`. Can be pickled."""

    def __init__(self, data_dir: str | Path, name: str):
        self.data_dir, self.name = Path(data_dir), name
        self.path = _find(self.data_dir, name)
        try:
            builder = tfds.builder_from_directory(self.path)
            self._source = builder.as_data_source(SPLIT)
            self.class_names = tuple(builder.info.features["label"].names)
            self.info = dict(builder.info.metadata)
            self.storage = self.info["storage"]
        except Exception as error:
            # TFDS and array_record raise whatever the damage happens to cause
            raise UserError(
                f"{self.path}: these records cannot be opened ({type(error).__name__}: {error}); build them again"
            ) from error

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Example:
        """The video at a position, 0 .. len - 1; reads its record, decodes nothing."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        name = f"{self.path}: record {index}"
        try:
            record = self._source[index]
        except Exception as error:
            # array_record reports damage as RuntimeError, ValueError or IndexError, the proto parser as its own
            told = f"{type(error).__name__}: {error}"
            raise UserError(f"{name} cannot be read ({told}); the shard is damaged, build the records again") from None
        file = record["file"].decode()
        return Example(file, int(record["label"]), int(record["num_frames"]), record, f"{name} ({file})")

    def __iter__(self) -> Iterator[Example]:
        return (self[i] for i in range(len(self)))

    def __reduce__(self):
        return Records, (self.data_dir, self.name)


def open_records(data_dir: str | Path, name: str) -> Records:
    """Opens the records `name` under `data_dir`.

    Raises:
      UserError: if the folder is missing, holds no records of ours or none of that name (the names it holds are
        listed), or if they are damaged.
    """
    return Records(data_dir, name)


def record_names(data_dir: str | Path) -> list[str]:
    """Names of the complete records under a data folder."""
    files = (Path(data_dir) / DATASET).glob(f"*/{VERSION}/dataset_info.json")
    return sorted(file.parent.parent.name for file in files)


def record_path(data_dir: str | Path, name: str) -> Path:
    """The folder of the records `name`, whether it exists or not."""
    return Path(data_dir) / DATASET / name / VERSION


def _find(data_dir: Path, name: str) -> Path:
    """Checks that there are records of that name."""
    if not data_dir.is_dir():
        raise UserError(f"{data_dir}: there is no such data folder; make records with python -m experiments.build_data")
    names = record_names(data_dir)
    if not names:
        raise UserError(f"{data_dir}: no records in this folder; make some with python -m experiments.build_data")
    if name not in names:
        raise UserError(f"{data_dir}: no records named {name!r}; it holds {', '.join(names)}")
    return record_path(data_dir, name)
