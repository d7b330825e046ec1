"""Writes the pages whose numbers are stored results, so that no number in them is typed.

    make results                      # after a change of a template or of a stored result
    python docs/generate.py --check   # writes nothing; exit status 1 if a page is out of date

Templates are `docs/*.md.in` (Jinja), stored results `docs/measured/**.json`, as commands write
them: `scenes/TABLE.json` is what `vtd reproduce --table=all` leaves in its workdir, `demo.json` is
the `results.json` of `vtd demo`. `docs/scenes/TABLE.md` are the same tables as Markdown, whole.

In a template, `stored("scenes/few_shot")` is a file of results (`Stored`), `published(table)` the
published rows of a protocol, and `{{ … }}` shows a cell or a table.
"""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from vtd_jax.evaluate import published as _published  # noqa: E402
from vtd_jax.evaluate.tables import Plain, Spread, Table  # noqa: E402
from vtd_jax.files import write_text  # noqa: E402
from vtd_jax.untrusted.json_text import read_json  # noqa: E402

MEASURED = DOCS / "measured"
# numbers that a template may have outside of placeholders, and why: settings and tolerances
SETTINGS = {
    "2503.18407": "the paper's number at arXiv",
    "10.1609": "the paper's DOI, its first part",
    "16.38408": "the paper's DOI, its end",
    "1e-5": "the tolerance that tests of the golden numbers and of larger encoders hold",
}
_PLACEHOLDER = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
# what could be a result: a decimal fraction, a power of ten, a percentage, a deviation
_NUMBER = re.compile(r"\d+\.\d+(?:e-?\d+)?|\d+e-?\d+|\d+(?= ?%)|(?<=± )\d+")
_LISTS = {
    "base_to_novel": ("hmdb51", "ucf101", "ssv2", "kinetics400"),
    "few_shot": ("hmdb51", "ucf101", "ssv2"),
    "zero_shot": ("hmdb51", "ucf101", "kinetics600"),
    "fully_supervised": ("kinetics400",),
}
_NAMES = {
    "hmdb51": "HMDB-51", "ucf101": "UCF-101", "ssv2": "SSv2", "kinetics400": "Kinetics-400",
    "kinetics600": "Kinetics-600",
}  # fmt: skip


