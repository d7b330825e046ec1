"""Trains VTD-CLIP: prompts and fusion on a frozen CLIP.

    python -m experiments.train --config=experiments/configs/base_to_novel.py:hmdb51,shots=16 \\
        --workdir=runs/hmdb51 --config.clip.path=ViT-B-16.pt --config.data.data_dir=records/hmdb51
    python -m experiments.train --config=experiments/configs/video_folder.py:train=list \\
        --workdir=runs/mine --config.data.data_dir=records --profile_steps=10:15

The same command resumes from the last checkpoint, whatever ended the run. SIGTERM or SIGUSR1
(preemption) saves and ends it with exit status 75, Ctrl-C saves and ends it with 130, a second
Ctrl-C stops at once. Every field of a config can be set with --config.group.field=value.

Writes into the workdir: config.json, metrics.csv, events/ (for TensorBoard), checkpoints/, and the
table of the last evaluation as results.md, .csv and .json; also damaged/ (damaged checkpoints),
nonfinite.jsonl (batches whose loss or gradient was not finite) and profile/. Only one run at a time
may write there; .train.lock refuses a second one.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from absl import flags

from experiments.common import config_flag, download_flag, hosts, limit_flags, program, runs
from vtd_jax.errors import UserError
from vtd_jax.evaluate.tables import headline
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.parallel.preemption import Preemption
from vtd_jax.parallel.processes import on_all
from vtd_jax.train import from_config
from vtd_jax.train.config import RunConfig
from vtd_jax.train.profiling import read_steps
from vtd_jax.video.records import Records

CONFIG = config_flag.define()
flags.adopt_module_key_flags(config_flag)
flags.adopt_module_key_flags(download_flag)
flags.adopt_module_key_flags(limit_flags)
flags.adopt_module_key_flags(hosts)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "folder of the run; created if missing", required=True
)
RESUME = flags.DEFINE_bool(
    "resume", True, "resume from the last checkpoint; --noresume refuses a workdir that has some"
)
OVERRIDE = flags.DEFINE_bool(
    "override_config", False, "resume with settings other than those of the checkpoints"
)
PROFILE = flags.DEFINE_string(
    "profile_steps",
    "",
    "FIRST:LAST, steps to trace, counted from 1; for TensorBoard with its profile plugin (xprof)",
)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What a run needs.

    Attributes:
      config: its settings.
      profile: first and last step to trace; None for no trace.
      records: the training videos.
      splits: the videos to evaluate, by split.
      model: at its start.
    """

    config: RunConfig
    profile: tuple[int, int] | None
    records: Records
    splits: Mapping[str, Records]
    model: VTDCLIP


def main() -> str:
    """Trains, evaluates, and returns a line that says where everything is."""
    with Preemption() as preemption:
        return run(preemption, Path(WORKDIR.value), on_all(prepare))


def prepare() -> Prepared:
    """Reads settings, records and model.

    Raises:
      UserError: no config, one that learns nothing, or something in it that cannot be read.
    """
    if CONFIG.value is None:
        example = program.config("base_to_novel:hmdb51,shots=16")
        raise UserError(f"--config is needed, e.g. --config={example}; see --help")
    config, profile = RunConfig.from_dict(CONFIG.value.to_dict()), read_steps(PROFILE.value)
    if not config.data.train:
        from_config.open_training(config)  # raises the error that says what to use instead
    records, splits, model = runs.prepare(config)
    return Prepared(config, profile, records, splits, model)


def run(preemption: Preemption, workdir: Path, prepared: Prepared) -> str:
    """Makes the whole run, from records to the table, and returns a line about it."""
    runs.note_toy(prepared.config, prepared.model)
    step, table = runs.train_run(
        workdir, prepared.config, prepared.records, prepared.splits, prepared.model, preemption,
        resume=RESUME.value, override=OVERRIDE.value, profile=prepared.profile,
    )  # fmt: skip
    if table is None:
        return (
            f"{workdir} was at step {step} already, nothing left to train; see "
            f"{program.spelled('evaluate')}"
        )
    table.show()
    way = f"preprocess={prepared.config.data.preprocess}"
    return (
        f"trained to step {step}: {headline(table)} ({way}); wrote {workdir}/results.md, "
        "metrics.csv, checkpoints/"
    )


if __name__ == "__main__":
    hosts.run(
        main, __doc__, catch_sigterm=True, resumes="no step was made; the same command resumes"
    )
