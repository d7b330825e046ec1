"""Fully supervised: learn on all of Kinetics-400, evaluate with 4 temporal x 3 spatial views.

    python -m experiments.train --config=experiments/configs/fully_supervised.py:kinetics400 \\
        --workdir=runs/k400 \\
        --config.clip.path=ViT-B-16.pt --config.data.data_dir=records/kinetics400
    python -m experiments.evaluate --workdir=runs/k400

Lists: `train` and `val`. While training, one view is evaluated (every `evaluate.every_epochs`
epochs); at the end and in `experiments.evaluate`, all views: the score of a video is the sum over
its views of softmax(logits).

Expected, ViT-B/16: `vtd_jax.evaluate.published` has the numbers of the papers with their sources,
and `experiments.reproduce --table=fully_supervised` prints them beside ours. VTD-CLIP's own is not
known to us.
"""

from ml_collections import ConfigDict

from experiments.configs import _base

USAGE = "fully_supervised:kinetics400"


def get_config(text: str = "kinetics400") -> ConfigDict:
    """The release's run."""
    dataset = _base.read_args(text, usage=USAGE, dataset=_base.one_of("kinetics400")).get(
        "dataset", "kinetics400"
    )
    config = _base.base_config(
        name=f"fully_supervised_{dataset}",
        protocol="fully_supervised",
        data_dir=f"records/{dataset}",
        train="train",
        evaluate={"val": "val"},
    )
    _base.prompts(config, 16, 12)
    config.data.update(frames=16, batch_size=32)
    config.optimizer.update(
        lr=4e-3, epochs=80, gradient_accumulation_steps=4, cosine_epochs=25.0, min_lr_factor=0.05
    )
    config.evaluate.update(temporal_views=4, spatial_views=3)
    return config
