"""Zero-shot: bare class names, nothing learnt, or a model learnt on Kinetics-400 with new names.

    python -m experiments.evaluate --config=experiments/configs/zero_shot.py:hmdb51 \\
        --workdir=runs/hmdb51_zero \\
        --config.clip.path=ViT-B-16.pt --config.data.data_dir=records/hmdb51
    python -m experiments.evaluate --config=experiments/configs/zero_shot.py:hmdb51 \\
        --workdir=runs/k400

The second line takes the prompts learnt in `runs/k400` to the videos and names of this config.

Arguments: `DATASET[,lists=official|base_to_novel][,templates=NAME|FILE]`, DATASET one of hmdb51,
ucf101, kinetics600 (official lists only), ssv2 and kinetics400. Official lists: HMDB-51 and UCF-101
`val1`, `val2`, `val3`; Kinetics-600 `ZS_split1_K600_eval` to `ZS_split3_K600_eval` (160 classes
unseen in Kinetics-400); SSv2 `validation`; Kinetics-400 `val`. With several lists the table ends
with their mean and deviation. `lists=base_to_novel` evaluates `base_val` and `novel_val` instead.

`templates=` makes each code the mean over texts such as "Human action of {}", for CLIP as it is:
`actionclip16` and `video_of_a_person` are in experiments/templates; or a single text with `{}` in
it, or a file with one text a line (neither can have a comma). The texts go into the config, so that
a saved run does not depend on the file. Vanilla CLIP, all three ways:

    python -m experiments.evaluate \\
        --config=experiments/configs/zero_shot.py:ucf101,templates=actionclip16 \\
        --workdir=runs/ucf101_actionclip16 --config.clip.path=ViT-B-16.pt \\
        --config.model.pooling=mean

with `ucf101,templates=video_of_a_person`, and with `ucf101` for bare names.

Expected, ViT-B/16: `vtd_jax.evaluate.published` has the numbers of the papers with their sources,
and `experiments.reproduce --table=zero_shot` prints those from Kinetics-400 beside ours. Where
nothing is learnt, compare `lists=base_to_novel` and `--config.model.pooling=mean` with the row
"CLIP, class names" of base to novel. For the two ensembles no number is known to us, nor are
VTD-CLIP's own.
"""

from ml_collections import ConfigDict

from experiments.configs import _base
from experiments.configs._templates import read_templates
from vtd_jax.errors import UserError

OFFICIAL = {
    "hmdb51": {"split1": "val1", "split2": "val2", "split3": "val3"},
    "ucf101": {"split1": "val1", "split2": "val2", "split3": "val3"},
    "kinetics600": {f"split{i}": f"ZS_split{i}_K600_eval" for i in (1, 2, 3)},
    "ssv2": {"val": "validation"},
    "kinetics400": {"val": "val"},
}
USAGE = (
    "zero_shot:hmdb51|ucf101|kinetics600|ssv2|kinetics400[,lists=official|base_to_novel]"
    "[,templates=NAME|FILE]"
)


def get_config(text: str = "") -> ConfigDict:
    """CLIP as it is, with CLIP's own preprocessing and the confidence as pooling."""
    args = _base.read_args(
        text,
        usage=USAGE,
        needed="dataset",
        dataset=_base.one_of(*OFFICIAL),
        lists=_base.one_of("official", "base_to_novel"),
        templates=read_templates,
    )
    dataset, lists = args["dataset"], args.get("lists", "official")
    if lists == "base_to_novel" and dataset == "kinetics600":
        raise UserError(
            "config argument lists=base_to_novel: Kinetics-600 has no base and novel lists"
        )
    halves = {"base": "base_val", "novel": "novel_val"}
    stem, templates = args.get("templates", ("", ()))
    config = _base.base_config(
        name=f"zero_shot_{dataset}"
        + ("_halves" if lists == "base_to_novel" else "")
        + (f"_{stem}" if stem else ""),
        protocol="base_to_novel" if lists == "base_to_novel" else "zero_shot",
        data_dir="records/video_folder/kinetics600"
        if dataset == "kinetics600"
        else f"records/{dataset}",
        train="",
        evaluate=halves if lists == "base_to_novel" else OFFICIAL[dataset],
    )
    _base.nothing_learnt(config)
    config.model.update(normalization="clip", templates=templates)
    # what published numbers of CLIP mean
    config.data.preprocess = "clip"
    return config
