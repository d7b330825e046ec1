"""A run in progress: its steps, rows, evaluations and checkpoints."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

from vtd_jax.console.status import Line
from vtd_jax.errors import UserError
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.parallel.preemption import EvaluationInterrupted, Preemption
from vtd_jax.parallel.prefetch import Prefetcher
from vtd_jax.parallel.processes import mark_common
from vtd_jax.train import resume as resuming
from vtd_jax.train.logging import Window
from vtd_jax.train.nonfinite import Guard, StepSums, not_finite
from vtd_jax.train.resume import Best, Progress
from vtd_jax.train.run.outputs import Outputs
from vtd_jax.train.run.plan import Plan
from vtd_jax.train.run.start import Start
from vtd_jax.train.trainer import Trainer, TrainState
from vtd_jax.trees import flatten_arrays

# (model, whether it is the last evaluation, a check to call often) -> accuracies 0..1 by
# `split_top1`, `split_top5`. The check raises to stop the evaluation.
Evaluate = Callable[[VTDCLIP, bool, Callable[[], None]], Mapping[str, float | None]]


@dataclasses.dataclass
class Run:
    """A run in progress.

    Attributes:
      workdir, plan, trainer, guard, outputs, preemption, evaluate: its parts.
      identity: see `resume.to_json`.
      splits: fingerprints of the records that are evaluated.
      ahead: the batches, prefetched onto the devices.
      start: where this call began.
      state: of training.
      best: the best evaluation so far.
      saved: step of the last checkpoint.
      unlogged: (step, index in the records, results on the devices) since the last row.
      last: the last micro-batch that has a row.
    """

    workdir: Path
    plan: Plan
    trainer: Trainer
    guard: Guard
    outputs: Outputs
    preemption: Preemption
    evaluate: Evaluate | None
    identity: Mapping[str, Any]
    splits: Mapping[str, str]
    ahead: Prefetcher
    start: Start
    state: TrainState
    best: Best | None
    saved: int
    unlogged: list[tuple[int, np.ndarray, Mapping[str, jax.Array]]] = dataclasses.field(
        default_factory=list
    )
    last: StepSums | None = None

    @property
    def step(self) -> int:
        """Micro-batches done."""
        return self.state.step

    def take_step(self) -> None:
        """Runs one micro-batch, and fetches the next one while the devices work."""
        number = self.step + 1
        self.outputs.before_step(number)
        batch, placed = next(self.ahead)
        compiling = number == self.start.step + 1
        with Line("compiling the training step") if compiling else contextlib.nullcontext():
            self.state, sums = self.trainer.step(self.state, placed)
        self.outputs.step_begun(number)
        self.unlogged.append((number, batch["index"], sums))
        if number < self.plan.total:
            self.ahead.prepare(sums)
        self.outputs.after_step(number, sums)

    def log_steps(self) -> None:
        """Writes one row for the micro-batches since the last row; waits for the devices.

        Raises:
          UserError: numbers that are not finite; the steps before them have a row.
        """
        steps = [
            StepSums(step, np.asarray(index), {key: float(value) for key, value in sums.items()})
            for step, index, sums in jax.device_get(self.unlogged)
        ]
        self.unlogged.clear()
        for count, step in enumerate(steps):
            self.last = step
            try:
                self.guard.check(step, self.saved)
            except UserError:
                self._log(steps[:count])
                raise
        self._log(steps)

    def _log(self, steps: list[StepSums]) -> None:
        if steps:
            last = steps[-1].step
            window = Window.of([step.sums for step in steps], self.guard.skipped)
            self.outputs.row(last, last / self.plan.per_epoch, window, self.ahead.waited)

    def evaluate_now(self) -> float | None:
        """Evaluates the model; returns the metric that decides which checkpoint is best, if any.

        Raises:
          EvaluationInterrupted: a notice came.
        """
        if self.evaluate is None:
            raise ValueError("the run has no evaluation")
        self.check_evaluation()
        step, model = self.step, self.trainer.model(self.state)
        values = self.evaluate(model, step == self.plan.total, self.check_evaluation)
        metric = next(iter(values.values()), None)
        self.best = Best.of(self.best, metric, step)
        self.outputs.evaluation(step, step / self.plan.per_epoch, values, self.best)
        return metric

    def make_up_evaluation(self) -> None:
        """Runs the evaluation that is missing at the checkpoint."""
        metric = self.evaluate_now()
        if metric is not None:
            self.outputs.add_metric(self.step, metric)

    def check_evaluation(self) -> None:
        """Raises `EvaluationInterrupted` if a notice came."""
        if self.preemption.interrupts:
            raise EvaluationInterrupted

    def save(self, metric: float | None = None, evaluated: bool = False) -> None:
        """Writes a checkpoint of the steps that have a row.

        Raises:
          UserError: a number in it would not be finite.
        """
        state = self.state
        learnable, opt_state = flatten_arrays(state.learnable), flatten_arrays(state.opt_state)
        wrong = not_finite(learnable) + not_finite(opt_state)
        if wrong:
            left = f"update left {', '.join(wrong[:3])} not finite"
            self.guard.stop(self.last, left, self.saved)
        progress = Progress(
            batches=self.ahead.get_state(),
            evaluated=evaluated,
            best=self.best,
            skipped=self.guard.skipped,
            in_a_row=self.guard.in_a_row,
            splits=self.splits,
        )
        fields = resuming.to_json(progress, state, self.identity)
        self.outputs.save(state.step, learnable, opt_state, fields, metric)
        self.saved = state.step

    def stop_if_asked(self) -> None:
        """Saves and ends the run if a notice came."""
        if self.preemption.should_stop(self.step):
            self._stop()

    @contextlib.contextmanager
    def stopping(self) -> Iterator[None]:
        """Saves and ends the run if a notice interrupted an evaluation in the block."""
        try:
            yield
        except EvaluationInterrupted:
            self._stop()

    def _stop(self) -> NoReturn:
        self.log_steps()
        if self.step != self.saved:
            self.save()
        self.outputs.wait()
        message = f"no step was made, nothing saved in {self.workdir}; run the same command again"
        if self.step:
            message = (
                f"saved step {self.step} of {self.plan.total} in {self.workdir}; the same command "
                "resumes from there"
            )
        raise mark_common(self.preemption.stopped(message))

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        """Closes all files at the end of the block, also after an error."""
        failed = True
        try:
            yield
            failed = False
        finally:
            with contextlib.ExitStack() as stack:
                # in reverse order, each even if the other one raises
                stack.callback(self.outputs.close, failed)
                stack.callback(self.ahead.close)
