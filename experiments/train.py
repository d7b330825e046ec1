"""Trains VTD-CLIP: prompts and fusion on a frozen CLIP.

    python -m experiments.train --config=experiments/configs/base_to_novel.py:hmdb51 --workdir=runs/hmdb51 \\
        --config.clip.path=ViT-B-16.pt --config.data.data_dir=records/hmdb51
    python -m experiments.train --config=experiments/configs/few_shot.py:ucf101,shots=8 --workdir=runs/ucf101_8 \\
        --config.clip.path=ViT-B-16.pt --config.optimizer.lr=1e-3
    python -m experiments.train --config=experiments/configs/video_folder.py:train=list --workdir=runs/mine \\
        --config.data.data_dir=records --resume

Writes into the workdir: config.json, metrics.csv, events/ (for TensorBoard), checkpoints/, and the table of the last
evaluation as results.md, .csv and .json. Every field of a config can be set with --config.group.field=value.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from absl import flags

from experiments import _cli, _config
from vtd_jax.errors import UserError
from vtd_jax.evaluate.report import results_table, save_report, save_training_list
from vtd_jax.evaluate.tables import headline
from vtd_jax.evaluate.views import evaluate
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.train import build
from vtd_jax.train.config import RunConfig
from vtd_jax.train.loop import prepare_workdir, train
from vtd_jax.train.parallel import run_devices
from vtd_jax.video.records import Records

CONFIG = _config.define()
flags.adopt_module_key_flags(_config)
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run; made where it is not there", required=True)
RESUME = flags.DEFINE_bool("resume", False, "go on from the last checkpoint in the workdir")


class Evaluation:
    """Evaluates: one view a video while training, all views of the config at the end; keeps the results."""

    def __init__(self, config: RunConfig, splits: Mapping[str, Records]):
        self.config, self.splits = config, splits
        self.results, self.finished = {}, False

    def __call__(self, model: VTDCLIP, last: bool) -> dict[str, float | None]:
        """Accuracies by `split_top1` and `split_top5`."""
        config = self.config
        self.results = evaluate(
            model,
            self.splits,
            frames=config.data.frames,
            batch_size=config.evaluate.batch_size,
            temporal_views=config.evaluate.temporal_views if last else 1,
            spatial_views=config.evaluate.spatial_views if last else 1,
            workers=config.data.workers,
            devices=run_devices(config.devices),
            parallel=config.parallel,
        )
        self.finished = last
        accuracies = [
            (f"{name}_top1", result.top1, f"{name}_top5", result.top5) for name, result in self.results.items()
        ]
        return {key: value for top in accuracies for key, value in (top[:2], top[2:])}


def main() -> str:
    """Trains, evaluates, and tells where everything is."""
    if CONFIG.value is None:
        raise UserError("--config is needed, e.g. --config=experiments/configs/base_to_novel.py:hmdb51; see --help")
    config, workdir = RunConfig.from_dict(CONFIG.value.to_dict()), Path(WORKDIR.value)
    records, splits = build.open_training(config), build.open_splits(config)
    build.check_splits(config, records, splits)
    model = build.build_model(config)
    prepare_workdir(workdir, config, RESUME.value)
    learnt_on = save_training_list(workdir, records.stored)
    for line in build.shared_videos(records, splits):
        print(f"warning: {line}", file=sys.stderr, flush=True)
    evaluation = Evaluation(config, splits)
    done = train(config, model, records, workdir, evaluate=evaluation, resume=RESUME.value)
    if not evaluation.finished:
        return f"{workdir} was at step {done.step} already, nothing left to train; see experiments.evaluate"
    lists, learnt = {name: split.stored for name, split in splits.items()}, f"step {done.step}, the last"
    table = results_table(config, model.clip.config, evaluation.results, learnt, lists, learnt_on)
    table.show()
    save_report(workdir, "results", table, evaluation.results)
    return f"trained to step {done.step}: {headline(table)}; wrote {workdir}/results.md, metrics.csv, checkpoints/"


if __name__ == "__main__":
    _cli.run(main, __doc__)
