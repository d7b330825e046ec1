"""The settings of a build of records."""

from dataclasses import dataclass

import tensorflow_datasets as tfds

from vtd_jax.errors import UserError, setting
from vtd_jax.printable import brief
from vtd_jax.video.ingest import encode

BENCHMARKS = ("hmdb51", "ucf101", "ssv2", "kinetics400")
DATASETS = (*BENCHMARKS, "video_folder")
# MPEG-4 files of 320×240 are read about as fast as their JPEGs, at an eighth of the size
# (docs/data.md, Storage)
VIDEO_BY_DEFAULT = ("hmdb51", "ucf101")


@dataclass
class BuildConfig(tfds.core.BuilderConfig):
    """What to build: the videos of some lists, once each, and the lists.

    Attributes:
      dataset: one of `DATASETS`.
      source: folder of the official download, or of videos; empty means TFDS's `--manual_dir`.
      video_dir: folder that the videos lie in, in any sub-folders; empty means `source`.
      allow_outside: whether lists may name videos outside `video_dir`, by `..` or from the root.
      lists: pairs of a list and its label CSV ("" where the CSV lies where published ones do).
      splits: folder of published lists (`datasets_splits/`, `labels/`), read whole.
      only: names of the lists to make, `*` and `?` allowed; empty means all.
      holdout: share of the videos of each class that a plain folder's validation list gets; 0 makes
        one list of all.
      storage: "jpeg" or "video"; empty takes what suits the data set, see `default_storage`.
      short_side: largest short side of stored JPEGs, in pixels.
      max_frames: most JPEGs a video, 0 for all.
      on_error: "fail" at the first bad video, or "skip" it with a message.
      workers: videos decoded at a time; 0 means one a core.
      seed: fixes the order of the records and the draws of own splits.
      shard_mb: size of a shard to aim at, in MiB.
    """

    dataset: str = "video_folder"
    source: str = ""
    video_dir: str = ""
    allow_outside: bool = False
    lists: tuple[tuple[str, str], ...] = ()
    splits: str = ""
    only: tuple[str, ...] = ()
    holdout: float = 0.0
    storage: str = ""
    short_side: int = 256
    max_frames: int = 0
    on_error: str = "fail"
    workers: int = 0
    seed: int = 0
    shard_mb: float = 384.0

    def __post_init__(self):
        self.storage = self.storage or default_storage(
            self.dataset, self.max_frames, self.short_side
        )

    def check(self) -> None:
        """Raises UserError for a setting out of range."""
        choices = {"dataset": DATASETS, "storage": encode.STORAGES, "on_error": ("fail", "skip")}
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                raise UserError(f"{setting(name, value)}: expected one of {', '.join(allowed)}")
        if self.max_frames and self.storage == "video":
            raise UserError(
                f"{setting('max_frames', self.max_frames)}: only {setting('storage', 'jpeg')} can "
                "keep fewer frames"
            )
        if self.storage == "video" and self.short_side != 256:
            raise UserError(
                f"{setting('short_side', self.short_side)}: only {setting('storage', 'jpeg')} "
                "scales frames"
            )
        for name, low in (("short_side", 1), ("max_frames", 0), ("workers", 0), ("seed", 0)):
            if getattr(self, name) < low:
                raise UserError(f"{setting(name, getattr(self, name))}: expected {low} or more")
        if self.holdout and (self.dataset != "video_folder" or self.lists or self.splits):
            raise UserError(
                f"{setting('holdout', self.holdout)}: only a plain folder of videos is cut; "
                "these lists are made already"
            )
        if self.shard_mb <= 0:
            raise UserError(f"{setting('shard_mb', self.shard_mb)}: expected a size above 0")
        if not self.name or self.name.startswith(".") or {"/", "\\"} & set(self.name):
            raise UserError(
                f"{setting('name', brief(self.name))}: expected a folder name, without slashes or "
                "a leading dot"
            )

    def stored(self) -> dict:
        """The settings that decide what is in a record."""
        settings = {"format": 2, "storage": self.storage}
        if self.storage == "jpeg":
            settings |= {"short_side": self.short_side, "max_frames": self.max_frames}
            settings["quality"] = encode.JPEG_QUALITY
        return settings | {"seed": self.seed}


def default_storage(dataset: str, max_frames: int = 0, short_side: int = 256) -> str:
    """The storage where none is set: files for HMDB-51 and UCF-101 kept whole, else JPEGs."""
    whole = not max_frames and short_side == 256
    return "video" if whole and dataset in VIDEO_BY_DEFAULT else "jpeg"
