"""The checkpoints of a run, as they are read: which there are, what they hold, which are whole."""

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
    """Fingerprints of CLIP's weights and of the class names, and the settings of CLIP, which older
    ones do not have.
    """

    clip: str
    names: str
    clip_settings: NotRequired[str]


class StoredCheckpoints:
    """The checkpoints under `workdir/checkpoints`, one folder a step; nothing is changed there.

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
        """Steps with a checkpoint, ascending."""
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
            metrics = [
                (metric, step) for step in steps if (metric := self.metric(step)) is not None
            ]
            if not metrics:
                raise UserError(
                    f"{self.folder}: no checkpoint was evaluated yet, use "
                    f"{setting('checkpoint', 'last')}"
                )
            return max(metrics)[1]
        if (step := integrity.step_of(which)) in steps:
            return step
        raise UserError(
            f"{setting('checkpoint', which)}: expected last, best or one of the steps {steps} of "
            f"{self.folder}"
        )

    def stored(self, step: int) -> Stored:
        """All of one checkpoint, read once and checked.

        Raises:
          UserError: it is damaged; names the whole ones.
        """
        if step not in self._read:
            try:
                self._read = {step: integrity.read(self.folder / str(step))}
            except Damaged as error:
                whole = [
                    other for other in self.steps if integrity.is_whole(self.folder / str(other))
                ]
                told = ", ".join(map(str, whole)) or "none"
                raise UserError(
                    f"{self.folder / str(step)}: damaged, {error}; whole checkpoints, for "
                    f"{setting('checkpoint', 'STEP')}: {told}"
                ) from error
        return self._read[step]

    def progress(self, step: int) -> dict[str, Any]:
        """The JSON part of one checkpoint."""
        return self.stored(step).progress

    def identity(self, step: int) -> Identity:
        """What one checkpoint was learnt on.

        Raises:
          UserError: it is damaged, or does not say.
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
        """The metric of one checkpoint; None where it was not evaluated, or cannot be read."""
        try:
            return integrity.read_metric(self.folder / str(step))
        except Damaged:
            return None

    def rows(self, step: int) -> int:
        """How many rows metrics.csv had up to this checkpoint; 0 where it does not say."""
        return self.stored(step).noted.get("rows", 0)

    def last_whole(
        self, other: Callable[[Stored], str] = lambda stored: ""
    ) -> tuple[int, dict[int, str]]:
        """The last checkpoint that is whole, and what is wrong with others, by step; changes
        nothing.

        Args:
          other: says of a whole checkpoint why it is not this run's; "" where it is.

        Raises:
          UserError: none is whole, or all that are whole are another run's.
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
            told = "; ".join(f"{step}: {why}" for step, why in wrong.items())
            raise UserError(
                f"{self.folder}: none of its checkpoints is whole ({told}); nothing was changed; "
                f"to train from the start, give another {setting('workdir')} or move this folder "
                "away"
            )
        damaged = {step: f"damaged, {why}" for step, why in wrong.items()}
        return whole[-1], dict(sorted((damaged | others).items()))


def names_fingerprint(names: tuple[str, ...]) -> str:
    """The fingerprint of class names in their order."""
    return fingerprint("\n".join(names))


def same_names(noted: str, here: str) -> bool:
    """Whether a checkpoint's fingerprint of names, which earlier versions cut to eight digits, is
    this one.
    """
    return same(noted, here, least=8)
