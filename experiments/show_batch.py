"""Draws one video as training and evaluation see it: frames, training crops, spatial views.

Examples:
  python -m experiments.show_batch --seed=36 --out=augmentations.png
  python -m experiments.show_batch --data_dir=records/hmdb51 --name=base_train --index=12 \\
      --out=batch.png
  python -m experiments.show_batch --config=experiments/configs/base_to_novel.py:hmdb51 \\
      --config.augment.flip=0 --config.data.data_dir=records --epoch=3 --draws=6 --out=batch.png

The first draws a rendered clip, as does every call without --data_dir. Rows: the view of
evaluation; a training clip for each of --draws epochs from --epoch on, exactly as training with
this seed gets it, with its box on the uncropped frame; the three spatial views of evaluation. A
--config brings its augmentation, seed, frames, preprocessing and records; flags override it. The
CLIP of the config says whether its frames are squashed and with which filter; it must be on this
machine.
"""

import tempfile
from pathlib import Path

import numpy as np
from absl import flags

from experiments.common import cli, config_flag, limit_flags
from vtd_jax.clip.preprocessing import OPENAI
from vtd_jax.clip.weights.checkpoints import read_config
from vtd_jax.errors import UserError
from vtd_jax.model.preprocess import scaling
from vtd_jax.output_checks import Output, begins, check_outputs
from vtd_jax.outputs import check_suffix
from vtd_jax.report.augmentations import augmentations_picture, clip_rows
from vtd_jax.scenes.render import render_clip, write_mp4
from vtd_jax.terminal import counted, warn
from vtd_jax.train.config import RunConfig
from vtd_jax.video.augment import Augment
from vtd_jax.video.batches import BatchSpec
from vtd_jax.video.records import Example, open_records, record_names
from vtd_jax.video.scaling.fit import PREPROCESS as WAYS
from vtd_jax.video.scaling.fit import Fit

CONFIG = config_flag.define()
flags.adopt_module_key_flags(config_flag)
flags.adopt_module_key_flags(limit_flags)
DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "what experiments.build_data wrote; a rendered clip if not given"
)
NAME = flags.DEFINE_string("name", None, "name of the list of videos")
OUT = flags.DEFINE_string("out", None, "picture to write: .png, .pdf or .svg", required=True)
FRAMES = flags.DEFINE_integer(
    "frames", None, "T, frames a clip; default: the config's, else 8", lower_bound=1
)
SIZE = flags.DEFINE_integer("size", 224, "R, side of a frame in pixels", lower_bound=1)
SEED = flags.DEFINE_integer(
    "seed", None, "seed of the draws; default: the config's, else 0", lower_bound=0
)
EPOCH = flags.DEFINE_integer("epoch", 0, "epoch of the first draw, from 0", lower_bound=0)
INDEX = flags.DEFINE_integer("index", 0, "position of the video in its list, from 0", lower_bound=0)
DRAWS = flags.DEFINE_integer(
    "draws", 4, "number of training clips to draw, one an epoch", lower_bound=0
)
PREPROCESS = flags.DEFINE_enum(
    "preprocess", None, list(WAYS), "how frames are scaled; default: the config's, else release"
)
RENDERED = "orange striped arrow"


def _is_picture(path: Path) -> bool:
    return begins(path, b"\x89PNG", b"%PDF", b"<?xml")


def main() -> str:
    """Draws the picture; returns the closing line."""
    config = None if CONFIG.value is None else RunConfig.from_dict(CONFIG.value.to_dict())
    frames = FRAMES.value or (config.data.frames if config else 8)
    seed = SEED.value if SEED.value is not None else config.seed if config else 0
    out = Path(OUT.value)
    check_suffix(out, ".png", ".pdf", ".svg", where=f"--out={out}")
    check_outputs(
        [Output("--out", out, ours=_is_picture)], [(f"--data_dir={DATA_DIR.value}", DATA_DIR.value)]
    )
    example, name = open_video(config)
    augment = config.augment if config else Augment()
    fit = chosen_fit(config)
    spec = BatchSpec(
        *("train", frames, SIZE.value),
        batch_size=1,
        seed=seed,
        sample="segments",
        augment=augment,
        fit=fit,
    )
    rows = clip_rows(example, spec, INDEX.value, range(EPOCH.value, EPOCH.value + DRAWS.value))
    out.parent.mkdir(parents=True, exist_ok=True)
    title = f"{name}: {example.file}, {counted(example.num_frames, 'frame')}"
    title += f"; {fit.describe(SIZE.value)}"
    augmentations_picture(out, rows, title)
    drawn = f"{counted(frames, 'frame')}, {counted(DRAWS.value, 'training draw')}"
    way = f"preprocess={fit.preprocess}"
    return f"wrote {out}: {example.file} ({name}), {drawn} of seed {seed}, {way}"


def chosen_fit(config: RunConfig | None) -> Fit:
    """How frames are scaled: with the squash and the filter of the config's CLIP."""
    way = PREPROCESS.value or (config.data.preprocess if config else "release")
    if config is None or (way == "release" and config.model.normalization != "clip"):
        # nothing depends on the CLIP; without a config it is one of OpenAI's
        return Fit(way)
    own, path = OPENAI, config.clip.path
    try:
        if not path:
            raise UserError("clip.path: empty")
        own = read_config(path, **config.clip.asked, download=False).preprocessing
    except UserError as error:
        warn(f"the frames are drawn as OpenAI's CLIPs take them; the config's may not: {error}")
    return Fit(**scaling(way, config.model.normalization, own))


def open_video(config: RunConfig | None) -> tuple[Example, str]:
    """The video to draw and the name of its class."""
    data_dir = DATA_DIR.value or (config.data.data_dir if config else None)
    name = NAME.value or (config.data.train if config else None)
    if data_dir is None:
        if NAME.value or INDEX.value:
            raise UserError("--data_dir is missing: --name and --index choose a video of records")
        return rendered(), RENDERED
    if not name:
        if not (known := record_names(data_dir)):
            # raises the error that names the folder's fault
            open_records(data_dir, "")
        raise UserError(
            f"--name is missing: name a list of these records; {data_dir} has "
            f"{', '.join(dict.fromkeys(known))}"
        )
    records = open_records(data_dir, name)
    if INDEX.value >= len(records):
        has = f"{counted(len(records), 'video')}, 0 to {len(records) - 1}"
        raise UserError(f"--index={INDEX.value}: {name} has {has}")
    example = records[INDEX.value]
    return example, records.class_names[example.label]


def rendered() -> Example:
    """A rendered clip of 340 × 256 pixels; every frame shows its object."""
    clip, _ = render_clip(RENDERED, np.random.default_rng(197), frames=40, size=340, irrelevant=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rendered.mp4"
        write_mp4(path, clip[:, 32:288])
        return Example(path.name, 0, len(clip), {"video": path.read_bytes()}, path.name)


if __name__ == "__main__":
    cli.run(main, __doc__)
