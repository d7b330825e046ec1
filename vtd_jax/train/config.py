"""All settings of a run, as a checked, frozen dataclass."""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vtd_jax.clip.hub.names import absolute
from vtd_jax.clip.source import ClipSource
from vtd_jax.errors import UserError, setting
from vtd_jax.fields import build, check_choice, check_ranges, flatten, unknown_field
from vtd_jax.fingerprints import fingerprint
from vtd_jax.model.config import ModelConfig, saved_fields
from vtd_jax.model.preprocess import check_preprocess
from vtd_jax.printable import brief
from vtd_jax.train.groups import (
    MOST_FRAMES,
    CheckpointConfig,
    DataConfig,
    EvaluateConfig,
    MemoryConfig,
    OptimizerConfig,
    check_run_name,
)
from vtd_jax.video.augment import Augment

PROTOCOLS = ("base_to_novel", "few_shot", "zero_shot", "fully_supervised")
PARALLEL = ("shard_map", "pmap")
ON_NONFINITE = ("stop", "skip")
# in a run's folder
CONFIG_FILE = "config.json"
# fields that may change when a run resumes: paths, speed, what is shown and kept
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
# fields that may differ between the hosts of one run
_OF_A_HOST = ("clip.path", "data.data_dir", "data.workers")
# fields of later versions: with the value of older runs they are left out of the fingerprint
_LATER = {
    "clip.activation": "",
    "clip.head_width": 0,
    "model.confidence": "softmax",
    "model.templates": [],
    "model.ties": "release",
    "model.votes": "confidence",
    "data.features": "",
    "data.stored_views": 0,
    "data.preprocess": "release",
}
# fields of earlier versions, and what to set instead
_FORMER = {
    "optimizer.accumulation": "was renamed, set optimizer.gradient_accumulation_steps",
    "memory.microbatches": (
        "was removed, set a smaller data.batch_size and a larger "
        "optimizer.gradient_accumulation_steps"
    ),
}
# fingerprints use the first name of a field, so that renaming it does not change them
_FIRST_NAMES = {"optimizer.gradient_accumulation_steps": "optimizer.accumulation"}
# fields that may change on resume, but on which a score depends
_SCORES = ("optimizer.epochs", "evaluate.temporal_views", "evaluate.spatial_views")
_MOST_SCALES = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The settings of a run.

    Attributes:
      name: the run's name in tables.
      protocol: "base_to_novel", "few_shot", "zero_shot" or "fully_supervised".
      shots: training videos per class, 0 for all; only reported in tables.
      seed: fixes parameters, data order, augmentation and dropout.
      parallel: "shard_map" or "pmap", which compute the same: JAX's `pmap` is a `shard_map` too.
      devices: devices used on each host, 0 for all.
      codebook_shards: devices that share the classes of one codebook and the frames of each video.
      log_every: micro-batches between two rows of metrics.
      on_nonfinite: "stop" at a loss or gradient that is not finite, or "skip" the update.
      clip, model, data, augment, optimizer, memory, evaluate, checkpoint: see their classes.
    """

    name: str
    protocol: str
    shots: int = 0
    seed: int = 0
    parallel: str = "shard_map"
    devices: int = 0
    codebook_shards: int = 1
    log_every: int = 10
    on_nonfinite: str = "stop"
    clip: ClipSource = dataclasses.field(default_factory=ClipSource)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    data: DataConfig
    augment: Augment = dataclasses.field(default_factory=Augment)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    memory: MemoryConfig = dataclasses.field(default_factory=MemoryConfig)
    evaluate: EvaluateConfig = dataclasses.field(default_factory=EvaluateConfig)
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)

    def __post_init__(self):
        check_choice("protocol", self.protocol, PROTOCOLS)
        check_choice("parallel", self.parallel, PARALLEL)
        check_choice("on_nonfinite", self.on_nonfinite, ON_NONFINITE)
        check_run_name("name", self.name)
        check_ranges(
            "",
            self,
            log_every=(1, 10**9),
            codebook_shards=(1, 10**6),
            shots=(0, 10**9),
            # what jax.random.key takes
            seed=(0, 2**63 - 1),
            devices=(0, 10**6),
        )
        self._check_sizes()
        if self.codebook_shards > 1 and self.parallel == "pmap":
            raise UserError(
                "codebook_shards: pmap has the data axis only; set "
                f"{setting('parallel', 'shard_map')} or {setting('codebook_shards', 1)}"
            )
        parts = self.codebook_shards * self.memory.frame_chunks
        if self.data.frames % parts:
            raise UserError(
                f"data.frames={self.data.frames}: cannot be split into {parts} equal parts "
                f"(codebook_shards={self.codebook_shards} × "
                f"memory.frame_chunks={self.memory.frame_chunks})"
            )
        check_preprocess(self.data.preprocess, self.model.normalization, "data.preprocess")
        if self.data.stored_views and self.model.visual_prompts:
            raise UserError(
                f"data.stored_views={self.data.stored_views}: frame features change while "
                f"{self.model.visual_prompts} visual prompts are learnt; set "
                f"{setting('data.stored_views', 0)}, or {_no_visual_prompts()}"
            )
        self._check_features()
        if self.protocol == "base_to_novel" and set(self.data.evaluate) != {"base", "novel"}:
            raise UserError(
                f"data.evaluate: splits {sorted(self.data.evaluate)}, expected base and novel for "
                "base_to_novel"
            )

    def _check_features(self) -> None:
        """Raises a `UserError` for what the features of an index do not have."""
        if not self.data.features:
            return
        where = f"data.features={self.data.features}"
        if self.model.visual_prompts:
            raise UserError(
                f"{where}: frame features change while {self.model.visual_prompts} visual prompts "
                f"are learnt; set {_no_visual_prompts()}"
            )
        if self.augment.enabled:
            raise UserError(
                f"{where}: an index has no augmented frames; set "
                f"{setting('augment.enabled', False)}, or {setting('data.stored_views')} for "
                "features of augmented ones"
            )
        if self.data.stored_views:
            raise UserError(
                f"{where}: is there beside data.stored_views={self.data.stored_views}; set "
                f"{setting('data.stored_views', 0)}"
            )

    def _check_sizes(self) -> None:
        """Raises a `UserError` for sizes beyond any machine."""
        shares = ("scale_gap", "brightness", "contrast", "saturation")
        check_ranges("augment", self.augment, **dict.fromkeys(shares, (0, 1000)))
        if (count := len(self.augment.scales)) > _MOST_SCALES:
            raise UserError(f"augment.scales: {count:,} numbers, expected at most {_MOST_SCALES}")
        for group in ("data", "evaluate"):
            videos, frames = getattr(self, group).batch_size, self.data.frames
            if videos * frames > MOST_FRAMES:
                raise UserError(
                    f"{group}.batch_size={videos} with data.frames={frames}: {videos * frames:,} "
                    f"frames a batch, expected at most {MOST_FRAMES:,}"
                )

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "RunConfig":
        """Reads nested fields, such as a ConfigDict's `to_dict()`.

        A field that is missing in a group takes its default.

        Raises:
          UserError: unknown, missing, mistyped or meaningless fields, by their full name.
        """
        for name in _FORMER:
            group, _, field = name.partition(".")
            if isinstance(given := fields.get(group), Mapping) and field in given:
                raise UserError(no_such_field(name, ()))
        return build(cls, fields, whole=True)

    @classmethod
    def from_saved(cls, fields: Mapping[str, Any]) -> "RunConfig":
        """Reads the fields that this or an earlier version saved.

        Raises:
          UserError: as `from_dict`, or `memory.microbatches` of an earlier version is not 1.
        """
        fields = dict(fields)
        if isinstance(model := fields.get("model"), Mapping):
            fields["model"] = saved_fields(model)
        optimizer, memory = fields.get("optimizer"), fields.get("memory")
        if isinstance(optimizer, Mapping) and "gradient_accumulation_steps" not in optimizer:
            names = {"accumulation": "gradient_accumulation_steps"}
            fields["optimizer"] = {names.get(key, key): optimizer[key] for key in optimizer}
        if isinstance(memory, Mapping) and "microbatches" in memory:
            if (parts := memory["microbatches"]) != 1:
                raise UserError(
                    f"memory.microbatches: {brief(parts)}, was removed; set it to 1 here, which "
                    "takes more memory and changes no result, or start another run with a smaller "
                    "data.batch_size and a larger optimizer.gradient_accumulation_steps"
                )
            fields["memory"] = {key: memory[key] for key in memory if key != "microbatches"}
        return cls.from_dict(fields)

    def to_dict(self) -> dict[str, Any]:
        """Nested fields for JSON; `from_dict` reads them."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def on_other_videos(self, other: "RunConfig", changes: Mapping[str, Any]) -> "RunConfig":
        """A config that evaluates this run on the videos and names of another config.

        CLIP, model, preprocessing, seed and training list are this run's, the rest is the other's.
        `changes`, by full name, come last.

        Raises:
          UserError: the other config has templates that this run did not learn with.
        """
        templates = other.model.templates if "model.templates" not in changes else ()
        if templates and templates != self.model.templates:
            raise UserError(
                f"config {other.name}: its {len(templates)} templates are for zero-shot CLIP, but "
                f"{self.name} learnt with others; leave templates=… out, or give another "
                f"{setting('workdir')}"
            )
        data = dataclasses.replace(other.data, preprocess=self.data.preprocess)
        mine = dataclasses.replace(
            other, clip=self.clip, model=self.model, data=data, seed=self.seed, shots=self.shots
        )
        return mine.with_changes({"data.train": self.data.train} | dict(changes))

    def with_changes(self, changes: Mapping[str, Any]) -> "RunConfig":
        """The same run with other values of some fields, by full name.

        Raises:
          UserError: no such field, or an invalid value.
        """
        fields = self.to_dict()
        known = flatten(fields)
        for name, value in changes.items():
            # a mapping of splits has any keys
            if name not in known and not name.startswith("data.evaluate"):
                raise UserError(no_such_field(name, known))
            *groups, last = name.split(".")
            group = fields
            for key in groups:
                group = group[key]
            group[last] = value
        return RunConfig.from_dict(fields)

    def anywhere(self) -> "RunConfig":
        """The same run with absolute paths of CLIP and records; names of CLIPs stay names."""
        clip, data = self.clip, self.data
        clip = dataclasses.replace(clip, path=absolute(clip.path))
        data = dataclasses.replace(data, data_dir=str(Path(data.data_dir).absolute()))
        return dataclasses.replace(self, clip=clip, data=data)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of all settings that can change a result."""
        flat = flatten(self.to_dict())
        fields = {
            _FIRST_NAMES.get(k, k): v
            for k, v in flat.items()
            if (not _free(k) or k in _SCORES) and _LATER.get(k, ...) != v
        }
        return fingerprint(fields)

    @property
    def everywhere(self) -> str:
        """The settings that must be equal on all hosts of a run, as text."""
        fields = {k: v for k, v in flatten(self.to_dict()).items() if k not in _OF_A_HOST}
        return json.dumps(fields, sort_keys=True)

    def differences(self, other: "RunConfig") -> list[str]:
        """`field: mine -> theirs` for fields that must not change on resume."""
        mine, theirs = flatten(self.to_dict()), flatten(other.to_dict())
        keys = [key for key in mine | theirs if not _free(key) and mine.get(key) != theirs.get(key)]
        return [f"{key}: {mine.get(key)!r} -> {theirs.get(key)!r}" for key in keys]


def former_field(text: str) -> str:
    """What to set instead of a field of earlier versions that a text names; "" if it names none."""
    for name, instead in _FORMER.items():
        if re.search(rf"\b{name.rpartition('.')[2]}\b", text):
            return f"unknown config field {name}: {instead}"
    return ""


def _no_visual_prompts() -> str:
    return f"{setting('model.visual_prompts', 0)} and {setting('model.visual_depth', 0)}"


def no_such_field(name: str, known: Iterable[str]) -> str:
    """The error message for an unknown field, with what to set instead."""
    return former_field(name) if name in _FORMER else unknown_field(name, known)


def _free(key: str) -> bool:
    return any(
        key == free or (free.endswith(".") and key.startswith(free)) for free in FREE_ON_RESUME
    )
