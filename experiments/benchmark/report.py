"""A benchmark's numbers as tables."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.benchmark.setting import Variant
from experiments.benchmark.tasks import CODEBOOK, FEATURES, STEP
from experiments.benchmark.timing import Ratio, Timing, best_rates, ratio
from vtd_jax.cost.peaks import DEVICES, known_device
from vtd_jax.evaluate.tables import Table

# task -> least speed of ours in bfloat16, relative to PyTorch in float32 and in bfloat16
GOALS = {FEATURES: (2.4, 1.3), CODEBOOK: (15.0, 8.0), STEP: (2.2, 1.2)}
CEILING_GOAL, MFU_GOAL = 0.85, 0.55
EAGER = (Variant("PyTorch", "float32", "eager"), Variant("PyTorch", "bfloat16", "eager"))


def show(table: Table) -> None:
    """Prints a table as Markdown, at once."""
    print(f"{table.title}:\n\n{table.rows_to_markdown()}", flush=True)


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table of printable cells under the names in `head`."""
    return Table(title, tuple(head), tuple(dict(zip(head, cells, strict=True)) for cells in rows))


def spread(found: Ratio, unit: str = "") -> str:
    """Median and range."""
    return f"{number(found.median)}{unit} ({number(found.low)}–{number(found.high)})"


def number(x: float) -> str:
    """Three digits, or all before the point."""
    return f"{x:.3g}" if abs(x) < 999.5 else f"{x:.0f}"


def _of(values: Sequence[float]) -> Ratio:
    return Ratio(statistics.median(values), min(values), max(values))


def seconds_of(timing: Timing) -> str:
    """Median and range of seconds."""
    if timing.median >= 1:
        return spread(_of(timing.seconds), " s")
    return spread(_of([1000 * seconds for seconds in timing.seconds]), " ms")


