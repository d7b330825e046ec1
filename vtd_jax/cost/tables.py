"""All programs of a run, ahead of time, and tables of their costs."""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from vtd_jax.cost.examine import Report
from vtd_jax.cost.hlo import Sent
from vtd_jax.cost.programs import (
    Names,
    Step,
    abstract_frames,
    abstract_model,
    abstract_tokens,
    mesh_of,
    training_step,
)
from vtd_jax.cost.schedule import NO_KERNEL
from vtd_jax.cost.timed import ROOFLINE
from vtd_jax.cost.topology import GIB, Target
from vtd_jax.evaluate import views
from vtd_jax.evaluate.tables import Table
from vtd_jax.files import write_text
from vtd_jax.parallel.mesh import DeviceMesh, round_up
from vtd_jax.train.config import RunConfig

_COMPILERS = ("libtpu", "jax-cuda13-plugin", "nvidia-cuda-nvcc", "nvidia-cudnn-cu13")
# parts of a program's time that a table shows
_PARTS = 5
_SHORT = {
    "all-reduce": "reduce",
    "all-gather": "gather",
    "reduce-scatter": "scatter",
    "collective-permute": "permute",
    "all-to-all": "all to all",
}


def run_steps(
    config: RunConfig, target: Target, learnt: Names | None, evaluated: Names
) -> list[Step]:
    """The programs of a run: training step if it learns, scoring, and encoding the codebook.

    Args:
      config: of the run.
      target: the devices.
      learnt: class names of the training list; None if nothing is learnt.
      evaluated: class names of the largest evaluated split.
    """
    training = [] if learnt is None else [training_step(config, target, learnt)]
    return [*training, *evaluation_steps(config, target, evaluated)]


def evaluation_steps(config: RunConfig, target: Target, names: Names) -> list[Step]:
    """Scoring a padded batch with all views of the config, and encoding the codebook."""
    mesh_of(config, target)
    mesh, model = DeviceMesh(target.devices), abstract_model(config, target)
    names = names.fitted(model.clip.config)
    graphdef, state = nnx.split(model)
    videos = round_up(config.evaluate.batch_size, len(target.devices))
    count = config.evaluate.temporal_views * config.evaluate.spatial_views
    frames, dtype = config.data.frames, config.clip.dtype
    axes = (videos, count, frames) if count > 1 else (videos, frames)
    codebook = jax.ShapeDtypeStruct((names.classes, model.clip.config.embed_dim), jnp.float32)
    scorer = views.compiled_scorer(graphdef, mesh, config.parallel)
    encoder = views.compiled_encoder(graphdef, mesh, names.classes, config.parallel)
    score = scorer.abstract(abstract_frames(model, *axes), state, codebook)
    encode = encoder.abstract(abstract_tokens(mesh, names), state)
    return [
        Step("evaluation", scorer, score, videos, frames, names, count, dtype),
        Step("codebook", encoder, encode, 0, 0, names, dtype=dtype),
    ]


def report_table(reports: Sequence[Report], settings: Mapping[str, Any]) -> Table:
    """One row a program, with its numbers on every target; runs with equal numbers share a row.

    Args:
      reports: at least one, target by target.
      settings: lines below the table, beside targets and versions.
    """
    compiled = any(report.memory is not None for report in reports)
    columns = ("run", "step", "videos", "a device", "frames", "classes")
    columns += ("GiB a device",) if compiled else ("arguments, MB", "program, MB")
    estimated = any(report.seconds_estimated is not None for report in reports)
    columns += ("TFLOP", *(("ms", "of peak") if estimated else ()))
    columns += ("kernels",) if any(map(_is_bound, reports)) else ()
    columns += ("traffic, GB", "sent, MB") if compiled else ("sent, MB",)
    programs: dict[tuple[str, str], list[dict[str, str]]] = {}
    for report in reports:
        programs.setdefault((report.run, report.kind), []).append(_cells(report))
    runs: dict[tuple, list[str]] = {}
    for (run, kind), on_targets in programs.items():
        texts = tuple(_beside([cells[column] for cells in on_targets]) for column in columns[2:])
        runs.setdefault((kind, *texts), []).append(run)
    rows = tuple(dict(zip(columns, (braces(names), *texts))) for texts, names in runs.items())
    about = {"on": " / ".join(dict.fromkeys(report.target for report in reports)), **settings}
    if estimated:
        about |= _about_times(reports)
    kind = "compiled ahead of time" if compiled else "lowered for CUDA, not compiled"
    title = f"Programs {kind}: cost of one call on one device"
    return Table(title, columns, rows, about | versions(compiled))


def _beside(cells: Sequence[str]) -> str:
    """Numbers of one program on several targets; one number if they are equal."""
    return cells[0] if len(set(cells)) == 1 else " / ".join(cells)


