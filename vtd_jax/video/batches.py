"""Any batch of an epoch, made on its own: sampling, decoding, augmentation.

Every batch is a function of its number and the settings. (seed, epoch) fix the order of an epoch,
(seed, epoch, record) the random draws of a clip. Threads, worker processes, hosts and restarts
cannot change a batch.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8

from vtd_jax.errors import UserError
from vtd_jax.video import augment as aug
from vtd_jax.video import sampling
from vtd_jax.video.lists.catalog import file_key
from vtd_jax.video.records import Example, Records
from vtd_jax.video.scaling.fit import RELEASE, Fit

Batch = dict[str, np.ndarray]
SAMPLES = ("segments", "centre")
NO_AUGMENT = aug.Augment(enabled=False)


@dataclass(frozen=True)
class BatchSpec:
    """What determines the batches of an iterator.

    Attributes:
      kind: "train" or "eval".
      frames, size: T and R, frames a clip and side of a frame in pixels.
      batch_size: videos in a batch, over all hosts.
      host_index, host_count: this host makes rows `host_index * batch_size / host_count` and on of
        every batch.
      seed, epochs, shuffle, drop_remainder, sample: of training.
      augment: of training.
      temporal_views, spatial_views: of evaluation; 1 and 1 in training.
      fit: how frames are scaled and cropped; what is augmented is never squashed.
    """

    kind: str
    frames: int
    size: int
    batch_size: int
    host_index: int = 0
    host_count: int = 1
    seed: int = 0
    epochs: int = 1
    shuffle: bool = False
    drop_remainder: bool = False
    sample: str = "centre"
    augment: aug.Augment = NO_AUGMENT
    temporal_views: int = 1
    spatial_views: int = 1
    fit: Fit = RELEASE

    def check(self, videos: int) -> None:
        """Raises UserError for settings that contradict each other or the number of videos."""
        for name in ("frames", "size", "batch_size", "host_count", "temporal_views", "epochs"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)}: expected at least 1")
        aug.check_views(self.spatial_views, self.fit.squash)
        if self.seed < 0:
            raise UserError(f"seed={self.seed}: expected 0 or more")
        if self.sample not in SAMPLES:
            raise UserError(f"sample={self.sample!r}: expected one of {', '.join(SAMPLES)}")
        last = self.host_count - 1
        if not 0 <= self.host_index <= last:
            raise UserError(f"host_index={self.host_index}: expected 0 to host_count - 1 = {last}")
        if self.batch_size % self.host_count:
            raise UserError(
                f"batch_size={self.batch_size} cannot be split evenly over {self.host_count} hosts"
            )
        if self.drop_remainder and videos < self.batch_size:
            raise UserError(
                f"batch_size={self.batch_size} with drop_remainder leaves no batch of {videos} "
                "videos; make batches smaller or keep the remainder"
            )

    def per_epoch(self, videos: int) -> int:
        """Batches of an epoch."""
        whole = videos / self.batch_size
        return math.floor(whole) if self.drop_remainder else math.ceil(whole)


class BatchSource:
    """Random access to the batches of a spec; grain reads from it in threads or processes."""

    def __init__(self, records: Records, spec: BatchSpec, start: int = 0):
        spec.check(len(records))
        self.records, self.spec, self.start = records, spec, start
        self.per_epoch = spec.per_epoch(len(records))

    def __len__(self) -> int:
        return max(0, self.per_epoch * self.spec.epochs - self.start)

    def indices(self, position: int) -> list[int]:
        """Record positions of this host's rows of batch `start + position`, without padding.

        Over the hosts and the batches of an epoch they are disjoint and make up the epoch: every
        record once, without those of a dropped remainder.
        """
        spec = self.spec
        epoch, batch = divmod(self.start + int(position), self.per_epoch)
        order = np.arange(len(self.records))
        if spec.shuffle:
            order = _epoch_order(len(self.records), spec.seed, epoch)
        rows = spec.batch_size // spec.host_count
        first = batch * spec.batch_size + spec.host_index * rows
        return order[first : first + rows].tolist()

    def __getitem__(self, position: int) -> Batch:
        """This host's rows of batch `start + position`."""
        spec = self.spec
        epoch = (self.start + int(position)) // self.per_epoch
        rows = spec.batch_size // spec.host_count
        views = spec.temporal_views * spec.spatial_views
        out = {
            "frames": np.zeros((rows, views, spec.frames, spec.size, spec.size, 3), np.uint8),
            "label": np.zeros(rows, np.int32),
            "weight": np.zeros(rows, np.float32),
            "index": np.full(rows, -1, np.int64),
        }
        for row, index in enumerate(self.indices(position)):
            example = self.records[index]
            if spec.kind == "train":
                out["frames"][row, 0] = train_clip(example, spec, epoch, index)
            else:
                out["frames"][row] = eval_views(example, spec)
            out["label"][row], out["weight"][row], out["index"][row] = example.label, 1.0, index
        if views == 1:
            out["frames"] = out["frames"][:, 0]
        return out