class Measured:
    """Timings of one interleaved run, and what follows from them.

    Attributes:
      timings: variant -> task -> timing.
      ceilings: (framework, dtype) -> FLOP/s of plain products in every round.
      kind: JAX's name of the device.
    """

    def __init__(
        self,
        timings: Mapping[Variant, Mapping[str, Timing]],
        ceilings: Mapping[tuple[str, str], Sequence[Timing]],
        kind: str,
    ):
        self.timings, self.kind = timings, kind
        self.ceilings = {who: best_rates(found) for who, found in ceilings.items()}
        self._shapes = {
            who: max(found, key=lambda timing: max(timing.rates)).task
            for who, found in ceilings.items()
        }

    def against(self, variant: Variant, task: str, other: Variant) -> Ratio | None:
        """How many times as fast as `other`; None where one of them was not measured."""
        ours, theirs = (self.timings.get(who, {}).get(task) for who in (variant, other))
        return None if ours is None or theirs is None else ratio(theirs.seconds, ours.seconds)

    def of_ceiling(self, variant: Variant, task: str) -> Ratio | None:
        """Share of the ceiling that was measured in the same round; None without FLOPs."""
        timing = self.timings[variant][task]
        if timing.flops is None:
            return None
        return ratio(timing.rates, self.ceilings[variant.framework, variant.dtype])

    def of_peak(self, variant: Variant, task: str) -> Ratio | None:
        """Share of the vendor's peak (MFU); None where that is not known."""
        device, timing = known_device(self.kind), self.timings[variant][task]
        if device is None or timing.flops is None:
            return None
        return ratio(timing.rates, [getattr(DEVICES[device], variant.dtype)] * len(timing.rates))

    def tasks_table(self) -> Table:
        """One row a task and variant."""
        peaked = known_device(self.kind) is not None
        head = [
            "task, variant",
            "seconds, median (min–max)",
            "clips/s",
            "GFLOP",
            "GFLOP/s",
            "of the ceiling",
        ]
        head += ["MFU"] * peaked + [f"× {other.name}" for other in EAGER if other in self.timings]
        rows, tasks = [], dict.fromkeys(task for found in self.timings.values() for task in found)
        for task in tasks:
            for variant, found in self.timings.items():
                if task in found:
                    cells = self._cells(variant, found[task], peaked)
                    rows.append([f"{task}, {variant.name}", *cells])
        return table("Tasks", head, rows)

    def _cells(self, variant: Variant, timing: Timing, peaked: bool) -> list[str]:
        share, task = self.of_ceiling(variant, timing.task), timing.task
        cells = [seconds_of(timing), number(timing.clips / timing.median) if timing.clips else "–"]
        if share is None:
            cells += ["–"] * (3 + peaked)
        else:
            cells += [
                f"{timing.flops / 1e9:.4g}",
                f"{timing.flops / timing.median / 1e9:.4g}",
                f"{share.median:.2f}",
            ]
            cells += [f"{self.of_peak(variant, task).median:.1%}"] if peaked else []
        ratios = [self.against(variant, task, other) for other in EAGER if other in self.timings]
        return cells + ["–" if found is None else spread(found) for found in ratios]

    def ceilings_table(self) -> Table:
        """The machine's own ceilings."""
        rows = [
            [
                f"{framework}, {dtype}",
                spread(_of([rate / 1e9 for rate in rates])),
                self._shapes[framework, dtype],
            ]
            for (framework, dtype), rates in self.ceilings.items()
        ]
        head = ["plain product", "GFLOP/s, median (min–max)", "fastest shape"]
        return table("Ceilings, of the same rounds", head, rows)

    def goals(self) -> list[dict[str, Any]]:
        """Goals that could be measured: what, the goal, the median, and whether it is met."""
        fast = {dtype: Variant("JAX", dtype, "fast") for dtype in ("float32", "bfloat16")}
        found, ours = [], fast["bfloat16"]
        for task, least in GOALS.items():
            for goal, other in zip(least, EAGER):
                reached = self.against(ours, task, other)
                if reached is not None:
                    what = f"{task}: {ours.name}, × {other.name}"
                    found.append(_goal(what, goal, reached.median))
        for either in fast.values():
            measured = FEATURES in self.timings.get(either, {})
            share = self.of_ceiling(either, FEATURES) if measured else None
            if share is not None:
                what = f"{FEATURES}: {either.name}, share of the ceiling"
                found.append(_goal(what, CEILING_GOAL, share.median))
        compiled = Variant("PyTorch", "bfloat16", "compiled")
        used = self.of_peak(ours, STEP) if STEP in self.timings.get(ours, {}) else None
        if used is not None:
            found.append(_goal(f"{STEP}: {ours.name}, MFU", MFU_GOAL, used.median))
        ahead = self.against(ours, STEP, compiled)
        if ahead is not None:
            found.append(_goal(f"{STEP}: {ours.name}, × {compiled.name}", 1.0, ahead.median))
        return found


def _goal(what: str, goal: float, reached: float) -> dict[str, Any]:
    return {"goal": what, "at least": goal, "measured": reached, "met": reached >= goal}


def goals_table(goals: Sequence[Mapping[str, Any]]) -> Table:
    """Goal, measured, and by how much it is missed."""
    rows = [
        [
            goal["goal"],
            f"{goal['at least']:g}",
            f"{goal['measured']:.3g}",
            "met" if goal["met"] else f"missed: {goal['measured'] / goal['at least']:.0%} of it",
        ]
        for goal in goals
    ]
    return table("Goals", ["goal", "at least", "measured", ""], rows)


def memory_table(memory: Mapping[str, Mapping[str, Mapping[str, int]]]) -> Table:
    """Variant -> task -> bytes by kind, as XLA plans them."""
    rows = [
        [
            f"{task}, {variant}",
            *(f"{planned[kind] / 2**20:.4g}" for kind in ("temporaries", "arguments", "results")),
        ]
        for variant, tasks in memory.items()
        for task, planned in tasks.items()
    ]
    head = ["program", "temporaries, MiB", "arguments, MiB", "results, MiB"]
    return table("Memory as XLA plans it for one run", head, rows)


