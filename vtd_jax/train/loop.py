"""The training loop: steps, metrics, evaluations and checkpoints."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from vtd_jax.backend import describe_devices
from vtd_jax.model.saved.fingerprint import legacy_weights_fingerprint, weights_fingerprint
from vtd_jax.model.vtd_clip import VTDCLIP, learnable_count
from vtd_jax.parallel.mesh import run_devices
from vtd_jax.parallel.preemption import Preemption
from vtd_jax.parallel.prefetch import Prefetcher
from vtd_jax.parallel.processes import before_end, check_same, is_first, on_all, on_first
from vtd_jax.terminal import counted
from vtd_jax.train.batches import OpenIndex, StoredBatches, open_batches
from vtd_jax.train.checkpoints.checkpoint import Checkpoints
from vtd_jax.train.checkpoints.stored_checkpoints import names_fingerprint
from vtd_jax.train.config import RunConfig
from vtd_jax.train.nonfinite import Guard
from vtd_jax.train.resume import fingerprints, settings_fingerprint
from vtd_jax.train.run.outputs import Outputs
from vtd_jax.train.run.plan import Plan
from vtd_jax.train.run.start import Start, find_start
from vtd_jax.train.run.steps import Evaluate, Run
from vtd_jax.train.step import split
from vtd_jax.train.trainer import Trainer
from vtd_jax.train.workdir import save_config
from vtd_jax.video.records import Records


class Finished(NamedTuple):
    """A finished run.

    Attributes:
      model: the trained model.
      step: micro-batches done.
      steps_now: those of this call.
    """

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
    open_index: OpenIndex | None = None,
) -> Finished:
    """Trains what is learnable in `model`.

    Args:
      config: the run; `prepare_workdir` must have accepted it.
      model: at its start; left as it is.
      records: the training videos.
      workdir: gets `checkpoints/`, `metrics.csv` and `events/`, and `nonfinite.jsonl` if a loss
        or gradient is not finite.
      evaluate: called every `config.evaluate.every_epochs` epochs and at the end; its first value
        decides which checkpoint is best.
      splits: the records that `evaluate` uses; a run resumes only with the same ones.
      resume: start from the last intact checkpoint, if there is one, bit for bit as if the run had
        not stopped. A missing evaluation of that step comes first.
      override: the checkpoint may have other settings, as for `prepare_workdir`.
      preemption: catches notices; None if there are none.
      profile: first and last step to trace, counted from 1.
      open_index: for `data.features`, see `batches.open_batches`.

    Raises:
      UserError: too few videos for a batch, numbers that are not finite, a checkpoint of another
        run or one that could not be written, or no intact checkpoint.
      Preempted: a notice stopped the run; everything is saved.
    """
    preemption, splits, workdir = preemption or Preemption(), splits or {}, Path(workdir)
    identity = _identity(config, model, records, splits)
    names = tuple(records.class_names)
    batches = on_all(open_batches, config, model, records, open_index)
    plan = Plan.of(config, batches.batches_per_epoch, evaluated=evaluate is not None)
    devices = on_all(run_devices, config.devices)
    trainer = on_all(Trainer, config, model, names, plan.per_epoch, devices)
    # only process 0 has files
    checkpoints = Checkpoints(workdir, config.checkpoint.keep) if is_first() else None
    if checkpoints is not None:
        before_end(checkpoints.wait)

    start = Start(trainer.initial)
    if resume:
        kept = {key: value for key, value in identity.items() if not override or key != "settings"}
        legacy_clip = functools.partial(legacy_weights_fingerprint, split(model).frozen)
        start = find_start(
            checkpoints, kept, legacy_clip, start, batches, splits, plan, workdir, override
        )
    if start.step:
        on_first(save_config, workdir, config)
    evaluated = tuple(config.data.evaluate) if evaluate else ()
    outputs = Outputs(workdir, checkpoints, start, plan, evaluated, profile)
    run = Run(
        workdir=workdir,
        plan=plan,
        trainer=trainer,
        guard=Guard(config, records, plan.per_epoch, workdir, start.skipped, start.in_a_row),
        outputs=outputs,
        preemption=preemption,
        evaluate=evaluate,
        identity=identity | {"learnt_on": records.stored.noted},
        splits=fingerprints(splits),
        # from here on the state of the batches comes from it
        ahead=Prefetcher(batches, trainer.place_batch),
        start=start,
        state=start.state,
        best=start.best,
        saved=start.step,
    )
    _announce(run, config, model, records)
    with run.closing(), run.stopping():
        run.state = trainer.place(run.state)
        run.stop_if_asked()
        if not start.evaluated:
            run.make_up_evaluation()
        if isinstance(batches, StoredBatches) and run.step < plan.total:
            batches.fill(plan.epochs_from(run.step), outputs.line, run.check_evaluation)
        outputs.start_timing()
        while run.step < plan.total:
            run.take_step()
            if plan.saves(run.step):
                run.log_steps()
                metric = run.evaluate_now() if plan.evaluates(run.step) else None
                run.save(metric, evaluated=plan.evaluates(run.step))
                outputs.start_timing(run.ahead.waited)
            elif len(run.unlogged) >= config.log_every:
                run.log_steps()
            if run.step < plan.total:
                run.stop_if_asked()
    outputs.check(run.saved)
    return Finished(trainer.model(run.state), run.step, run.step - start.step)


def _identity(
    config: RunConfig, model: VTDCLIP, records: Records, splits: Mapping[str, Records]
) -> dict[str, str]:
    """The fingerprints that must be the same when a run resumes.

    Raises:
      UserError: they differ between processes.
    """
    names = names_fingerprint(tuple(records.class_names))
    # before anything is compiled: processes with different programs would wait forever
    check_same(settings=config.everywhere, records=records.info["fingerprint"], classes=names)
    check_same(**{"records to evaluate": " ".join(fingerprints(splits).values())})
    check_same(**{"memory.remat, chosen by the memory of their devices,": model.compute.remat})
    clip = weights_fingerprint(split(model).frozen)
    check_same(**{"CLIP weights": clip, "CLIP settings": model.clip_settings})
    same = {"clip": clip, "names": names, "clip_settings": model.clip_settings}
    return same | {"settings": settings_fingerprint(config)}


def _announce(run: Run, config: RunConfig, model: VTDCLIP, records: Records) -> None:
    """Logs the size of the run, and where it resumes."""
    mesh, plan = run.trainer.mesh, run.plan
    hosts = f" of {mesh.hosts} processes" if mesh.hosts > 1 else ""
    run.outputs.line(
        f"{config.name}: {learnable_count(model):,} learnable numbers, "
        f"{counted(len(records), 'video')} of "
        f"{counted(len(records.class_names), 'class', 'classes')}, "
        f"{counted(plan.per_epoch, 'batch', 'batches')} of {config.data.batch_size} an epoch, "
        f"{counted(plan.epochs, 'epoch')} on {describe_devices(list(mesh.devices))}{hosts}"
    )
    ways = model.attention_implementations(run.trainer.text_length)
    chosen = " and ".join(f"by {way} for {tower}" for tower, way in ways.items())
    run.outputs.line(f"memory: attention {chosen}, remat {model.compute.remat}")
    if run.start.step:
        missing = "" if run.start.evaluated else ", first its missing evaluation"
        run.outputs.line(f"resuming from step {run.start.step} of {plan.total}{missing}")
