"""What the study varies: the rules of the vote, and the videos, shots and frames."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from vtd_jax.scenes.sets import SceneSet

# name -> fields of `ModelConfig`; the first is what the others are compared with
RULES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "as released": {"ties": "release"},
        "ties by frames": {"ties": "frames"},
        "votes by frames": {"votes": "frames"},
    }
)
RELEASED = next(iter(RULES))


@dataclasses.dataclass(frozen=True)
class Condition:
    """One row: which videos, how many of them to learn on, how many frames to look at.

    Attributes:
      name: in words.
      scenes: fields of `SceneSet` that differ from the demo's.
      shots: training clips a base class, 2 to 16.
      frames: T.
    """

    name: str
    scenes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    shots: int = 16
    frames: int = 8

    def scene_set(self, seed: int) -> SceneSet:
        """The videos of a seed."""
        return SceneSet(seed, **self.scenes)


def _share(sixteenths: int, **others: Any) -> dict[str, Any]:
    return {"irrelevant": sixteenths / 16, **others}


CONDITIONS = (
    Condition("no irrelevant frames", _share(0)),
    Condition("12.5 % irrelevant", _share(2)),
    Condition("25 % irrelevant", _share(4)),
    Condition("50 % irrelevant", _share(8)),
    Condition("62.5 % irrelevant (the demo)"),
    Condition("75 % irrelevant", _share(12)),
    Condition("87.5 % irrelevant", _share(14)),
    Condition("irrelevant: one other object", {"kind": "one"}),
    Condition("irrelevant: other objects", {"kind": "others"}),
    Condition("irrelevant: other objects 25 %", _share(4, kind="others")),
    Condition("irrelevant: empty", {"kind": "empty"}),
    Condition("irrelevant: scrambled", {"kind": "corrupt"}),
    Condition("no domain shift", {"shift": 0.0}),
    Condition("no domain shift and 50 % irrelevant", _share(8, shift=0.0)),
    Condition("strong domain shift", {"shift": 1.0}),
    Condition("2 shots", shots=2),
    Condition("4 shots", shots=4),
    Condition("8 shots", shots=8),
    Condition("4 frames", frames=4),
    Condition("16 frames", frames=16),
    Condition("32 frames", {"length": 32}, frames=32),
)