class Stored:
    """A file of results: a table of a command, or a list of rows.

    Attributes:
      rows: column -> value; fractions are shown as percent with one decimal.
      about: the table's notes; {} for a list of rows.
      provenance: where a file that no command wrote comes from; {} for all others.
    """

    def __init__(self, name: str):
        read: Any = read_json(MEASURED / f"{name}.json")
        found: dict[str, Any] = {"rows": read} if isinstance(read, list) else read
        self.name, self.title = name, found.get("title", name)
        self.rows: list[Mapping[str, Any]] = found["rows"]
        self.about, self.provenance = found.get("about", {}), found.get("provenance", {})

    def select(self, *labels: Any) -> list[Mapping[str, Any]]:
        """The rows that have all of these values, in any columns."""
        return [row for row in self.rows if all(label in row.values() for label in labels)]

    def cell(self, column: str, *labels: Any) -> str:
        """A cell of the one row that has these values: `87.9 ± 3.6`."""
        return shown(self._value(column, labels), column)

    def across(self, columns: Iterable[str], *labels: Any) -> str:
        """Several cells of the one row that has these values: `48.0 / 41.4 / 44.5`."""
        return " / ".join(self.cell(column, *labels) for column in columns)

    def mean(self, column: str, *labels: Any) -> str:
        """The same, without the deviation."""
        return shown(_mean(self._value(column, labels)))

    def signed(self, column: str, *labels: Any) -> str:
        """The same with a sign, for differences: `+3.5`."""
        text = shown(_mean(self._value(column, labels)))
        return f"−{text[1:]}" if text.startswith("-") else f"+{text}"

    def lines(
        self,
        columns: Mapping[str, str] | Sequence[str],
        rows: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """A Markdown table.

        Args:
          columns: those to show; a mapping gives their headings.
          rows: some of `rows`, as `select` finds them; None for all.
        """
        headings = columns if isinstance(columns, Mapping) else dict(zip(columns, columns))
        rows = self.rows if rows is None else rows
        cells = [{headings[name]: shown(row.get(name), name) for name in headings} for row in rows]
        made = Table("", tuple(headings.values()), tuple(cells))
        return made.rows_to_markdown().rstrip("\n")

    def apart_from_zero(self, interval: str) -> list[Mapping[str, Any]]:
        """The rows whose interval does not hold 0."""
        return [row for row in self.rows if row.get(interval) and np.prod(row[interval]) > 0]

    def to_markdown(self) -> str:
        """The whole table, as the command writes it; then its provenance, if a file has one."""
        columns = tuple(dict.fromkeys(column for row in self.rows for column in row))
        rows = [{name: _restored(name, row.get(name)) for name in columns} for row in self.rows]
        about = self.about | self.provenance
        return Table(self.title, columns, tuple(rows), about).to_markdown()

    def _value(self, column: str, labels: Sequence[Any]) -> Any:
        found = self.select(*labels)
        if len(found) != 1 or found[0].get(column) is None:
            raise SystemExit(f"{self.name}: {len(found)} rows with {labels}, column {column!r}")
        return found[0][column]


def shown(value: Any, column: str = "") -> str:
    """A value of a stored row as text.

    Fractions become percent with one decimal, `{"mean", "std"}` and lists of three numbers and more
    (seeds) mean ± deviation, pairs an interval. Text is shown as it is, and so is column "p".
    """
    if column == "p" and value is not None:
        return f"{value:.3g}"
    if isinstance(value, Mapping):
        return f"{shown(value['mean'])} ± {shown(value['std'])}"
    if isinstance(value, list) and len(value) > 2:
        return shown({"mean": float(np.mean(value)), "std": float(np.std(value, ddof=1))})
    if isinstance(value, list):
        return f"{shown(value[0])} to {shown(value[1])}"
    if value is None:
        return "–"
    return f"{100 * value:.1f}" if isinstance(value, float) else str(value)


def _mean(value: Any) -> Any:
    if isinstance(value, list) and len(value) > 2:
        return float(np.mean(value))
    return value["mean"] if isinstance(value, Mapping) else value


def _restored(column: str, value: Any) -> Any:
    """A value of a table's `.json` as the table had it."""
    if isinstance(value, Mapping):
        return Spread(value["mean"], value["std"])
    if isinstance(value, list):
        return tuple(value)
    return Plain(value) if column == "p" and value is not None else value


def published(table: str) -> str:
    """All published rows of a protocol, a Markdown table a data set, with its name above."""
    columns = _published.COLUMNS[table]
    parts = []
    for dataset in _LISTS[table]:
        rows = [
            {"method": one.method}
            | {name: "–" if one.values[name] is None else one.values[name] for name in columns}
            | {"learnt on": one.learnt_on, "status": one.status, "read in": one.read_in}
            | {"paper": one.source, "note": one.note}
            for one in _published.published(table, dataset)
        ]
        texts = [{name: str(value) for name, value in row.items()} for row in rows]
        made = Table("", tuple(texts[0]), tuple(texts)).rows_to_markdown()
        parts.append(f"**{_NAMES[dataset]}**\n\n{made}")
    return "\n".join(parts).rstrip("\n")


def typed(template: str) -> list[str]:
    """Numbers of a template that are neither in a placeholder nor a setting."""
    return [one for one in _NUMBER.findall(_PLACEHOLDER.sub("", template)) if one not in SETTINGS]


def templates() -> list[Path]:
    """The templates, `docs/*.md.in`."""
    return sorted(DOCS.glob("*.md.in"))


def pages() -> dict[Path, str]:
    """Every generated page and its text."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True,
        autoescape=False,
    )  # fmt: skip
    environment.globals |= {"stored": Stored, "published": published}
    found = {
        path.with_suffix(""): environment.from_string(path.read_text()).render()
        for path in templates()
    }
    for path in sorted((MEASURED / "scenes").glob("*.json")):
        found[DOCS / "scenes" / f"{path.stem}.md"] = Stored(f"scenes/{path.stem}").to_markdown()
    return found


def main(arguments: Sequence[str]) -> int:
    """Writes the pages that differ; returns the exit status."""
    check, differ = "--check" in arguments, []
    for path, text in pages().items():
        if not path.is_file() or path.read_text() != text:
            differ.append(path)
            if not check:
                write_text(path, text)
    for path in differ:
        print(f"{'out of date' if check else 'wrote'} {path.relative_to(DOCS.parent)}")
    return int(check and bool(differ))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
