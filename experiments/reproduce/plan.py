"""The plan of a table: its rows, the runs of each, and the runs whose lists are missing."""

import dataclasses
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from experiments.common import program
from experiments.reproduce.ablations import Ablation
from experiments.reproduce.sources import Listed, RecordSource, SceneSource
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.errors import UserError
from vtd_jax.printable import listed
from vtd_jax.terminal import counted
from vtd_jax.train.config import RunConfig

# methods whose checkpoints are not those of others, and which are in a table unless told otherwise
OURS = ("vtd", "clip")


@dataclasses.dataclass(frozen=True)
class Run:
    """One training or evaluation.

    Attributes:
      name: its folder below `WORKDIR/runs`.
      dataset: whose lists it is evaluated on.
      config: complete.
      source: whose parameters it evaluates: the name of another run of the plan, a workdir or a
        file; "" for its own.
      rival: which other method `source` is a checkpoint of; "" for ours.
    """

    name: str
    dataset: str
    config: RunConfig
    source: str = ""
    rival: str = ""

    @property
    def learns(self) -> bool:
        """Whether it trains, rather than evaluates CLIP as it is or what others learnt."""
        return bool(self.config.data.train) and not self.source


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of ours.

    Attributes:
      dataset, method, learnt_on: as printed.
      cells: column (shots, or "" where the protocol has one) -> names of the runs whose mean it is.
      ablation: what is switched off or changed; None outside the ablations.
      rival: which other method it is, by its own checkpoints; "" for ours.
    """

    dataset: str
    method: str
    learnt_on: str
    cells: Mapping[str, tuple[str, ...]]
    ablation: Ablation | None = None
    rival: str = ""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the command line sets for all runs.

    Attributes:
      clip_path, clip: the checkpoint and its sizes.
      changes: full field names and values, set in every run; fields of what is learnt only in those
        that learn.
      seeds: of the training, where a protocol has a single list to learn on.
      splits: which of the three 16-shot lists. They stand for seeds: each is learnt on with the
        first of `seeds` only.
      source: whose parameters zero-shot transfer evaluates: "auto" (a Kinetics-400 run of the
        plan), "none", a workdir or a file.
      few_shot_val: "split1", or "mean" for the mean over the validation lists of the three splits.
      methods: whose rows there are: "vtd", "clip" (CLIP as it is), "vtd_frames" (`by_frames`), and
        rivals.
      rivals: the folder of the rivals' checkpoints; needed with rivals.
    """

    clip_path: str
    clip: CLIPConfig
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    splits: tuple[int, ...] = (1, 2, 3)
    source: str = "auto"
    few_shot_val: str = "split1"
    methods: tuple[str, ...] = OURS
    rivals: Path | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """A table to make.

    Attributes:
      table: its name.
      rows: in order.
      runs: in the order in which they are made.
      missing: a line for every run without its lists.
      differs: a line for every field that differs from the config files.
      absent: data set -> why runs of its rows are left out; not kept on disk.
    """

    table: str
    rows: tuple[Row, ...]
    runs: tuple[Run, ...]
    missing: tuple[str, ...]
    differs: tuple[str, ...]
    absent: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


