"""The training run: batches through the step, metrics, evaluations, checkpoints; from the start or
a checkpoint.
"""

import contextlib
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np

from vtd_jax.devices import device_told
from vtd_jax.errors import UserError
from vtd_jax.model.saved.fingerprint import legacy_weights_fingerprint, weights_fingerprint
from vtd_jax.model.vtd_clip import VTDCLIP, learnable_count
from vtd_jax.parallel.mesh import run_devices
from vtd_jax.parallel.preemption import BrokenOff, Preemption
from vtd_jax.parallel.prefetch import Ahead
from vtd_jax.parallel.processes import (
    alike,
    before_end,
    check_same,
    gather_rows,
    is_first,
    on_first,
    together,
)
from vtd_jax.status import Line
from vtd_jax.terminal import counted, warn
from vtd_jax.train import resume as resuming
from vtd_jax.train.batches import StoredBatches, open_batches
from vtd_jax.train.checkpoints.checkpoint import Checkpoints, flatten_arrays
from vtd_jax.train.checkpoints.stored_checkpoints import names_fingerprint
from vtd_jax.train.config import RunConfig
from vtd_jax.train.logging import RunLog, Window
from vtd_jax.train.nonfinite import Guard, StepSums, not_finite
from vtd_jax.train.profiling import Profile
from vtd_jax.train.resume import Best, Found, Progress
from vtd_jax.train.step import split
from vtd_jax.train.trainer import Trainer
from vtd_jax.train.workdir import Place, save_config
from vtd_jax.video.records import Records

# (model, whether it is the last one, a check to call now and then) -> accuracies 0..1 by
# `split_top1`, `split_top5`; the check raises where the evaluation is to be broken off, it is made
# again when the run goes on
Evaluate = Callable[[VTDCLIP, bool, Callable[[], None]], Mapping[str, float | None]]


class Finished(NamedTuple):
    """What a run ended with: the model, micro-batches done, and how many of them this call did."""

    model: VTDCLIP
    step: int
    steps_now: int


def train(
    config: RunConfig,
    model: VTDCLIP,
    records: Records,
    workdir: Path,
    *,
    evaluate: Evaluate | None = None,
    splits: Mapping[str, Records] | None = None,
    resume: bool = False,
    override: bool = False,
    preemption: Preemption | None = None,
    profile: tuple[int, int] | None = None,
) -> Finished:
    """Trains what is learnable in `model`.

    Args:
      config: the run; `prepare_workdir` must have accepted it.
      model: at its start; left as it is.
      records: the training videos.
      workdir: gets `checkpoints/`, `metrics.csv` and `events/`, and `nonfinite.jsonl` where it
        comes to that.
      evaluate: called every `config.evaluate.every_epochs` epochs and at the end; the first of its
        values is what the best checkpoint goes by.
      splits: the records that `evaluate` looks at; when the run goes on they must be the same.
      resume: goes on from the last whole checkpoint, if there is one, bit for bit as if the run had
        not stopped; an evaluation that was due there and not made comes first.
      override: the checkpoint may be of other settings, as `prepare_workdir` was told.
      preemption: listens for notices; None for a run that is never asked to stop.
      profile: first and last step to trace, counted from 1.

    Raises:
      UserError: too few videos for a batch, numbers that are not finite, a checkpoint of another
        run or one that could not be written, or no whole checkpoint among those that are there.
      Preempted: a notice came; everything is saved.
    """
    run = _Run(
        config,
        model,
        records,
        Path(workdir),
        evaluate,
        splits or {},
        resume,
        override,
        preemption,
        profile,
    )
    return run.run()


