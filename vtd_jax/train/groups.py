"""The groups of a run's settings, with their defaults and ranges.

Files from others hold settings, so there are limits, though wide ones.
"""

import dataclasses
from collections.abc import Mapping

from vtd_jax.clip.config import LAYOUTS, WAYS
from vtd_jax.errors import UserError
from vtd_jax.fields import check_choice, check_ranges
from vtd_jax.model.preprocess import PREPROCESS
from vtd_jax.printable import brief
from vtd_jax.untrusted.limits import MOST_FRAMES_OF_A_VIDEO

REMAT = ("auto", "none", "block", "dots")
# frames of one batch over all devices: 150 GB at 224 px
MOST_FRAMES = 2**20


def check_run_name(field: str, name: str) -> None:
    """Raises a `UserError` for a name that cannot be in a file's name (`results_NAME.json`)."""
    if not name or "/" in name or len(name.encode(errors="replace")) > 200:
        raise UserError(
            f"{field}: {brief(name)}, expected a name without slashes, of at most 200 bytes"
        )


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Records and batches.

    Attributes:
      data_dir: the folder that vtd build-data (`build_records`) wrote, or a folder of records in
        it.
      train: name of the training list; "" where nothing is learnt.
      evaluate: split -> name of its list, in the table's order.
      frames: T, frames sampled from each video.
      batch_size: videos of one micro-batch, over all devices.
      workers: decoding processes; 0 decodes in this one.
      shuffle: whether every epoch has its own order.
      drop_remainder: whether an epoch's last, smaller batch is dropped, or padded with weight 0.
      preprocess: how frames are scaled: "release", or "clip" as CLIP's own images were, for
        training crops too. See docs/method.md, section 6.
      features: the folder of an index of the training videos, whose frame features are learnt on,
        of the middle of each segment and without augmentation; "" encodes the records. Not with
        visual prompts.
      stored_views: N ≥ 1 keeps the frame features of N epochs' clips on disk, and epoch e uses
        those of epoch e mod N; 0 computes them in every step. Not with visual prompts.
    """

    data_dir: str = "records"
    train: str = ""
    evaluate: Mapping[str, str] = dataclasses.field(default_factory=dict)
    frames: int = 32
    batch_size: int = 4
    workers: int = 2
    shuffle: bool = True
    drop_remainder: bool = True
    features: str = ""
    stored_views: int = 0
    preprocess: str = "release"

    @property
    def stored(self) -> bool:
        """Whether batches hold frame features instead of frames."""
        return bool(self.features) or self.stored_views > 0

    def __post_init__(self):
        check_choice("data.preprocess", self.preprocess, PREPROCESS)
        check_ranges(
            "data",
            self,
            frames=(1, MOST_FRAMES_OF_A_VIDEO),
            batch_size=(1, MOST_FRAMES),
            workers=(0, 4096),
            stored_views=(0, 10_000),
        )
        if not self.evaluate:
            raise UserError("data.evaluate: empty, expected at least one split=list")
        for split, name in self.evaluate.items():
            check_run_name("data.evaluate", split)
            if not name or not isinstance(name, str):
                raise UserError(
                    f"data.evaluate.{split}: {brief(name)}, expected the name of a list in "
                    "data.data_dir"
                )


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW on every learnable parameter (biases too) and the release's learning-rate rule.

    Attributes:
      lr: peak learning rate. `optimizer.learning_rate` is the rule.
      epochs: passes over the training videos.
      warmup_epochs: epochs in which the rate rises from 0 to `lr`.
      cosine_epochs: epoch at which the cosine ends, counted from the start.
      min_lr_factor: share of the peak rate at which the cosine ends.
      step_interval_epochs: after the cosine, epochs between two steps of the rate.
      step_factor: what each step after the cosine multiplies the rate by.
      weight_decay: weight decay of AdamW, on every learnable parameter.
      b1: decay of AdamW's first moment.
      b2: decay of AdamW's second moment.
      eps: what AdamW adds to the root of the second moment.
      gradient_accumulation_steps: micro-batches whose mean gradient makes one update.
    """

    lr: float = 4e-4
    epochs: int = 100
    warmup_epochs: float = 5.0
    cosine_epochs: float = 25.0
    min_lr_factor: float = 0.1
    step_interval_epochs: float = 5.0
    step_factor: float = 0.5
    weight_decay: float = 0.001
    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-8
    gradient_accumulation_steps: int = 1

    def __post_init__(self):
        check_ranges(
            "optimizer",
            self,
            lr=(0, 1e38),
            epochs=(1, 10**7),
            warmup_epochs=(0, 1e9),
            cosine_epochs=(0, 1e9),
            min_lr_factor=(0, 1e9),
            step_interval_epochs=(0, 1e9),
            step_factor=(0, 1e9),
            weight_decay=(0, 1e9),
            eps=(0, 1e9),
            gradient_accumulation_steps=(1, 10**6),
        )
        for field in ("eps", "min_lr_factor", "step_factor", "step_interval_epochs"):
            if not getattr(self, field) > 0:
                raise UserError(f"optimizer.{field}: {getattr(self, field)}, expected more than 0")
        for field in ("b1", "b2"):
            if not 0 <= getattr(self, field) < 1:
                raise UserError(
                    f"optimizer.{field}: {getattr(self, field)}, expected 0 or more and less than 1"
                )


