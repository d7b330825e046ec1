"""What `experiments.aot` compiles: benchmark configs at the release's batch, and their names."""

from pathlib import Path
from typing import Any

import jax

from experiments.configs import base_to_novel, few_shot, fully_supervised, zero_shot
from vtd_jax.cost.programs import Names, Step, abstract_model
from vtd_jax.cost.topology import Target
from vtd_jax.errors import UserError
from vtd_jax.train.config import RunConfig
from vtd_jax.video.records import open_records

# (data set, half) -> classes, positions of the longest bare name, and of the longest prompt beside
# the learnt tokens; counted with vtd_jax.clip.tokenizer on the label files of ViFi-CLIP
# (Kinetics-600: the longest of its three splits)
BENCHMARK_NAMES = {
    ("hmdb51", "all"): (51, 6, 7),
    ("hmdb51", "base"): (26, 4, 5),
    ("hmdb51", "novel"): (25, 6, 7),
    ("ucf101", "all"): (101, 7, 8),
    ("ucf101", "base"): (51, 7, 8),
    ("ucf101", "novel"): (50, 7, 8),
    ("ssv2", "all"): (174, 20, 21),
    ("ssv2", "base"): (87, 15, 16),
    ("ssv2", "novel"): (87, 20, 21),
    ("kinetics400", "all"): (400, 10, 10),
    ("kinetics400", "base"): (200, 10, 10),
    ("kinetics400", "novel"): (200, 9, 9),
    ("kinetics600", "all"): (160, 7, 8),
}
POSITIONS = 77


def benchmark_configs() -> list[RunConfig]:
    """Every benchmark config, see `in_one_step` for its batch."""
    found = [base_to_novel.get_config(dataset) for dataset in base_to_novel.RELEASE]
    found += [
        few_shot.get_config(f"{dataset},shots={shots}") for dataset, shots in few_shot.RELEASE
    ]
    found += [
        fully_supervised.get_config(),
        *(zero_shot.get_config(dataset) for dataset in zero_shot.OFFICIAL),
    ]
    return [RunConfig.from_dict(config.to_dict()) for config in found]


SETTINGS = {
    "batch": (
        "the release's effective one (batch × accumulation steps) in one step, padded to equal "
        "parts; on one device the release's batch, one of these steps"
    ),
    "clip.dtype": "bfloat16",
    "memory.remat": "auto",
}


def in_one_step(config: RunConfig, devices: int) -> RunConfig:
    """A benchmark config with the settings of the table, see `SETTINGS`."""
    changes: dict[str, Any] = {"clip.dtype": "bfloat16", "memory.remat": "auto"}
    if devices > 1:
        videos = config.data.batch_size * config.optimizer.gradient_accumulation_steps
        changes |= {"data.batch_size": videos, "optimizer.gradient_accumulation_steps": 1}
    return config.with_changes(changes)


def known_names(config: RunConfig) -> tuple[Names | None, Names]:
    """Class names learnt and evaluated on, of a benchmark's data set.

    Raises:
      UserError: another data set.
    """
    dataset = Path(config.data.data_dir).name

    def names(part: str) -> Names:
        if (dataset, part) not in BENCHMARK_NAMES:
            raise UserError(
                f"data.data_dir={config.data.data_dir}: is no folder and no benchmark's, so its "
                "class names are not known; give the folder of the records, or --classes and "
                "--tokens"
            )
        if config.model.templates:
            raise UserError(
                f"model.templates: how long the class names of {dataset} are in these templates "
                "is not known; give the folder of the records (--config.data.data_dir=…), or "
                "--classes and --tokens"
            )
        classes, bare, around = BENCHMARK_NAMES[dataset, part]
        prompts = config.model.text_prompts
        return Names(classes, prompts + around if prompts else bare)

    halves = config.protocol == "base_to_novel"
    learnt = names("base" if halves else "all") if config.data.train else None
    return learnt, max(names(split) for split in (("base", "novel") if halves else ("all",)))


def recorded_names(config: RunConfig) -> tuple[Names | None, Names]:
    """The same, from records."""
    model = abstract_model(config)

    def names(name: str) -> Names:
        return Names.of_classes(model, open_records(config.data.data_dir, name).class_names)

    return names(config.data.train) if config.data.train else None, max(
        map(names, config.data.evaluate.values())
    )


def signature(step: Step, target: Target, config: RunConfig) -> tuple:
    """A key for programs of equal cost; learning rates and lists are not part of it."""
    shapes = tuple((x.shape, str(x.dtype)) for x in jax.tree.leaves(step.arguments))
    clip = config.clip.architecture, config.clip.dtype
    settings = str((*clip, config.model, config.memory, config.codebook_shards))
    return target.name, step.kind, step.names, shapes, settings, config.on_nonfinite