@lru_cache(maxsize=4)
def _epoch_order(videos: int, seed: int, epoch: int) -> Int64[np.ndarray, " n"]:
    """The order of the videos in an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(videos)


class TrainClip(NamedTuple):
    """One training clip and what was drawn for it.

    Attributes:
      frames: uint8 [T, R, R, 3].
      indices: the T frames of the video that were sampled.
      resized: height and width of the frames that the draw's box is in, or would be.
      draw: the augmentation; None where there is none.
    """

    frames: UInt8[np.ndarray, "t r r 3"]
    indices: Int64[np.ndarray, " t"]
    resized: tuple[int, int]
    draw: aug.Draw | None


def train_clip(
    example: Example, spec: BatchSpec, epoch: int, index: int
) -> UInt8[np.ndarray, "t r r 3"]:
    """Samples, decodes and augments one training clip; (seed, epoch, index) fix every draw."""
    return draw_train_clip(example, spec, epoch, index).frames


def draw_train_clip(example: Example, spec: BatchSpec, epoch: int, index: int) -> TrainClip:
    """What `train_clip` does, with all that was drawn."""
    # a generator for each clip: draws do not depend on who makes the batch, or in which order
    rng = np.random.default_rng([spec.seed, epoch, index])
    if spec.sample == "segments":
        wanted = sampling.train_indices(example.num_frames, spec.frames, rng)
    else:
        wanted = sampling.test_indices(example.num_frames, spec.frames)
    frames = example.images(wanted)
    height, width = frames[0].shape[:2]
    height, width = spec.fit.resized(height, width, spec.size)
    if not spec.augment.enabled:
        return TrainClip(spec.fit.views(frames, spec.size)[0], wanted, (height, width), None)
    draw = aug.draw_augment(spec.augment, height, width, len(frames), rng)
    clip = aug.apply_changes(spec.fit.crop(frames, draw.box, spec.size), draw)
    return TrainClip(clip, wanted, (height, width), draw)


def video_number(file: str) -> int:
    """A number fixed by the name of a video's file, independent of folder and list."""
    return int.from_bytes(file_key(file.rpartition("/")[2], 0)[:8])


def eval_views(example: Example, spec: BatchSpec) -> UInt8[np.ndarray, "v t r r 3"]:
    """All views of one video, temporal views outermost; deterministic, decoded in one pass."""
    wanted = sampling.view_indices(
        example.num_frames, spec.frames, spec.temporal_views, video_number(example.file)
    )
    frames, length = example.images(wanted.reshape(-1)), wanted.shape[1]
    clips = [frames[start : start + length] for start in range(0, len(frames), length)]
    return np.concatenate([spec.fit.views(clip, spec.size, spec.spatial_views) for clip in clips])