class Planner:
    """Collects rows and runs; a run that two rows need is planned once."""

    def __init__(self, data: RecordSource | SceneSource, settings: Settings):
        self.data, self.settings = data, settings
        self.rows: list[Row] = []
        self.runs: dict[str, Run] = {}
        self.missing: list[str] = []
        # the data set being planned, and data set -> reason -> runs left out for it
        self.dataset = ""
        self.absent: dict[str, dict[str, list[str]]] = {}
        self.differs: dict[str, None] = {}
        try:
            self._architecture = settings.clip.architecture
            CLIPConfig.named(self._architecture)
        except UserError:
            self._architecture = ""

    def plan(self, table: str) -> Plan:
        """The plan of all rows and runs so far."""
        absent = {
            dataset: tuple(
                f"{why} ({counted(len(names), 'run')} left out)" for why, names in reasons.items()
            )
            for dataset, reasons in self.absent.items()
        }
        rows, runs = tuple(self.rows), tuple(self.runs.values())
        return Plan(table, rows, runs, tuple(self.missing), tuple(self.differs), absent)

    def row(self, row: Row) -> None:
        """Adds a row, if any of its runs is planned."""
        cells = {column: names for column, names in row.cells.items() if names}
        if cells:
            self.rows.append(dataclasses.replace(row, cells=cells))

    def add(
        self,
        dataset: str,
        configs: Iterable[ConfigDict | RunConfig],
        suffix: str = "",
        source: str = "",
    ) -> tuple[str, ...]:
        """Plans runs on a data set, with every seed where they learn on a list that has no sisters.

        Returns:
          The names of those that can be made.
        """
        names = []
        for config in configs:
            run = config if isinstance(config, RunConfig) else RunConfig.from_dict(config.to_dict())
            learns = bool(run.data.train) and not source
            if ("vtd" if learns or source else "clip") not in self.settings.methods:
                continue
            # the three 16-shot lists take the place of seeds
            sisters = run.data.train.startswith("fs_base_s")
            for seed in self.settings.seeds[: 1 if sisters else None] if learns else (run.seed,):
                name = (
                    run.name
                    + (f"_{suffix}" if suffix else "")
                    + (f"_seed{seed}" if learns and seed else "")
                )
                config = self.adapt(dataset, dataclasses.replace(run, name=name, seed=seed))
                planned = Run(name, dataset, config, source)
                if self.can_be_made(planned):
                    self.runs.setdefault(name, planned)
                    names.append(name)
        return tuple(names)

    def adapt(self, dataset: str, run: RunConfig) -> RunConfig:
        """The run on this data folder and CLIP; prompts in no more layers than the CLIP has."""
        model, clip, name = run.model, self.settings.clip, self.settings.clip_path
        limits: dict[str, int] = {}
        if model.text_depth > clip.text_layers:
            limits["model.text_depth"] = clip.text_layers
        if clip.is_resnet and model.visual_prompts:
            limits |= {"model.visual_prompts": 0, "model.visual_depth": 0}
        elif not clip.is_resnet and model.visual_depth > clip.vision_layers:
            limits["model.visual_depth"] = clip.vision_layers
        for field, value in limits.items():
            self.differs[f"{field} at most {value}, what a {clip.architecture} takes"] = None
        if run.clip.architecture not in ("", clip.architecture):
            self.differs[
                f"clip.architecture {clip.architecture} instead of {run.clip.architecture}"
            ] = None
        changes = {k: v for k, v in self.settings.changes.items() if run.data.train or _of_clip(k)}
        self.differs |= dict.fromkeys(
            f"{field} {value!r}, set by --set" for field, value in changes.items()
        )
        # with a published architecture the sizes follow from its name, without reading the file
        where = {
            "clip.path": name,
            "clip.architecture": self._architecture,
            "data.data_dir": str(self.data.folder(dataset)),
        }
        return run.with_changes(where | limits | dict(changes))

    def listed(self, run: Run) -> tuple[Listed | None, dict[str, Listed | None]]:
        """The list that a run trains on (None without training), and those of its splits."""
        training = self.data.find(run.dataset, run.config.data.train) if run.learns else None
        return training, {
            split: self.data.find(run.dataset, name)
            for split, name in run.config.data.evaluate.items()
        }

    def can_be_made(self, run: Run) -> bool:
        """Whether the lists of a run are there; those that are not are noted."""
        wanted = [run.config.data.train] * run.learns + list(run.config.data.evaluate.values())
        lacking = [name for name in wanted if self.data.find(run.dataset, name) is None]
        if lacking:
            folder = self.data.folder(run.dataset)
            there = not isinstance(self.data, RecordSource) or folder.is_dir()
            why = (
                f"no list {', '.join(lacking)} in {folder}"
                if there
                else f"there is no folder {folder}"
            )
            self.lacks(run.name, why)
        return not lacking

    def lacks(self, name: str, why: str) -> None:
        """Notes a run that cannot be made."""
        self.missing.append(f"{name}: {why}")
        self.absent.setdefault(self.dataset, {}).setdefault(why, []).append(name)


def _of_clip(field: str) -> bool:
    """Whether a field also matters without training, and not only for what is learnt."""
    of_model = field in ("model.normalization", "model.assignment", "model.temperature")
    return of_model or not field.startswith(("model.", "optimizer."))


def selected(plan: Plan, datasets: Sequence[str], only: Sequence[str]) -> tuple[Run, ...]:
    """The chosen runs of a plan, with those whose parameters they evaluate.

    Args:
      plan: of one table.
      datasets: names; () for all.
      only: patterns of run names; () for all.
    """

    def matches(run: Run) -> bool:
        named = not only or any(fnmatch.fnmatchcase(run.name, pattern) for pattern in only)
        # "scenes 0.3": noisy scenes have their share behind the name
        return named and (not datasets or run.dataset.split()[0] in datasets)

    chosen = {run.name for run in plan.runs if matches(run)}
    chosen |= {run.source for run in plan.runs if run.name in chosen}
    return tuple(run for run in plan.runs if run.name in chosen)


def lacking(plan: Plan, datasets: Sequence[str]) -> list[str]:
    """A line for every reason why runs of these data sets, () for all, are left out."""
    return [
        f"{dataset}: {reason}"
        for dataset, reasons in plan.absent.items()
        if not datasets or dataset in datasets
        for reason in reasons
    ]


def check_runs(plan: Plan, datasets: Sequence[str] = ()) -> None:
    """Refuses a plan without runs on these data sets, () for all.

    Raises:
      UserError: no list of the protocol is present.
    """
    if not selected(plan, datasets, ()):
        why = listed(lacking(plan, datasets), 3, "; ") or "none of its data sets is present"
        raise UserError(
            f"--table={plan.table}: nothing to run: {why}; build the lists with "
            f"{program.spelled('build_data')}"
        )
