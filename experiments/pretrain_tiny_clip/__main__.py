"""Pretrains the small CLIP of the demo from scratch, contrastively on captioned scenes.

Examples:
  python -m experiments.pretrain_tiny_clip --out=tiny_clip.safetensors
  python -m experiments.pretrain_tiny_clip --out=quick.safetensors --steps=300 --seed=1

Scenes show one object each, named by colour, texture and shape ("red striped circle"), before a
muted, cluttered background. The result has OpenAI's tensor names in float16. At the end it is read
back and scored zero-shot on fresh stills. The same seed on the same machine gives the same weights;
the default recipe took 27 minutes on two cores that other work shared.
"""

from pathlib import Path

import cv2
from absl import flags

from experiments.common import cli
from experiments.pretrain_tiny_clip.data import PretrainOptions
from experiments.pretrain_tiny_clip.training import Measured, pretrain, zero_shot
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.weights.checkpoints import load_clip, save_clip
from vtd_jax.console.progress import Progress
from vtd_jax.console.status import Part
from vtd_jax.errors import UserError
from vtd_jax.locks import locked_outputs
from vtd_jax.output_checks import Output, check_outputs
from vtd_jax.outputs import check_suffix
from vtd_jax.terminal import say

_DEFAULT = PretrainOptions()
_OUT = flags.DEFINE_string("out", None, "file to write, ends in .safetensors", required=True)
_STEPS = flags.DEFINE_integer("steps", _DEFAULT.steps, "optimizer updates", lower_bound=1)
_SEED = flags.DEFINE_integer(
    "seed", _DEFAULT.seed, "seed of the weights, the scenes and their order", lower_bound=0
)


def main() -> str:
    """Trains, writes, reads back and scores; returns the closing line."""
    out = Path(_OUT.value)
    check_suffix(out, ".safetensors", where=f"--out={out}")
    if not out.parent.is_dir():
        raise UserError(f"--out={out}: no folder {out.parent}, make it first")
    check_outputs([Output("--out", out)], [])
    with locked_outputs([("--out", out, False)]):
        return make(out, PretrainOptions(steps=_STEPS.value, seed=_SEED.value))


def make(out: Path, options: PretrainOptions, *, stills: int = 8, every: int = 50) -> str:
    """Trains a tiny CLIP, writes it, reads it back and scores it; prints progress and scores.

    Args:
      out: file to write, ends in `.safetensors`.
      options: the recipe.
      stills: fresh stills of each of the 256 classes to score on.
      every: updates between lines of progress.

    Returns:
      The command's closing line.
    """
    cv2.setNumThreads(1)  # images are small; leave the cores to training
    config = CLIPConfig.tiny()
    updates = f"{options.steps} updates of {options.batch_size} images"
    print(f"rendering {options.pool} stills, then {updates}", flush=True)
    with Progress("training", options.steps, "update", every=0, log=say) as progress:

        def report(at: Measured) -> None:
            details = Part(f"loss {at.loss:.3f}"), Part(f"top-1 {100 * at.top1:.1f} %")
            progress.update(at.step, details=details)

        state = pretrain(config, options, report, every)
    save_clip(out, config, state, dtype="float16")
    scores = zero_shot(load_clip(out), seed=options.seed + 1, each=stills)
    print(f"\nzero-shot on {256 * stills} fresh clean stills, bare class names, top-1 %")
    for name, score in scores.items():
        print(f"  {name:<18}{100 * score:6.1f}")
    return (
        f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB): a CLIP with "
        f"{100 * scores['256-way']:.1f} % of 256 classes and {100 * scores['16-way']:.1f} % of 16 "
        "right"
    )


if __name__ == "__main__":
    cli.run(main, __doc__, device=True)
