"""What the runs of a plan cost, for `--dry_run`."""

import functools
from collections.abc import Mapping, Sequence

from experiments.reproduce.plan import Planner, Run
from experiments.reproduce.sources import Listed
from vtd_jax.console.status import Line, Part
from vtd_jax.cost import compiled, estimate
from vtd_jax.cost.compiled import Chip, CompiledTime
from vtd_jax.cost.estimate import PlannedRun
from vtd_jax.cost.programs import Names, abstract_model
from vtd_jax.cost.timed import ROOFLINE
from vtd_jax.durations import timespan
from vtd_jax.evaluate.tables import Table
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.terminal import counted

# share of the peak that is assumed where no compiler says it
ASSUMED = 0.3


def cost_table(
    planner: Planner,
    runs: tuple[Run, ...],
    kind: str,
    devices: int,
    utilization: float | None = None,
) -> tuple[Table, str]:
    """A row for each run, and their total in a line.

    Args:
      planner: finds the lists.
      runs: in order.
      kind: of the devices, see `estimate.DEVICES`, or "here".
      devices: how many.
      utilization: share of the peak that is assumed; None asks the device's compiler where it is
        installed, and assumes `ASSUMED` elsewhere.
    """
    chip = compiled.chip_of(kind) if utilization is None else None
    share = utilization or ASSUMED
    rows, times = [], {}
    line = Line().open()
    for number, run in enumerate(runs, 1):
        place = f"of run {number} of {len(runs)}"
        line.show(f"counting FLOPs {place}", Part(run.name, 1))
        training, splits = planner.listed(run)
        model = abstract_model(run.config)
        learnt = None if training is None else _names(model, training)
        evaluated = {split: _names(model, listed) for split, listed in splits.items()}
        cost = estimate.run_cost(run.config, learnt=learnt, evaluated=evaluated)
        hours = estimate.hours(cost, kind, devices, share, run.config.clip.dtype)
        if chip is not None:
            times[run.name] = found = compiled.run_time(
                run.config,
                chip,
                devices,
                learnt=learnt,
                evaluated=evaluated,
                show=functools.partial(_show, line, f"{place} for {kind}", run.name),
            )
            hours = hours if found.seconds is None else found.seconds / 3600
        rows.append(
            PlannedRun(
                run.name, learnt[0] if learnt else 0, run.config.optimizer.epochs, cost, hours
            )
        )
    line.close()
    rest = [run for run in runs if run.name not in times or times[run.name].seconds is None]
    dtypes = sorted({run.config.clip.dtype for run in rest})
    lines = [estimate.assumptions(kind, devices, share, dtype) for dtype in dtypes]
    if chip is not None:
        lines = [*_by_compiler(chip, devices, times), *lines]
    total = sum(row.hours for row in rows)
    closing = f"{counted(len(rows), 'run')}, about {timespan(3600 * total)}; nothing was run"
    return estimate.plan_table(rows, "; ".join(lines)), closing


def _show(line: Line, place: str, name: str, step: str) -> None:
    line.show(f"compiling {step} {place}", Part(name, 1))


def _by_compiler(chip: Chip, devices: int, times: Mapping[str, CompiledTime]) -> Sequence[str]:
    """What the times are that a compiler estimated, and which runs have none and why."""
    found = [time for time in times.values() if time.seconds is not None]
    failed = {name: time.source for name, time in times.items() if time.seconds is None}
    lines = []
    if found:
        source = " or ".join(sorted({time.source for time in found}))
        # how often they run differs from program to program
        missing = sorted({name.partition(" (")[0] for time in found for name in time.without})
        without = f" (without {', '.join(missing)})" if missing else ""
        what = "the least time" if source == ROOFLINE else "an estimate"
        lines.append(
            f"{what} for {devices} × {chip.kind} by {source} of the programs compiled for one "
            f"of them with its share of the videos, not run{without}; reading videos, compiling "
            "and what devices send each other are not part of it"
        )
    for reason in dict.fromkeys(failed.values()):
        names = [name for name, why in failed.items() if why == reason]
        lines.append(f"assumed for {', '.join(names)}: {reason}")
    return lines


def _names(model: VTDCLIP, listed: Listed) -> tuple[int, Names]:
    return listed.videos, Names.of_classes(model, listed.class_names)
