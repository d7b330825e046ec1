"""The settings of the method, one field an idea."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vtd_jax.errors import UserError

CHOICES = {
    "assignment": ("euclidean", "cosine"),
    "confidence": ("softmax", "uniform"),
    "pooling": ("confidence", "mean", "softmax_mean"),
    "fusion_init": ("release", "zero"),
    "normalization": ("imagenet", "clip"),
    "ties": ("frames", "release"),
}
# of fields whose default is another than what was saved before there were such fields ran with
_BEFORE = {"ties": "release"}


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """How a CLIP becomes a VTD-CLIP.

    Attributes:
      text_prompts: learnable context tokens P_t before a class name; 0 encodes bare class names, or `templates`.
      text_depth: text layers with prompts of their own, the input counted as the first.
      visual_prompts: learnable tokens P_v after the patch tokens.
      visual_depth: image layers with prompts of their own; 0 for none.
      assignment: nearest code by "euclidean" distance of raw features (the release) or by "cosine" (the paper).
      temperature: of the softmax over frames that makes the confidence.
      confidence: "softmax" over frames (the method), or "uniform": every frame weighs 1/T for every class (the
        ablation), in the votes, the video token and the logits.
      top_n: codes with the most votes that become video tokens.
      pooling: how frames become logits: "confidence" (the method), "mean" of frame features, or "softmax_mean", the
        log of the mean over frames of the class probabilities.
      fusion: whether video tokens are fused into the frames (method, section "confidence-aware fusion").
      fusion_init: "release" (PyTorch's default for every linear layer) or "zero" (the last layer starts at zero, so
        training starts from unfused frames).
      fusion_heads: attention heads of the fusion block.
      dropout: on the fusion block's attention weights, in training only.
      normalization: mean and deviation of RGB: "imagenet" (the release) or "clip" (what CLIP was trained with).
      templates: texts around a class name, each with `{}` in its place; a code is the mean over them (see
        `codebook.ensemble`). () for bare class names. With text_prompts=0 only.
      ties: which class becomes the video token where several have the most votes to rounding. "frames": of the classes
        whose votes are within 1e-5 of the greatest the one that named more frames, then the lower one (see
        `ties.winner`). "release": the greatest number, so that the last bit of a sum decides, another one on another
        machine.
    """

    text_prompts: int = 16
    text_depth: int = 9
    visual_prompts: int = 16
    visual_depth: int = 9
    assignment: str = "euclidean"
    temperature: float = 0.01
    top_n: int = 1
    pooling: str = "confidence"
    fusion: bool = True
    fusion_init: str = "release"
    fusion_heads: int = 8
    dropout: float = 0.1
    normalization: str = "imagenet"
    # fields that came later: what was saved before them ran with these defaults, but for those in `_BEFORE`
    confidence: str = "softmax"
    templates: tuple[str, ...] = ()
    ties: str = "frames"

    def __post_init__(self):
        for field, allowed in CHOICES.items():
            if getattr(self, field) not in allowed:
                raise UserError(f"model.{field}: {getattr(self, field)!r}, expected one of {', '.join(allowed)}")
        for field in ("text_prompts", "text_depth", "visual_prompts", "visual_depth"):
            if getattr(self, field) < 0:
                raise UserError(f"model.{field}: {getattr(self, field)}, expected 0 or more")
        for field in ("top_n", "fusion_heads", "temperature"):
            if not getattr(self, field) > 0:
                raise UserError(f"model.{field}: {getattr(self, field)}, expected more than 0")
        if not 0 <= self.dropout < 1:
            raise UserError(f"model.dropout: {self.dropout}, expected 0 or more and less than 1")
        if bool(self.visual_prompts) != bool(self.visual_depth):
            raise UserError(
                f"model.visual_prompts={self.visual_prompts} with model.visual_depth={self.visual_depth}: "
                "set both, or both to 0 for no visual prompts"
            )
        self._check_templates()

    def _check_templates(self) -> None:
        object.__setattr__(self, "templates", tuple(self.templates))
        for template in self.templates:
            if not isinstance(template, str) or template.count("{}") != 1:
                raise UserError(f"model.templates: {template!r}, expected a text with {{}} once, where the name goes")
        if self.templates and self.text_prompts:
            raise UserError(
                f"model.templates={self.templates!r} with model.text_prompts={self.text_prompts}: learnt tokens take "
                "the place of templates; set model.text_prompts=0, or no templates"
            )


def saved_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A model's fields as a file has them, with what older files do not say: they were learnt with `ties="release"`."""
    return _BEFORE | dict(fields)
