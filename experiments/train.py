"""Trains VTD-CLIP: prompts and fusion on a frozen CLIP.

    python -m experiments.train --config=experiments/configs/base_to_novel.py:hmdb51,shots=16 --workdir=runs/hmdb51 \\
        --config.clip.path=ViT-B-16.pt --config.data.data_dir=records/hmdb51
    python -m experiments.train --config=experiments/configs/video_folder.py:train=list --workdir=runs/mine \\
        --config.data.data_dir=records --profile_steps=10:15

The same command resumes from the last checkpoint, whatever ended the run. SIGTERM or SIGUSR1
(preemption) saves and ends it with exit status 75, Ctrl-C saves and ends it with 130, a second
Ctrl-C stops at once. Every field of a config can be set with --config.group.field=value.

Writes into the workdir: config.json, metrics.csv, events/ (for TensorBoard), checkpoints/, and the
table of the last
evaluation as results.md, .csv and .json; damaged/ for checkpoints found damaged, nonfinite.jsonl
for batches whose loss or gradient was not finite, and profile/. One run at a time writes there: a
second one is refused, by .train.lock.
"""

from pathlib import Path

from absl import flags

from experiments.common import config_flag, hosts, limit_flags, runs
from vtd_jax.errors import UserError
from vtd_jax.evaluate.tables import headline
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.parallel.preemption import Preemption
from vtd_jax.parallel.processes import together
from vtd_jax.train import from_config
from vtd_jax.train.config import RunConfig
from vtd_jax.train.profiling import read_steps
from vtd_jax.video.records import Records

CONFIG = config_flag.define()
flags.adopt_module_key_flags(config_flag)
flags.adopt_module_key_flags(limit_flags)
flags.adopt_module_key_flags(hosts)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "folder of the run; made where it is not there", required=True
)
RESUME = flags.DEFINE_bool(
    "resume", True, "go on from the last checkpoint; --noresume refuses a workdir that has some"
)
OVERRIDE = flags.DEFINE_bool(
    "override_config", False, "go on with settings other than those of the checkpoints"
)
PROFILE = flags.DEFINE_string(
    "profile_steps",
    "",
    "FIRST:LAST, steps to trace, counted from 1; for TensorBoard with its profile plugin (xprof)",
)


def main() -> str:
    """Trains, evaluates, and tells where everything is."""
    with Preemption() as preemption:
        return run(preemption, Path(WORKDIR.value), *together(prepare))


def prepare() -> tuple[RunConfig, tuple[int, int] | None, Records, dict[str, Records], VTDCLIP]:
    """Settings, steps to trace, training records, those of the splits, and the model."""
    if CONFIG.value is None:
        example = "experiments/configs/base_to_novel.py:hmdb51,shots=16"
        raise UserError(f"--config is needed, e.g. --config={example}; see --help")
    config, profile = RunConfig.from_dict(CONFIG.value.to_dict()), read_steps(PROFILE.value)
    if not config.data.train:
        from_config.open_training(config)  # says what to use instead
    return config, profile, *runs.prepare(config)


def run(preemption, workdir, config, profile, records, splits, model) -> str:
    """The whole run, from records to the table."""
    runs.note_toy(config, model)
    step, table = runs.train_run(
        workdir, config, records, splits, model, preemption, resume=RESUME.value, override=OVERRIDE.value,
        profile=profile,
    )  # fmt: skip
    if table is None:
        return (
            f"{workdir} was at step {step} already, nothing left to train; see experiments.evaluate"
        )
    table.show()
    return (
        f"trained to step {step}: {headline(table)}; wrote {workdir}/results.md, metrics.csv, "
        "checkpoints/"
    )


if __name__ == "__main__":
    hosts.run(
        main, __doc__, catch_sigterm=True, resumes="no step was made; the same command resumes"
    )
