"""Tables on the terminal, and as Markdown, CSV and JSON."""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vtd_jax.evaluate.metrics import SplitResult, harmonic_mean
from vtd_jax.evaluate.statistics import LEVEL, calibration_error, interval, overall, run_hits
from vtd_jax.files import write_text
from vtd_jax.outputs import csv_text
from vtd_jax.printable import printable
from vtd_jax.terminal import show_table

if TYPE_CHECKING:
    import rich.console

# text of a cell that is a number, with a deviation, a range, a sign or a unit
_NUMBER = re.compile(
    r"[−+≈<±-]?\d[\d.,:]*( ?[±–×-] ?[\d.,]+| to -?[\d.,]+)*"
    r"( ?(%|×|ms|s|min|h|d|[KMGT]i?B|[KMGTP]FLOP))?( \([\d.,]+–[\d.,]+\))?(; [\d.]+)?"
)
# the column of bootstrap intervals
INTERVAL = f"{100 * LEVEL:.0f} % CI"


class Plain(float):
    """A number that is not a fraction, such as a p-value: shown with three digits."""


class Spread(float):
    """Mean and standard deviation of a fraction over several runs: shown as `62.10 ± 0.40`."""

    deviation: float

    def __new__(cls, mean: float, deviation: float):
        """From both, 0..1."""
        made = super().__new__(cls, mean)
        made.deviation = deviation
        return made


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows under named columns, and lines about them.

    Attributes:
      title: one line.
      columns: names; a row maps them to values, a missing value or None is shown as "–".
      rows: text and counts are shown unchanged, fractions (Python floats, 0..1) as percent with two
        decimals, pairs of fractions (intervals) as percent with one decimal, `58.1–63.9`, a
        `Spread` as mean ± deviation, and `Plain` numbers with three digits.
      about: settings and versions, in their order below the table.
      whole: columns that a narrow terminal neither wraps nor leaves out, such as names to copy.
      less: columns that a narrow terminal leaves out first, the least important first.
      facts: fields of the `.json` for programs; not shown.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    whole: tuple[str, ...] = ()
    less: tuple[str, ...] = ()
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def cells(self) -> list[list[str]]:
        """The rows as printable text."""
        return [[printable(_cell(row.get(column))) for column in self.columns] for row in self.rows]

    def about_lines(self) -> list[str]:
        """`about` as lines of printable text."""
        return [printable(f"{key}: {_text(value)}") for key, value in self.about.items()]

    def numbers(self) -> set[str]:
        """The columns of numbers, which are right-aligned; never the first one."""
        return {
            column
            for column in self.columns[1:]
            if _are_numbers([row.get(column) for row in self.rows])
        }

    def to_markdown(self) -> str:
        """A Markdown table with its title above and `about` as a list below."""
        text = f"# {printable(self.title)}\n\n{self.rows_to_markdown()}"
        if self.about:
            text += "".join(["\n", *(f"- {line}\n" for line in self.about_lines())])
        return text

    def rows_to_markdown(self) -> str:
        """The Markdown table alone."""
        numbers, lines = self.numbers(), [_line(self.columns)]
        lines.append(_line(["---:" if column in numbers else "---" for column in self.columns]))
        return "".join(f"{line}\n" for line in [*lines, *map(_line, self.cells())])

    def to_csv(self) -> str:
        """A header line, then the rows, with unrounded fractions.

        An interval has two columns, `… low` and `… high`; a `Spread` has a second one, `… std`.
        """
        ends = {name: _ends(name, [row.get(name) for row in self.rows]) for name in self.columns}
        rows = [[end for name in self.columns for end in ends[name]]]
        for row in self.rows:
            cells = (_parts(row.get(name), len(ends[name])) for name in self.columns)
            rows.append([part for parts in cells for part in parts])
        return csv_text(rows)

    def to_json(self, more: Mapping[str, Any] | None = None) -> str:
        """`{"title", "rows": [{column: value}], "about"}` and `more` fields.

        Fractions are unrounded, 0..1; an interval is `[low, high]`, a `Spread` `{"mean", "std"}`.
        """
        rows = [{column: _plain(row.get(column)) for column in self.columns} for row in self.rows]
        table = {"title": self.title, "rows": rows, "about": dict(self.about)}
        table |= {"facts": dict(self.facts)} if self.facts else {}
        table |= more or {}
        return json.dumps(table, indent=2) + "\n"

    def show(self, console: "rich.console.Console | None" = None) -> None:
        """Prints the table without `about`, see `terminal.show_table`."""
        show_table(
            self.title, self.columns, self.cells(),
            numbers=self.numbers(), whole=self.whole, less=self.less, console=console,
        )  # fmt: skip

    def save(
        self, folder: Path, stem: str = "results", more: Mapping[str, Any] | None = None
    ) -> list[Path]:
        """Writes `stem.md`, `stem.csv` and `stem.json` with `more`, each whole or not at all."""
        texts = {"md": self.to_markdown(), "csv": self.to_csv(), "json": self.to_json(more)}
        return [write_text(Path(folder) / f"{stem}.{kind}", text) for kind, text in texts.items()]


