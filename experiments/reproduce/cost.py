"""What the runs of a plan cost, for `--dry_run`."""

from experiments.reproduce.plan import Planner, Run
from experiments.reproduce.sources import Listed
from vtd_jax.console.status import Line, Part
from vtd_jax.cost import estimate
from vtd_jax.cost.estimate import PlannedRun
from vtd_jax.cost.programs import Names, abstract_model
from vtd_jax.durations import timespan
from vtd_jax.evaluate.tables import Table
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.terminal import counted


def cost_table(
    planner: Planner, runs: tuple[Run, ...], kind: str, devices: int, utilization: float
) -> tuple[Table, str]:
    """A row for each run, and their total in a line.

    Args:
      planner: finds the lists.
      runs: in order.
      kind: of the devices, see `estimate.DEVICES`, or "here".
      devices: how many.
      utilization: share of the peak that is assumed.
    """
    rows = []
    line = Line().open()
    for number, run in enumerate(runs, 1):
        line.show(f"counting FLOPs of run {number} of {len(runs)}", Part(run.name, 1))
        training, splits = planner.listed(run)
        model = abstract_model(run.config)
        learnt = None if training is None else _names(model, training)
        evaluated = {split: _names(model, listed) for split, listed in splits.items()}
        cost = estimate.run_cost(run.config, learnt=learnt, evaluated=evaluated)
        hours = estimate.hours(cost, kind, devices, utilization, run.config.clip.dtype)
        rows.append(
            PlannedRun(
                run.name, learnt[0] if learnt else 0, run.config.optimizer.epochs, cost, hours
            )
        )
    line.close()
    dtypes = sorted({run.config.clip.dtype for run in runs})
    assumed = "; ".join(estimate.assumptions(kind, devices, utilization, dtype) for dtype in dtypes)
    total = sum(row.hours for row in rows)
    closing = f"{counted(len(rows), 'run')}, about {timespan(3600 * total)}; nothing was run"
    return estimate.plan_table(rows, assumed), closing


def _names(model: VTDCLIP, listed: Listed) -> tuple[int, Names]:
    return listed.videos, Names.of(model.class_tokens(listed.class_names))
