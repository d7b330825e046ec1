"""What the main job costs: compile time, input pipeline, feature extraction, training step, measured in turn."""

import dataclasses
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.params import clip_from_state, tensor_shapes
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.train import step

VERSIONS = ("jax", "flax", "optax", "numpy")


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of every round of one task, and how many clips a round processes."""

    task: str
    seconds: tuple[float, ...]
    clips: int

    @property
    def median(self) -> float:
        """Median seconds a round."""
        return statistics.median(self.seconds)

    @property
    def clips_per_second(self) -> float:
        """Clips a second at the median."""
        return self.clips / self.median


def random_clip(config: CLIPConfig, dtype: str, seed: int = 0) -> Any:
    """A CLIP of full size with seeded random weights: speed does not depend on their values."""
    rng = np.random.default_rng(seed)
    state = {
        name: rng.standard_normal(shape, dtype=np.float32) / np.sqrt(max(shape[-1:] or (1,)))
        for name, shape in tensor_shapes(config).items()
    }
    return clip_from_state(config, state, dtype=dtype)


def device_tasks(
    config: CLIPConfig, settings: ModelConfig, *, dtype: str, frames: int, batch: int, names: list[str]
) -> tuple[dict[str, Callable[[], Any]], dict[str, float]]:
    """Compiled feature extraction and training step on one batch of random frames.

    Returns:
      (tasks, compile seconds), both by task name; a task blocks until its result is there.
    """
    model = VTDCLIP(random_clip(config, dtype), settings, rngs=nnx.Rngs(0))
    tokens, parts = jnp.asarray(model.class_tokens(names)), step.split(model)
    size = config.image_resolution
    rng = np.random.default_rng(0)
    data = {
        "frames": jnp.asarray(rng.integers(0, 256, (batch, frames, size, size, 3), dtype=np.uint8)),
        "label": jnp.asarray(rng.integers(0, len(names), batch), jnp.int32),
        "weight": jnp.ones(batch),
        "index": jnp.arange(batch),
    }
    optimizer = step.make_optimizer(step.OptimizerConfig(warmup_epochs=0), 10)
    key, opt_state = jax.random.key(0), optimizer.init(parts.learnable)

    def features(learnable, frozen, clip_frames):
        return nnx.merge(parts.graphdef, learnable, frozen).encode_frames(clip_frames)

    def codebook(learnable, frozen, class_tokens):
        return nnx.merge(parts.graphdef, learnable, frozen).encode_classes(class_tokens)

    update = partial(step.train_step, parts.graphdef, optimizer)
    jobs = {
        "feature extraction": (features, (parts.learnable, parts.frozen, data["frames"])),
        "codebook": (codebook, (parts.learnable, parts.frozen, tokens)),
        "training step": (update, (parts.learnable, opt_state, parts.frozen, data, tokens, key)),
    }
    tasks, compiling = {}, {}
    for name, (function, arguments) in jobs.items():
        start = time.perf_counter()
        compiled = jax.jit(function).lower(*arguments).compile()
        compiling[name] = time.perf_counter() - start
        tasks[name] = partial(_blocking, compiled, arguments)
    return tasks, compiling


def _blocking(function: Callable, arguments: tuple) -> Any:
    return jax.block_until_ready(function(*arguments))


def interleaved(tasks: Mapping[str, Callable[[], Any]], clips: Mapping[str, int], rounds: int) -> list[Timing]:
    """Runs every task once to warm up, then all of them in turn, `rounds` times."""
    for task in tasks.values():
        task()
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - start)
    return [Timing(name, tuple(times), clips[name]) for name, times in seconds.items()]


def machine() -> dict[str, Any]:
    """What a number needs beside it: devices, cores, Python and library versions."""
    device = jax.devices()[0]
    return {
        "device": f"{jax.device_count()} × {device.device_kind}",
        "platform": device.platform,
        "processor": _processor(),
        "cores": len(_cores()),
        "python": platform.python_version(),
        **{name: version(name) for name in VERSIONS},
    }


def _cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown")
    except OSError:
        return platform.processor() or "unknown"


def markdown(timings: list[Timing], compiling: Mapping[str, float], reference: str = "feature extraction") -> str:
    """One row a task: compile time, median and range of seconds, clips/s, and the ratio to `reference`."""
    base = next((t.clips_per_second for t in timings if t.task == reference), None)
    lines = ["| task | compile, s | seconds a batch, median (min–max) | clips/s | against feature extraction |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for timing in timings:
        spread = f"{timing.median:.3f} ({min(timing.seconds):.3f}–{max(timing.seconds):.3f})"
        rate = f"{timing.clips_per_second:.2f}" if timing.clips else "–"
        ratio = f"{timing.clips_per_second / base:.2f}×" if timing.clips and base else "–"
        compile_time = f"{compiling[timing.task]:.1f}" if timing.task in compiling else "–"
        lines.append(f"| {timing.task} | {compile_time} | {spread} | {rate} | {ratio} |")
    return "\n".join(lines)
