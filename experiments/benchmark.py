"""Measures the main job on this machine: compile time, input pipeline, feature extraction, training step.

Examples:
  python -m experiments.benchmark
  python -m experiments.benchmark --architecture=ViT-B/32 --frames=8 --rounds=5 --out=benchmark.json
  python -m experiments.benchmark --data_dir=records --records=base_train
  python -m experiments.benchmark --dtype=bfloat16 --batch=8 --device_only

All tasks run in turn in every round, so ratios hold where absolute times drift. Weights are random: speed does not
depend on them. Without --data_dir, clips of 340×256 and 300 frames are rendered and built into records of both
storages first; --device_only leaves the input pipeline out.
"""

import json
import tempfile
from functools import partial
from pathlib import Path

from absl import flags

from experiments import _cli
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.errors import UserError
from vtd_jax.files import write_text
from vtd_jax.model.config import ModelConfig
from vtd_jax.train import benchmark

_ARCHITECTURE = flags.DEFINE_string("architecture", "ViT-B/16", "one of OpenAI's names, or tiny")
_FRAMES = flags.DEFINE_integer("frames", 16, "frames a clip", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch", 1, "clips a batch", lower_bound=1)
_CLASSES = flags.DEFINE_integer("classes", 101, "classes in the codebook", lower_bound=1)
_PROMPTS = flags.DEFINE_integer("prompts", 10, "text and visual prompt tokens a layer", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "measured rounds", lower_bound=1)
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "compute dtype of the towers")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "measure these records instead of rendered ones")
_RECORDS = flags.DEFINE_string("records", None, "name of the records in --data_dir")
_DEVICE_ONLY = flags.DEFINE_bool("device_only", False, "leave the input pipeline out")
INPUT_CLIPS = 8
_OUT = flags.DEFINE_string("out", None, "also write everything as JSON here")


def main() -> str:
    """Measures, prints Markdown, writes JSON on request."""
    if (_DATA_DIR.value is None) != (_RECORDS.value is None):
        raise UserError("--data_dir and --records go together: the folder, and the name of the records in it")
    config = CLIPConfig.named(_ARCHITECTURE.value)
    size = config.image_resolution
    visual = 0 if config.is_resnet else _PROMPTS.value
    settings = ModelConfig(
        text_prompts=_PROMPTS.value,
        text_depth=config.text_layers,
        visual_prompts=visual,
        visual_depth=config.vision_layers if visual else 0,
    )
    names = [f"class number {i}" for i in range(_CLASSES.value)]
    tasks, compiling = benchmark.device_tasks(
        config, settings, dtype=_DTYPE.value, frames=_FRAMES.value, batch=_BATCH.value, names=names
    )
    clips = dict.fromkeys(tasks, _BATCH.value) | {"codebook": 0}
    with tempfile.TemporaryDirectory() as folder:
        if not _DEVICE_ONLY.value:
            tasks |= _input_tasks(Path(folder), size)
            clips |= dict.fromkeys(tasks.keys() - clips.keys(), INPUT_CLIPS)
        timings = benchmark.interleaved(tasks, clips, _ROUNDS.value)
    about = benchmark.machine() | {
        "architecture": config.architecture, "frames": _FRAMES.value, "batch": _BATCH.value, "dtype": _DTYPE.value,
        "classes": _CLASSES.value, "prompts": _PROMPTS.value, "rounds": _ROUNDS.value,
    }  # fmt: skip
    print(benchmark.markdown(timings, compiling))
    print("\n" + ", ".join(f"{key} {value}" for key, value in about.items()))
    if _OUT.value is None:
        return "measured; nothing was written (--out=FILE.json writes the numbers)"
    report = about | {"compile_seconds": compiling, "seconds": {t.task: t.seconds for t in timings}, "clips": clips}
    write_text(Path(_OUT.value), json.dumps(report, indent=2) + "\n")
    return f"wrote {_OUT.value}"


def _input_tasks(folder: Path, size: int) -> dict:
    """Batches of clips made from records by one thread: with every augmentation, and without."""
    # imported here: --device_only runs without them
    import cv2

    from vtd_jax.train.benchmark_data import rendered_records
    from vtd_jax.video.augment import Augment
    from vtd_jax.video.batches import BatchSource, BatchSpec
    from vtd_jax.video.records import open_records

    if _DATA_DIR.value is None:
        sources = rendered_records(folder)
    else:
        opened = open_records(Path(_DATA_DIR.value), _RECORDS.value)
        sources = {opened.storage: opened}
    tasks = {}
    cv2.setNumThreads(1)
    for storage, records in sources.items():
        for told, augment in (("augmented", Augment()), ("centre crop", Augment(enabled=False))):
            spec = BatchSpec(
                "train", _FRAMES.value, size, INPUT_CLIPS, epochs=10**6, sample="segments", augment=augment
            )
            batch = iter(BatchSource(records, spec))
            tasks[f"input pipeline on one core, {storage}, {told}"] = partial(next, batch)
    return tasks


if __name__ == "__main__":
    _cli.run(main, __doc__, keeps_programs=False)
