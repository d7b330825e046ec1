"""The settings of the method, one field an idea."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from vtd_jax.errors import UserError, setting
from vtd_jax.fields import check_choice
from vtd_jax.printable import brief

CHOICES = {
    "assignment": ("euclidean", "cosine"),
    "confidence": ("softmax", "uniform"),
    "pooling": ("confidence", "mean", "softmax_mean"),
    "fusion_init": ("release", "zero"),
    "normalization": ("imagenet", "clip"),
    "ties": ("frames", "release"),
    "votes": ("confidence", "frames"),
}
# values that older files, which lack these fields, ran with; the defaults differ
_BEFORE = {"ties": "release"}
# field -> the least and the most that a file may give; the most is far beyond any trained model
_RANGES = {
    "text_prompts": (0, 1000),
    "text_depth": (0, 1000),
    "visual_prompts": (0, 10_000),
    "visual_depth": (0, 1000),
    "top_n": (1, 1_000_000),
    "fusion_heads": (1, 65_536),
}
# prompt tokens of a tower, over all layers; templates, and characters of one
_MOST_TOKENS, _MOST_TEMPLATES, _MOST_CHARACTERS = 100_000, 10_000, 1000


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """How a CLIP becomes a VTD-CLIP.

    Example:
      >>> import vtd_jax
      >>> config = vtd_jax.ModelConfig(text_prompts=0, text_depth=0, normalization="clip")
      >>> config.assignment, config.pooling
      ('euclidean', 'confidence')

    Attributes:
      text_prompts: learnable context tokens P_t before a class name; 0 encodes bare class names, or
        `templates`.
      text_depth: text layers with prompts of their own, the input counted as the first.
      visual_prompts: learnable tokens P_v after the patch tokens.
      visual_depth: image layers with prompts of their own; 0 for none.
      assignment: nearest code by "euclidean" distance of raw features (the release) or by "cosine"
        (the paper).
      temperature: temperature of the softmax over frames that makes the confidence.
      confidence: "softmax" over frames (the method), or "uniform": every frame weighs 1/T for every
        class (the ablation), in the votes, the video token and the logits.
      top_n: codes with the most votes that become video tokens.
      pooling: how frames become logits: "confidence" (the method), "mean" of frame features, or
        "softmax_mean", the log of the mean over frames of the class probabilities.
      fusion: whether video tokens are fused into the frames. See docs/method.md, section
        "confidence-aware fusion".
      fusion_init: "release" (PyTorch's default for every linear layer) or "zero" (the last layer
        starts at zero, so training starts from unfused frames).
      fusion_heads: attention heads of the fusion block.
      dropout: share of the fusion block's attention weights that is dropped, in training only.
      normalization: mean and deviation of RGB: "imagenet" (the release) or "clip" (what CLIP was
        trained with).
      templates: texts around a class name, each with `{}` in its place; a code is the mean over
        them, see `codebook.ensemble`; () for bare class names. With text_prompts=0 only.
      ties: which class becomes the video token where several have the most votes to rounding:
        "frames", the one that named more frames, then the lower one, or "release", the greatest
        number. With "frames" votes within 1e-5 of the greatest tie (see `ties.winner`); with
        "release" the last bit of a sum decides, another one on another machine.
      votes: what a frame's vote for its class is worth: "confidence", its own in the class
        (the paper, the release), or "frames", one. By confidence a class has about one vote whether
        it names one frame or six. By frames the class of most frames becomes the video token; of
        classes of as many frames the one with more confidence in them, to 1e-5, then the lower one.
        Not with ties="release".
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
    # fields that came later: older files ran with these defaults, or with those in `_BEFORE`
    confidence: str = "softmax"
    templates: tuple[str, ...] = ()
    ties: str = "frames"
    votes: str = "confidence"

    def __post_init__(self):
        for field, allowed in CHOICES.items():
            check_choice(f"model.{field}", getattr(self, field), allowed)
        for field, (least, most) in _RANGES.items():
            if type(value := getattr(self, field)) is not int or not least <= value <= most:
                raise _wrong(field, value, f"a whole number from {least} to {most:,}")
        for tower in ("text", "visual"):
            length, depth = getattr(self, f"{tower}_prompts"), getattr(self, f"{tower}_depth")
            if length * depth > _MOST_TOKENS:
                raise UserError(
                    f"model.{tower}_prompts={length} with model.{tower}_depth={depth}: "
                    f"{length * depth:,} tokens, expected at most {_MOST_TOKENS:,}"
                )
        if type(self.fusion) is not bool:
            raise _wrong("fusion", self.fusion, "true or false")
        if not _is_number(self.temperature) or not 0 < self.temperature <= 1e6:
            raise _wrong("temperature", self.temperature, "more than 0, at most 1e6")
        if not _is_number(self.dropout) or not 0 <= self.dropout < 1:
            raise _wrong("dropout", self.dropout, "0 or more and less than 1")
        if bool(self.visual_prompts) != bool(self.visual_depth):
            raise UserError(
                f"model.visual_prompts={self.visual_prompts} with "
                f"model.visual_depth={self.visual_depth}: set both, or both to 0 for no visual "
                "prompts"
            )
        if self.votes == "frames" and self.ties == "release":
            raise UserError(
                "model.votes='frames' with model.ties='release': the release counts confidence; "
                f"set {setting('model.ties', 'frames')}, or {setting('model.votes', 'confidence')}"
            )
        self._check_templates()

    def _check_templates(self) -> None:
        if isinstance(self.templates, str) or not isinstance(self.templates, Iterable):
            raise _wrong("templates", self.templates, "a tuple, as ('a', 'b')")
        # the dataclass is frozen
        object.__setattr__(self, "templates", tuple(self.templates))
        if len(self.templates) > _MOST_TEMPLATES:
            raise UserError(
                f"model.templates: {len(self.templates):,} texts, expected at most "
                f"{_MOST_TEMPLATES:,}"
            )
        for template in self.templates:
            if not isinstance(template, str) or template.count("{}") != 1:
                raise _wrong("templates", template, "a text with {} once, where the name goes")
            if len(template) > _MOST_CHARACTERS:
                raise UserError(
                    f"model.templates: {template[:40]!r}… has {len(template):,} characters, "
                    f"expected at most {_MOST_CHARACTERS:,}"
                )
        if self.templates and self.text_prompts:
            raise UserError(
                f"model.templates={brief(self.templates)} with "
                f"model.text_prompts={self.text_prompts}: learnt tokens take the place of "
                f"templates; set {setting('model.text_prompts', 0)}, or no templates"
            )


def _wrong(field: str, value: Any, expected: str) -> UserError:
    return UserError(f"model.{field}: {brief(value)}, expected {expected}")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def saved_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields from a file, with those that older files lack."""
    return _BEFORE | dict(fields)
