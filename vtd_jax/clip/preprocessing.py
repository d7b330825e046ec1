"""How a CLIP's training images were prepared; its frames must be prepared in the same way."""

import dataclasses
import math
from typing import Any

from vtd_jax.errors import UserError
from vtd_jax.printable import brief

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
RESIZE = ("shortest", "squash")
INTERPOLATION = ("bicubic", "bilinear")
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
      interpolation: "bicubic" or "bilinear", smoothed where an image shrinks; of frames only where
        they are prepared as CLIP's images were (docs/method.md, section 6).
    """

    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    resize: str = "shortest"
    # not in fingerprints of the CLIP: frames prepared as released do not depend on it
    interpolation: str = dataclasses.field(default="bicubic", repr=False)

    def __post_init__(self):
        if not (min(self.std) > 1e-6 and max(self.std) <= _GREATEST):
            raise UserError(
                f"std is {brief(self.std)}, expected numbers above 0, at most {_GREATEST:g}"
            )
        if max(map(abs, self.mean)) > _GREATEST:
            raise UserError(
                f"mean is {brief(self.mean)}, expected numbers of at most {_GREATEST:g}"
            )
        for name, allowed in _WORDS.items():
            if (value := getattr(self, name)) not in allowed:
                raise _wrong_word(name, value)

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

    def to_dict(self) -> dict[str, Any]:
        """JSON-able fields; `from_dict` reads them back."""
        fields = dataclasses.asdict(self)
        # earlier versions refuse it
        if self.interpolation == INTERPOLATION[0]:
            del fields["interpolation"]
        return fields

    @classmethod
    def from_dict(cls, fields: Any) -> "Preprocessing":
        """Reads fields as `to_dict` gives them, or JSON.

        Raises:
          UserError: unknown fields, or values of another kind.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(fields, dict) or set(fields) - known:
            raise UserError(
                f"preprocessing is {brief(fields)}, expected {', '.join(sorted(known))}"
            )
        for name in _WORDS:
            if not isinstance(word := fields.get(name, ""), str):
                raise _wrong_word(name, word)
        numbers = {name: _three(name, fields[name]) for name in ("mean", "std") if name in fields}
        return cls(**{**fields, **numbers})


# field -> what it may be
_WORDS = {"resize": RESIZE, "interpolation": INTERPOLATION}


def _wrong_word(name: str, value: Any) -> UserError:
    return UserError(f"{name} is {brief(value)}, expected one of {', '.join(_WORDS[name])}")


def _three(name: str, values: Any) -> tuple[float, float, float]:
    right = isinstance(values, list | tuple) and len(values) == 3
    if not right or not all(type(x) in (int, float) and abs(x) < math.inf for x in values):
        raise UserError(
            f"{name} is {brief(values)}, expected three finite numbers, of red, green and blue"
        )
    red, green, blue = map(float, values)
    return red, green, blue


OPENAI = Preprocessing()
