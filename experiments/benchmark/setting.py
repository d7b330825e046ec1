"""The options of a benchmark, and the variants that it compares."""

import dataclasses
import importlib.util
import json
from typing import NamedTuple

from experiments.benchmark.classes import class_names, name_lengths, stand_in_tokens
from experiments.benchmark.tasks import Setting
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.errors import UserError
from vtd_jax.installed.extras import install
from vtd_jax.model.codebook import class_tokens, trim
from vtd_jax.model.config import ModelConfig

INSTALL = (
    f"PyTorch's side needs torch and transformers: {install(['parity'])} (or torch==2.13.0 alone "
    "beside them)"
)
DTYPES = ("float32", "bfloat16")
# fewer prompts start as words, which need a tokenizer
FEWEST_BARE = 5


class Variant(NamedTuple):
    """An implementation and its dtype.

    `way` is "fast" or "plain" for JAX (ours), "eager" or "compiled" for PyTorch.
    """

    framework: str
    dtype: str
    way: str

    @property
    def name(self) -> str:
        """As in tables."""
        ways = {"fast": "", "eager": "", "plain": ", plain path", "compiled": ", compiled"}
        framework = "ours" if self.framework == "JAX" else self.framework
        return f"{framework}, {self.dtype}{ways[self.way]}"


@dataclasses.dataclass(frozen=True)
class Options:
    """The numbers of a run, JSON-able to pass them to child processes."""

    architecture: str
    frames: int
    batch: int
    classes: int
    prompts: int
    depth: int
    rounds: int
    # token rows of the names' lengths, which need no tokenizer, take the place of the names'
    stand_in: bool = False

    def __post_init__(self):
        if self.stand_in and self.prompts < FEWEST_BARE:
            raise UserError(f"--prompts={self.prompts}: expected {FEWEST_BARE} or more here")

    def to_json(self) -> str:
        """`Options(**json.loads(text))` reads it back."""
        return json.dumps(dataclasses.asdict(self))

    def is_goal(self) -> bool:
        """Whether this is the setting that the goals are for."""
        sizes = (self.architecture, self.frames, self.classes, self.prompts, self.depth)
        return sizes == ("ViT-B/16", 16, 101, 10, 12)

    def setting(self) -> Setting:
        """The model's sizes, prompts in both towers as deep as they go, and the class prompts.

        Raises:
          UserError: an unknown architecture.
        """
        config = CLIPConfig.named(self.architecture)
        visual = 0 if config.is_resnet else self.prompts
        settings = ModelConfig(
            text_prompts=self.prompts,
            text_depth=min(self.depth, config.text_layers),
            visual_prompts=visual,
            visual_depth=min(self.depth, config.vision_layers) if visual else 0,
        )
        if self.stand_in:
            tokens = stand_in_tokens(name_lengths(self.classes), self.prompts)
        else:
            tokens = trim(class_tokens(class_names(self.classes), self.prompts))
        return Setting(config, settings, self.frames, self.batch, tokens)


def known_dtypes(given: list[str]) -> list[str]:
    """The value of --dtype.

    Raises:
      UserError: none, or not all of them are `DTYPES`.
    """
    if unknown := set(given) - set(DTYPES) or (not given and {""}):
        raise UserError(
            f"--dtype: {', '.join(sorted(unknown))!r}, expected some of {', '.join(DTYPES)}"
        )
    return given


def has_torch() -> bool:
    """Whether PyTorch's side can run here."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "transformers"))


def variants(*, dtypes: tuple[str, ...], plain: bool, torch: bool, gpu: bool) -> list[Variant]:
    """Those that are compared, in the order in which they run.

    Args:
      dtypes: of "float32" and "bfloat16", for ours.
      plain: our plain path in float32 too.
      torch: PyTorch in both types too.
      gpu: on which PyTorch is also compiled.
    """
    found = [Variant("JAX", dtype, "fast") for dtype in dtypes]
    if plain:
        found.append(Variant("JAX", "float32", "plain"))
    if torch:
        found += [Variant("PyTorch", dtype, "eager") for dtype in DTYPES]
    if torch and gpu:
        found.append(Variant("PyTorch", "bfloat16", "compiled"))
    return found
