"""Data sets of rendered scenes: mp4 files, lists and label CSVs in the field's formats."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from vtd_jax.errors import UserError
from vtd_jax.files import write_text
from vtd_jax.scenes.render import KINDS, class_names, render_clip, write_mp4
from vtd_jax.video.workers import follow_parent, starting

# record name -> (labels, which clips)
LISTS = {"base_train": "base", "base_val": "base", "novel_val": "novel"}

# group of clips, class in it, number: all that a clip depends on beside its data set
Clip = tuple[str, int, int]


class SceneList(NamedTuple):
    """A list of a data set: the label file it uses, and its clips with their class ids."""

    labels: str
    clips: tuple[tuple[Clip, int], ...]


@runtime_checkable
class Scenes(Protocol):
    """What `write_scene_sets` writes."""

    def names(self) -> dict[str, list[str]]:
        """Label files: class names in the order of their ids."""

    def clips(self) -> list[Clip]:
        """Every clip, once."""

    def lists(self) -> dict[str, SceneList]:
        """Lists by name."""

    def render(self, clip: Clip) -> tuple[np.ndarray, np.ndarray]:
        """Frames `[T, H, W, 3]` uint8 of one clip, and which of them show its object."""


@dataclasses.dataclass(frozen=True)
class SceneSet:
    """What is rendered.

    Attributes:
      seed: of the choice of classes and of every clip.
      classes: half of them base, half novel, drawn from the 256 combinations.
      train: training clips a base class.
      val: validation clips a class, base and novel.
      length: frames a clip.
      size: side of the square frames, pixels.
      irrelevant: share of frames that do not show the clip's object.
      kind: what those show, see `render.KINDS`.
      shift: strength of the change of blur, contrast and tint that all clips share.
    """

    seed: int
    classes: int = 32
    train: int = 16
    val: int = 8
    length: int = 16
    size: int = 80
    irrelevant: float = 0.625
    kind: str = "mixture"
    shift: float = 0.6

    def __post_init__(self):
        if not 4 <= self.classes <= len(class_names()) or self.classes % 2:
            raise UserError(
                f"scene set: classes {self.classes}, expected an even number from 4 to "
                f"{len(class_names())}"
            )
        if min(self.train, self.val, self.length) < 1:
            raise UserError(
                f"scene set: train {self.train}, val {self.val}, length {self.length}, expected 1 "
                "or more"
            )
        if self.kind not in KINDS:
            raise UserError(f"scene set: kind {self.kind!r}, expected one of {', '.join(KINDS)}")

    def names(self) -> dict[str, list[str]]:
        """Class names of "base" and "novel"."""
        order = np.random.default_rng([self.seed, 1]).permutation(len(class_names()))
        chosen, half = [class_names()[i] for i in order[: self.classes]], self.classes // 2
        return {"base": chosen[:half], "novel": chosen[half:]}

    def clips(self) -> list[Clip]:
        """(list, class id, number) of every clip."""
        counts = {name: self.train if name.endswith("train") else self.val for name in LISTS}
        return [
            (name, c, i)
            for name in LISTS
            for c in range(self.classes // 2)
            for i in range(counts[name])
        ]

    def lists(self) -> dict[str, SceneList]:
        """A list of training clips, two of validation clips."""
        clips = self.clips()
        return {
            name: SceneList(half, tuple((clip, clip[1]) for clip in clips if clip[0] == name))
            for name, half in LISTS.items()
        }

    def render(self, clip: Clip) -> tuple[np.ndarray, np.ndarray]:
        """Frames `[T, H, W, 3]` uint8 of one clip, and which of them show its object."""
        name, label, number = clip
        rng = np.random.default_rng([self.seed, 2, list(LISTS).index(name), label, number])
        names = self.names()[LISTS[name]]
        return render_clip(
            names[label], rng, frames=self.length, size=self.size, irrelevant=self.irrelevant,
            kind=self.kind, shift=self.shift,
        )  # fmt: skip


def file_name(clip: Clip) -> str:
    """The clip's file below `videos/`."""
    name, label, number = clip
    return f"{name}_{label:03d}_{number:03d}.mp4"


def write_scene_sets(
    sets: Sequence[tuple[Scenes, Path]],
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Renders data sets into folders: `videos/*.mp4`, a `.txt` a list, `NAMES_labels.csv`.

    Args:
      sets: what, and where to; folders are made. Existing videos of
        the same data set stay.
      workers: rendering processes; 0 means one a core.
      progress: called with clips done and clips in all.
    """
    jobs = []
    for scene_set, folder in sets:
        (folder / "videos").mkdir(parents=True, exist_ok=True)
        for name, listed in scene_set.lists().items():
            write_text(
                folder / f"{name}.txt",
                "".join(f"{file_name(clip)} {label}\n" for clip, label in listed.clips),
            )
        for labels, names in scene_set.names().items():
            rows = [f"{i},{name}\n" for i, name in enumerate(names)]
            write_text(folder / f"{labels}_labels.csv", "id,name\n" + "".join(rows))
        clips = [
            clip for clip in scene_set.clips() if not (folder / "videos" / file_name(clip)).exists()
        ]
        jobs += [(scene_set, folder, clips[i : i + 16]) for i in range(0, len(clips), 16)]
    total, done = sum(len(job[2]) for job in jobs), 0
    with rendering_pool(workers) as pool:
        try:
            with starting():
                futures = [pool.submit(_write, *job) for job in jobs]
            for future in as_completed(futures):
                done += future.result()
                if progress:
                    progress(done, total)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def rendering_pool(workers: int = 0) -> Executor:
    """Processes that render; `workers` 0 means one a core."""
    # spawn, not fork: a process that has started JAX must not be forked
    context = get_context("spawn")
    with starting():
        return ProcessPoolExecutor(
            workers or os.cpu_count() or 1, mp_context=context, initializer=follow_parent
        )


def _write(scene_set: Scenes, folder: Path, clips: list[Clip]) -> int:
    for clip in clips:
        write_mp4(folder / "videos" / file_name(clip), scene_set.render(clip)[0])
    return len(clips)
