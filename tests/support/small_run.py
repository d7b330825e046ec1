"""A run small enough for tests: coloured mp4 clips as records, a CLIP of random weights as a file,
a config.
"""

import csv
import os
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from ml_collections import ConfigDict

from experiments.configs import _base
from support import warm
from support.helpers import random_state
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.weights.checkpoints import save_clip
from vtd_jax.model.vtd_clip import learnable
from vtd_jax.train import from_config as parts
from vtd_jax.train import loop
from vtd_jax.train.config import RunConfig
from vtd_jax.train.workdir import prepare_workdir
from vtd_jax.trees import flatten_arrays
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.records import build_records

ROOT = Path(__file__).resolve().parents[2]
SMALL = CLIPConfig(32, 32, 1, 64, 16, 64, text_layers=1)
COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 30),
    "blue": (30, 30, 220),
    "white": (240, 240, 240),
    "black": (9, 9, 9),
}
BASE, NOVEL = ("red", "green", "blue"), ("white", "black")
# records -> class names, videos
LISTS = {"base_train": (BASE, 10), "base_val": (BASE, 5), "novel_val": (NOVEL, 3)}


def build(folder: Path) -> Path:
    """Writes `records/` and `clip.safetensors` under `folder`."""
    for name, (classes, count) in LISTS.items():
        videos = folder / name
        videos.mkdir(parents=True)
        for number in range(count):
            _write_clip(videos / f"{number}.mp4", COLOURS[classes[number % len(classes)]], number)
        lines = (f"{number}.mp4 {number % len(classes)}\n" for number in range(count))
        (videos / f"{name}.txt").write_text("".join(lines))
        labels = "".join(f"{place},{label}\n" for place, label in enumerate(classes))
        (videos / "labels.csv").write_text("id,name\n" + labels)
        config = BuildConfig(
            name=name,
            lists=((str(videos / f"{name}.txt"), str(videos / "labels.csv")),),
            video_dir=str(videos),
            short_side=40,
            workers=1,
        )
        build_records(config, folder / "records")
    save_clip(folder / "clip.safetensors", SMALL, random_state(SMALL))
    return folder


def config(folder: Path, **changes) -> ConfigDict:
    """A locked config of two epochs on what `build` wrote; changes by full name, dots as two
    underscores.
    """
    run = _base.base_config(
        name="small",
        protocol="base_to_novel",
        data_dir=str(folder / "records"),
        train="base_train",
        evaluate={"base": "base_val", "novel": "novel_val"},
    )
    run.clip.update(path=str(folder / "clip.safetensors"), architecture="")
    run.model.update(text_prompts=2, text_depth=1, visual_prompts=1, visual_depth=1)
    run.data.update(frames=2, batch_size=4, workers=0, drop_remainder=False)
    run.optimizer.update(lr=1e-2, epochs=2, warmup_epochs=1.0, cosine_epochs=2.0)
    run.evaluate.update(batch_size=4, every_epochs=1)
    run.checkpoint.keep = 9
    run.update(log_every=1, devices=1)
    run.update_from_flattened_dict(
        {name.replace("__", "."): value for name, value in changes.items()}
    )
    return run


def run_config(folder: Path, **changes) -> RunConfig:
    """`config` as the loop takes it."""
    return RunConfig.from_dict(config(folder, **changes).to_dict())


def train(
    run: RunConfig, workdir: Path, *, resume=False, override=False, **others
) -> loop.Finished:
    """One call of the loop, as the training command makes it."""
    prepare_workdir(workdir, run, resume, override)
    records, model = parts.open_training(run), parts.build_model(run)
    return loop.train(run, model, records, workdir, resume=resume, override=override, **others)


def learnt(model) -> dict[str, np.ndarray]:
    """What is learnable, by name."""
    return flatten_arrays(learnable(model))


def rows(workdir: Path) -> list[dict[str, str]]:
    """The rows of `metrics.csv`."""
    with (workdir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _write_clip(path: Path, colour: tuple[int, int, int], seed: int, frames: int = 6) -> None:
    """A noisy clip of one colour, 48 × 40."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 48, 40, "yuv420p"
        for _ in range(frames):
            image = np.clip(np.array(colour) + rng.normal(0, 25, (40, 48, 3)), 0, 255).astype(
                np.uint8
            )
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def where(folder: Path) -> list[str]:
    """Fields that say where the small records and the small CLIP are."""
    return [
        f"data.data_dir={folder / 'records'}",
        f"clip.path={folder / 'clip.safetensors'}",
        "data.workers=0",
    ]


def flags(folder: Path) -> list[str]:
    """Command-line flags of a small few-shot run."""
    fields = [
        *where(folder),
        "data.frames=2",
        "model.text_prompts=2",
        "model.normalization=imagenet",
    ]
    source = "experiments/configs/video_folder.py:train=base_train,evaluate=base_val"
    return [f"--config={source}", *(f"--config.{field}" for field in fields)]


def command(name: str, *arguments: str) -> subprocess.CompletedProcess:
    """Runs `python -m experiments.NAME` on one device, with warnings shown."""
    environment = dict(os.environ, XLA_FLAGS=warm.xla_flags(), JAX_PLATFORMS="cpu", COLUMNS="120")
    return warm.run(["-m", f"experiments.{name}", *arguments], environment)
