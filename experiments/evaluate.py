"""Evaluates a trained run, a file of parameters, or CLIP as it is, and writes the table.

    python -m experiments.evaluate --workdir=runs/hmdb51
    python -m experiments.evaluate --workdir=runs/hmdb51 --checkpoint=best \\
        --config.evaluate.temporal_views=4
    python -m experiments.evaluate --workdir=runs/exported --checkpoint=hmdb51.safetensors
    python -m experiments.evaluate --workdir=runs/authors --checkpoint=authors.pth \\
        --config=experiments/configs/base_to_novel.py:hmdb51 --config.clip.path=ViT-B-16.pt
    python -m experiments.evaluate --workdir=runs/hmdb51_zero \\
        --config=experiments/configs/zero_shot.py:hmdb51 \\
        --config.clip.path=ViT-B-16.pt --config.data.data_dir=records/hmdb51
    python -m experiments.evaluate --workdir=runs/k400 \\
        --config=experiments/configs/zero_shot.py:hmdb51
    python -m experiments.evaluate --workdir=runs/vifi --rival=vifi --checkpoint=vifi.pth \\
        --config=experiments/configs/zero_shot.py:hmdb51 --config.clip.path=ViT-B-16.pt

Without --config the settings are the run's own, or those in an exported file. With --config, a
workdir without checkpoints is evaluated with nothing learnt; one with checkpoints, and an exported
file, lend what they learnt (and their model settings) to the videos and names of that config; a
.pth has no settings, so the config's must fit (the authors' code learns and evaluates with what is
--config.model.ties=release here). With --rival the file is another method's, which brings its own
model settings and scaling of frames, on the CLIP that it was tuned from. The column ties is the
share of videos in which several classes have the most votes to rounding. Writes results.md, .csv,
.json, _per_class.csv, _confusions.csv and _scores.npz into the workdir (results_NAME.* where a
run's model was lent to the videos of config NAME, or where a file NAME was evaluated in the workdir
of a run).
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from absl import flags

from experiments.common import config_flag, download_flag, hosts, limit_flags, runs
from experiments.common.evaluation import stem_of
from vtd_jax.backend import describe_devices
from vtd_jax.console.status import Line
from vtd_jax.errors import UserError
from vtd_jax.evaluate.outputs import fit_of
from vtd_jax.evaluate.scores import SUFFIX as SUFFIX_OF_SCORES
from vtd_jax.evaluate.tables import headline
from vtd_jax.locks import locked_outputs
from vtd_jax.model.saved.tuned import SUFFIX, read_tuned
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.output_checks import Output, check_outputs, weights_read
from vtd_jax.outputs import check_output
from vtd_jax.parallel.mesh import run_devices
from vtd_jax.parallel.processes import is_first, on_all, on_first
from vtd_jax.rivals.files import load_rival, method_of
from vtd_jax.rivals.kinds import COMPUTED, rival
from vtd_jax.rivals.runs import rival_run
from vtd_jax.terminal import say
from vtd_jax.train import from_config
from vtd_jax.train.checkpoints.checkpoint import Checkpoints
from vtd_jax.train.config import CONFIG_FILE, RunConfig
from vtd_jax.train.learnt import (
    Learnt,
    checkpoint_file,
    exported_config,
    learnt_on,
    load_file,
    load_learnt,
)
from vtd_jax.train.workdir import read_config, read_training_list
from vtd_jax.video.records import Records

_ELSE = "give the workdir of a run, or --config=… for zero-shot"
# ends of the names of files that an evaluation writes
ENDS = (".md", ".csv", ".json", "_per_class.csv", "_confusions.csv", SUFFIX_OF_SCORES)

CONFIG = config_flag.define()
flags.adopt_module_key_flags(config_flag)
flags.adopt_module_key_flags(download_flag)
flags.adopt_module_key_flags(limit_flags)
flags.adopt_module_key_flags(hosts)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "folder of a run, or where to write a table", required=True
)
CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    "last",
    "checkpoint of the workdir, last, best or a step; or a .safetensors or .pth file",
)
RIVAL = flags.DEFINE_string(
    "rival", "", f"what the file of --checkpoint is of, if another method: {' or '.join(COMPUTED)}"
)


@dataclass(frozen=True)
class Prepared:
    """What an evaluation needs.

    Attributes:
      config: its settings.
      splits: the videos, by split.
      model: with what was learnt.
      learnt: what the model learnt, for the table.
      step: of the checkpoint, if it is one of the run in the workdir.
      stem: of the files to write.
      training: the list that was learnt on, as `read_training_list` returns it.
    """

    config: RunConfig
    splits: Mapping[str, Records]
    model: VTDCLIP
    learnt: str
    step: int | None
    stem: str
    training: Mapping[str, str]


def read_settings(workdir: Path, file: Path | None, trained: bool, own: bool) -> RunConfig:
    """The config of the run, the file or the flag; a trained model keeps its own model settings."""
    if file and RIVAL.value:
        return rival_run(RunConfig.from_dict(CONFIG.value.to_dict()), file, RIVAL.value)
    exported = read_tuned(file) if file and file.suffix == SUFFIX else None
    if CONFIG.value is None:
        remedy = "put it back, or give another folder" if trained else _ELSE
        lacking = f"{workdir / CONFIG_FILE}: no such file; {remedy}"
        raise UserError(
            f"{file}: has no settings of its own; give the --config=… that fits it"
            if file
            else lacking
        )
    config = RunConfig.from_dict(CONFIG.value.to_dict())
    if file and not exported:
        # a .pth does not say what it was trained on
        return replace(config, shots=0, data=replace(config.data, train=""))
    if own or not (trained or exported):
        return config
    learnt = exported_config(exported, file) if exported else read_config(workdir)
    return learnt.on_other_videos(config, config_flag.overrides())


def rival_file() -> Path:
    """The file of --checkpoint, of the method that --rival names.

    Raises:
      UserError: no such method, no file, or a setting that the file brings itself.
    """
    flag = f"--rival={RIVAL.value}"
    rival(RIVAL.value, flag)
    if CHECKPOINT.value == "last":
        raise UserError(f"{flag}: give the file of its authors, --checkpoint=FILE.pth")
    if CONFIG.value is None:
        raise UserError(f"{flag}: whose videos? Give --config=…, as --config=zero_shot:hmdb51")
    for field in config_flag.overrides():
        if field.startswith("model.") or field == "data.preprocess":
            raise UserError(
                f"--config.{field}: a rival's file brings this setting itself; leave it out"
            )
    return Path(CHECKPOINT.value)


def load_own(model: VTDCLIP, file: Path) -> Learnt:
    """Loads a file that is not said to be another method's.

    Raises:
      UserError: as `load_file` does; names the method where it may be another's.
    """
    try:
        return load_file(model, file)
    except UserError as error:
        found = method_of(file) if file.suffix == ".pth" else None
        if found is None or found.name == "vtd":
            raise
        raise UserError(f"{error}; if it is of {found.title}, give --rival={found.name}") from None


def check_results(workdir: Path, stem: str, config: RunConfig, file: Path | None) -> None:
    """Refuses results that would replace an input, before anything is read."""
    outputs = [Output("--workdir", workdir, folder=True, whole=True)]
    outputs += [Output("--workdir", workdir / f"{stem}{end}", belongs=True) for end in ENDS]
    inputs = [config_flag.given_file(), *weights_read("clip.path", config.clip.path)]
    check_outputs(outputs, [*inputs, (f"--checkpoint={file}", file)])


def prepare(workdir: Path) -> Prepared:
    """Reads settings, records and model.

    Raises:
      UserError: one of them cannot be read, or does not fit the others.
    """
    file = rival_file() if RIVAL.value else checkpoint_file(CHECKPOINT.value)
    trained = bool(Checkpoints(workdir).steps)
    own = CONFIG.value is not None and Path(config_flag.filename()) in (workdir / CONFIG_FILE, file)
    config = read_settings(workdir, file, trained, own)
    stem = stem_of(workdir, config.name, file, trained, own)
    check_results(workdir, stem, config, file)
    with runs.naming_maker(config):
        splits = from_config.open_splits(config)
    from_config.check_splits(config, None, splits)
    model, training = from_config.build_model(config), read_training_list(workdir)
    step = None
    if file and RIVAL.value:
        learnt, training = load_rival(model, file, RIVAL.value), {}
    elif file:
        learnt, _, _, training = load_own(model, file)
    elif trained or own or CHECKPOINT.value != "last":
        step = load_learnt(model, workdir, CHECKPOINT.value)
        learnt, training = (
            f"checkpoint of step {step} ({CHECKPOINT.value})",
            learnt_on(workdir, step, training),
        )
    else:
        learnt = runs.untrained(config)
    return Prepared(config, splits, model, learnt, step, stem, training)


def main() -> str:
    """Evaluates every split and returns a line that says where the table is."""
    workdir = Path(WORKDIR.value)
    check_output("--workdir", WORKDIR.value, folder=True)
    with Line("reading records and loading the model"):
        prepared = on_all(prepare, workdir)
    results = workdir / prepared.stem
    with contextlib.ExitStack() as stack:
        # locks the table only: a run may train in this workdir meanwhile
        lock = locked_outputs([("--workdir", Path(f"{results}.md"), False)])
        on_first(stack.enter_context, lock)
        runs.note_toy(prepared.config, prepared.model)
        if is_first():
            say(f"learnt: {prepared.learnt}")
            say(f"device: {describe_devices(run_devices(prepared.config.devices))}")
            clip = prepared.model.clip.config
            fit = fit_of(prepared.config, clip)
            say(f"preprocess: {fit.describe(clip.image_resolution)}")
        table = runs.score_run(
            workdir, prepared.config, prepared.splits, prepared.model, prepared.learnt,
            prepared.training, step=prepared.step, stem=prepared.stem,
        )  # fmt: skip
    table.show()
    way = f"preprocess={prepared.config.data.preprocess}"
    return (
        f"{headline(table)} ({way}); wrote {results}.md, .csv, .json, _per_class.csv, "
        "_confusions.csv, _scores.npz"
    )


if __name__ == "__main__":
    config_flag.use_saved()
    hosts.run(main, __doc__)
