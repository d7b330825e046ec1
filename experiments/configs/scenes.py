"""The embedded demo: rendered scenes whose class names are compositional, learnt with the CLIP that ships.

    python -m experiments.train --config=experiments/configs/scenes.py --workdir=runs/scenes
    python -m experiments.evaluate --workdir=runs/scenes

Lists: `base_train`, `base_val` and `novel_val` under `data.data_dir`. Expected: `make demo` measures it.
"""

from ml_collections import ConfigDict

from experiments.configs import _base


def get_config(text: str = "") -> ConfigDict:
    """Base-to-novel on scenes, small enough for two cores."""
    _base.read_args(text, usage="scenes.py without arguments")
    config = _base.base_config(
        name="scenes",
        protocol="base_to_novel",
        data_dir="demo_output/seed100/records",
        train="base_train",
        evaluate={"base": "base_val", "novel": "novel_val"},
    )
    config.clip.update(path="tiny", architecture="tiny")
    config.model.update(
        text_prompts=4,
        text_depth=1,
        visual_prompts=0,
        visual_depth=0,
        fusion_init="zero",
        normalization="clip",
    )
    config.data.update(frames=8, batch_size=32, workers=0, drop_remainder=False)
    # colour and texture are what the classes are named by: no jitter, no grey
    config.augment.update(jitter=0.0, grey=0.0)
    config.optimizer.update(lr=4e-3, epochs=8, warmup_epochs=1.0, cosine_epochs=8.0)
    config.evaluate.update(every_epochs=4, batch_size=32)
    return config