def split_table(
    title: str,
    protocol: str,
    splits: Mapping[str, SplitResult],
    about: Mapping[str, Any] | None = None,
    origins: Mapping[str, str] | None = None,
    left_out: Mapping[str, int] | None = None,
) -> Table:
    """One row a split, then the summary of the protocol.

    "95 % CI" is the bootstrap interval of top-1 over videos. "ECE" is the expected calibration
    error, "–" if scores are not probabilities. "ties" is the share of videos in which several
    classes have the most votes up to rounding (`vtd_jax.model.ties`).

    Args:
      title: one line.
      protocol: "base_to_novel" ends with the harmonic mean of base and novel; any other protocol
        with several splits ends with their mean and, from three splits on, the deviation between
        them.
      splits: name -> result, in the order of the table.
      about: lines below the table.
      origins: split -> origin of its list ("official", "given", "own split").
      left_out: split -> number of videos of its list without a record, missing or bad.
    """
    rows = [
        {
            "split": name,
            "list": (origins or {}).get(name),
            "classes": len(result.class_names),
            "videos": result.count,
            "left out": (left_out or {}).get(name) or None,
            "top-1": result.top1,
            INTERVAL: interval([{name: result.hits}], lambda accuracy, name=name: accuracy[name]),
            "top-5": result.top5,
            "ECE": _known(calibration_error(result.scores, result.labels)),
            "ties": result.ties,
        }
        for name, result in splits.items()
    ]
    top1 = [row["top-1"] for row in rows]
    hits = run_hits(splits)
    if protocol == "base_to_novel":
        top = harmonic_mean([splits["base"].top1, splits["novel"].top1])
        rows.append(
            {"split": "HM", "top-1": top, INTERVAL: interval([hits], overall(("base", "novel"))[1])}
        )
    elif len(rows) > 1:
        top5 = [row["top-5"] for row in rows]
        mean5 = None if None in top5 else float(np.mean(top5))
        spread = interval([hits], lambda accuracy: sum(accuracy.values()) / len(accuracy))
        rows.append(
            {"split": "mean", "top-1": float(np.mean(top1)), INTERVAL: spread, "top-5": mean5}
        )
        if len(top1) > 2:
            rows.append({"split": "deviation", "top-1": float(np.std(top1, ddof=1))})
    always = ("split", "classes", "videos", "top-1", INTERVAL)
    columns = dict.fromkeys(name for row in rows or [dict.fromkeys(always)] for name in row)
    optional = ("list", "left out", "top-5", "ECE", "ties")
    unused = {name for name in optional if all(row.get(name) is None for row in rows)}
    columns = tuple(name for name in columns if name not in unused)
    return Table(title, columns, tuple(rows), about or {})


def headline(table: Table) -> str:
    """The top-1 column as text: `base 71.20 %, novel 60.31 %, HM 65.30 %`."""
    return ", ".join(f"{row['split']} {_cell(row['top-1'])} %" for row in table.rows)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, Plain):
        return f"{value:.3g}"
    if isinstance(value, tuple):
        low, high = (f"{100 * end:.1f}" for end in value)
        return f"{low} to {high}" if "-" in low else f"{low}–{high}"
    if isinstance(value, Spread):
        return f"{100 * value:.2f} ± {100 * value.deviation:.2f}"
    return f"{100 * value:.2f}" if isinstance(value, float) else str(value)


def _are_numbers(values: Sequence[Any]) -> bool:
    """Whether all values of a column that are present are numbers, or text of numbers."""
    there = [value for value in values if value not in (None, "", "–")]
    return bool(there) and all(
        isinstance(value, int | float | tuple) or _NUMBER.fullmatch(str(value)) is not None
        for value in there
    )


def _ends(name: str, values: Sequence[Any]) -> tuple[str, ...]:
    """The names of a column in a CSV file, one or two."""
    if any(isinstance(value, tuple) for value in values):
        return f"{name} low", f"{name} high"
    return (name, f"{name} std") if any(isinstance(value, Spread) for value in values) else (name,)


def _parts(value: Any, count: int) -> tuple[Any, ...]:
    """Values of a cell for the columns of `_ends`."""
    if count == 1:
        return (_known(value),)
    if isinstance(value, tuple):
        return tuple(map(_known, value))
    return (
        None if value is None else _known(float(value)),
        _known(getattr(value, "deviation", None)),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Spread):
        return {"mean": _known(float(value)), "std": _known(value.deviation)}
    return tuple(map(_known, value)) if isinstance(value, tuple) else _known(value)


def _known(value: Any) -> Any:
    """The value; None, an empty cell, for a number that is not finite."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return str(value)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(printable(cell).replace("|", "\\|") for cell in cells) + " |"
