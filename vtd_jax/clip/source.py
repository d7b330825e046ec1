"""The settings that choose the CLIP of a run or an exported model."""

import dataclasses
from typing import Any

from vtd_jax.clip.config import ACTIVATIONS
from vtd_jax.fields import check_choice, check_ranges


@dataclasses.dataclass(frozen=True)
class ClipSource:
    """Which CLIP.

    Attributes:
      path: the CLIP: path of a checkpoint, a name as "ViT-B/16" or "hf:ORG/MODEL", or "tiny" for
        the one that ships.
      architecture: what the CLIP must have, as "ViT-B/16"; "" for any.
      dtype: what the towers of the CLIP compute in, "float32" or "bfloat16".
      activation: activation of the towers, for weights that do not say it; "" for what they say.
      head_width: width of the image tower's attention heads, for weights that do not say it; 0 for
        what they say.
    """

    path: str = ""
    architecture: str = "ViT-B/16"
    dtype: str = "float32"
    activation: str = ""
    head_width: int = 0

    def __post_init__(self):
        check_choice("clip.dtype", self.dtype, ("float32", "bfloat16"))
        check_choice("clip.activation", self.activation, ("", *ACTIVATIONS))
        check_ranges("clip", self, head_width=(0, 65_536))

    @property
    def asked(self) -> dict[str, Any]:
        """`activation` and `head_width` as `load_clip` takes them, None for not given."""
        return {"activation": self.activation or None, "head_width": self.head_width or None}
