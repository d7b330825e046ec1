"""Your own videos: a list, a CSV of names and a folder, few-shot with the shipped CLIP.

    python -m experiments.build_data --dataset=video_folder --list=videos/list.txt \\
        --labels=videos/labels.csv --video_dir=videos --data_dir=records
    python -m experiments.train --config=experiments/configs/video_folder.py:train=list \\
        --workdir=runs/mine --config.data.data_dir=records
    python -m experiments.evaluate --workdir=runs/mine

Arguments: `train=NAME[,evaluate=NAME]`, names of lists of the records in `data.data_dir` (the stem
of a list's file, or the name of a folder of class folders); train is `list` and evaluate the same
as train when left out. Evaluating on the training list, as the example does, checks the path, not
the method.

The settings are those of a small run on a laptop: the 64-pixel CLIP of this repository, 8 frames, 4
context tokens that start as "a photo of a", no visual prompts. With an OpenAI checkpoint
(`--config.clip.path=ViT-B-16.pt`), take more: `--config.model.text_prompts=10
--config.model.text_depth=12 --config.model.visual_prompts=10 --config.model.visual_depth=12
--config.data.frames=16`.

Expected: nothing is published for your videos; the run prints the accuracy on what it is given.
"""

from ml_collections import ConfigDict

from experiments.configs import _base

USAGE = "video_folder:train=NAME[,evaluate=NAME]"


def get_config(text: str = "") -> ConfigDict:
    """A small few-shot run on records made by `experiments.build_data`."""
    args = _base.read_args(text, usage=USAGE, train=str, evaluate=str)
    train = args.get("train", "list")
    config = _base.base_config(
        name="video_folder",
        protocol="few_shot",
        data_dir="records",
        train=train,
        evaluate={"val": args.get("evaluate", train)},
    )
    config.clip.update(path="tiny", architecture="")
    config.model.update(
        text_prompts=4, text_depth=1, visual_prompts=0, visual_depth=0, fusion_init="zero"
    )
    # what the CLIP that ships was trained with, as every CLIP was
    config.model.normalization = "clip"
    config.data.update(frames=8, batch_size=4, drop_remainder=False, workers=0)
    config.optimizer.update(lr=2e-3, epochs=20, warmup_epochs=1.0, cosine_epochs=20.0)
    config.evaluate.update(every_epochs=10, batch_size=4)
    config.checkpoint.every_epochs = 5
    return config