def _cells(report: Report) -> dict[str, str]:
    memory = "–" if report.memory is None else f"{report.memory / GIB:.2f}"
    if report.fits is False:
        memory += f" (does not fit {report.available / GIB:.2f})"
    arguments = report.parts.get("arguments")
    frames = f"{report.frames}" if report.views == 1 else f"{report.views} × {report.frames}"
    return {
        "videos": f"{report.videos}" if report.videos else "–",
        "a device": f"{report.videos / report.devices:g}" if report.videos else "–",
        "frames": frames if report.frames else "–",
        "classes": f"{report.classes}" + f" × {report.templates} texts" * (report.templates > 0),
        "GiB a device": memory,
        "arguments, MB": "–" if arguments is None else f"{arguments / 1e6:.1f}",
        "program, MB": "–" if report.text is None else f"{report.text / 1e6:.2f}",
        "TFLOP": f"{report.flops / 1e12:.3g}",
        "ms": _milliseconds(report),
        "of peak": _share(report),
        "kernels": f"{report.kernels}" if _is_bound(report) else "–",
        "traffic, GB": "–" if report.traffic is None else f"{report.traffic / 1e9:.1f}",
        "sent, MB": "–" if report.fits is False else sent(report.collectives),
    }


def _milliseconds(report: Report) -> str:
    if report.seconds_estimated is None:
        return "–"
    kernels = [name for name in report.without if name.startswith(NO_KERNEL)]
    more = f" ({'; '.join(kernels)})" if kernels else ""
    least = "≥ " if _is_bound(report) else ""
    return f"{least}{1e3 * report.seconds_estimated:.4g}{more}"


def _share(report: Report) -> str:
    if report.share is None:
        return "–"
    return f"{'≤ ' if _is_bound(report) else ''}{100 * report.share:.0f} %"


def _is_bound(report: Report) -> bool:
    """Whether its time is the least possible, no estimate."""
    return report.estimated_by == ROOFLINE


def _about_times(reports: Sequence[Report]) -> dict[str, str]:
    sources = " or ".join(sorted({report.estimated_by for report in reports} - {""}))
    dtypes = " or ".join(sorted({report.dtype for report in reports}))
    return {
        "ms": f"of one call, by {sources}, not run; waiting for data is not part of it",
        "of peak": f"TFLOP over ms, of the device's peak in {dtypes}",
    }


def parts_table(reports: Sequence[Report]) -> Table | None:
    """The largest parts of each program's estimated time; programs of equal parts share them.

    Returns None without estimates.
    """
    same: dict[tuple, list[str]] = {}
    for report in reports:
        if report.seconds_estimated:
            key = report.kind, report.target, report.seconds_estimated, report.largest
            same.setdefault((*key, report.without), []).append(report.run)
    rows: list[dict[str, str]] = []
    for (kind, target, seconds, parts, without), runs in same.items():
        shown = [
            (part.name, f"{1e3 * part.seconds:.3g}", part.seconds / seconds, f"{part.times}")
            for part in parts[:_PARTS]
        ]
        cells = [
            {"part": name, "ms": ms, "of it": f"{100 * share:.0f} %", "times": times}
            for name, ms, share, times in shown
        ]
        empty = {"ms": "", "of it": "", "times": ""}
        cells += [{"part": f"not counted: {name}"} | empty for name in without]
        for first, row in enumerate(cells):
            heads = (braces(runs), kind, target) if not first else ("", "", "")
            rows.append(dict(zip(("run", "step", "on"), heads)) | row)
    columns = ("run", "step", "on", "part", "ms", "of it", "times")
    about = {"ms": "by the compiler, not run", "times": "in one call"}
    return Table(f"The {_PARTS} largest parts", columns, tuple(rows), about) if rows else None


def markdown(reports: Sequence[Report], settings: Mapping[str, Any]) -> str:
    """The table of programs, and that of their largest parts if there are estimates."""
    parts = parts_table(reports)
    found = report_table(reports, settings).to_markdown()
    return found if parts is None else f"{found}\n{parts.to_markdown()}"


def braces(names: Sequence[str]) -> str:
    """Several names as one: `few_shot_hmdb51_{2,4}`."""
    if len(names) == 1:
        return names[0]
    start = os.path.commonprefix(names)  # noqa: RUF071 (of characters)
    return f"{start}{{{','.join(name.removeprefix(start) for name in names)}}}"


def sent(collectives: Mapping[str, Sent]) -> str:
    """Counts and megabytes of collectives: "2 reduce 13.3, 1 gather 0.1"."""
    kinds = (f"{n} {_SHORT[kind]} {size / 1e6:.1f}" for kind, (n, size) in collectives.items())
    return ", ".join(kinds) or "nothing"


def versions(compiled: bool) -> dict[str, str]:
    """Versions that the numbers depend on: of JAX, and of the compilers here if one compiled."""
    found = {"jax": version("jax")}
    for package in _COMPILERS if compiled else ():
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def save(out: Path | None, reports: Sequence[Report], settings: Mapping[str, Any]) -> None:
    """Writes the table (.md) or all numbers (.json), whole or not at all; None writes nothing."""
    if out is not None:
        made = markdown if out.suffix == ".md" else to_json
        write_text(out, made(reports, settings))


def to_json(reports: Sequence[Report], settings: Mapping[str, Any]) -> str:
    """`{"settings", "versions", "programs": [fields of a report]}`."""
    found = {
        "settings": dict(settings),
        "versions": versions(any(report.memory is not None for report in reports)),
        "programs": [report.to_dict() for report in reports],
    }
    return json.dumps(found, indent=2) + "\n"
