"""Exports a trained model: .safetensors (this package), .pth (the authors' code) or .served.

    python -m experiments.export --workdir=runs/hmdb51 --checkpoint=best --out=hmdb51.safetensors
    python -m experiments.export --workdir=runs/hmdb51 --out=hmdb51.pth --with_clip
    python -m experiments.export --checkpoint=hmdb51.safetensors --out=hmdb51.pth
    python -m experiments.export --checkpoint=authors.pth --out=authors.safetensors \\
        --config=experiments/configs/base_to_novel.py:hmdb51 --config.clip.path=ViT-B-16.pt
    python -m experiments.export --workdir=runs/hmdb51 --out=hmdb51.served
    python -m experiments.export --checkpoint=ViT-B-16.pt --labels="arm wrestling,hugging" \\
        --out=two.served

A .safetensors holds the trained parameters, the model's settings, the class names and the CLIP's
fingerprint, not the CLIP; `vtd_jax.model.saved.tuned.load_tuned(FILE, clip=…)` loads it. A .pth
holds {"model": state dict} in the authors' names, each after `module.`, as their script saves them.
It holds no settings: give those of the run where it is used (a warning names preprocess=clip). A
.served is a folder with a program, weights and labels that runs without this package, on a CPU, GPU
or TPU. If the CLIP or the records have moved, give --config.clip.path=… or
--config.data.data_dir=….
"""

from pathlib import Path

from absl import flags

from experiments.common import cli, config_flag, download_flag
from experiments.export import source
from vtd_jax.errors import UserError
from vtd_jax.locks import locked_outputs
from vtd_jax.model.preprocess import PREPROCESS as PREPROCESSES
from vtd_jax.model.saved.release_files import save_release
from vtd_jax.model.saved.tuned import SUFFIX
from vtd_jax.output_checks import Output, check_outputs, weights_read
from vtd_jax.outputs import check_suffix
from vtd_jax.terminal import counted
from vtd_jax.train import from_config
from vtd_jax.train.config import CONFIG_FILE, RunConfig
from vtd_jax.train.learnt import checkpoint_file

CONFIG = config_flag.define()
flags.adopt_module_key_flags(config_flag)
flags.adopt_module_key_flags(download_flag)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "folder of a run; not needed where --checkpoint is a file"
)
CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    "last",
    "checkpoint of the workdir, last, best or a step; or a .safetensors or .pth file; a .served "
    "may also be of a CLIP (file or name) or tiny",
)
OUT = flags.DEFINE_string(
    "out", None, "what to write, .safetensors, .pth or .served; replaced if there", required=True
)
WITH_CLIP = flags.DEFINE_bool(
    "with_clip", False, "a .pth also holds the frozen CLIP and the class names' embeddings"
)
LABELS = flags.DEFINE_string(
    "labels", None, "of a .served: a,b,c or a file, one a line; default: the names learnt"
)
FRAMES = flags.DEFINE_integer(
    "frames", None, "of a .served: frames a video; default: the run's, 16 for a bare CLIP"
)
PREPROCESS = flags.DEFINE_enum(
    "preprocess",
    None,
    list(PREPROCESSES),
    "of a .served of a CLIP: how frames are scaled and cropped; default: clip",
)
TARGETS = flags.DEFINE_list(
    "platforms", ["cpu", "cuda", "tpu"], "of a .served: platforms that it is to run on"
)


def check_out(out: Path) -> None:
    """Refuses flags that do not fit each other, before anything is read."""
    check_suffix(out, SUFFIX, ".pth", source.SUFFIX, where=f"--out={out}")
    if out.is_dir() and out.suffix != source.SUFFIX:
        raise UserError(f"--out={out}: is a folder, expected the name of a file")
    if out.suffix != ".pth" and WITH_CLIP.value:
        raise UserError(f"--out={out}: --with_clip is for the authors' format, .pth")
    for name in ("labels", "frames", "platforms", "preprocess"):
        if out.suffix != source.SUFFIX and flags.FLAGS[name].present:
            raise UserError(f"--out={out}: --{name} is for {source.SUFFIX}")


def check_inputs(out: Path, which: str, config: RunConfig | None) -> None:
    """Refuses to replace an input: the checkpoint, the CLIP, the labels, or a part of the run."""
    path = None if config is None else config.clip.path
    # if the settings come from the checkpoint, messages still name --checkpoint
    labels = (f"--labels={LABELS.value}", LABELS.value)
    inputs = [*weights_read("--checkpoint", which), config_flag.given_file(), labels]
    inputs += weights_read("--config.clip.path", path)
    output = Output("--out", out, out.suffix == source.SUFFIX, source.is_exported, whole=True)
    check_outputs([output], [*inputs, (f"--workdir={WORKDIR.value}", WORKDIR.value)])


def check_source(out: Path, file: Path | None) -> None:
    """Refuses flags that do not name exactly one run or file."""
    if file is None and WORKDIR.value is None:
        raise UserError("--workdir is needed: the folder of a run; or give --checkpoint=FILE")
    own = Path(WORKDIR.value or "") / CONFIG_FILE
    if file is None and CONFIG.value is not None and Path(config_flag.filename()) != own:
        raise UserError(
            "--config: a run is exported with its own settings; leave it out (--config.FIELD=… "
            "is fine)"
        )
    if CONFIG.value is None:
        lacking = f"{own}: no such file" if file is None else f"{file}: has no settings"
        raise UserError(
            f"{lacking}; give the workdir of a run, or a .pth with the --config=… that fits it"
        )


def main() -> str:
    """Loads the trained model and exports it."""
    out, which = Path(OUT.value), CHECKPOINT.value
    check_out(out)
    config = None if CONFIG.value is None else RunConfig.from_dict(CONFIG.value.to_dict())
    check_inputs(out, which, config)
    serves = out.suffix == source.SUFFIX
    wanted = source.wanted(out, LABELS.value, FRAMES.value, TARGETS.value) if serves else None
    if wanted and (clip := source.zero_shot(which, WORKDIR.value, config, PREPROCESS.value)):
        return source.write(wanted, clip)
    if PREPROCESS.value is not None:
        raise UserError(
            f"--preprocess={PREPROCESS.value}: is for a .served of --checkpoint=CLIP; a config has "
            "data.preprocess, and what was learnt keeps that of its training"
        )
    file = checkpoint_file(which)
    check_source(out, file)
    model = from_config.build_model(config)
    learnt = source.load(model, config, file or Path(WORKDIR.value), which)
    if wanted:
        return source.write(wanted, source.configured(config, model, learnt))
    with locked_outputs([("--out", out, False)]):
        if out.suffix == SUFFIX:
            held = source.write_tuned(out, model, config, learnt)
        else:
            source.note_preprocess(out, model)
            names = learnt.class_names
            count = save_release(out, model, with_clip=WITH_CLIP.value, class_names=names)
            held = f"{counted(count, 'tensor')} in the authors' names"
    return f"wrote {out}: {learnt.description}, {held}, {out.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
    source.use_saved()
    cli.run(main, __doc__, device=True)
