"""Reading records of videos: TFDS folders of ArrayRecord shards, without TensorFlow.

One build makes one record folder, `DATA_DIR/DATASET/CONFIG/1.0.0/`, which holds every video once
(split `videos`) and, in `lists/`, the lists that learn or evaluate on some of them. Plain TFDS
reads the videos too (`tfds.builder_from_directory(...).as_data_source("videos")`), but is not used
here, since the folder may be untrusted (see `record_files`).
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from jaxtyping import UInt8

from vtd_jax.errors import UserError, function
from vtd_jax.video import decode, stored_lists
from vtd_jax.video.limits import check_stored
from vtd_jax.video.record_fields import parse_head, parse_record
from vtd_jax.video.record_files import INFO, read_files, read_layout, remedy
from vtd_jax.video.scaling.resample import Frames
from vtd_jax.video.shard_source import ShardSource
from vtd_jax.video.stored_lists import list_names, read_stored_list

VERSION = "1.0.0"


@dataclass(frozen=True)
class Example:
    """One video of the records.

    Attributes:
      file: path below the folder that the records were built from.
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
        """Decodes chosen frames, see `images`, into one array."""
        images = self.images(indices)
        return images if isinstance(images, np.ndarray) else np.stack(images)

    def images(self, indices: Sequence[int] | np.ndarray) -> Frames:
        """Decodes chosen frames, in the order of `indices`, repeats allowed; all have one size.

        Raises:
          UserError: if stored frames do not decode.
        """
        if "video" in self.record:
            # patched frames depend on all frames before them, so a plan may skip none
            whole = None if self.record.get("damaged", True) else int(self.record["source_frames"])
            return decode.decode_frames(
                self.record["video"], indices, name=self.name, known_frames=whole
            )
        jpegs = self.record["frames"]
        chosen = {int(i): jpegs[int(i)] for i in indices}
        check_stored(list(chosen.values()), len(indices), self.record, self.name)
        try:
            images = {i: simplejpeg.decode_jpeg(jpeg) for i, jpeg in chosen.items()}
        except ValueError as error:
            raise UserError(
                f"{self.name}: a stored frame does not decode ({error}); build the records again"
            ) from None
        if len(sizes := {image.shape for image in images.values()}) > 1:
            two = " and ".join(f"{width}×{height}" for height, width, _ in sorted(sizes)[:2])
            raise UserError(
                f"{self.name}: its stored frames are of several sizes, {two}; build the records "
                "again"
            )
        return [images[int(i)] for i in indices]


class Records:
    """Random access to the videos of one list; see `open_records`. Can be pickled.

    Attributes:
      name, path: of the list, and the record folder.
      class_names: of the list.
      storage: "jpeg" or "video".
      dataset: that they were built as, such as "hmdb51".
      videos: how many records there are, of all lists.
      stored: the list as it lies on disk: origin, what was left out.
      info: how the records were made; `fingerprint` is the list's.
    """

    def __init__(self, path: str | Path, name: str):
        self.path, self.name = Path(path), name
        self.stored = read_stored_list(self.path, name)
        self.class_names = self.stored.class_names
        layout = read_layout(self.path)
        last = int(self.stored.records[-1])
        if last >= layout.videos:
            raise UserError(
                f"{self.stored.path}: records: position {last:,}, but there are {layout.videos:,} "
                f"records; {stored_lists.remedy()}"
            )
        self.videos = layout.videos
        self.info = layout.metadata | {"fingerprint": self.stored.fingerprint}
        self.storage, self.dataset = layout.storage, layout.dataset
        try:
            self._source = ShardSource(layout.shards)
        except (RuntimeError, ValueError, OSError) as error:
            raise UserError(
                f"{self.path}: these records cannot be opened ({error}); {remedy()}"
            ) from None

    def __len__(self) -> int:
        return len(self.stored.records)

    @functools.cached_property
    def files(self) -> tuple[str, ...]:
        """`Example.file` of every video of the list, from the index; reads no record.

        Raises:
          UserError: the index is missing, damaged, or shorter than the records.
        """
        stored = read_files(self.path, self.videos)
        return tuple(stored[position].file for position in self.stored.records.tolist())

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over the stored bytes of all videos of the list, which it reads.

        Raises:
          UserError: a shard is damaged.
        """
        try:
            return self._source.digest(self.stored.records.tolist())
        except (ValueError, IndexError, OSError) as error:
            raise UserError(
                f"{self.path}: these records cannot be read ({error}); {remedy()}"
            ) from None

    def heads(self, positions: Sequence[int]) -> list[dict[str, Any]]:
        """The fields of records, without the frames or files in them, which are not read.

        Args:
          positions: of records, also of other lists than this one.

        Raises:
          UserError: a shard or a field is damaged.
        """
        try:
            contents = self._source.heads(positions)
        except (ValueError, IndexError, OSError) as error:
            raise UserError(
                f"{self.path}: these records cannot be read ({error}); {remedy()}"
            ) from None
        return [
            parse_head(content, self.storage, f"{self.path}: record {position}")
            for position, content in zip(positions, contents)
        ]

    def __getitem__(self, index: int) -> Example:
        """The video at a position, 0 .. len - 1; reads its record, decodes nothing."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        position = int(self.stored.records[index])
        name = f"{self.path}: record {position}"
        try:
            content = self._source[position]
        except Exception as error:
            # array_record reports damage as RuntimeError, ValueError or IndexError
            raise UserError(
                f"{name} cannot be read ({type(error).__name__}: {error}); the shard is damaged, "
                "build the records again"
            ) from None
        record = parse_record(content, self.storage, name)
        file = record["file"].decode()
        label = int(self.stored.labels[index])
        return Example(file, label, record["num_frames"], record, f"{name} ({file})")

    def __iter__(self) -> Iterator[Example]:
        return (self[i] for i in range(len(self)))

    def __reduce__(self):
        return Records, (self.path, self.name)


