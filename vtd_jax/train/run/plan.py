"""When a run evaluates, saves and ends."""

import dataclasses

from vtd_jax.train.config import RunConfig


@dataclasses.dataclass(frozen=True)
class Plan:
    """When a run evaluates, saves and ends, in micro-batches counted from 1.

    Attributes:
      per_epoch: micro-batches.
      epochs: of the run.
      evaluate_epochs: epochs between two evaluations; 0 for only one, at the end.
      checkpoint_epochs: epochs between two checkpoints; 0 for none between evaluations.
      checkpoint_steps: micro-batches between two more checkpoints; 0 for none.
      evaluated: whether there are evaluations.
    """

    per_epoch: int
    epochs: int
    evaluate_epochs: int
    checkpoint_epochs: int
    checkpoint_steps: int
    evaluated: bool

    @classmethod
    def of(cls, config: RunConfig, per_epoch: int, evaluated: bool) -> "Plan":
        """The plan of a config, for epochs of `per_epoch` micro-batches."""
        return cls(
            per_epoch=per_epoch,
            epochs=config.optimizer.epochs,
            evaluate_epochs=config.evaluate.every_epochs,
            checkpoint_epochs=config.checkpoint.every_epochs,
            checkpoint_steps=config.checkpoint.every_steps,
            evaluated=evaluated,
        )

    @property
    def total(self) -> int:
        """Micro-batches of the whole run."""
        return self.per_epoch * self.epochs

    def epochs_from(self, step: int) -> range:
        """The epochs, from 0, that remain after a step."""
        return range(step // self.per_epoch, self.epochs)

    def evaluates(self, step: int) -> bool:
        """Whether an evaluation follows a step."""
        return self.evaluated and (step == self.total or self._ends(step, self.evaluate_epochs))

    def saves(self, step: int) -> bool:
        """Whether a checkpoint follows a step."""
        return (
            step == self.total
            or self.evaluates(step)
            or self._ends(step, self.checkpoint_epochs)
            or _due(step, self.checkpoint_steps)
        )

    def _ends(self, step: int, every_epochs: int) -> bool:
        """Whether a step ends an epoch that is a multiple of `every_epochs`."""
        epoch, rest = divmod(step, self.per_epoch)
        return rest == 0 and _due(epoch, every_epochs)


def _due(count: int, every: int) -> bool:
    return every > 0 and count % every == 0
