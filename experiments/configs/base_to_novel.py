"""Base-to-novel: learn on the frequent half of the classes, evaluate on both halves.

    python -m experiments.train --config=experiments/configs/base_to_novel.py:hmdb51,shots=16 \\
        --workdir=runs/hmdb51 --config.clip.path=ViT-B-16.pt --config.data.data_dir=records/hmdb51
    python -m experiments.evaluate --workdir=runs/hmdb51

Arguments: `DATASET[,shots=all|16][,split=1|2|3]` with DATASET one of hmdb51, ucf101, ssv2,
kinetics400. `shots=16,split=S` learns on the 16-shot seed S (list `fs_base_sS_train`), `shots=all`
on every base video (list `base_train`). Left out, it is what the release learns on: all for HMDB-51
and UCF-101, 16 shots for SSv2; for Kinetics-400, of which we do not know it, 16 shots as peers do.
Lists `base_val` and `novel_val` are evaluated, each with its own list of names.

Expected, ViT-B/16: `vtd_jax.evaluate.published` has the numbers of the papers with their sources,
and `experiments.reproduce --table=base_to_novel` prints them beside ours. Peers learn on 16 shots
and report the mean of 3 seeds: compare them with `shots=16` and split 1, 2 and 3. Of VTD-CLIP we
know only the harmonic means of HMDB-51 and SSv2 in a note on a later paper, a weak source.

The release lets the last bit of the votes choose a video token where several classes tie. Here it
is the class of more frames; `--config.model.ties=release` is as released.
"""

from ml_collections import ConfigDict

from experiments.configs import _base
from vtd_jax.errors import UserError

# data set -> prompted layers, epochs, peak rate, batch, accumulation steps, min_lr_factor, the
# release's shots (0: all)
RELEASE = {
    "hmdb51": (9, 100, 4e-4, 16, 4, 0.1, 0),
    "ucf101": (9, 80, 4e-4, 8, 8, 0.1, 0),
    "ssv2": (12, 50, 2e-3, 4, 2, 0.05, 16),
    "kinetics400": (9, 80, 4e-3, 32, 2, 0.1, 16),
}
USAGE = "base_to_novel:hmdb51|ucf101|ssv2|kinetics400[,shots=all|16][,split=1|2|3]"


def get_config(text: str = "") -> ConfigDict:
    """The release's run on one data set."""
    args = _base.read_args(
        text,
        usage=USAGE,
        needed="dataset",
        dataset=_base.one_of(*RELEASE),
        shots=_base.one_of("all", "16"),
        split=_base.one_of("1", "2", "3"),
    )
    dataset = args["dataset"]
    depth, epochs, lr, batch, accumulation, min_lr_factor, shots = RELEASE[dataset]
    if "shots" in args:
        shots = 0 if args["shots"] == "all" else int(args["shots"])
    if not shots and "split" in args:
        raise UserError(
            f"config argument split={args['split']}: the splits are 16-shot lists, add shots=16"
        )
    split = args.get("split", "1")
    config = _base.base_config(
        name=f"base_to_novel_{dataset}" + (f"_16shot_s{split}" if shots else "_all"),
        protocol="base_to_novel",
        shots=shots,
        data_dir=f"records/{dataset}",
        train=f"fs_base_s{split}_train" if shots else "base_train",
        evaluate={"base": "base_val", "novel": "novel_val"},
    )
    _base.prompts(config, 16, depth)
    config.data.batch_size = batch
    config.optimizer.update(
        lr=lr,
        epochs=epochs,
        gradient_accumulation_steps=accumulation,
        min_lr_factor=min_lr_factor,
        cosine_epochs=25.0,
    )
    return config
