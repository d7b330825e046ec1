"""What a build of records starts from: its settings, and the list, labels and videos they name."""

import hashlib
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from vtd_jax.errors import UserError
from vtd_jax.video import decode, records
from vtd_jax.video.augment import short_side_size
from vtd_jax.video.catalog import Entry, LabelSet, file_key, read_labels, read_list

# a shard is held in memory while it is written
SHARD_BYTES = 256 * 2**20
# bytes a pixel of a q90 JPEG, on the high side (measured: 0.2 on noisy clips)
JPEG_BYTES_PER_PIXEL = 0.25


@dataclass
class VideoFolderConfig(tfds.core.BuilderConfig):
    """What to build: one list of videos.

    Attributes:
      list_file, labels_file, video_dir: inputs; empty means `list.txt`, `labels.csv` and the folder itself of TFDS's
        `--manual_dir`.
      storage: "jpeg" or "video".
      short_side: largest short side of stored JPEGs, in pixels.
      max_frames: most JPEGs a video, 0 for all.
      on_error: "fail" at the first bad video, or "skip" it and say so.
      workers: videos decoded at a time; 0 means one a core.
      seed: fixes the order of the records.
    """

    list_file: str = ""
    labels_file: str = ""
    video_dir: str = ""
    storage: str = "jpeg"
    short_side: int = 256
    max_frames: int = 0
    on_error: str = "fail"
    workers: int = 0
    seed: int = 0

    def check(self) -> None:
        """Raises UserError for a setting out of range."""
        if self.storage not in records.STORAGES:
            raise UserError(f"storage={self.storage!r}: expected one of {', '.join(records.STORAGES)}")
        if self.on_error not in ("fail", "skip"):
            raise UserError(f"on_error={self.on_error!r}: expected fail or skip")
        if self.max_frames and self.storage == "video":
            raise UserError(f"max_frames={self.max_frames}: only storage=jpeg can keep fewer frames")
        for name, low in (("short_side", 1), ("max_frames", 0), ("workers", 0), ("seed", 0)):
            if getattr(self, name) < low:
                raise UserError(f"{name}={getattr(self, name)}: expected {low} or more")
        if not self.name or self.name.startswith(".") or {"/", "\\"} & set(self.name):
            raise UserError(f"name={self.name!r}: expected a folder name, without slashes or a leading dot")


@dataclass(frozen=True)
class Problem:
    """A video that cannot be used: where it is listed and what is wrong."""

    file: str
    line: int
    reason: str


class Inputs:
    """The list, the labels and the videos of one config, read and checked."""

    def __init__(self, config: VideoFolderConfig, manual_dir: Path | None = None):
        base = manual_dir or Path()
        self.config = config
        self.list_file = Path(config.list_file or base / "list.txt")
        self.labels_file = Path(config.labels_file or base / "labels.csv")
        self.video_dir = Path(config.video_dir or base)
        self.labels: LabelSet = read_labels(self.labels_file)
        self.entries: list[Entry] = read_list(self.list_file, self.labels)
        if not self.video_dir.is_dir():
            raise UserError(f"{self.video_dir}: there is no such folder of videos; check video_dir")
        self.sizes = [_size(self.path(entry)) for entry in self.entries]

    def path(self, entry: Entry) -> Path:
        return self.video_dir / entry.file

    def metadata(self) -> dict:
        """What the records say about their making; `fingerprint` changes whenever other records would result."""
        config = self.config
        meta = {"format": 1, "storage": config.storage, "list": self.list_file.name, "entries": len(self.entries)}
        meta["list_sha256"] = hashlib.sha256(self.list_file.read_bytes()).hexdigest()
        meta["labels_sha256"] = hashlib.sha256(self.labels_file.read_bytes()).hexdigest()
        if config.storage == "jpeg":
            meta |= {"short_side": config.short_side, "max_frames": config.max_frames}
            meta["quality"] = records.JPEG_QUALITY
        meta |= {"on_error": config.on_error, "seed": config.seed}
        whole = json.dumps([meta, [[e.file, size] for e, size in zip(self.entries, self.sizes)]])
        return meta | {"fingerprint": hashlib.sha256(whole.encode()).hexdigest()}

    def estimate(self) -> list[float]:
        """Bytes that each video will take in the records: exact for `video`, for `jpeg` from up to 16 headers."""
        if self.config.storage == "video":
            return [float(size) for size in self.sizes]
        step = -(-len(self.entries) // 16)
        sampled = [self._jpeg_bytes(entry) for entry in self.entries[::step]]
        known = [(large, size) for large, size in zip(sampled, self.sizes[::step]) if large]
        ratio = sum(large for large, _ in known) / sum(size for _, size in known) if known else 1.0
        return [ratio * size for size in self.sizes]

    def _jpeg_bytes(self, entry: Entry) -> float:
        try:
            frames, height, width = decode.header(self.path(entry))
        except UserError:
            return 0.0
        height, width = short_side_size(height, width, min(height, width, self.config.short_side))
        return min(frames, self.config.max_frames or frames) * height * width * JPEG_BYTES_PER_PIXEL

    def shards(self) -> list[list[Entry]]:
        """Entries in the order of a hash of their names, cut into shards of about `SHARD_BYTES`."""
        order = sorted(range(len(self.entries)), key=lambda i: file_key(self.entries[i].file, self.config.seed))
        sizes = self.estimate()
        count = min(len(order), max(1, -(-int(sum(sizes)) // SHARD_BYTES)))
        reached = np.cumsum([sizes[i] for i in order])
        limits = reached[-1] * np.arange(1, count) / count
        cuts = [0, *np.searchsorted(reached, limits, side="right"), len(order)]
        parts = [[self.entries[i] for i in order[a:b]] for a, b in pairwise(cuts)]
        return [part for part in parts if part]


def _size(path: Path) -> int:
    """Bytes of a file; 0 if it is missing."""
    return path.stat().st_size if path.is_file() else 0
