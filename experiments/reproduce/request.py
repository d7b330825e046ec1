"""From the flags of `experiments.reproduce` to plans, and from plans to tables and plots."""

import ast
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flax import nnx

from experiments.common import program
from experiments.reproduce import paired, protocols, results
from experiments.reproduce.cost import cost_table
from experiments.reproduce.kept_plan import load_plan, save_plan
from experiments.reproduce.plan import (
    OURS,
    Plan,
    Planner,
    Run,
    Settings,
    check_runs,
    lacking,
    selected,
)
from experiments.reproduce.rivals import check_methods
from experiments.reproduce.sources import SCENES, RecordSource, SceneSource
from vtd_jax.clip.weights.checkpoints import load_clip
from vtd_jax.clip.weights.planned import planned_config
from vtd_jax.errors import UserError
from vtd_jax.evaluate import plots
from vtd_jax.model.saved.fingerprint import legacy_weights_fingerprint, weights_fingerprint
from vtd_jax.output_checks import Output, check_outputs, weights_read
from vtd_jax.scenes.benchmark import SceneBenchmark
from vtd_jax.terminal import say

TABLES = tuple(protocols.DATASETS)
_HM = "HM of base and novel, %"
# columns that a narrow terminal drops: equal in all rows, or long
_LESS = (
    "read in", "evaluated on", "norm.", "views", "frames", "lists", "ECE", "runs", "source",
    "status",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Request:
    """The flags, see `experiments.reproduce`."""

    table: str
    workdir: Path
    data_dir: str | None
    clip: str | None
    datasets: tuple[str, ...]
    splits: tuple[int, ...]
    seeds: tuple[int, ...]
    only: tuple[str, ...]
    source: str
    changes: Mapping[str, Any]
    few_shot_val: str = "split1"
    methods: tuple[str, ...] = OURS
    rivals: Path | None = None


class Made(NamedTuple):
    """Plans, and what making them needs.

    Attributes:
      plans: one for each table.
      planner: of the last table; all share its data.
      runs: the chosen ones of all plans.
      weights: fingerprint of the CLIP.
      notes: what tables say of CLIP and data.
      datasets: the chosen data sets, () for all.
      legacy_weights: fingerprint of the CLIP as earlier versions wrote it.
      lacking: the name of a CLIP that is not on this machine, of which only the sizes are known.
    """

    plans: tuple[Plan, ...]
    planner: Planner
    runs: tuple[Run, ...]
    weights: str
    notes: Mapping[str, Any]
    datasets: tuple[str, ...] = ()
    legacy_weights: str = ""
    lacking: str = ""


def changes(texts: Sequence[str]) -> dict[str, Any]:
    """Fields and values of `--set`; a value is a Python literal if it parses, else text."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UserError(f"--set={text}: expected FIELD=VALUE, as --set=optimizer.epochs=2")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found


def check_outputs_of(asked: Request) -> None:
    """Refuses a workdir that cannot be written, or whose tables would replace an input."""
    names = TABLES if asked.table == "all" else (asked.table,)
    files = [
        asked.workdir / f"{name}.{ending}"
        for name in (*names, *map(paired.stem, names))
        for ending in ("md", "csv", "json", "png")
    ]
    outputs = [Output("--workdir", asked.workdir, folder=True, whole=True)]
    outputs += [Output("--workdir", file, belongs=True) for file in files]
    source = None if asked.source in ("auto", "none") else asked.source
    inputs = [(f"--data_dir={asked.data_dir}", asked.data_dir), (f"--source={source}", source)]
    inputs += [(f"--rivals={asked.rivals}", asked.rivals)]
    check_outputs(outputs, [*inputs, *weights_read("--clip", asked.clip)])


def make(asked: Request, *, dry: bool = False) -> Made:
    """Reads the CLIP and the lists, and plans.

    Args:
      asked: the flags.
      dry: whether nothing will be run: the CLIP's sizes are enough, and it need not be here.

    Raises:
      UserError: nothing to run, or an unknown or missing input.
    """
    check_methods(asked.methods, asked.rivals)
    embedded = asked.data_dir is None
    if not embedded and asked.clip is None:
        raise UserError("--clip is needed with --data_dir: a CLIP, as ViT-B/16 or a file of it")
    tables = _tables(asked, embedded)
    known = [SCENES]
    if not embedded:
        known = list(dict.fromkeys(name for table in tables for name in protocols.DATASETS[table]))
    for name in asked.datasets:
        if name not in known:
            raise UserError(f"--datasets={name}: table {asked.table} has {', '.join(known)}")
    data = _data(asked, tables)
    source, weights, legacy_weights, is_here = asked.clip or "tiny", "", "", True
    if dry:
        config, is_here = planned_config(source)
    else:
        clip = load_clip(source)
        config = clip.config
        weights = weights_fingerprint(nnx.state(clip))
        legacy_weights = legacy_weights_fingerprint(nnx.state(clip))
    settings = Settings(
        source, config, asked.changes, asked.seeds, asked.splits, asked.source, asked.few_shot_val,
        asked.methods, asked.rivals,
    )  # fmt: skip
    planned, plans, runs = [], [], {}
    for table in tables:
        planner = Planner(data, settings)
        plan = protocols.make_plan(
            table, planner, (SCENES,) if embedded else protocols.DATASETS[table]
        )
        if not plan.runs and not plan.absent and asked.methods != OURS:
            if len(tables) > 1:
                continue
            raise UserError(
                f"--methods={','.join(asked.methods)}: table {table} has no rows of these here"
            )
        if len(tables) == 1:
            check_runs(plan, asked.datasets)
        planned.append(plan)
        chosen = selected(plan, asked.datasets, asked.only)
        plans += [plan] if chosen else []
        runs |= {run.name: run for run in chosen}
    if not runs and any(selected(plan, asked.datasets, ()) for plan in planned):
        only = ",".join(asked.only)
        raise UserError(
            f"--only={only}: matches no run of table {asked.table}; --dry_run without it prints all"
        )
    if not runs:
        why = dict.fromkeys(line for plan in planned for line in lacking(plan, asked.datasets))
        raise UserError(
            f"--table={asked.table}: nothing to run: "
            f"{'; '.join(why) or 'none of its data sets is present'}"
        )
    notes = {"CLIP weights": f"{source}, fingerprint {weights}"}
    notes |= _about_scenes(data) if embedded else {}
    chosen = tuple(runs.values())
    return Made(
        tuple(plans), planner, chosen, weights, notes, asked.datasets, legacy_weights,
        "" if is_here else source,
    )  # fmt: skip


def _tables(asked: Request, embedded: bool) -> list[str]:
    if asked.table == "irrelevant" and not embedded:
        raise UserError("--table=irrelevant: is about rendered scenes; leave --data_dir out")
    if asked.table != "all":
        return [asked.table]
    return [table for table in TABLES if embedded or table != "irrelevant"]


def _data(asked: Request, tables: Sequence[str]) -> RecordSource | SceneSource:
    if asked.data_dir is not None:
        return RecordSource(Path(asked.data_dir))
    if asked.workdir.exists() and not asked.workdir.is_dir():
        raise UserError(f"--workdir={asked.workdir}: is a file, expected a folder")
    return SceneSource(asked.workdir / SCENES, SceneBenchmark(), noisy="irrelevant" in tables)


def _about_scenes(data: SceneSource) -> dict[str, str]:
    made = data.benchmark
    return {
        "scenes": (
            f"{made.classes // 2} base and {made.classes // 2} novel classes of coloured, "
            f"textured shapes, {made.pool} clips a class to learn on and {made.val} to evaluate "
            f"on, {made.length} frames each, of which {100 * made.irrelevant:g} % are empty, "
            f"noise, other objects or scrambled; rendered from seed {made.seed}"
        ),
    }


def show(made: Made, kind: str, devices: int, utilization: float | None) -> str:
    """Prints what the runs cost, and what cannot be made; returns the total in a line.

    The arguments after the first are those of `cost_table`.
    """
    table, closing = cost_table(made.planner, made.runs, kind, devices, utilization)
    table.show()
    for line in table.about_lines():
        say(f"- {line}")
    for plan in made.plans:
        for line in (
            *(f"differs from the configs: {one}" for one in plan.differs),
            *lacking(plan, made.datasets),
        ):
            say(f"- {plan.table}: {line}")
    if made.lacking:
        say(
            f"- {made.lacking}: not on this machine, planned from its published sizes; "
            f"{program.spelled('weights')} get {made.lacking} downloads it"
        )
    return closing


def keep(made: Made, workdir: Path) -> None:
    """Writes the plans into the workdir, for `tables`."""
    (workdir / "plans").mkdir(parents=True, exist_ok=True)
    for plan in made.plans:
        save_plan(workdir / "plans" / f"{plan.table}.json", plan, made.notes)


def tables(table: str, workdir: Path) -> list[str]:
    """Writes and prints tables from finished runs, and draws their plots; returns the names of the
    files.

    Args:
      table: one of `TABLES`, or "all" for those that were ever planned here.
      workdir: of `experiments.reproduce`.
    """
    names, wrote = [table], []
    if table == "all":
        planned = [name for name in TABLES if (workdir / "plans" / f"{name}.json").is_file()]
        # without any plan, the first table's error says what to run
        names = planned or [TABLES[0]]
    for name in names:
        path = workdir / "plans" / f"{name}.json"
        plan, notes = load_plan(path)
        if plan.table != name:
            raise UserError(
                f"{path}: is of table {plan.table!r}; run this table again, without --tables_only"
            )
        made = results.make_table(plan, workdir, notes)
        dataclasses.replace(made, less=_LESS).show()
        made.save(workdir, name)
        wrote += [str(workdir / f"{name}.md"), *_draw(plan, workdir)]
        if (pairs := paired.make_table(plan, workdir)) is not None:
            pairs.show()
            pairs.save(workdir, paired.stem(name))
            wrote.append(str(workdir / f"{paired.stem(name)}.md"))
    return wrote


def _draw(plan: Plan, workdir: Path) -> list[str]:
    drawn = []
    for dataset in dict.fromkeys(row.dataset for row in plan.rows):
        rows = tuple(row for row in plan.rows if row.dataset == dataset)
        part = dataclasses.replace(plan, rows=rows)
        path = workdir / (
            f"{plan.table}.png" if dataset == SCENES else f"{plan.table}_{dataset}.png"
        )
        if plan.table == "few_shot":
            # vanilla CLIP has 0 shots, which a logarithmic axis cannot show
            series = {
                method: [p for p in found if p[0] > 0]
                for method, found in results.points(part, workdir).items()
            }
            series = {method: found for method, found in series.items() if found}
            title, label = f"{dataset}: accuracy against shots", "training videos a class"
            plots.lines(path, series, title=title, x_label=label, log2_x=True)
        elif plan.table == "irrelevant":
            title = "Clips of which a share of the frames does not show the object"
            series = results.points(part, workdir)
            plots.lines(path, series, title=title, x_label="irrelevant frames, %", y_label=_HM)
        elif plan.table == "ablations":
            bars, groups, reference = results.bars(part, workdir)
            title = f"{dataset}: what each part is worth"
            plots.bars(path, bars, title=title, x_label=_HM, reference=reference, groups=groups)
        else:
            continue
        drawn.append(str(path))
    return drawn
