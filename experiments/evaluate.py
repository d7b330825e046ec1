"""Evaluates a trained run, or CLIP as it is, and writes the table.

    python -m experiments.evaluate --workdir=runs/hmdb51
    python -m experiments.evaluate --workdir=runs/hmdb51 --checkpoint=best --config.evaluate.temporal_views=4
    python -m experiments.evaluate --workdir=runs/hmdb51_zero --config=experiments/configs/zero_shot.py:hmdb51 \\
        --config.clip.path=ViT-B-16.pt --config.data.data_dir=records/hmdb51
    python -m experiments.evaluate --workdir=runs/k400 --config=experiments/configs/zero_shot.py:hmdb51

Without --config the run's own settings are used. With --config, a workdir without checkpoints is evaluated with nothing
learnt; one with checkpoints lends what it learnt (and its model settings) to the videos and names of that config.
Writes results.md, .csv, .json, _per_class.csv and _scores.npz into the workdir (results_NAME.* where --config lent a
run's model to other videos).
"""

import sys
from pathlib import Path

from absl import flags

from experiments import _cli, _config
from vtd_jax.errors import UserError
from vtd_jax.evaluate.report import read_training_list, results_table, save_report
from vtd_jax.evaluate.tables import headline
from vtd_jax.evaluate.views import evaluate
from vtd_jax.train import build
from vtd_jax.train.checkpoint import Checkpoints
from vtd_jax.train.config import RunConfig
from vtd_jax.train.loop import CONFIG_FILE, read_config
from vtd_jax.train.parallel import run_devices

CONFIG = _config.define()
flags.adopt_module_key_flags(_config)
WORKDIR = flags.DEFINE_string("workdir", None, "folder of a run, or where to write a zero-shot table", required=True)
CHECKPOINT = flags.DEFINE_string("checkpoint", "last", "last, best, or a step")


def read_settings(workdir: Path, trained: bool, own: bool) -> RunConfig:
    """The run's own config, or the one given; a trained run keeps its model and CLIP unless a flag sets them."""
    if CONFIG.value is None:
        raise UserError(
            f"{workdir / CONFIG_FILE}: no such file; give the workdir of a run, or --config=… for zero-shot"
        )
    config = RunConfig.from_dict(CONFIG.value.to_dict())
    if own or not trained:
        return config
    return read_config(workdir).on_other_videos(config, _config.overrides())


def main() -> str:
    """Evaluates every split and tells where the table is."""
    workdir, trained = Path(WORKDIR.value), bool(Checkpoints(Path(WORKDIR.value)).steps)
    own = CONFIG.value is not None and Path(_config.filename()) == workdir / CONFIG_FILE
    config = read_settings(workdir, trained, own)
    splits = build.open_splits(config)
    build.check_splits(config, None, splits)
    model = build.build_model(config)
    if trained or own or CHECKPOINT.value != "last":
        learnt = f"checkpoint of step {build.load_learnt(model, workdir, CHECKPOINT.value)} ({CHECKPOINT.value})"
    else:
        parts = config.model.text_prompts or config.model.visual_prompts or config.model.fusion
        learnt = (
            f"nothing: no checkpoint, {'prompts and fusion as they start' if parts else 'CLIP as it is (zero-shot)'}"
        )
    print(f"learnt: {learnt}")
    results = evaluate(
        model,
        splits,
        frames=config.data.frames,
        batch_size=config.evaluate.batch_size,
        temporal_views=config.evaluate.temporal_views,
        spatial_views=config.evaluate.spatial_views,
        workers=config.data.workers,
        devices=run_devices(config.devices),
        parallel=config.parallel,
    )
    lists = {name: split.stored for name, split in splits.items()}
    table = results_table(config, model.clip.config, results, learnt, lists, read_training_list(workdir))
    table.show()
    stem = f"results_{config.name}" if trained and not own else "results"
    save_report(workdir, stem, table, results)
    return f"{headline(table)}; wrote {workdir / stem}.md, .csv, .json, _per_class.csv and _scores.npz"


if __name__ == "__main__":
    saved = Path(_config.argument("workdir") or "") / CONFIG_FILE
    if _config.argument("config") is None and _config.argument("workdir") and saved.is_file():
        sys.argv.insert(1, f"--config={saved}")
    _cli.run(main, __doc__)
