"""Reads the checkpoints of a run: which there are, what they hold, which are intact."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from vtd_jax.errors import UserError, setting
from vtd_jax.fingerprints import fingerprint, same
from vtd_jax.train.checkpoints import integrity
from vtd_jax.train.checkpoints.integrity import Damaged, Stored
from vtd_jax.trees import unflatten_arrays
from vtd_jax.untrusted.json_text import convert

FOLDER = "checkpoints"


class Identity(TypedDict):
    """Fingerprints of CLIP's weights and of the class names, and CLIP's settings, which older
    checkpoints lack.
    """

    clip: str
    names: str
    clip_settings: NotRequired[str]


class StoredCheckpoints:
    """The checkpoints under `workdir/checkpoints`, one folder per step, read-only.

    Attributes:
      workdir: of the run.
      folder: of its checkpoints.
    """

    def __init__(self, workdir: Path):
        self.workdir = Path(workdir)
        self.folder = self.workdir / FOLDER
        self._read: dict[int, Stored] = {}

    @property
    def steps(self) -> list[int]:
        """The steps with a checkpoint, ascending."""
        return integrity.steps_in(self.folder)

    def choose(self, which: str) -> int:
        """The step that "last", "best" or a number names.

        Raises:
          UserError: there is none.
        """
        steps = self.steps
        if not steps:
            raise UserError(
                f"{self.folder}: no checkpoints there; train first, or give the workdir of a run "
                "that has some"
            )
        if which == "last":
            return steps[-1]
        if which == "best":
            metrics = {step: metric for step in steps if (metric := self.metric(step)) is not None}
            if not metrics:
                raise UserError(
                    f"{self.folder}: no checkpoint was evaluated yet, use "
                    f"{setting('checkpoint', 'last')}"
                )
            # of equal metrics the last step
            return max(metrics, key=lambda step: (metrics[step], step))
        if (step := integrity.step_of(which)) in steps:
            return step
        raise UserError(
            f"{setting('checkpoint', which)}: expected last, best or one of the steps {steps} of "
            f"{self.folder}"
        )

    def stored(self, step: int) -> Stored:
        """One checkpoint, read once and checked.

        Raises:
          UserError: it is damaged; the message names the intact ones.
        """
        if step not in self._read:
            try:
                self._read = {step: integrity.read(self.folder / str(step))}
            except Damaged as error:
                whole = [one for one in self.steps if integrity.is_whole(self.folder / str(one))]
                raise UserError(
                    f"{self.folder / str(step)}: damaged, {error}; intact checkpoints, for "
                    f"{setting('checkpoint', 'STEP')}: {', '.join(map(str, whole)) or 'none'}"
                ) from error
        return self._read[step]

    def progress(self, step: int) -> dict[str, Any]:
        """The JSON part of one checkpoint."""
        return self.stored(step).progress

    def identity(self, step: int) -> Identity:
        """The CLIP and class names that one checkpoint was learnt on.

        Raises:
          UserError: it is damaged, or lacks them.
        """
        return convert(
            self.progress(step), f"{self.folder / str(step)}: {integrity.PROGRESS}", Identity
        )

    def learnable(self, step: int, template: Any) -> Any:
        """The learnable variables of one checkpoint, in the structure of `template`."""
        return unflatten_arrays(
            template, self.stored(step).learnable, f"{self.folder / str(step)}: learnable"
        )

    def metric(self, step: int) -> float | None:
        """The metric of one checkpoint; None if it was not evaluated or cannot be read."""
        try:
            return integrity.read_metric(self.folder / str(step))
        except Damaged:
            return None

    def rows(self, step: int) -> int:
        """The number of rows of metrics.csv up to this checkpoint; 0 if it is unknown."""
        return self.stored(step).noted.get("rows", 0)

    def last_intact(
        self, other: Callable[[Stored], str] = lambda stored: ""
    ) -> tuple[int, dict[int, str]]:
        """The last intact checkpoint of this run, and what is wrong with the others, by step.

        Args:
          other: returns why an intact checkpoint is another run's; "" if it is this run's.

        Raises:
          UserError: none is intact, or all intact ones are another run's.
        """
        wrong, whole, others = {}, [], {}
        for step in self.steps:
            try:
                self._read = {step: integrity.read(self.folder / str(step))}
            except Damaged as error:
                wrong[step] = str(error)
                continue
            if why := other(self._read[step]):
                others[step] = why
            else:
                whole.append(step)
        if others and not whole:
            raise UserError(f"{self.folder / str(max(others))}: {others[max(others)]}")
        if not whole:
            damaged = "; ".join(f"{step}: {why}" for step, why in wrong.items())
            raise UserError(
                f"{self.folder}: none of its checkpoints is intact ({damaged}); nothing was "
                f"changed; to train from the start, give another {setting('workdir')} or move "
                "this folder away"
            )
        damaged = {step: f"damaged, {why}" for step, why in wrong.items()}
        return whole[-1], dict(sorted((damaged | others).items()))


def names_fingerprint(names: tuple[str, ...]) -> str:
    """The fingerprint of class names in their order."""
    return fingerprint("\n".join(names))


def same_names(noted: str, here: str) -> bool:
    """Compares a checkpoint's fingerprint of names, which earlier versions cut to eight digits."""
    return same(noted, here, least=8)