def open_records(data_dir: str | Path, name: str) -> Records:
    """Opens the list `name` of the records under `data_dir`.

    Args:
      data_dir: a record folder, or one up to three levels above it: what `build_data --data_dir`
        was given, or `DATA_DIR/DATASET`.
      name: of the list.

    Raises:
      UserError: there is no such folder, no list of that name (those there are named), several of
        them, or a file of the folder that is damaged or other than ours are.
    """
    records = Records(_folder_of(Path(data_dir), name), name)
    # a damaged index ends a run here, and not when its scores are written
    _ = records.files
    return records


def names_of_classes(data_dir: str | Path, name: str) -> tuple[str, ...]:
    """The class names of a list; as `open_records`, but reads no record."""
    return read_stored_list(_folder_of(Path(data_dir), name), name).class_names


def _folder_of(data_dir: Path, name: str) -> Path:
    """The only record folder under `data_dir` with this list."""
    if not data_dir.is_dir():
        where = "" if data_dir.is_absolute() else f" in {Path.cwd()}"
        raise UserError(
            f"{data_dir}: there is no such data folder{where}; say where it is, or make records "
            f"with {function('build_records')}"
        )
    folders = record_folders(data_dir)
    if not folders:
        raise UserError(
            f"{data_dir}: no records in this folder; make some with {function('build_records')}"
        )
    having = [folder for folder in folders if name in list_names(folder)]
    if len(having) > 1:
        where = ", ".join(str(_shortest(data_dir, folder, having)) for folder in having)
        raise UserError(
            f"{data_dir}: several records have a list {name!r}; give one of these instead: {where}"
        )
    if not having:
        raise UserError(
            f"{data_dir}: no list named {name!r}; it holds {', '.join(record_names(data_dir))}"
        )
    return having[0]


def _shortest(data_dir: Path, folder: Path, others: Sequence[Path]) -> Path:
    """The topmost folder below `data_dir` that holds only this one of several record folders."""
    for at in reversed(folder.parents):
        below = at != data_dir and at.is_relative_to(data_dir)
        if below and sum(other.is_relative_to(at) for other in others) == 1:
            return at
    return folder


def record_folders(data_dir: str | Path) -> list[Path]:
    """Folders of complete records at or under a data folder, hidden ones left out."""
    found: set[Path] = set()
    for pattern in ("", f"{VERSION}/", f"*/{VERSION}/", f"*/*/{VERSION}/"):
        for file in Path(data_dir).glob(f"{pattern}{INFO}"):
            if not any(part.startswith(".") for part in file.relative_to(data_dir).parts):
                found.add(file.parent)
    return sorted(found)


def record_names(data_dir: str | Path) -> list[str]:
    """Names of the lists of all complete records at or under a data folder."""
    return sorted(name for folder in record_folders(data_dir) for name in list_names(folder))


def record_folder(data_dir: str | Path, dataset: str, config: str) -> Path:
    """Where the records of a config lie, whether they exist or not."""
    return Path(data_dir) / dataset / config / VERSION