def first_steps_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Seconds to the first training step, part by part, and peak memory."""
    parts = ("importing", "building", "compiling", "first step")
    cells = []
    for row in rows:
        name = row["variant"] + (f", {row['cache']} cache" if row["cache"] else "")
        if "failed" in row:
            cells.append([name, row["failed"], *["–"] * (len(parts) + 2)])
            continue
        peaks = (row["peak process bytes"], row["peak device bytes"])
        seconds = [f"{row['seconds']:.1f}", *(f"{row[f'{part} seconds']:.1f}" for part in parts)]
        cells.append(
            [name, *seconds, *("–" if peak is None else f"{peak / 2**20:.0f}" for peak in peaks)]
        )
    head = ["", "seconds in all", *parts, "process, peak MiB", "device, peak MiB"]
    return table("Time to the first training step, of a process of its own", head, cells)


def input_table(timings: Sequence[Timing]) -> Table:
    """Clips a second of every pipeline; of `preprocess=clip` also in shares of the release's."""
    release = {t.task: t.seconds for t in timings if t.variant == "release"}
    rows = [
        [
            *(t.task, t.variant, seconds_of(t), f"{t.clips / t.median:.3g}"),
            "–" if t.variant == "release" else spread(ratio(release[t.task], t.seconds), "×"),
        ]
        for t in timings
    ]
    head = ["records", "preprocess", f"seconds for {timings[0].clips} clips", "clips/s"]
    head.append("clips/s, of release")
    return table("Input pipeline, one core", head, rows)


def loop_table(rows: Sequence[Mapping[str, Any]], alone: float, variant: str) -> Table:
    """How long steps take in the loop and how long the device waits in it.

    Args:
      rows: from `feeding.loop`.
      alone: seconds of a step without input.
      variant: whose steps they are.
    """
    cells = []
    for row in rows:
        seconds, waited = row["seconds"], row["waited"]
        numbers = [f"{x:.3g}" for x in (seconds, alone, waited)]
        cells.append([row["storage"], *numbers, f"{waited / seconds:.1%}"])
    head = ["records", "seconds a step, in the loop", "alone", "waited for input", "share"]
    return table(f"Training with its input, {variant}", head, cells)


def scaling_table(
    axis: str, found: Mapping[int, Sequence[Timing]], caption: str | None = None
) -> Table:
    """A row for each value; without a caption also seconds for one unit, relative to the first."""
    relative = f"seconds per {axis} relative to the first row"
    title = caption or f"Scaling with {axis}, median seconds (min–max); {relative}"
    heads = list(
        dict.fromkeys(f"{t.task}, {t.variant}" for timings in found.values() for t in timings)
    )
    first: dict[str, float] = {}
    rows = []
    for value, timings in found.items():
        named = {f"{t.task}, {t.variant}": t for t in timings}
        cells = []
        for head in heads:
            if head not in named:
                cells.append("–")
                continue
            each = named[head].median / value
            share = f"; {each / first.setdefault(head, each):.2f}" if caption is None else ""
            cells.append(seconds_of(named[head]) + share)
        rows.append([f"{value}", *cells])
    return table(title, [axis, *heads], rows)


def devices_table(devices: Mapping[str, Any]) -> Table:
    """Seconds of a step over devices (`child.over_devices`), relative to one device."""
    simulated, timings = devices["platform"] == "cpu", devices["timings"]
    first, rows = timings[0]["seconds"], []
    for timing in timings:
        # simulated devices share one processor: show what splitting costs, else what it gains
        pair = (timing["seconds"], first) if simulated else (first, timing["seconds"])
        rows.append([timing["task"], spread(_of(timing["seconds"])), spread(ratio(*pair), "×")])
    unit = "seconds" if simulated else "speed"
    title = f"One batch of {devices['batch']} clips over devices"
    if simulated:
        title += (
            " that are simulated: they share this processor, so the table shows what splitting "
            "costs, not what devices gain"
        )
    return table(
        title, ["", "seconds a step, median (min–max)", f"{unit}, relative to one device"], rows
    )
