"""The embedded benchmark: rendered scenes with compositional class names, and the shipped CLIP.

    python -m experiments.reproduce --table=few_shot --workdir=runs/scenes
    python -m experiments.train --config=experiments/configs/scenes.py:few_shot,shots=4 \\
        --workdir=runs/scenes_4 --config.data.data_dir=runs/scenes/scenes/records

The first line renders the videos (`vtd_jax.scenes.benchmark`) and runs a whole table on them, the
second one run.

Arguments: `[PROTOCOL][,shots=…][,split=1|2|3]`. `base_to_novel` (when left out), with
`shots=16,split=S` or on all base
videos; `few_shot` with `shots=2|4|8|16`; `zero_shot`, three splits of classes that no other list
has, or with `lists=base_to_novel|val` the lists of the other protocols; `fully_supervised`, all
classes and 4 x 3 views. Without arguments, what `make demo` runs on its own clips (`python -m
experiments.demo`).

Expected: nothing is published; docs/results.md has what `experiments.reproduce` and
`experiments.demo` measured.
"""

from typing import Any

from ml_collections import ConfigDict

from experiments.configs import _base
from experiments.configs._templates import read_templates
from vtd_jax.errors import UserError

HALVES = {"base": "base_val", "novel": "novel_val"}
UNSEEN = {f"split{i}": f"unseen{i}_val" for i in (1, 2, 3)}
PROTOCOLS = ("base_to_novel", "few_shot", "zero_shot", "fully_supervised")
# shots -> epochs: 64 updates of 32 clips whatever the number of shots
FEW_SHOT_EPOCHS = {2: 32, 4: 16, 8: 8, 16: 4}
USAGE = (
    "scenes[:base_to_novel[,shots=all|16][,split=1|2|3]|few_shot[,shots=2|4|8|16]|"
    "zero_shot[,lists=…]|…]"
)


def get_config(text: str = "") -> ConfigDict:
    """A run on scenes, small enough for two cores."""
    args = _base.read_args(
        text,
        usage=USAGE,
        protocol=_base.one_of(*PROTOCOLS),
        shots=_base.one_of("all", "2", "4", "8", "16"),
        split=_base.one_of("1", "2", "3"),
        lists=_base.one_of("official", "base_to_novel", "val"),
        templates=read_templates,
    )
    protocol = args.get("protocol", "base_to_novel")
    allowed = {
        "base_to_novel": ("shots", "split"),
        "few_shot": ("shots",),
        "zero_shot": ("lists", "templates"),
    }
    for key in args.keys() - {"protocol", *allowed.get(protocol, ())}:
        raise UserError(
            f"config argument {key}={args[key]}: {protocol} has no {key}; expected {USAGE}"
        )
    make = {
        "base_to_novel": _base_to_novel, "few_shot": _few_shot, "zero_shot": _zero_shot,
        "fully_supervised": _fully_supervised,
    }  # fmt: skip
    return make[protocol](args)


def _config(**fields: Any) -> Any:
    config = _base.base_config(**{"data_dir": "demo_output/seed100/records", **fields})
    config.clip.update(path="tiny", architecture="tiny")
    config.model.update(
        text_prompts=4,
        text_depth=1,
        visual_prompts=0,
        visual_depth=0,
        fusion_init="zero",
        normalization="clip",
    )
    # few small clips: worker processes would cost more than they bring
    config.data.update(frames=8, batch_size=32, workers=0, drop_remainder=False)
    # colour and texture are what the classes are named by: no jitter, no grey
    config.augment.update(jitter=0.0, grey=0.0)
    config.optimizer.update(lr=4e-3, epochs=8, warmup_epochs=1.0, cosine_epochs=8.0)
    config.evaluate.update(every_epochs=4, batch_size=32)
    return config


def _base_to_novel(args: dict) -> ConfigDict:
    shots, split = args.get("shots", "all"), args.get("split")
    if shots not in ("all", "16") or (shots == "all" and split):
        raise UserError(
            f"config argument shots={shots}: base_to_novel has shots=all, or shots=16 with "
            "split=1, 2 or 3"
        )
    few = shots == "16"
    name = (
        "scenes"
        if not args
        else f"base_to_novel_scenes{f'_16shot_s{split or 1}' if few else '_all'}"
    )
    train = f"fs_base_s{split or 1}_train" if few else "base_train"
    return _config(
        name=name, protocol="base_to_novel", shots=16 if few else 0, train=train, evaluate=HALVES
    )


def _few_shot(args: dict) -> ConfigDict:
    shots = args.get("shots", "16")
    if shots == "all":
        raise UserError(
            "config argument shots=all: few_shot has 2, 4, 8 or 16 shots; all videos are "
            "fully_supervised"
        )
    config = _config(
        name=f"few_shot_scenes_{shots}", protocol="few_shot", shots=int(shots),
        train=f"train1_few_shot_{shots}", evaluate={"val": "val"},
    )  # fmt: skip
    epochs = FEW_SHOT_EPOCHS[int(shots)]
    config.optimizer.update(epochs=epochs, warmup_epochs=epochs / 8, cosine_epochs=float(epochs))
    config.evaluate.every_epochs = config.checkpoint.every_epochs = epochs
    return config


def _zero_shot(args: dict) -> ConfigDict:
    lists = args.get("lists", "official")
    splits = {"official": UNSEEN, "base_to_novel": HALVES, "val": {"val": "val"}}[lists]
    protocol = "base_to_novel" if lists == "base_to_novel" else "zero_shot"
    suffix = {"official": "", "base_to_novel": "_halves", "val": "_val"}[lists]
    stem, templates = args.get("templates", ("", ()))
    name = f"zero_shot_scenes{suffix}" + (f"_{stem}" if stem else "")
    config = _config(name=name, protocol=protocol, train="", evaluate=splits)
    _base.nothing_learnt(config)
    config.model.templates = templates
    config.data.preprocess = "clip"
    return config


def _fully_supervised(args: dict) -> ConfigDict:
    config = _config(
        name="fully_supervised_scenes",
        protocol="fully_supervised",
        train="train",
        evaluate={"val": "val"},
    )
    config.optimizer.update(epochs=6, cosine_epochs=6.0)
    config.evaluate.update(temporal_views=4, spatial_views=3, every_epochs=0)
    return config
