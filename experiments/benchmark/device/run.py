"""`--what=device`: measures one device, prints Markdown, returns all numbers."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from experiments.benchmark.device.choices import (
    COMPILED,
    FRAMES,
    PLAIN,
    TASKS,
    TORCH,
    Choice,
    Device,
    choices,
    device,
    torch_runs_on,
)
from experiments.benchmark.device.measure import Budget, Found, Row, measured
from experiments.benchmark.report import number, seconds_of, show, spread, table
from experiments.benchmark.setting import INSTALL, Options, has_torch
from experiments.benchmark.timing import machine, ratio
from vtd_jax.backend import check_backend
from vtd_jax.cost.peaks import DEVICES, known_device
from vtd_jax.cost.topology import GIB
from vtd_jax.errors import UserError
from vtd_jax.evaluate.checkout import commit
from vtd_jax.evaluate.tables import Table
from vtd_jax.terminal import counted, log

# a clip of the method's; images that are no multiple of it are one clip
_CLIP = 16
# share of the time for estimates, where there are any
_ESTIMATES = 0.1
# of an estimate, in the JSON
_PARTS = 10
# beside those of `machine`, where they are installed
_PACKAGES = ("libtpu", "jax-cuda13-plugin", "jax-cuda12-plugin", "nvidia-cudnn-cu13")
_DRIVER = Path("/proc/driver/nvidia/version")


def compare(
    options: Options, dtype: str, *, images: int | None, minutes: float, torch: bool | None
) -> dict[str, Any]:
    """Measures every way to compute the image tower and the training step on JAX's first device.

    Args:
      options: what is computed; its frames and batch are replaced.
      dtype: of the towers, "float32" or "bfloat16".
      images: frames at once; None for a number that suits the device.
      minutes: for everything, compiling too.
      torch: whether PyTorch is measured; None where it is installed and runs on this device.

    Returns:
      All numbers, JSON-able.

    Raises:
      UserError: a ResNet, PyTorch is asked for and cannot run here, or nothing could be measured.
    """
    start = time.monotonic()
    if options.setting().config.is_resnet:
        raise UserError(
            f"--architecture={options.architecture}: --what=device measures ViTs, such as ViT-B/16"
        )
    if torch and not has_torch():
        raise UserError(f"--torch: {INSTALL}")
    # the device's memory is shared with PyTorch
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    check_backend()
    # imported here: it makes arrays, which starts the device
    from experiments.benchmark.device.build import Builder

    about = facts()
    platform = about["platform"]
    options = sized(options, images or FRAMES.get(platform, FRAMES["cpu"]))
    setting, with_torch = options.setting(), _with_torch(platform, torch)
    taken = device(setting.config, dtype, platform)
    log("making weights")
    builder = Builder(setting, dtype, taken.layouts[0])
    wanted = choices(taken, torch=with_torch)
    # estimates come last
    spare = 0.0 if platform == "cpu" else 60 * minutes * _ESTIMATES
    budget = Budget(60 * minutes - spare - (time.monotonic() - start))
    found = measured(wanted, builder.build, options.rounds, budget, spare=spare)
    if not any(row.timing for row in found.rows):
        raise UserError(f"nothing was measured: {found.rows[0].problem}")
    flops = {task: builder.flops(task) for task in {row.choice.task for row in found.rows}}
    peak = _peak(about["device kind"], dtype)
    report = {
        "machine": about,
        "setting": dataclasses.asdict(options) | {"images": options.frames * options.batch}
        | {"dtype": dtype, "minutes": minutes, "rounds": found.rounds},
        "auto": {"attention": taken.ways[0], "layers": taken.layouts[0]},
        "peak FLOP/s": peak,
        "flops": flops,
        "rows": [_to_dict(row) for row in found.rows],
        "compiling": [{"program": c.name, "seconds": s} for c, s in found.compiling],
        "left out": [choice.name for choice in found.left_out],
        "not estimated": [choice.name for choice in found.unestimated],
    }  # fmt: skip
    _print(found, taken, options, dtype, flops, peak)
    return report


def sized(options: Options, images: int) -> Options:
    """Options with so many images as clips of 16 frames, or as one clip."""
    frames = _CLIP if images % _CLIP == 0 else images
    return dataclasses.replace(options, frames=frames, batch=images // frames)


def facts() -> dict[str, Any]:
    """The machine, its device's software, and our commit."""
    import jax

    found = jax.devices()[0]
    about = machine() | {"device kind": found.device_kind}
    about["runtime"] = " ".join(str(getattr(found.client, "platform_version", "")).split())
    with contextlib.suppress(OSError, IndexError):
        about["driver"] = _DRIVER.read_text().splitlines()[0]
    for name in _PACKAGES:
        try:
            about[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return about | {"commit": commit() or "unknown"}


def _with_torch(platform: str, asked: bool | None) -> bool:
    if asked is False:
        return False
    if has_torch() and torch_runs_on(platform):
        return True
    if asked:
        raise UserError(f"--torch: PyTorch does not run on this {platform}; use --notorch")
    reason = f"it does not run on this {platform}" if has_torch() else INSTALL
    print(f"PyTorch is left out. {reason}\n", flush=True)
    return False


def _peak(kind: str, dtype: str) -> float | None:
    name = known_device(kind)
    return None if name is None else getattr(DEVICES[name], dtype)


def _to_dict(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = row.choice._asdict() | {"problem": row.problem}
    if row.built is not None:
        found |= {"compiling": row.built.compiling, "temporaries": row.built.temporaries}
    if row.estimate is not None:
        estimate = row.estimate._replace(parts=row.estimate.largest(_PARTS))
        found["estimate"] = dict(estimate.to_dict())
    if row.timing is not None:
        found |= {"seconds": row.timing.seconds, "median_seconds": row.timing.median}
    return found


def _print(
    found: Found,
    taken: Device,
    options: Options,
    dtype: str,
    flops: dict[str, int],
    peak: float | None,
) -> None:
    images = options.frames * options.batch
    title = (
        f"One device: {options.architecture}, {counted(images, 'image')} "
        f"({counted(options.batch, 'clip')} of {options.frames}), {dtype}, "
        f"{counted(found.rounds, 'round')}; `auto` is attention {taken.ways[0]}, layers "
        f"{taken.layouts[0]}"
    )
    show(results_table(found, title, images, flops, peak))
    sources = {row.estimate.source for row in found.rows if row.estimate is not None}
    if sources:
        print(f"Estimates: {', '.join(sorted(sources))}; nothing was run for them.\n")
    show(_compiling_table(found))
    for what, names in (("Left out", found.left_out), ("Not estimated", found.unestimated)):
        # there are no estimates for a CPU
        if names and (what == "Left out" or taken.platform != "cpu"):
            listed = "; ".join(choice.name for choice in names)
            print(
                f"{what} for lack of time ({len(names)}; --minutes gives more): {listed}\n",
                flush=True,
            )


def results_table(
    found: Found, title: str, images: int, flops: dict[str, int], peak: float | None
) -> Table:
    """A row a program, those of a task beside each other.

    Args:
      found: what was measured.
      title: of the table.
      images: in one run.
      flops: of a task, without what is computed twice.
      peak: FLOP/s of the device; None if unknown.
    """
    head = [
        "program", "seconds, median (min–max)", "images/s", "estimate", "measured / estimate",
        "of the peak", "temporaries, GiB",
    ]  # fmt: skip
    against = [
        who for who in (PLAIN, TORCH, COMPILED) if any(r.choice.who == who for r in found.rows)
    ]
    head += [f"× {who}" for who in against]
    cells = []
    for row in sorted(found.rows, key=lambda row: TASKS.index(row.choice.task)):
        if row.timing is None:
            cells.append([row.choice.name, row.problem, *["–"] * (len(head) - 2)])
            continue
        ratios = [_against(row, found.rows, who) for who in against]
        cells.append([row.choice.name, *_cells(row, images, flops, peak), *ratios])
    return table(title, head, cells)


def _cells(row: Row, images: int, flops: dict[str, int], peak: float | None) -> list[str]:
    assert row.timing is not None
    assert row.built is not None
    seconds, guess = row.timing.median, row.estimate
    guessed = ["–", "–"]
    if guess is not None and guess.seconds:
        lacking = " at least" if guess.missing else ""
        guessed = [f"{number(1000 * guess.seconds)} ms{lacking}", number(seconds / guess.seconds)]
    share = "–" if peak is None else f"{flops[row.choice.task] / seconds / peak:.1%}"
    memory = row.built.temporaries
    return [
        seconds_of(row.timing),
        number(images / seconds),
        *guessed,
        share,
        "–" if memory is None else f"{memory / GIB:.3g}",
    ]


def _against(row: Row, rows: Sequence[Row], who: str) -> str:
    """How many times as fast as the first program of `who` for the same task."""
    for other in rows:
        if (other.choice.task, other.choice.who) == (row.choice.task, who) and other.timing:
            assert row.timing is not None
            return spread(ratio(other.timing.seconds, row.timing.seconds))
    return "–"


def _compiling_table(found: Found) -> Table:
    names: list[Choice] = [choice for choice, _ in found.compiling]
    built = {row.choice: row.built for row in found.rows}
    rows = [
        [
            choice.name,
            "–" if (made := built[choice]) is None else f"{made.compiling:.1f}",
            f"{seconds:.1f}",
        ]
        for choice, (_, seconds) in zip(names, found.compiling)
    ]
    return table("Compiling, in order", ["program", "seconds", "with its first runs"], rows)
