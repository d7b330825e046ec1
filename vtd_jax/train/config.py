"""A run's settings as typed, checked, frozen dataclasses: what a config file becomes before
anything is computed.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtd_jax.clip.config import ACTIVATIONS
from vtd_jax.clip.stack import LAYOUTS
from vtd_jax.errors import UserError, setting
from vtd_jax.model.config import ModelConfig, saved_fields
from vtd_jax.printable import brief
from vtd_jax.train.fields import build, flatten, unknown_field
from vtd_jax.train.ranges import check_ranges, check_run_name, check_sizes
from vtd_jax.train.step import OptimizerConfig
from vtd_jax.video.augment import Augment

PROTOCOLS = ("base_to_novel", "few_shot", "zero_shot", "fully_supervised")
PARALLEL = ("shard_map", "pmap")
REMAT = ("none", "block", "dots")
ON_NONFINITE = ("stop", "skip")
# fields that may differ between a run and its continuation: where things lie, how fast, how much is
# shown and kept
FREE_ON_RESUME = (
    "name",
    "parallel",
    "devices",
    "codebook_shards",
    "log_every",
    "on_nonfinite",
    "memory.",
    "clip.path",
    "data.data_dir",
    "data.evaluate.",
    "data.workers",
    "optimizer.epochs",
    "evaluate.",
    "checkpoint.",
)
# may differ between the hosts of one run: where things lie, and how many processes read them
_OF_A_HOST = ("clip.path", "data.data_dir", "data.workers")
# fields that came later: at the value that older runs ran with they leave the fingerprint as it was
_LATER = {
    "clip.activation": "",
    "clip.head_width": 0,
    "model.confidence": "softmax",
    "model.templates": [],
    "model.ties": "release",
    "data.stored_views": 0,
}
# of the fields free on resume, the ones that a score depends on
_SCORES = ("optimizer.epochs", "evaluate.temporal_views", "evaluate.spatial_views")


@dataclasses.dataclass(frozen=True)
class ClipSource:
    """Which CLIP.

    Attributes:
      path: of a checkpoint, or "tiny" for the one that ships.
      architecture: that it must have, as "ViT-B/16"; "" for any.
      dtype: that its towers compute in, "float32" or "bfloat16".
      activation: for weights that do not say it themselves; "" for what they say.
      head_width: of the image tower, likewise; 0 for what they say.
    """

    path: str = ""
    architecture: str = "ViT-B/16"
    dtype: str = "float32"
    activation: str = ""
    head_width: int = 0

    def __post_init__(self):
        _choice("clip.dtype", self.dtype, ("float32", "bfloat16"))
        _choice("clip.activation", self.activation, ("", *ACTIVATIONS))
        check_ranges("clip", self)

    @property
    def asked(self) -> dict[str, Any]:
        """`activation` and `head_width` as `load_clip` takes them, None for not given."""
        return {"activation": self.activation or None, "head_width": self.head_width or None}


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Records and batches.

    Attributes:
      data_dir: what `experiments.build_data --data_dir` wrote, or a folder of records in it.
      train: name of the training list; "" where nothing is learnt.
      evaluate: split -> name of its list, in the table's order.
      frames: T, frames sampled from each video.
      batch_size: videos of one micro-batch, over all devices.
      workers: decoding processes; 0 decodes in this one.
      shuffle: whether every epoch has an order of its own.
      drop_remainder: whether an epoch's last, smaller batch is left out (else it is padded with
        weight 0).
      stored_views: N ≥ 1: frame features of N epochs' clips are computed once and kept on disk, and
        epoch e learns on those of epoch e mod N; 0 computes them in every step. Not while visual
        prompts are learnt.
    """

    data_dir: str = "records"
    train: str = ""
    evaluate: Mapping[str, str] = dataclasses.field(default_factory=dict)
    frames: int = 32
    batch_size: int = 4
    workers: int = 0
    shuffle: bool = True
    drop_remainder: bool = True
    stored_views: int = 0

    def __post_init__(self):
        check_ranges("data", self)
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
class MemoryConfig:
    """What a training step keeps in memory; the numbers stay the same to float32 rounding.

    Attributes:
      remat: what the towers compute again in the backward pass: "none" of it, everything inside a
        "block", or all but the results of matrix products ("dots").
      microbatches: equal parts of a device's videos that go through one after another, their
        gradients added up.
      frame_chunks: equal parts of a device's frames that go through the image tower one after
        another.
      layers: how transformers are laid out: "list" (one program as long as the tower), "scan"
        (stacked weights, one body) or "auto": a list on a CPU, where it is faster, else a scan,
        which compiles in a fraction of the time.
    """

    remat: str = "none"
    microbatches: int = 1
    frame_chunks: int = 1
    layers: str = "auto"

    def __post_init__(self):
        _choice("memory.remat", self.remat, REMAT)
        _choice("memory.layers", self.layers, LAYOUTS)
        check_ranges("memory", self)


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """How splits are scored.

    Attributes:
      temporal_views: clips of a video whose scores are added up: the test clip, then draws as in
        training.
      spatial_views: crops of every frame, 1 (centre) or 3.
      batch_size: videos of one batch, over all devices.
      every_epochs: epochs between two evaluations while training; 0: only at the end.
      store_features: whether frame features are kept on disk for the next evaluation, where no
        visual prompt changes them.
    """

    temporal_views: int = 1
    spatial_views: int = 1
    batch_size: int = 16
    every_epochs: int = 10
    store_features: bool = True

    def __post_init__(self):
        _choice("evaluate.spatial_views", self.spatial_views, (1, 3))
        check_ranges("evaluate", self)


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are written, and how many stay.

    Attributes:
      every_epochs: epochs between two checkpoints.
      every_steps: micro-batches between two checkpoints within an epoch; 0: none there.
      keep: how many of the last are kept beside the best.
    """

    every_epochs: int = 1
    every_steps: int = 0
    keep: int = 2

    def __post_init__(self):
        check_ranges("checkpoint", self)


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that fixes a run.

    Attributes:
      name: what tables call the run.
      protocol: "base_to_novel", "few_shot", "zero_shot" or "fully_supervised".
      shots: training videos a class, 0 for all; only told in tables.
      seed: of parameters, data order, augmentation and dropout.
      parallel: "shard_map" or "pmap", two spellings of one program.
      devices: devices used on each host, 0 for all.
      codebook_shards: devices that share the classes of one copy of the codebook, and the frames of
        each video.
      log_every: micro-batches between two rows of metrics.
      on_nonfinite: "stop" at a loss or gradient that is not finite, or "skip" the update and count
        it.
      clip, model, data, augment, optimizer, memory, evaluate, checkpoint: see their classes.
    """

    name: str
    protocol: str
    shots: int
    seed: int
    parallel: str
    devices: int
    codebook_shards: int
    log_every: int
    on_nonfinite: str
    clip: ClipSource
    model: ModelConfig
    data: DataConfig
    augment: Augment
    optimizer: OptimizerConfig
    memory: MemoryConfig
    evaluate: EvaluateConfig
    checkpoint: CheckpointConfig

    def __post_init__(self):
        _choice("protocol", self.protocol, PROTOCOLS)
        _choice("parallel", self.parallel, PARALLEL)
        _choice("on_nonfinite", self.on_nonfinite, ON_NONFINITE)
        check_run_name("name", self.name)
        check_ranges("", self)
        check_sizes(self)
        if self.codebook_shards > 1 and self.parallel == "pmap":
            raise UserError(
                "codebook_shards: pmap has the data axis only; set parallel=shard_map or "
                "codebook_shards=1"
            )
        parts = self.codebook_shards * self.memory.frame_chunks
        if self.data.frames % parts:
            raise UserError(
                f"data.frames={self.data.frames}: cannot be split into {parts} equal parts "
                f"(codebook_shards={self.codebook_shards} × "
                f"memory.frame_chunks={self.memory.frame_chunks})"
            )
        if self.data.stored_views and self.model.visual_prompts:
            raise UserError(
                f"data.stored_views={self.data.stored_views}: frame features change while "
                f"{self.model.visual_prompts} visual prompts are learnt; set data.stored_views=0, "
                "or model.visual_prompts=0 and model.visual_depth=0"
            )
        if self.protocol == "base_to_novel" and set(self.data.evaluate) != {"base", "novel"}:
            raise UserError(
                f"data.evaluate: splits {sorted(self.data.evaluate)}, expected base and novel for "
                "base_to_novel"
            )

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "RunConfig":
        """Reads nested fields (a ConfigDict's `to_dict()`, or JSON).

        Raises:
          UserError: unknown, missing, mistyped or meaningless fields, by their full name. A missing
            field that has a default takes it: it came later, and older runs ran with that; for
            `model.ties` that is "release".
        """
        if isinstance(model := fields.get("model"), Mapping):
            fields = {**fields, "model": saved_fields(model)}
        return build(cls, fields)

    def to_dict(self) -> dict[str, Any]:
        """Nested, JSON-able fields; `from_dict` reads them back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def on_other_videos(self, other: "RunConfig", changes: Mapping[str, Any]) -> "RunConfig":
        """What this run learnt, on the videos and names of another config.

        CLIP, model, seed and what was learnt on are this run's, the rest is the other's; `changes`,
        by full name as on the command line, come last.

        Raises:
          UserError: the other config has templates that this run did not learn with.
        """
        asked = other.model.templates if "model.templates" not in changes else ()
        if asked and asked != self.model.templates:
            raise UserError(
                f"config {other.name}: its {len(asked)} templates are for CLIP as it is, not for "
                f"what {self.name} learnt with; leave templates=… out, or take another "
                f"{setting('workdir')}"
            )
        mine = dataclasses.replace(
            other, clip=self.clip, model=self.model, seed=self.seed, shots=self.shots
        )
        return mine.with_changes({"data.train": self.data.train} | dict(changes))

    def with_changes(self, changes: Mapping[str, Any]) -> "RunConfig":
        """The same run with some fields, by their full names, set to other values.

        Raises:
          UserError: no such field, or a value that it does not take.
        """
        fields = self.to_dict()
        known = flatten(fields)
        for name, value in changes.items():
            # a mapping of splits has keys of its own
            if name not in known and not name.startswith("data.evaluate"):
                raise UserError(unknown_field(name, known))
            *groups, last = name.split(".")
            group = fields
            for key in groups:
                group = group[key]
            group[last] = value
        return RunConfig.from_dict(fields)

    def anywhere(self) -> "RunConfig":
        """The same run with the paths of its CLIP and records absolute: relative ones are of the
        folder it is in.
        """
        clip, data = self.clip, self.data
        if clip.path not in ("", "tiny"):
            clip = dataclasses.replace(clip, path=str(Path(clip.path).absolute()))
        data = dataclasses.replace(data, data_dir=str(Path(data.data_dir).absolute()))
        return dataclasses.replace(self, clip=clip, data=data)

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that change with any setting that can change a result."""
        flat = flatten(self.to_dict())
        fields = {
            k: v
            for k, v in flat.items()
            if (not _free(k) or k in _SCORES) and _LATER.get(k, ...) != v
        }
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def everywhere(self) -> str:
        """All that the hosts of one run must have alike, as text."""
        fields = {k: v for k, v in flatten(self.to_dict()).items() if k not in _OF_A_HOST}
        return json.dumps(fields, sort_keys=True)

    def differences(self, other: "RunConfig") -> list[str]:
        """`field: mine -> theirs` for fields that a continuation may not change."""
        mine, theirs = flatten(self.to_dict()), flatten(other.to_dict())
        keys = [key for key in mine | theirs if not _free(key) and mine.get(key) != theirs.get(key)]
        return [f"{key}: {mine.get(key)!r} -> {theirs.get(key)!r}" for key in keys]


def _free(key: str) -> bool:
    return any(
        key == free or (free.endswith(".") and key.startswith(free)) for free in FREE_ON_RESUME
    )


def _choice(field: str, value: Any, allowed: tuple) -> None:
    if value not in allowed:
        raise UserError(f"{field}: {brief(value)}, expected one of {', '.join(map(str, allowed))}")
