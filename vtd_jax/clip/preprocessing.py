"""How a CLIP's training images were prepared; its frames must be prepared in the same way."""

import dataclasses
import math
from typing import Any

from vtd_jax.errors import UserError
from vtd_jax.printable import brief

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
RESIZE = ("shortest", "squash")
# statistics are of 0..1; some files have them of 0..255
_GREATEST = 1e4


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Statistics and scaling of a CLIP's images; the defaults are OpenAI's. The side is
    `CLIPConfig.image_resolution`.

    Attributes:
      mean, std: of red, green and blue, in units of 0..1; frames become `(x / 255 - mean) / std`.
      resize: "shortest" (the short side is scaled, then the middle is cropped) or "squash" (the
        whole image is scaled to a square, its proportions change).
    """

    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    resize: str = "shortest"

    def __post_init__(self):
        if not (min(self.std) > 1e-6 and max(self.std) <= _GREATEST):
            raise UserError(
                f"std is {brief(self.std)}, expected numbers above 0, at most {_GREATEST:g}"
            )
        if max(map(abs, self.mean)) > _GREATEST:
            raise UserError(
                f"mean is {brief(self.mean)}, expected numbers of at most {_GREATEST:g}"
            )
        if self.resize not in RESIZE:
            raise UserError(f"resize is {brief(self.resize)}, expected one of {', '.join(RESIZE)}")

    @property
    def is_openai(self) -> bool:
        """True for OpenAI's mean and deviation, as nearly all CLIPs have them."""
        return (self.mean, self.std) == (OPENAI_MEAN, OPENAI_STD)

    @property
    def squash(self) -> bool:
        """True where a frame is scaled to a square as a whole."""
        return self.resize == "squash"

    def __str__(self) -> str:
        mean, std = (" ".join(f"{x:.4g}" for x in values) for values in (self.mean, self.std))
        return f"mean {mean}, deviation {std}" + (
            ", frames squashed to a square" if self.squash else ""
        )

    @classmethod
    def from_dict(cls, fields: Any) -> "Preprocessing":
        """Reads fields as `dataclasses.asdict` gives them, or JSON.

        Raises:
          UserError: unknown fields, or values of another kind.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(fields, dict) or set(fields) - known:
            raise UserError(
                f"preprocessing is {brief(fields)}, expected {', '.join(sorted(known))}"
            )
        if not isinstance(resize := fields.get("resize", ""), str):
            raise UserError(f"resize is {brief(resize)}, expected one of {', '.join(RESIZE)}")
        numbers = {name: _three(name, fields[name]) for name in ("mean", "std") if name in fields}
        return cls(**{**fields, **numbers})


def _three(name: str, values: Any) -> tuple[float, float, float]:
    right = isinstance(values, list | tuple) and len(values) == 3
    if not right or not all(type(x) in (int, float) and abs(x) < math.inf for x in values):
        raise UserError(
            f"{name} is {brief(values)}, expected three finite numbers, of red, green and blue"
        )
    red, green, blue = map(float, values)
    return red, green, blue


OPENAI = Preprocessing()
