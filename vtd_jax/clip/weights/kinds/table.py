"""The encoders that are supported, as rows of a table."""

import math
from typing import NamedTuple

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.towers.published import OPEN_CLIP_SIZES, PE_CORE, SIGLIP2
from vtd_jax.clip.weights.tensor_names import tensor_shapes

_OPENAI = (
    "ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336px", "RN50", "RN101", "RN50x4", "RN50x16",
    "RN50x64",
)  # fmt: skip
_OPEN_CLIP = {"ViT-H/14": "ViT-H-14", "ViT-g/14": "ViT-g-14", "ViT-bigG/14": "ViT-bigG-14"}


class Encoder(NamedTuple):
    """One published CLIP.

    Attributes:
      name: of it; OpenAI's, PE-Core's and SigLIP 2's are those of `CLIPConfig.named`.
      image: its image tower: layers × width, channels of a head, pixels.
      pooling: what becomes the image's vector.
      text: its text tower: layers × width, positions.
      tokenizer: CLIP's, or where it comes from.
      logits: what they were trained with.
      millions: of parameters.
      files: that are read.
    """

    name: str
    image: str
    pooling: str
    text: str
    tokenizer: str
    logits: str
    millions: int
    files: str


def encoders() -> list[Encoder]:
    """All published sizes that are tested, those of OpenAI first."""
    openai = "OpenAI's `.pt`, Hugging Face, open_clip"
    rows = [_row(name, CLIPConfig.named(name), openai) for name in _OPENAI]
    for name, own in _OPEN_CLIP.items():
        config = CLIPConfig(**OPEN_CLIP_SIZES[own], activation="gelu")
        rows.append(_row(name, config, "Hugging Face, open_clip"))
    rows += [_row(name, CLIPConfig.named(name), "Meta's `.pt`, open_clip") for name in PE_CORE]
    return rows + [_row(name, CLIPConfig.named(name), "Hugging Face") for name in SIGLIP2]


def _row(name: str, config: CLIPConfig, files: str) -> Encoder:
    design = config.design
    side = f"{config.image_resolution} px"
    if config.is_resnet:
        image, pooling = f"ResNet, {side}", "attention"
    else:
        heads = f"heads of {config.vision_head_width}"
        image = f"{config.vision_layers} × {config.vision_width}, {heads}, {side}"
        pooling = "class token"
        if design.pooling == "attention":
            pooling = f"attention, {design.pooling_heads} heads"
        if design.rotary:
            pooling += "; rotary positions"
    text = f"{config.text_layers} × {config.text_width}, {config.context_length} positions"
    return Encoder(
        name,
        image,
        pooling,
        text if design.causal else f"{text}, not causal",
        "CLIP's" if design.tokenizer == "clip" else "`tokenizer.json`",
        "sigmoid" if design.sigmoid else "softmax",
        round(sum(map(math.prod, tensor_shapes(config).values())) / 1e6),
        files,
    )


def markdown() -> str:
    """The table of docs/encoders.md."""
    head = (
        "CLIP", "image tower", "pooled by", "text tower", "tokenizer", "logits",
        "million parameters", "read from",
    )  # fmt: skip
    rows = [head, ["---"] * len(head), *([str(cell) for cell in row] for row in encoders())]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"
