"""Runs a benchmark of programs: builds jobs, measures them in turn, prints tables."""

import dataclasses
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.benchmark import child, gemm, report
from experiments.benchmark.setting import INSTALL, Options, Variant, has_torch, variants
from experiments.benchmark.tasks import STEP, Programs, Setting, plain_flops, random_model
from experiments.benchmark.timing import Job, Timing, interleaved, machine
from vtd_jax.errors import UserError
from vtd_jax.terminal import log

SCALED = ("frames", "batch", "classes", "devices")


def compare(
    options: Options,
    dtypes: Sequence[str],
    *,
    plain: bool = True,
    torch: bool | None = None,
    start: bool = True,
    pipelines: bool = True,
    data_dir: str | None = None,
    records: str | None = None,
) -> dict[str, Any]:
    """Measures all variants in one interleaved run; prints Markdown.

    Args:
      options: what is computed.
      dtypes: of our variants.
      plain: whether to measure our plain path.
      torch: whether to measure PyTorch; None: if it is installed.
      start: whether to measure the time to the first step.
      pipelines: whether to measure the input side.
      data_dir, records: records for the input side; None renders some.

    Returns:
      All numbers, JSON-able.

    Raises:
      UserError: `torch` is set and PyTorch is not installed.
    """
    setting = options.setting()
    with_torch = wants_torch(setting, torch)
    # a GPU's memory is shared with PyTorch and with the processes below
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    starting = (
        variants(dtypes=tuple(dtypes), plain=False, torch=with_torch, gpu=False) if start else []
    )
    first_steps = child.first_steps(options, starting)
    # from here on this process uses the device
    about = machine()
    found = variants(
        dtypes=tuple(dtypes), plain=plain, torch=with_torch, gpu=about["platform"] == "gpu"
    )
    jobs, programs = _jobs(setting, found, "cuda" if about["platform"] == "gpu" else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        sources: dict[str, Any] = {}
        feeds: list[Job] = []
        if pipelines:
            sources, feeds = _input(setting, Path(folder), data_dir, records)
        everything = [*(job for _, job in jobs), *feeds]
        log(f"{len(everything)} jobs, {options.rounds} rounds")
        timings = interleaved(everything, options.rounds)
        fed = next(iter(programs.values()), None)
        loop = _loop(sources, setting, fed, options.rounds) if fed else []
    measured = _measured([who for who, _ in jobs], timings)
    inputs = timings[len(jobs) :]
    memory = {variant.name: compiled.memory for variant, compiled in programs.items()}
    # the goals hold for one setting only
    goals = measured.goals() if options.is_goal() else []
    _print_comparison(measured, goals, first_steps, memory, inputs, loop, found[0])
    ceilings = [
        {"framework": framework, "dtype": dtype, "flops_per_second": rates}
        for (framework, dtype), rates in measured.ceilings.items()
    ]
    return {
        "machine": about,
        "setting": _settings(options, setting),
        "timings": [timing.to_dict() for timing in timings],
        "ceilings": ceilings,
        "goals": goals,
        "first_steps": first_steps,
        "memory": memory,
        "loop": loop,
    }


def wants_torch(setting: Setting, asked: bool | None) -> bool:
    """Whether PyTorch is measured; None asks for it where it is installed.

    Raises:
      UserError: it is asked for, and not installed.
    """
    if asked is False:
        return False
    if setting.config.is_resnet:
        log("PyTorch's side is left out: transformers' CLIPModel has no ResNet")
        return False
    if not has_torch():
        if asked:
            raise UserError(f"--torch: {INSTALL}")
        print(f"PyTorch is left out. {INSTALL}\n")
        return False
    return True


def _jobs(
    setting: Setting, found: Sequence[Variant], device: str
) -> tuple[list[tuple[Variant | tuple[str, str], Job]], dict[Variant, Programs]]:
    """(Variant or ceiling, job) in the order of a round, compared jobs side by side."""
    jobs: list[tuple[Variant | tuple[str, str], Job]] = []
    programs: dict[Variant, Programs] = {}
    images, flops = setting.batch * setting.frames, {}
    for variant in found:
        log(f"building {variant.name}")
        if variant.framework == "JAX":
            plain = variant.way == "plain"
            model = random_model(setting, variant.dtype, plain=plain)
            programs[variant] = Programs(setting, model, variant.name)
            made = programs[variant].jobs
            products = gemm.jobs(setting.config, images, variant.dtype, f"JAX, {variant.dtype}")
        else:
            # imported here: PyTorch is optional
            from experiments.benchmark import torch_side

            model = torch_side.random_model(setting, variant.dtype)
            compiled = variant.way == "compiled"
            flops = flops or plain_flops(setting)
            made = torch_side.jobs(
                setting, model, variant.name, device=device, compiled=compiled, flops=flops
            )
            name = f"PyTorch, {variant.dtype}"
            products = torch_side.products(
                setting.config, images, variant.dtype, name, device=device
            )
        ceiling = (variant.framework, variant.dtype)
        if ceiling not in dict(jobs):
            jobs += [(ceiling, job) for job in products]
        jobs += [(variant, job) for job in made]
    # stable: variants of a task stay in their order
    order = list(dict.fromkeys(job.task for _, job in jobs))
    return sorted(jobs, key=lambda pair: order.index(pair[1].task)), programs


def _measured(owners: Sequence[Any], timings: Sequence[Timing]) -> report.Measured:
    tasks: dict[Variant, dict[str, Timing]] = {}
    ceilings: dict[tuple[str, str], list[Timing]] = {}
    for who, timing in zip(owners, timings):
        if isinstance(who, Variant):
            tasks.setdefault(who, {})[timing.task] = timing
        else:
            ceilings.setdefault(who, []).append(timing)
    return report.Measured(tasks, ceilings, jax.devices()[0].device_kind)


def _input(
    setting: Setting, folder: Path, data_dir: str | None, records: str | None
) -> tuple[dict[str, Any], list[Job]]:
    # imported here: it reads videos, which the device's programs do not
    from experiments.benchmark import feeding

    log("making records" if data_dir is None else "opening records")
    sources = feeding.sources(folder, data_dir, records)
    return sources, feeding.pipelines(sources, setting)


def _loop(
    sources: dict[str, Any], setting: Setting, programs: Programs, steps: int
) -> list[dict[str, Any]]:
    if not sources:
        return []
    from experiments.benchmark import feeding

    log("training with input")
    return feeding.loop(sources, setting, programs, steps)


def _print_comparison(
    measured: report.Measured,
    goals: Sequence[Any],
    first_steps: Sequence[Any],
    memory: dict[str, Any],
    inputs: Sequence[Timing],
    loop: Sequence[Any],
    fed: Variant,
) -> None:
    report.show(measured.tasks_table())
    report.show(measured.ceilings_table())
    if goals:
        report.show(report.goals_table(goals))
    if inputs:
        report.show(report.input_table(inputs))
    if loop:
        report.show(report.loop_table(loop, measured.timings[fed][STEP].median, fed.name))
    if first_steps:
        report.show(report.first_steps_table(first_steps))
    if memory:
        report.show(report.memory_table(memory))


def check_scaling(over: Sequence[str]) -> None:
    """Raises `UserError` for what is not in `SCALED`."""
    if unknown := sorted(set(over) - set(SCALED)):
        raise UserError(f"--scaling: {', '.join(unknown)!r}, expected some of {', '.join(SCALED)}")


def scaling(options: Options, dtypes: Sequence[str], over: Sequence[str]) -> dict[str, Any]:
    """Prints tables over some of `SCALED`; returns all numbers, JSON-able."""
    # first: a process of its own, which must not share an accelerator with this one
    devices = _over_devices(options, dtypes[0]) if "devices" in over else None
    about = machine()
    from experiments.benchmark import scaling as scale

    found: dict[str, dict[int, list[Timing]]] = {}
    for axis, values in (("frames", scale.FRAMES), ("batch", scale.BATCHES)):
        if axis in over:
            log(f"scaling with {axis}")
            found[axis] = scale.sizes(options, axis, values, dtypes)
            report.show(report.scaling_table(axis, found[axis]))
    if "classes" in over:
        log("scaling with classes")
        found["classes"] = scale.classes(options, scale.CLASSES, dtypes[0])
        report.show(report.scaling_table("classes", found["classes"], scale.CAPTION))
    numbers = {
        axis: {str(value): [t.to_dict() for t in timings] for value, timings in rows.items()}
        for axis, rows in found.items()
    }
    setting = _settings(options, options.setting())
    return {"machine": about, "setting": setting, **numbers, "devices": devices}


def _over_devices(options: Options, dtype: str) -> dict[str, Any]:
    log("scaling over devices")
    devices = child.over_devices(options, dtype)
    if "failed" in devices:
        print(f"Scaling over devices was not measured: {devices['failed']}\n", flush=True)
        return devices
    report.show(report.devices_table(devices))
    return devices


def _settings(options: Options, setting: Setting) -> dict[str, Any]:
    return dataclasses.asdict(options) | {
        "architecture": setting.config.architecture,
        "text positions": setting.tokens.shape[1],
        "text depth": setting.model.text_depth,
        "visual depth": setting.model.visual_depth,
    }
