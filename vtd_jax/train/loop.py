"""The training run: batches through the step, metrics, evaluations, checkpoints; from the start or a checkpoint."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from vtd_jax.errors import UserError
from vtd_jax.files import write_text
from vtd_jax.model.vtd_clip import VTDCLIP, learnable_count
from vtd_jax.train.checkpoint import Checkpoints, clip_fingerprint, names_fingerprint
from vtd_jax.train.config import RunConfig
from vtd_jax.train.logging import RunLog
from vtd_jax.train.parallel import run_devices
from vtd_jax.train.state import Trainer, TrainState
from vtd_jax.video.pipeline import BatchIterator, train_batches
from vtd_jax.video.records import Records

# (model, whether it is the last one) -> accuracies 0..1 by `split_top1`, `split_top5`
Evaluate = Callable[[VTDCLIP, bool], Mapping[str, float | None]]
CONFIG_FILE = "config.json"


class Finished(NamedTuple):
    """What a run ended with: the model, micro-batches done, and how many of them this call did."""

    model: VTDCLIP
    step: int
    steps_now: int


def prepare_workdir(workdir: Path, config: RunConfig, resume: bool) -> None:
    """Makes the folder ready for this run and saves the config there.

    Raises:
      UserError: it holds checkpoints and `resume` is off, or they are of a run with other settings.
    """
    workdir = Path(workdir)
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir={workdir}: is a file, expected a folder")
    if Checkpoints(workdir).steps:
        if not resume:
            raise UserError(
                f"--workdir={workdir}: holds checkpoints of a run; add --resume to go on, or give another folder"
            )
        different = read_config(workdir).differences(config)
        if different:
            raise UserError(
                f"--workdir={workdir}: holds checkpoints of another run, these settings differ: {'; '.join(different)}"
            )
    workdir.mkdir(parents=True, exist_ok=True)
    write_text(workdir / CONFIG_FILE, json.dumps(config.to_dict(), indent=2) + "\n")


def read_config(workdir: Path) -> RunConfig:
    """The config that a run was started with.

    Raises:
      UserError: there is none, or it cannot be read.
    """
    path = Path(workdir) / CONFIG_FILE
    try:
        return RunConfig.from_dict(json.loads(path.read_text()))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file, expected the workdir of a training run") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None


def train(
    config: RunConfig,
    model: VTDCLIP,
    records: Records,
    workdir: Path,
    *,
    evaluate: Evaluate | None = None,
    resume: bool = False,
) -> Finished:
    """Trains what is learnable in `model`.

    Args:
      config: the run; `prepare_workdir` must have accepted it.
      model: at its start; left as it is.
      records: the training videos.
      workdir: gets `checkpoints/`, `metrics.csv` and `events/`.
      evaluate: called every `config.evaluate.every_epochs` epochs and at the end; the first of its values is what the
        best checkpoint goes by.
      resume: goes on from the last checkpoint, if there is one, bit for bit as if the run had not stopped.

    Raises:
      UserError: too few videos for a batch, a loss that is not finite, or a checkpoint of another run.
    """
    return _Run(config, model, records, Path(workdir), evaluate, resume).run()


class _Run:
    """One call of `train`."""

    def __init__(self, config, model, records, workdir, evaluate, resume):
        self.config, self.evaluate = config, evaluate
        self.batches = open_batches(config, model, records)
        self.per_epoch = self.batches.batches_per_epoch
        self.total = self.per_epoch * config.optimizer.epochs
        self.trainer = Trainer(config, model, records.class_names, self.per_epoch, run_devices(config.devices))
        self.identity = {
            "clip": clip_fingerprint(self.trainer.frozen),
            "names": names_fingerprint(tuple(records.class_names)),
        }
        self.checkpoints = Checkpoints(workdir, config.checkpoint.keep)
        self.state = self._restored() if resume and self.checkpoints.steps else self.trainer.initial
        self.start = self.state.step
        splits = tuple(config.data.evaluate) if evaluate else ()
        self.log = RunLog(workdir, total_steps=self.total, splits=splits, step=self.start)
        self.window: list[tuple[int, Mapping[str, Any]]] = []
        self._tell_start(model, records, resume)

    def run(self) -> Finished:
        """Steps to the end; whatever happens, metrics are flushed and files closed."""
        self.state = self.trainer.place(self.state)
        try:
            self.log.start_timing()
            while self.state.step < self.total:
                self.state, sums = self.trainer.step(self.state, next(self.batches))
                self.window.append((self.state.step, sums))
                self._after_step()
        finally:
            self.batches.close()
            self.log.close()
            self.checkpoints.close()
        return Finished(self.trainer.model(self.state), self.state.step, self.state.step - self.start)

    def _after_step(self) -> None:
        """Metrics, evaluation and a checkpoint, where one is due."""
        step, config = self.state.step, self.config
        epoch_end, last = step % self.per_epoch == 0, step == self.total
        epoch = step // self.per_epoch
        evaluate = last or (epoch_end and _due(epoch, config.evaluate.every_epochs))
        evaluate = evaluate and self.evaluate is not None
        save = last or evaluate or (epoch_end and _due(epoch, config.checkpoint.every_epochs))
        save = save or _due(step, config.checkpoint.every_steps)
        if save or len(self.window) >= config.log_every:
            self._tell_window()
        metric = self._evaluate(last) if evaluate else None
        if save:
            progress = {"step": step, "batches": self.batches.get_state(), **self.identity}
            self.checkpoints.save(step, self.state.learnable, self.state.opt_state, progress, metric)
        if evaluate or save:
            self.log.start_timing()

    def _tell_window(self) -> None:
        """One row for the micro-batches since the last one; waits for the device. Stops at a loss that is no number."""
        if not self.window:
            return
        sums = [{key: float(value) for key, value in sums.items()} for _, sums in jax.device_get(self.window)]
        for (step, _), one in zip(self.window, sums):
            if not math.isfinite(one["loss"]):
                raise UserError(
                    f"step {step}: the loss is {one['loss']}; training stops, the last checkpoint is of step "
                    f"{max(self.checkpoints.steps, default=0)}; a lower optimizer.lr or more warmup_epochs may help"
                )
        count = sum(one["count"] for one in sums)
        step, _ = self.window[-1]
        self.log.train(
            step,
            step / self.per_epoch,
            steps=len(sums),
            videos=count,
            loss=sum(one["loss"] for one in sums) / max(count, 1),
            accuracy=sum(one["correct"] for one in sums) / max(count, 1),
            lr=sums[-1]["lr"],
        )
        self.window.clear()

    def _evaluate(self, last: bool) -> float | None:
        values = self.evaluate(self.trainer.model(self.state), last)
        self.log.evaluation(self.state.step, self.state.step / self.per_epoch, values)
        return next(iter(values.values()), None)

    def _restored(self) -> TrainState:
        """The last checkpoint; the data go on behind the last batch that it saw."""
        step = self.checkpoints.choose("last")
        progress = self.checkpoints.progress(step)
        for key, told in (("clip", "CLIP weights"), ("names", "class names")):
            if progress[key] != self.identity[key]:
                raise UserError(
                    f"{self.checkpoints.folder / str(step)}: another run's checkpoint, the {told} differ "
                    f"({progress[key]} there, {self.identity[key]} now)"
                )
        self.batches.set_state(progress["batches"])
        start = self.trainer.initial
        learnable = self.checkpoints.learnable(step, start.learnable)
        return TrainState(step, learnable, self.checkpoints.optimizer(step, start.opt_state), start.key)

    def _tell_start(self, model: VTDCLIP, records: Records, resume: bool) -> None:
        config, devices = self.config, run_devices(self.config.devices)
        self.log.line(
            f"{config.name}: {learnable_count(model):,} learnable numbers, {len(records)} videos of "
            f"{len(records.class_names)} classes, {self.per_epoch} batches of {config.data.batch_size} an epoch, "
            f"{config.optimizer.epochs} epochs on {len(devices)} {devices[0].platform} device(s)"
        )
        if resume:
            told = f"going on from step {self.start}" if self.start else "no checkpoint yet, starting at step 0"
            self.log.line(f"--resume: {told} of {self.total}")


def _due(count: int, every: int) -> bool:
    return every > 0 and count % every == 0


def open_batches(config: RunConfig, model: VTDCLIP, records: Records) -> BatchIterator:
    """Endless in epochs: the loop counts, so that more epochs go on with the same data."""
    return train_batches(
        records,
        frames=config.data.frames,
        size=model.clip.config.image_resolution,
        batch_size=config.data.batch_size,
        seed=config.seed,
        augment=config.augment,
        workers=config.data.workers,
        num_epochs=None,
        shuffle=config.data.shuffle,
        drop_remainder=config.data.drop_remainder,
    )
