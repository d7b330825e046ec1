"""A run from records to its table: what `experiments.train`, `evaluate` and `reproduce` share."""

import contextlib
import dataclasses
import functools
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from experiments.common import program
from experiments.common.evaluation import (
    Evaluation,
    copies_of,
    feature_store,
    has_table,
    score,
    show_copies,
)
from vtd_jax.clip.toy import toy_note
from vtd_jax.console.status import Line
from vtd_jax.errors import named_by, names, setting
from vtd_jax.evaluate.outputs import results_table, save_report
from vtd_jax.evaluate.tables import Table
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.parallel.preemption import Preemption
from vtd_jax.parallel.processes import is_first, on_first
from vtd_jax.retrieval.for_training import IndexFeatures
from vtd_jax.terminal import say, warn
from vtd_jax.train import from_config
from vtd_jax.train.config import RunConfig
from vtd_jax.train.loop import train
from vtd_jax.train.workdir import WorkdirLock, prepare_workdir, save_training_list
from vtd_jax.video.lists.protocols import TRAIN
from vtd_jax.video.records import Records


def prepare(config: RunConfig) -> tuple[Records | None, dict[str, Records], VTDCLIP]:
    """Training records (None if nothing is learnt), the splits, and the untrained model."""
    with Line("reading records and loading the model"), naming_maker(config):
        training = from_config.open_training(config) if config.data.train else None
        splits = from_config.open_splits(config)
        from_config.check_splits(config, training, splits)
        return training, splits, from_config.build_model(config)


@contextlib.contextmanager
def naming_maker(config: RunConfig) -> Iterator[None]:
    """Until the block ends, messages about missing records name the command that makes those of a
    config, to be pasted.
    """
    before = names()
    functions = {**before.functions, "build_records": _maker(config)}
    with named_by(dataclasses.replace(before, functions=functions)):
        yield


def _maker(config: RunConfig) -> str:
    """The command that makes the records of a config; words in capitals are to be replaced."""
    folder = Path(config.data.data_dir)
    if "scenes" in config.name:
        command, made = _maker_of_scenes(config, folder)
        then = "" if made == folder else f", and give {setting('data.data_dir', made)}"
        return command + then
    words = (folder.name, *config.name.split("_"))
    dataset = next((name for name in TRAIN if name in words), "")
    what = f" --dataset={dataset} --source=DOWNLOADED" if dataset else " --source=VIDEOS"
    into = folder.parent if folder.name == dataset else folder
    return f"{program.spelled('build_data')}{what} --data_dir={shlex.quote(str(into))}"


def _maker_of_scenes(config: RunConfig, folder: Path) -> tuple[str, Path]:
    """The command that makes the rendered scenes of a config, and where their records are then."""
    if config.name == "scenes":
        return f"{program.spelled('demo')} --seeds=100", Path("demo_output/seed100/records")
    # one that makes this run, too
    below = Path("scenes/records")
    workdir = folder.parents[1] if folder.parts[-2:] == below.parts else Path("runs/scenes")
    table = f"--table={config.protocol} --only={config.name}"
    command = f"{program.spelled('reproduce')} {table} --workdir={shlex.quote(str(workdir))}"
    return command, workdir / below


def note_toy(config: RunConfig, model: VTDCLIP) -> None:
    """Prints a note if the toy CLIP, which knows shapes only, is used on real videos."""
    note = toy_note(model.clip.config)
    if note and "scenes" not in config.name and is_first():
        say(
            f"note: clip.path={config.clip.path}: {note}; give --config.clip.path=ViT-B/16, "
            f"or another real CLIP ({program.spelled('weights')} list)",
            sys.stderr,
        )


def train_run(
    workdir: Path,
    config: RunConfig,
    training: Records,
    splits: Mapping[str, Records],
    model: VTDCLIP,
    preemption: Preemption,
    *,
    resume: bool = True,
    override: bool = False,
    profile: tuple[int, int] | None = None,
) -> tuple[int, Table | None]:
    """Trains to the end and writes the table; only process 0 has files in the workdir.

    Returns:
      The last step and the table; None if an earlier call wrote it and nothing was left to do.

    Raises:
      Preempted: a signal came; the same call resumes.
    """
    # before anything is made: damaged records end a run here
    copies = copies_of(splits)
    with WorkdirLock(workdir) as hold:
        on_first(hold.take)
        on_first(prepare_workdir, workdir, config, resume, override)
        learnt_on = on_first(save_training_list, workdir, training.stored)
        for line in from_config.shared_videos(training, splits) if is_first() else ():
            warn(line)
        evaluation = Evaluation(config, splits)
        done = train(
            config, model, training, workdir, evaluate=evaluation, splits=splits, resume=resume,
            override=override, preemption=preemption, profile=profile, open_index=IndexFeatures,
        )  # fmt: skip
        if not evaluation.finished:
            if on_first(has_table, workdir, done.step):
                return done.step, None
            # the earlier run ended between its last checkpoint and the table
            evaluation(done.model, True, functools.partial(_check, preemption, workdir, done.step))
        lists = {name: split.stored for name, split in splits.items()}
        learnt = f"step {done.step}, the last"
        table = results_table(
            config, model.clip.config, evaluation.results, learnt, lists, learnt_on, done.step,
            copies,
        )  # fmt: skip
        show_copies(splits, copies)
        on_first(hold.check)
        on_first(save_report, workdir, "results", table, evaluation.results)
        return done.step, table


def _check(preemption: Preemption, workdir: Path, step: int) -> None:
    if preemption.interrupts:
        raise preemption.stopped(
            f"the last step, {step}, is saved in {workdir}; the same command writes its table"
        )


def score_run(
    workdir: Path,
    config: RunConfig,
    splits: Mapping[str, Records],
    model: VTDCLIP,
    learnt: str,
    training: Mapping[str, str] | None = None,
    *,
    step: int | None = None,
    stem: str = "results",
    check: Callable[[], None] | None = None,
) -> Table:
    """Scores the splits with a model and writes the table.

    Args:
      workdir: gets the table.
      config: of the evaluation.
      splits: to score, by name.
      model: as it is scored.
      learnt, training: what the model learnt and on which list, for the table.
      step: of the checkpoint, if it is one of the run in the workdir.
      stem: of the files.
      check: called before every batch; may raise.
    """
    copies = copies_of(splits)
    show_copies(splits, copies)
    results = score(config, model, splits, check=check, store=feature_store(config, model))
    lists = {name: split.stored for name, split in splits.items()}
    table = results_table(config, model.clip.config, results, learnt, lists, training, step, copies)
    on_first(save_report, workdir, stem, table, results)
    return table


def untrained(config: RunConfig) -> str:
    """What a model without a checkpoint is, for tables."""
    parts = config.model.text_prompts or config.model.visual_prompts or config.model.fusion
    start = "prompts and fusion as they start" if parts else "CLIP as it is (zero-shot)"
    return f"nothing: no checkpoint, {start}"
