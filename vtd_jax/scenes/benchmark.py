"""Rendered scenes as a benchmark: lists of every protocol, clips with any share of noise."""

import dataclasses

import numpy as np

from vtd_jax.errors import UserError
from vtd_jax.scenes.render import class_names, render_clip
from vtd_jax.scenes.sets import Clip, SceneList

SHOTS = (2, 4, 8, 16)
SEEDS = (1, 2, 3)
# groups of clips in the order of their seeds
_GROUPS = ("pool", "val", "unseen", "noise")


@dataclasses.dataclass(frozen=True)
class SceneBenchmark:
    """A rendered data set with base and novel halves, shots, and three splits of unseen classes.

    Lists: `base_train`, `fs_base_s{1,2,3}_train` (16 clips a class, drawn from it), `base_val`,
    `novel_val`; `train`, `train1_few_shot_{2,4,8,16}` (nested), `val`; `unseen{1,2,3}_val`, of
    classes that no other list has.

    Attributes:
      seed: of the choice of classes, of every clip and of the draws of shots.
      classes: half of them base, half novel.
      pool: training clips a class, of which shots are drawn.
      val: validation clips a class.
      unseen: classes of each of the three splits for zero-shot transfer.
      unseen_val: clips a class there.
      length: frames a clip.
      size: side of the square frames, pixels.
      irrelevant: share of frames that do not show the clip's object.
      shift: strength of the change of blur, contrast and tint that all clips share.
    """

    seed: int = 0
    classes: int = 32
    pool: int = 24
    val: int = 16
    unseen: int = 16
    unseen_val: int = 8
    length: int = 16
    size: int = 80
    irrelevant: float = 0.625
    shift: float = 0.6

    def __post_init__(self):
        total = self.classes + 3 * self.unseen
        if self.classes < 4 or self.classes % 2 or total > len(class_names()):
            raise UserError(
                f"scene benchmark: {self.classes} classes and 3 x {self.unseen} unseen ones, "
                f"expected an even number from 4 on, and at most {len(class_names())} in all"
            )
        if self.pool < max(SHOTS):
            raise UserError(
                f"scene benchmark: {self.pool} training clips a class, expected {max(SHOTS)} or "
                "more"
            )

    def names(self) -> dict[str, list[str]]:
        """Class names of "all" (base classes first), "base", "novel", "unseen1" to "unseen3"."""
        order = np.random.default_rng([self.seed, 1]).permutation(len(class_names()))
        drawn, half = [class_names()[i] for i in order], self.classes // 2
        every = drawn[: self.classes]
        found = {"all": every, "base": every[:half], "novel": every[half:]}
        for split in SEEDS:
            start = self.classes + (split - 1) * self.unseen
            found[f"unseen{split}"] = drawn[start : start + self.unseen]
        return found

    def clips(self) -> list[Clip]:
        """(group, class, number) of every clip; "unseen" classes count through the three splits."""
        counts = {
            "pool": (self.classes, self.pool), "val": (self.classes, self.val),
            "unseen": (3 * self.unseen, self.unseen_val),
        }  # fmt: skip
        return [
            (group, c, i)
            for group, (classes, count) in counts.items()
            for c in range(classes)
            for i in range(count)
        ]

    def lists(self) -> dict[str, SceneList]:
        """The lists of every protocol."""
        half = self.classes // 2
        every, base, novel = range(self.classes), range(half), range(half, self.classes)
        pool, order = np.tile(np.arange(self.pool), (self.classes, 1)), self._draws(0)
        found = {"base_train": self._list("base", "pool", base, pool)}
        for s in SEEDS:
            found[f"fs_base_s{s}_train"] = self._list("base", "pool", base, self._draws(s)[:, :16])
        found["base_val"] = self._list("base", "val", base)
        found["novel_val"] = self._list("novel", "val", novel, first=half)
        found["train"] = self._list("all", "pool", every, pool)
        for k in SHOTS:
            found[f"train1_few_shot_{k}"] = self._list("all", "pool", every, order[:, :k])
        found["val"] = self._list("all", "val", every)
        for split in SEEDS:
            first = (split - 1) * self.unseen
            found[f"unseen{split}_val"] = self._list(
                f"unseen{split}", "unseen", range(first, first + self.unseen), first=first
            )
        return found

    def _draws(self, seed: int) -> np.ndarray:
        """The training clips of every class `[classes, pool]`, each in an order of its own."""
        rng = np.random.default_rng([self.seed, 4, seed])
        return np.stack([rng.permutation(self.pool) for _ in range(self.classes)])

    def _list(
        self,
        labels: str,
        group: str,
        classes: range,
        numbers: np.ndarray | None = None,
        first: int = 0,
    ) -> SceneList:
        count = self.val if group == "val" else self.unseen_val
        numbers = np.tile(np.arange(count), (classes.stop, 1)) if numbers is None else numbers
        clips = (((group, c, int(i)), c - first) for c in classes for i in numbers[c])
        return SceneList(labels, tuple(clips))

    def render(self, clip: Clip) -> tuple[np.ndarray, np.ndarray]:
        """Frames `[T, H, W, 3]` uint8 of one clip, and which of them show its object."""
        group, label, number = clip
        names = class_names_of(self, group)
        rng = np.random.default_rng([self.seed, 3, _GROUPS.index(group), label, number])
        return render_clip(
            names[label], rng, frames=self.length, size=self.size, irrelevant=self.irrelevant,
            shift=self.shift,
        )  # fmt: skip


def class_names_of(benchmark: SceneBenchmark, group: str) -> list[str]:
    """The names that the classes of a group of clips are numbered by."""
    names = benchmark.names()
    if group == "unseen":
        return names["unseen1"] + names["unseen2"] + names["unseen3"]
    return names["all"]


@dataclasses.dataclass(frozen=True)
class NoisyScenes:
    """Validation clips of a benchmark's classes at another share of irrelevant frames.

    Ten frames a clip, so that every tenth from 0 to 0.9 is a whole number of frames. Lists:
    `base_val`, `novel_val`.

    Attributes:
      benchmark: whose classes, seed and look these clips have.
      irrelevant: share of frames that do not show the clip's object.
      val: clips a class.
    """

    benchmark: SceneBenchmark
    irrelevant: float
    val: int = 8

    length = 10

    def names(self) -> dict[str, list[str]]:
        """Class names of "base" and "novel"."""
        names = self.benchmark.names()
        return {half: names[half] for half in ("base", "novel")}

    def clips(self) -> list[Clip]:
        """(group, class, number) of every clip."""
        return [("noise", c, i) for c in range(self.benchmark.classes) for i in range(self.val)]

    def lists(self) -> dict[str, SceneList]:
        """`base_val` and `novel_val`."""
        half, clips = self.benchmark.classes // 2, self.clips()
        base = tuple((clip, clip[1]) for clip in clips if clip[1] < half)
        novel = tuple((clip, clip[1] - half) for clip in clips if clip[1] >= half)
        return {"base_val": SceneList("base", base), "novel_val": SceneList("novel", novel)}

    def render(self, clip: Clip) -> tuple[np.ndarray, np.ndarray]:
        """Frames `[T, H, W, 3]` uint8 of one clip, and which of them show its object."""
        _, label, number = clip
        made = self.benchmark
        rng = np.random.default_rng([made.seed, 3, _GROUPS.index("noise"), label, number])
        name = made.names()["all"][label]
        return render_clip(
            name, rng, frames=self.length, size=made.size, irrelevant=self.irrelevant,
            shift=made.shift,
        )  # fmt: skip
