"""What a CLIP is: the numbers that fix its two towers."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from vtd_jax.clip.preprocessing import OPENAI, Preprocessing
from vtd_jax.clip.towers import design as designs
from vtd_jax.clip.towers.design import Design
from vtd_jax.clip.towers.published import OTHERS
from vtd_jax.errors import UserError
from vtd_jax.printable import brief

ACTIVATIONS = ("quick_gelu", "gelu", "gelu_tanh")
# of a tower's blocks, see `stack.layout`
LAYOUTS = ("auto", "list", "scan")
# of attention, see `attention.choice`
WAYS = ("auto", "xla", "pallas", "cudnn")
# pixels
MOST_RESOLUTION = 4096
# the largest sizes that a file may give, far beyond any published tower
_MOST = {
    "embed_dim": 65_536,
    "image_resolution": MOST_RESOLUTION,
    "vision_width": 65_536,
    "vision_patch_size": 1024,
    "text_width": 65_536,
    "text_layers": 1000,
    "context_length": 8192,
    "vocab_size": 10_000_000,
    "vision_head_width": 65_536,
    "text_head_width": 65_536,
    "vision_mlp_width": 1_000_000,
    "text_mlp_width": 1_000_000,
}
_MOST_LAYERS, _MOST_PATCHES = 1000, 16_384
_MAY_BE_NONE = ("vision_patch_size", "vision_mlp_width", "text_mlp_width")


@dataclasses.dataclass(frozen=True)
class CLIPConfig:
    """Sizes of a CLIP model (Radford et al. 2021, tables 19 and 20).

    Example:
      >>> import vtd_jax
      >>> config = vtd_jax.CLIPConfig.named("ViT-B/16")
      >>> config.embed_dim, config.image_resolution, config.vision_patch_size
      (512, 224, 16)

    Attributes:
      embed_dim: width D of the space that images and texts share.
      image_resolution: side of the square input image, pixels. Of SigLIP's it need not be a
        multiple of the patch: pixels on the right and at the bottom that fill none are not seen.
      vision_layers: transformer layers, or the four block counts of a ResNet.
      vision_width: transformer width, or channels of the first ResNet stage.
      vision_patch_size: patch side in pixels; None for a ResNet.
      text_width: width of the text tower.
      text_layers: layers of the text tower.
      context_length: text positions L.
      vocab_size: rows of the token table.
      activation: "quick_gelu" (OpenAI), "gelu", or "gelu_tanh", its approximation by a tanh.
      vision_head_width: channels an attention head of the image tower has.
      text_head_width: channels an attention head of the text tower has.
      vision_mlp_width: hidden channels of an MLP of the image tower; None is four times the width.
      text_mlp_width: the same of the text tower.
      preprocessing: what its images went through in training.
      design: what its towers are otherwise than OpenAI's.
    """

    embed_dim: int
    image_resolution: int
    vision_layers: int | tuple[int, int, int, int]
    vision_width: int
    vision_patch_size: int | None
    text_width: int
    text_layers: int = 12
    context_length: int = 77
    vocab_size: int = 49408
    activation: str = "quick_gelu"
    vision_head_width: int = 64
    text_head_width: int = 64
    # fields that came later: older files have these values
    vision_mlp_width: int | None = None
    text_mlp_width: int | None = None
    preprocessing: Preprocessing = OPENAI
    design: Design = designs.OPENAI

    def __post_init__(self):
        _check_sizes({field.name: getattr(self, field.name) for field in dataclasses.fields(self)})
        for tower in ("vision", "text"):
            width, head = getattr(self, f"{tower}_width"), getattr(self, f"{tower}_head_width")
            # one spelling, so that equal configurations compare equal
            if getattr(self, f"{tower}_mlp_width") == 4 * width:
                object.__setattr__(self, f"{tower}_mlp_width", None)
            if width % head and not (tower == "vision" and self.is_resnet):
                raise _wrong(
                    f"{tower}_width {width} is not a multiple of {tower}_head_width {head}"
                )
        whole = self.filled == self.image_resolution or (self.design.sigmoid and self.grid)
        if not self.is_resnet and (self.vision_patch_size is None or not whole):
            raise _wrong(
                f"image_resolution {self.image_resolution} is not a multiple of vision_patch_size "
                f"{self.vision_patch_size}"
            )
        if self.grid**2 > _MOST_PATCHES:
            raise _wrong(f"{self.grid}² patches an image, expected at most {_MOST_PATCHES:,}")
        self._check_design()

    def _check_design(self) -> None:
        design, width = self.design, self.vision_width
        if self.is_resnet and design != designs.OPENAI:
            raise _wrong(f"a ResNet with {design.differences}, which only a transformer has")
        if design.pooling_heads and width % design.pooling_heads:
            raise _wrong(
                f"vision_width {width} is not a multiple of design.pooling_heads "
                f"{design.pooling_heads}"
            )
        if design.rotary and self.vision_head_width % 4:
            raise _wrong(
                f"vision_head_width {self.vision_head_width} is not a multiple of 4, as rotary "
                "positions need"
            )
        if not design.image_projection and width != self.embed_dim:
            raise _wrong(
                f"vision_width {width} is not embed_dim {self.embed_dim}, and there is no image "
                "projection"
            )

    @property
    def is_resnet(self) -> bool:
        """True where the image tower is a ResNet."""
        return isinstance(self.vision_layers, tuple)

    @property
    def grid(self) -> int:
        """Side of the square grid of patches (transformer) or of the last feature map (ResNet)."""
        patch = None if self.is_resnet else self.vision_patch_size
        return self.image_resolution // (patch or 32)

    @property
    def filled(self) -> int:
        """Pixels of a side that whole patches fill."""
        if self.is_resnet:
            return self.image_resolution
        return self.grid * (self.vision_patch_size or 32)

    @property
    def is_named(self) -> bool:
        """True where the sizes are those of one of OpenAI's nine, or of the tiny one."""
        return any(self._sizes == make() for make in _NAMED.values())

    @property
    def _sizes(self) -> "CLIPConfig":
        return dataclasses.replace(self, activation="quick_gelu", preprocessing=OPENAI)

    @property
    def architecture(self) -> str:
        """OpenAI's name where the sizes are those of a released model, else a description."""
        for name, make in _NAMED.items():
            if self._sizes == make():
                return name + _SUFFIXES[self.activation]
        for name, fields in OTHERS.items():
            if dataclasses.replace(self, preprocessing=fields["preprocessing"]) == _other(name):
                return name
        kind = "ResNet" if self.is_resnet else f"ViT/{self.vision_patch_size}"
        if self.design.pooling == "attention":
            kind += " with attention pooling"
        return (
            f"{kind} {self.vision_layers} layers width {self.vision_width} at "
            f"{self.image_resolution}"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able fields; `from_dict` reads them back."""
        layers = self.vision_layers
        fields = dataclasses.asdict(self) | {
            "vision_layers": list(layers) if isinstance(layers, tuple) else layers,
            "preprocessing": self.preprocessing.to_dict(),
        }
        # earlier versions refuse newer fields, so these are left out at their defaults
        return {k: v for k, v in fields.items() if k not in _LATER or getattr(self, k) != _LATER[k]}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "CLIPConfig":
        """Reads `to_dict`'s fields; unknown or missing ones are a `UserError`."""
        if not isinstance(fields, Mapping):
            raise _wrong(f"{brief(fields)}, expected fields by name")
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise _wrong(f"unknown fields {unknown}, expected {sorted(known)}")
        layers = fields.get("vision_layers")
        if isinstance(layers, list):
            fields = fields | {"vision_layers": tuple(layers)}
        if "preprocessing" in fields:
            fields = fields | {"preprocessing": Preprocessing.from_dict(fields["preprocessing"])}
        if "design" in fields:
            fields = fields | {"design": Design.from_dict(fields["design"])}
        _check_sizes(fields)
        try:
            return cls(**fields)
        except TypeError as error:
            raise _wrong(str(error)) from None

    @classmethod
    def named(cls, name: str) -> "CLIPConfig":
        """`named("ViT-B/16")`: one of OpenAI's nine, by its published name, "tiny", or one of
        `vtd_jax.clip.towers.published`.
        """
        if not isinstance(name, str) or name not in known_architectures():
            known = ", ".join(known_architectures())
            raise UserError(f"unknown CLIP architecture {brief(name)}, expected one of {known}")
        if name in OTHERS:
            return _other(name)
        return _NAMED[name]()

    @classmethod
    def vit_b32(cls) -> "CLIPConfig":
        """ViT-B/32 at 224 px."""
        return cls(512, 224, 12, 768, 32, 512)

    @classmethod
    def vit_b16(cls) -> "CLIPConfig":
        """ViT-B/16 at 224 px: the backbone of every published table."""
        return cls(512, 224, 12, 768, 16, 512)

    @classmethod
    def vit_l14(cls) -> "CLIPConfig":
        """ViT-L/14 at 224 px."""
        return cls(768, 224, 24, 1024, 14, 768)

    @classmethod
    def vit_l14_336(cls) -> "CLIPConfig":
        """ViT-L/14 at 336 px."""
        return cls(768, 336, 24, 1024, 14, 768)

    @classmethod
    def rn50(cls) -> "CLIPConfig":
        """ResNet-50 with attention pooling at 224 px."""
        return cls(1024, 224, (3, 4, 6, 3), 64, None, 512)

    @classmethod
    def rn101(cls) -> "CLIPConfig":
        """ResNet-101 with attention pooling at 224 px."""
        return cls(512, 224, (3, 4, 23, 3), 64, None, 512)

    @classmethod
    def rn50x4(cls) -> "CLIPConfig":
        """ResNet-50x4 with attention pooling at 288 px."""
        return cls(640, 288, (4, 6, 10, 6), 80, None, 640)

    @classmethod
    def rn50x16(cls) -> "CLIPConfig":
        """ResNet-50x16 with attention pooling at 384 px."""
        return cls(768, 384, (6, 8, 18, 8), 96, None, 768)

    @classmethod
    def rn50x64(cls) -> "CLIPConfig":
        """ResNet-50x64 with attention pooling at 448 px."""
        return cls(1024, 448, (3, 15, 36, 10), 128, None, 1024)

    @classmethod
    def tiny(cls) -> "CLIPConfig":
        """The small CLIP that the repository ships: 64 px, patch 8, 4 + 2 layers of width 64."""
        return cls(128, 64, 4, 64, 8, 64, text_layers=2)


def known_architectures() -> tuple[str, ...]:
    """The names that `CLIPConfig.named` takes: OpenAI's first."""
    return (*_NAMED, *OTHERS)


@functools.cache
def _other(name: str) -> CLIPConfig:
    """A published CLIP that is not OpenAI's."""
    return CLIPConfig(**OTHERS[name])


def _check_sizes(fields: Mapping[str, Any]) -> None:
    """Raises a `UserError` that names a field whose value no tower can have."""
    sizes = {name: fields[name] for name in _MOST if name in fields}
    layers = fields.get("vision_layers", 1)
    if isinstance(layers, tuple):
        if len(layers) != 4:
            raise _wrong(f"vision_layers {brief(layers)}, expected a number, or four of a ResNet")
        sizes |= {f"vision_layers[{stage}]": count for stage, count in enumerate(layers)}
    else:
        sizes["vision_layers"] = layers
    for name, size in sizes.items():
        most = _MOST.get(name, _MOST_LAYERS)
        if not (size is None and name in _MAY_BE_NONE) and (
            type(size) is not int or not 1 <= size <= most
        ):
            raise _wrong(f"{name} {brief(size)}, expected a whole number from 1 to {most:,}")
    if (activation := fields.get("activation", ACTIVATIONS[0])) not in ACTIVATIONS:
        raise _wrong(f"activation {brief(activation)}, expected one of {ACTIVATIONS}")


def _wrong(problem: str) -> UserError:
    return UserError(f"CLIP config: {problem}")


_SUFFIXES = {"quick_gelu": "", "gelu": " (GELU)", "gelu_tanh": " (GELU by tanh)"}
_LATER = {
    "vision_mlp_width": None,
    "text_mlp_width": None,
    "preprocessing": OPENAI,
    "design": designs.OPENAI,
}
_NAMED = {
    "ViT-B/32": CLIPConfig.vit_b32,
    "ViT-B/16": CLIPConfig.vit_b16,
    "ViT-L/14": CLIPConfig.vit_l14,
    "ViT-L/14@336px": CLIPConfig.vit_l14_336,
    "RN50": CLIPConfig.rn50,
    "RN101": CLIPConfig.rn101,
    "RN50x4": CLIPConfig.rn50x4,
    "RN50x16": CLIPConfig.rn50x16,
    "RN50x64": CLIPConfig.rn50x64,
    "tiny": CLIPConfig.tiny,
}
