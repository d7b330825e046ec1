"""What the ablation table switches off or changes: config fields, in groups."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from vtd_jax.terminal import counted
from vtd_jax.train.config import RunConfig


class Ablation(NamedTuple):
    """One variant of a run.

    Attributes:
      group: its heading in the table and the plot.
      name: in words.
      slug: in the names of its runs.
      changes: full field names and their values.
    """

    group: str
    name: str
    slug: str
    changes: Mapping[str, Any]


class Sizes(NamedTuple):
    """Values to try; those of the reference run are left out."""

    lengths: tuple[int, ...]
    depths: tuple[int, ...]
    frames: tuple[int, ...]
    visual: tuple[int, int]


RELEASE_SIZES = Sizes(
    lengths=(4, 8, 16, 32), depths=(1, 3, 6, 9, 12), frames=(8, 16, 32), visual=(16, 9)
)
# its clips have 16 frames, its CLIP 2 text layers
SCENES_SIZES = Sizes(lengths=(1, 2, 4, 8, 16), depths=(1, 2), frames=(4, 8, 16), visual=(4, 4))
TOP_N = (2, 3, 5)
FULL = Ablation("", "VTD-CLIP", "full", {})


def ablations(reference: RunConfig, sizes: Sizes) -> list[Ablation]:
    """The variants of a base-to-novel run, the run itself first; only those that change it."""
    model = reference.model
    visual = {"model.visual_prompts": sizes.visual[0], "model.visual_depth": sizes.visual[1]}
    no_visual = {"model.visual_prompts": 0, "model.visual_depth": 0}
    no_text = {"model.text_prompts": 0, "model.text_depth": 0}
    codebook_off = {"model.fusion": False, "model.pooling": "mean"}
    softmax_mean = {"model.fusion": False, "model.pooling": "softmax_mean"}
    found = [
        FULL,
        Ablation("parts", "codebook off: mean of features", "codebook_off", codebook_off),
        Ablation("parts", "codebook off: mean of softmax scores", "softmax_mean", softmax_mean),
        Ablation(
            "parts", "confidence off: uniform", "confidence_off", {"model.confidence": "uniform"}
        ),
        Ablation("parts", "fusion off", "fusion_off", {"model.fusion": False}),
        Ablation("prompts", "text prompts only", "text_only", no_visual),
        Ablation(
            "prompts",
            "visual prompts only",
            "visual_only",
            no_text | (visual if not model.visual_prompts else {}),
        ),
        Ablation(
            "prompts",
            "text and visual prompts",
            "text_and_visual",
            {} if model.visual_prompts else visual,
        ),
    ]
    towers = ("text", "visual") if model.visual_prompts else ("text",)
    for count in sizes.lengths:
        changes = {f"model.{tower}_prompts": count for tower in towers}
        name = counted(count, "token")
        found.append(Ablation("prompt length", name, f"length{count}", changes))
    for depth in sizes.depths:
        changes = {f"model.{tower}_depth": depth for tower in towers}
        name = counted(depth, "layer")
        found.append(Ablation("prompt depth", name, f"depth{depth}", changes))
    ties = "the last bit of the votes (release)"
    found += [
        Ablation("assignment", "by cosine", "cosine", {"model.assignment": "cosine"}),
        Ablation("assignment", "Euclidean", "euclidean", {"model.assignment": "euclidean"}),
        Ablation("ties", ties, "ties_release", {"model.ties": "release"}),
        Ablation("votes", "one for each frame", "votes_frames", {"model.votes": "frames"}),
    ]
    found += [Ablation("video tokens", f"top-{n}", f"top{n}", {"model.top_n": n}) for n in TOP_N]
    found += [
        Ablation("frames", f"{n} frames", f"frames{n}", {"data.frames": n}) for n in sizes.frames
    ]
    return [one for one in found if one is FULL or reference.with_changes(one.changes) != reference]