class _Run:
    """One call of `train`."""

    def __init__(
        self,
        config,
        model,
        records,
        workdir,
        evaluate,
        splits,
        resume,
        override,
        preemption,
        profile,
    ):
        self.config, self.workdir, self.evaluate, self.splits = config, workdir, evaluate, splits
        self.preemption = preemption or Preemption()
        names = tuple(records.class_names)
        # before anything is compiled: other settings would be other programs, which wait for each
        # other for ever
        check_same(
            settings=config.everywhere,
            records=records.info["fingerprint"],
            classes=names_fingerprint(names),
        )
        check_same(**{"records to evaluate": " ".join(resuming.fingerprints(splits).values())})
        self.batches = together(open_batches, config, model, records)
        self.per_epoch = self.batches.batches_per_epoch
        self.total = self.per_epoch * config.optimizer.epochs
        devices = together(run_devices, config.devices)
        self.trainer = together(Trainer, config, model, names, self.per_epoch, devices)
        frozen = split(model).frozen
        self.identity = {
            "clip": weights_fingerprint(frozen),
            "names": names_fingerprint(names),
        }
        self.identity |= {"clip_settings": model.clip_settings}
        check_same(
            **{
                "CLIP weights": self.identity["clip"],
                "CLIP settings": self.identity["clip_settings"],
            }
        )
        # only rank 0 has files in the workdir
        self.first, self.checkpoints = is_first(), None
        if self.first:
            self.checkpoints = Checkpoints(workdir, config.checkpoint.keep)
            before_end(self.checkpoints.wait)
        self.guard = Guard(config, records, self.per_epoch, workdir)
        self.state, self.best, self.missed = self.trainer.initial, None, False
        settings = {"settings": resuming.settings_fingerprint(config)}
        same = self.identity | ({} if override else settings)
        legacy_clip = functools.partial(legacy_weights_fingerprint, frozen)
        found = on_first(resuming.find, self.checkpoints, same, legacy_clip) if resume else None
        self.identity |= settings | {"learnt_on": records.stored.noted}
        if found is not None:
            self._restore(found, override)
        # steps done before this call, and the step of the last checkpoint
        self.start = self.saved = self.state.step
        splits = tuple(config.data.evaluate) if evaluate else ()
        self.log = self.profile = self.place = None
        if self.first:
            self.log = RunLog(
                workdir, total_steps=self.total, splits=splits, step=self.start, evaluated=not self.missed,
                rows=found.rows if found else 0,
            )  # fmt: skip
            self.place = Place(workdir)
            self.profile = Profile(profile, workdir, self.log.line)
        # the iterator's state is from here on that of what steps were given
        self.ahead = Ahead(self.batches, self.trainer.place_batch)
        self.window: list[tuple[int, Any, Mapping[str, Any]]] = []
        self._tell_start(model, records)

    def run(self) -> Finished:
        """Steps to the end; whatever happens, metrics are flushed and files closed."""
        try:
            self._steps()
        except BaseException:
            self._close(failed=True)
            raise
        self._close()
        if self.first:
            self.place.check(["metrics.csv", f"checkpoints/{self.saved}"])
        return Finished(
            self.trainer.model(self.state), self.state.step, self.state.step - self.start
        )

    def _steps(self) -> None:
        self.state = self.trainer.place(self.state)
        self._stop_if_asked()
        if self.missed:
            self._make_up()
        self._store_features()
        if self.first:
            self.log.start_timing()
        while self.state.step < self.total:
            if self.first:
                self.profile.before(self.state.step + 1)
            batch, placed = next(self.ahead)
            with self._compiling():
                self.state, sums = self.trainer.step(self.state, placed)
            if self.first:
                self.log.begun(self.state.step)
            self.window.append((self.state.step, batch["index"], sums))
            if self.state.step < self.total:
                self.ahead.prepare(sums)
            if self.first:
                self.profile.after(self.state.step, sums)
            self._after_step()
            if self.state.step < self.total:
                self._stop_if_asked()

    def _compiling(self) -> contextlib.AbstractContextManager:
        """Says so where the next step is the first of this call."""
        return (
            Line("compiling the training step")
            if self.state.step == self.start
            else contextlib.nullcontext()
        )

    def _store_features(self) -> None:
        """Before the first step, all frame features that steps will ask for, where they are kept on
        disk.
        """
        if not isinstance(self.batches, StoredBatches) or self.state.step == self.total:
            return
        epochs = range(self.state.step // self.per_epoch, self.config.optimizer.epochs)
        try:
            self.batches.fill(epochs, self._line, self._check_evaluation)
        except BrokenOff:
            self._stop()

    def _after_step(self) -> None:
        """Metrics, evaluation and a checkpoint, where one is due."""
        step, config = self.state.step, self.config
        epoch_end, last = step % self.per_epoch == 0, step == self.total
        evaluate = self._evaluation_due()
        save = (
            last
            or evaluate
            or (epoch_end and _due(step // self.per_epoch, config.checkpoint.every_epochs))
        )
        save = save or _due(step, config.checkpoint.every_steps)
        if save or len(self.window) >= config.log_every:
            self._tell_window()
        if not save:
            return
        if evaluate:
            try:
                metric = self._evaluate()
            except BrokenOff:
                self._stop()
            self._save(metric, evaluated=True)
        else:
            self._save()
        if self.first:
            self.log.start_timing(self.ahead.waited)

    def _evaluation_due(self) -> bool:
        step = self.state.step
        at_end = step % self.per_epoch == 0 and _due(
            step // self.per_epoch, self.config.evaluate.every_epochs
        )
        return self.evaluate is not None and (step == self.total or at_end)

    def _evaluate(self) -> float | None:
        """Evaluates the model as it is; returns what "best" goes by."""
        self._check_evaluation()
        step = self.state.step
        values = self.evaluate(
            self.trainer.model(self.state), step == self.total, self._check_evaluation
        )
        metric = next(iter(values.values()), None)
        self._note_best(metric)
        if self.first:
            self.log.evaluation(step, step / self.per_epoch, values, self.best)
        return metric

    def _note_best(self, metric: float | None) -> None:
        # of equals the later one, as among the checkpoints
        if metric is not None and (self.best is None or metric >= self.best.value):
            self.best = Best(metric, self.state.step)

    def _check_evaluation(self) -> None:
        if self.preemption.breaks_off:
            raise BrokenOff

    def _make_up(self) -> None:
        """The evaluation that was due at the checkpoint and not made."""
        try:
            metric = self._evaluate()
        except BrokenOff:
            self._stop()
        if metric is not None and self.first:
            self.checkpoints.add_metric(self.state.step, metric, self.log.rows)

    def _tell_window(self) -> None:
        """One row for the micro-batches since the last one; waits for the device. Stops at numbers
        not finite.
        """
        if not self.window:
            return
        window = [
            StepSums(step, np.asarray(index), {key: float(value) for key, value in sums.items()})
            for step, index, sums in jax.device_get(self.window)
        ]
        self.window.clear()
        for place, one in enumerate(window):
            self.last = one
            try:
                self._look_at(one)
            except UserError:
                # how it came to that is worth a row
                self._row(window[:place])
                raise
        self._row(window)

    def _look_at(self, one: StepSums, left: str | None = None) -> None:
        """Has the guard see a micro-batch, or stop for what it `left`; all processes come to the
        same.
        """
        if left is None and not one.unusual:
            self.guard.check(one, self.saved)
            return
        one = one._replace(index=gather_rows(one.index))
        try:
            self.guard.check(one, self.saved) if left is None else self.guard.stop(
                one, left, self.saved
            )
        except UserError as error:
            raise alike(error) from None

    def _row(self, window: list[StepSums]) -> None:
        """One row for some micro-batches."""
        if not window:
            return
        if not self.first:
            return
        self.place.check()
        last = window[-1]
        told = Window.of([one.sums for one in window], self.guard.skipped)
        self.log.train(last.step, last.step / self.per_epoch, told, self.ahead.waited)

    def _save(self, metric: float | None = None, evaluated: bool = False) -> None:
        """A checkpoint of the steps that were told; nothing that is not finite gets into one."""
        state = self.state
        learnable, opt_state = flatten_arrays(state.learnable), flatten_arrays(state.opt_state)
        wrong = not_finite(learnable) + not_finite(opt_state)
        if wrong:
            self._look_at(self.last, f"update left {', '.join(wrong[:3])} not finite")
        skipped = self.guard.skipped, self.guard.in_a_row
        progress = Progress(
            self.ahead.get_state(),
            evaluated,
            self.best,
            *skipped,
            resuming.fingerprints(self.splits),
        )
        told = resuming.to_json(progress, state, self.identity)
        if self.first:
            self.place.check()
            self.checkpoints.save(state.step, learnable, opt_state, told, metric, self.log.rows)
        self.saved = state.step

    def _stop_if_asked(self) -> None:
        if self.preemption.asked(self.state.step):
            self._stop()

    def _stop(self) -> NoReturn:
        """Saves what is not saved, and ends the run."""
        step = self.state.step
        self._tell_window()
        if step != self.saved:
            self._save()
        if self.first:
            self.checkpoints.wait()
        told = (
            f"nothing was learnt yet in {self.workdir}, nothing saved; the same command starts "
            "again"
        )
        if step:
            told = (
                f"saved step {step} of {self.total} in {self.workdir}; the same command resumes "
                "from there"
            )
        raise alike(self.preemption.stopped(told))

    def _restore(self, found: Found, override: bool) -> None:
        where = f"{self.workdir}/checkpoints/{found.step}"
        start = self.trainer.initial
        self.state, progress = together(
            resuming.restore, found, start, self.batches, self.splits, where, override
        )
        on_first(lambda: self.checkpoints.set_aside(found.damaged, found.step))
        self.best, self.guard.skipped, self.guard.in_a_row = (
            progress.best,
            progress.skipped,
            progress.in_a_row,
        )
        if not progress.evaluated:
            # made after the checkpoint was written, if at all
            self._note_best(found.metric)
        self.missed = self._evaluation_due() and not progress.evaluated and found.metric is None
        on_first(save_config, self.workdir, self.config)

    def _close(self, failed: bool = False) -> None:
        """Closes everything; after a failure that is what is told, and one more only warned of."""
        with contextlib.ExitStack() as stack:
            # the last one first, and each of them whatever becomes of the others
            if self.first:
                stack.callback(self._close_checkpoints, failed)
                stack.callback(self.log.close)
            stack.callback(self.ahead.close)
            if self.first:
                stack.callback(self.profile.close)

    def _close_checkpoints(self, failed: bool) -> None:
        try:
            self.checkpoints.close()
        except UserError as error:
            if not failed:
                raise
            warn(error)

    def _line(self, text: str) -> None:
        if self.first:
            self.log.line(text)

    def _tell_start(self, model: VTDCLIP, records: Records) -> None:
        config, told = self.config, device_told(list(self.trainer.mesh.devices))
        hosts = f" of {self.trainer.mesh.hosts} processes" if self.trainer.mesh.hosts > 1 else ""
        self._line(
            f"{config.name}: {learnable_count(model):,} learnable numbers, "
            f"{counted(len(records), 'video')} of "
            f"{counted(len(records.class_names), 'class', 'classes')}, "
            f"{counted(self.per_epoch, 'batch', 'batches')} of {config.data.batch_size} an epoch, "
            f"{counted(config.optimizer.epochs, 'epoch')} on {told}{hosts}"
        )
        if self.start:
            first = ", with the evaluation that is missing there" if self.missed else ""
            self._line(f"going on from the checkpoint of step {self.start} of {self.total}{first}")


def _due(count: int, every: int) -> bool:
    return every > 0 and count % every == 0
