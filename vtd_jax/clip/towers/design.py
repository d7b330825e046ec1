"""How two towers are built where sizes do not say it: what SigLIP and Meta's PE do otherwise."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vtd_jax.errors import UserError
from vtd_jax.printable import brief

POOLINGS = ("class", "attention")
TOKENIZERS = ("clip", "gemma")
_MOST_HEADS, _MOST_WIDTH = 65_536, 1_000_000


@dataclasses.dataclass(frozen=True)
class Design:
    """The defaults are OpenAI's CLIP. Only transformers have another design.

    Attributes:
      class_token: the image tower begins with a learnt token, which has a position of its own.
      patch_bias: the patch convolution has a bias.
      pre_norm: there is a LayerNorm before the image tower's first block.
      rotary: queries and keys of patches are turned by their row and column in every block, beside
        the learnt positions.
      pooling: the image's vector: "class" (its class token) or "attention" (a learnt probe attends
        to all image tokens, then an MLP).
      pooling_heads: of the attention pooling; 0 without one.
      pooling_mlp_width: hidden channels of its MLP; 0 without one.
      image_projection: the pooled vector is multiplied by a matrix; else it is the feature.
      image_projection_bias: a bias is added to it.
      causal: a text position sees only those before it, and the text's vector is that of its end
        token. Else all positions see all `context_length`, padding too, and the last one is it.
      text_projection_bias: the text projection has a bias.
      norm_eps: of every LayerNorm.
      tokenizer: "clip", or "gemma": its files come with the weights.
      sigmoid: it was trained to tell pairs by a sigmoid, so it has a logit bias.
    """

    class_token: bool = True
    patch_bias: bool = False
    pre_norm: bool = True
    rotary: bool = False
    pooling: str = "class"
    pooling_heads: int = 0
    pooling_mlp_width: int = 0
    image_projection: bool = True
    image_projection_bias: bool = False
    causal: bool = True
    text_projection_bias: bool = False
    norm_eps: float = 1e-5
    tokenizer: str = "clip"
    sigmoid: bool = False

    def __post_init__(self):
        _check_kinds(dataclasses.asdict(self))
        by_attention = self.pooling == "attention"
        for name, most in (("pooling_heads", _MOST_HEADS), ("pooling_mlp_width", _MOST_WIDTH)):
            least, most = (1, most) if by_attention else (0, 0)
            if not least <= (value := getattr(self, name)) <= most:
                raise _wrong(name, value, f"a whole number from {least} to {most:,}")
        self._check_together(by_attention)

    def _check_together(self, by_attention: bool) -> None:
        if not by_attention and not self.class_token:
            raise _wrong("pooling", self.pooling, "attention: there is no class token")
        if self.rotary and not by_attention:
            raise _wrong("rotary", self.rotary, "false where the class token is pooled")
        if self.image_projection_bias and not self.image_projection:
            raise _wrong("image_projection_bias", True, "false without an image projection")
        if self.causal and self.tokenizer != "clip":
            raise _wrong("causal", True, f"false with the tokenizer {self.tokenizer}")

    @property
    def starts(self) -> int:
        """Tokens that the tokenizer puts before every text, and so before text prompts."""
        return 1 if self.tokenizer == "clip" else 0

    @property
    def differences(self) -> str:
        """What is not OpenAI's, for messages; "" for OpenAI's design."""
        found = [
            f"{field.name} {getattr(self, field.name)}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return ", ".join(found)

    @classmethod
    def from_dict(cls, fields: Any) -> "Design":
        """Reads fields as `dataclasses.asdict` gives them, or JSON.

        Raises:
          UserError: unknown fields, or values that no tower has.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(fields, dict) or set(fields) - known:
            raise UserError(f"design is {brief(fields)}, expected {', '.join(sorted(known))}")
        _check_kinds(fields)
        return cls(**fields)


def _check_kinds(fields: Mapping[str, Any]) -> None:
    """Refuses values that are not of their field's type, or unknown choices."""
    for field in dataclasses.fields(Design):
        value = fields.get(field.name, field.default)
        if isinstance(field.default, bool) and type(value) is not bool:
            raise _wrong(field.name, value, "true or false")
        if type(field.default) is int and type(value) is not int:
            raise _wrong(field.name, value, "a whole number")
    for name, known in (("pooling", POOLINGS), ("tokenizer", TOKENIZERS)):
        if (value := fields.get(name, known[0])) not in known:
            raise _wrong(name, value, f"one of {', '.join(known)}")
    eps = fields.get("norm_eps", Design.norm_eps)
    if type(eps) is not float or not 1e-12 <= eps <= 1e-2:
        raise _wrong("norm_eps", eps, "a number from 1e-12 to 0.01")


def _wrong(name: str, value: Any, expected: str) -> UserError:
    return UserError(f"design.{name} {brief(value)}, expected {expected}")


OPENAI = Design()


def siglip(heads: int, mlp_width: int) -> Design:
    """SigLIP 2 of a fixed resolution (Tschannen et al. 2025)."""
    return Design(
        class_token=False,
        patch_bias=True,
        pre_norm=False,
        pooling="attention",
        pooling_heads=heads,
        pooling_mlp_width=mlp_width,
        image_projection=False,
        causal=False,
        text_projection_bias=True,
        norm_eps=1e-6,
        tokenizer="gemma",
        sigmoid=True,
    )


def pe_core(width: int, class_token: bool = True) -> Design:
    """Meta's PE-Core (Bolya et al. 2025): 8 heads pool whatever the width is."""
    return Design(
        class_token=class_token,
        rotary=True,
        pooling="attention",
        pooling_heads=8,
        pooling_mlp_width=4 * width,
    )
