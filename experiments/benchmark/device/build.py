"""Compiles the programs of `choices`, and estimates their times without running them."""

import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

import jax
from jaxtyping import Array

from experiments.benchmark.device import plain
from experiments.benchmark.device.choices import COMPILED, PLAIN, TORCH, Choice
from experiments.benchmark.tasks import (
    FEATURES,
    Programs,
    Setting,
    flops,
    inputs,
    random_model,
    random_state,
    traced,
)
from vtd_jax.clip.compute import Compute
from vtd_jax.cost import kernels, schedule
from vtd_jax.cost.peaks import DEVICES, known_device
from vtd_jax.cost.roofline import pallas_products, roofline
from vtd_jax.cost.timed import Timed
from vtd_jax.cost.topology import SMALLEST
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.terminal import log


class Built(NamedTuple):
    """A program that is ready to run.

    Attributes:
      run: runs it once and waits.
      compiling: seconds; of PyTorch those of its first run.
      temporaries: bytes, as XLA plans them; None if unknown.
      estimate: estimates its time; None where it cannot be.
    """

    run: Callable[[], Any]
    compiling: float
    temporaries: int | None = None
    estimate: Callable[[], Timed | None] = lambda: None


class Builder:
    """Makes programs that share weights and inputs."""

    def __init__(self, setting: Setting, dtype: str, layers: str):
        """
        Args:
          setting: what is computed.
          dtype: of the towers, "float32" or "bfloat16".
          layers: "list" or "scan", of the model that most programs take.
        """
        self._setting, self._dtype = setting, dtype
        self._given = jax.device_put(inputs(setting))
        # a stack of blocks and a list of them are two copies of the weights
        self._model: Callable[[str], VTDCLIP] = cache(
            lambda layers: random_model(setting, dtype, layers=layers)
        )
        # before the first program, whose time says how long others may take
        self._usual = self._model(layers)
        self._tower = cache(
            lambda: plain.weights(setting.config, random_state(setting.config), dtype)
        )

    def build(self, choice: Choice) -> Built:
        """Compiles a program; raises what the compiler raises, such as that memory is too small."""
        if choice.who in (TORCH, COMPILED):
            return self._torch(choice.task)
        if choice.who == PLAIN:
            start = time.perf_counter()
            function, arguments = self._plain(choice)
            program = jax.jit(function).trace(*arguments)
            compiled = program.lower().compile()
            seconds = time.perf_counter() - start
            run = partial(_until_there, compiled, arguments)
            estimated = partial(self._estimate, program, compiled)
            return Built(run, seconds, _temporaries(compiled), estimated)
        compute = Compute(remat=choice.remat or "none", attention=choice.attention)
        model = self._model(choice.layers).with_compute(compute)
        made = Programs(self._setting, model, "", tasks=(choice.task,), given=self._given)
        program, compiled = made.compiled[choice.task]
        (job,) = made.jobs
        estimated = partial(self._estimate, program, compiled)
        return Built(job.run, made.compiling[choice.task], _temporaries(compiled), estimated)

    def flops(self, task: str) -> int:
        """Of the products that a task needs, by attention in XLA and without computing twice."""
        model = self._usual.with_compute(Compute(attention="xla"))
        return flops(traced(model, self._given, task)[0])

    def _plain(self, choice: Choice) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        features = partial(
            plain.features,
            config=self._setting.config,
            normalization=self._setting.model.normalization,
            remat=choice.remat or "none",
            attention=choice.attention or "xla",
        )
        prompts = self._usual.visual_prompts
        assert prompts is not None
        # arguments of their own: the weights are no constants of the program
        arguments = (prompts[...], self._tower(), self._given.videos["frames"])
        if choice.task == FEATURES:
            return lambda prompts, tower, frames: features(tower, prompts, frames), arguments

        def total(prompts: Array, tower: Mapping[str, Any], frames: Array, weights: Array) -> Array:
            return (features(tower, prompts, frames) * weights).sum()

        return jax.value_and_grad(total), (*arguments, self._given.features)

    def _torch(self, task: str) -> Built:
        # imported here: PyTorch is optional
        from experiments.benchmark import torch_side
        from experiments.benchmark.device.torch_side import program

        model = torch_side.random_model(self._setting, self._dtype)
        run = program(self._setting, model, task, device=torch_side.best_device())
        start = time.perf_counter()
        run()
        return Built(run, time.perf_counter() - start)

    def _estimate(self, program: jax.stages.Traced, compiled: jax.stages.Compiled) -> Timed | None:
        try:
            return estimate(program, compiled, jax.devices()[0], self._dtype)
        except (LookupError, TypeError, ValueError) as error:
            # the text of another compiler's version: what is measured still counts
            log(f"no estimate: {type(error).__name__}: {error}")
            return None


def estimate(
    program: jax.stages.Traced, compiled: jax.stages.Compiled, device: jax.Device, dtype: str
) -> Timed | None:
    """The time of a program by what its compiler made of it: roofline on a GPU, schedule on a TPU.

    None on a CPU, and on a device whose peak is unknown.
    """
    if device.platform == "gpu":
        name = known_device(device.device_kind)
        if name is None:
            return None
        products = pallas_products(program.jaxpr)
        return roofline(compiled.as_text() or "", DEVICES[name], dtype, products)
    found = schedule.core_of(device)
    if found is None:
        return None
    core, cores = found
    topology = SMALLEST.get(known_device(device.device_kind) or "")
    known = kernels.kernels(program.jaxpr, topology)
    return schedule.schedule(compiled.as_text() or "", core, cores, known=known)


def _temporaries(compiled: jax.stages.Compiled) -> int | None:
    planned = compiled.memory_analysis()
    return None if planned is None else planned.temp_size_in_bytes


def _until_there(compiled: jax.stages.Compiled, arguments: tuple[Any, ...]) -> Any:
    return jax.block_until_ready(compiled(*arguments))