@dataclasses.dataclass(frozen=True)
class MemoryConfig:
    """How a training step uses memory; results stay the same up to float32 rounding.

    Attributes:
      remat: what the towers compute again in the backward pass: everything inside a "block",
        everything but the products that it needs ("dots"), no product ("none"), or "auto": as
        little as the device's memory has room for.
      frame_chunks: equal parts of a device's frames, which pass the image tower one by one.
      layers: the layout of transformers: "list" (unrolled), "scan" (stacked weights, one body) or
        "auto": a scan on a TPU, where a list compiles for minutes, else a list.
      attention: "xla", "pallas" (kernels for TPUs), "cudnn" (for NVIDIA GPUs, of bfloat16), or
        "auto": those of the device where they take the tower, else "xla".
    """

    remat: str = "auto"
    frame_chunks: int = 1
    layers: str = "auto"
    attention: str = "auto"

    def __post_init__(self):
        check_choice("memory.remat", self.remat, REMAT)
        check_choice("memory.layers", self.layers, LAYOUTS)
        check_choice("memory.attention", self.attention, WAYS)
        check_ranges("memory", self, frame_chunks=(1, MOST_FRAMES_OF_A_VIDEO))


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """How splits are scored.

    Attributes:
      temporal_views: clips per video, whose scores are added: the test clip, then training draws.
      spatial_views: crops of every frame, 1 (centre) or 3.
      batch_size: videos of one batch, over all devices.
      every_epochs: epochs between two evaluations while training; 0 for only one, at the end.
      store_features: whether frame features are kept on disk for the next evaluation; without
        visual prompts only.
    """

    temporal_views: int = 1
    spatial_views: int = 1
    batch_size: int = 16
    every_epochs: int = 10
    store_features: bool = True

    def __post_init__(self):
        check_choice("evaluate.spatial_views", self.spatial_views, (1, 3))
        check_ranges(
            "evaluate",
            self,
            temporal_views=(1, 1000),
            batch_size=(1, MOST_FRAMES),
            every_epochs=(0, 10**9),
        )


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are written, and how many stay.

    Attributes:
      every_epochs: epochs between two checkpoints.
      every_steps: micro-batches between two checkpoints within an epoch; 0 for none.
      keep: the number of last checkpoints that are kept beside the best one.
    """

    every_epochs: int = 1
    every_steps: int = 0
    keep: int = 2

    def __post_init__(self):
        check_ranges(
            "checkpoint", self, every_epochs=(1, 10**9), keep=(1, 10**6), every_steps=(0, 10**12)
        )
