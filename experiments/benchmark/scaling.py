"""How our own programs scale: with frames, with clips a batch, with classes, and over devices."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.benchmark.setting import Options
from experiments.benchmark.tasks import (
    CLASSIFY,
    CODEBOOK,
    FEATURES,
    STEP,
    Programs,
    Setting,
    random_model,
)
from experiments.benchmark.timing import Job, Timing, interleaved
from vtd_jax.model.axes import cross_entropy
from vtd_jax.parallel.mesh import BATCH, DeviceMesh, Mapped, Over
from vtd_jax.train import step
from vtd_jax.train.groups import OptimizerConfig
from vtd_jax.train.optimizer import make_optimizer

FRAMES, BATCHES, CLASSES = (8, 16, 32, 64), (1, 2, 4, 8), (10, 100, 1000, 10_000, 100_000)
# a larger codebook is not encoded: on a CPU that alone takes longer than all other tasks
ENCODED = 1000
CAPTION = (
    f"Scaling with classes, median seconds (min–max). The codebook is encoded up to {ENCODED} "
    "classes; discretization and fusion are given features and a codebook, backward to both and "
    "to the fusion block"
)
BACKWARD = f"{CLASSIFY}, forward and backward"


def sizes(
    options: Options, axis: str, values: Sequence[int], dtypes: Sequence[str]
) -> dict[int, list[Timing]]:
    """Features and training step over values of one option, all in turn in every round.

    Args:
      options: all other settings.
      axis: "frames" or "batch".
      values: of the axis.
      dtypes: of the towers.
    """
    jobs: list[tuple[int, Job]] = []
    for dtype in dtypes:
        model = random_model(options.setting(), dtype)
        for value in values:
            setting = dataclasses.replace(options, **{axis: value}).setting()
            programs = Programs(setting, model, f"ours, {dtype}", tasks=(FEATURES, STEP))
            jobs += [(value, job) for job in programs.jobs]
    return _grouped(jobs, options.rounds)


def classes(options: Options, values: Sequence[int], dtype: str) -> dict[int, list[Timing]]:
    """The codebook, and discretization and fusion, forward and backward, on random features."""
    model, jobs = random_model(options.setting(), dtype), []
    for value in values:
        setting = dataclasses.replace(options, classes=value, stand_in=True).setting()
        tasks = (CODEBOOK, CLASSIFY) if value <= ENCODED else (CLASSIFY,)
        variant = f"ours, {dtype}"
        jobs += [(value, job) for job in Programs(setting, model, variant, tasks=tasks).jobs]
        jobs.append((value, _backward(setting, model, variant)))
    return _grouped(jobs, options.rounds)


def _backward(setting: Setting, model: Any, variant: str) -> Job:
    """Gradients of the loss to features, codebook and fusion block."""
    parts = step.split(model)
    features, codes = map(jnp.asarray, setting.encoded())
    labels = jnp.asarray(setting.videos()["label"])

    def loss(learnable: Any, features: Any, codes: Any, frozen: Any) -> Any:
        output = nnx.merge(parts.graphdef, learnable, frozen).classify(features, codes)
        return cross_entropy(output.logits, labels).mean()

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
    arguments = (parts.learnable, features, codes, parts.frozen)
    return Job(
        BACKWARD, variant, lambda: jax.block_until_ready(gradient(*arguments)), None, setting.batch
    )


def _grouped(jobs: Sequence[tuple[int, Job]], rounds: int) -> dict[int, list[Timing]]:
    found: dict[int, list[Timing]] = {}
    for (value, _), timing in zip(jobs, interleaved([job for _, job in jobs], rounds), strict=True):
        found.setdefault(value, []).append(timing)
    return found


def step_over(setting: Setting, dtype: str, devices: Sequence[Any]) -> Job:
    """A training step whose batch is split over devices, as training splits it."""
    mesh = DeviceMesh(devices)
    parts = step.split(random_model(setting, dtype))
    optimizer = make_optimizer(OptimizerConfig(warmup_epochs=0), 10)
    axes = mesh.axes(setting.classes)

    def update(
        learnable: Any, opt_state: Any, frozen: Any, videos: Any, tokens: Any, key: Any
    ) -> Any:
        return step.train_step(
            parts.graphdef, optimizer, learnable, opt_state, frozen, videos, tokens, key, axes
        )

    same, everywhere = Over.SAME, (Over.SAME, Over.SAME, Over.SAME)
    mapped = Mapped(update, mesh, (same, same, same, BATCH, Over.CLASSES, same), everywhere)
    arguments = (
        parts.learnable,
        optimizer.init(parts.learnable),
        parts.frozen,
        setting.videos(),
        mesh.lay_out(setting.tokens),
        jax.random.key(0),
    )
    placed = [mapped.place(number, argument) for number, argument in enumerate(arguments)]
    run: Callable[[], Any] = partial(mapped, *placed)
    task = f"{len(devices)} device{'s' if len(devices) > 1 else ''}"
    return Job(task, f"ours, {dtype}", lambda: jax.block_until_ready(run()), None, setting.batch)
