"""Published numbers: each of the specification's, and no others."""

import re

import pytest

from vtd_jax.errors import UserError
from vtd_jax.evaluate.published import COLUMNS, published

KEYS = {
    "K-400": "kinetics400",
    "K-600": "kinetics600",
    "HMDB-51": "hmdb51",
    "HMDB": "hmdb51",
    "UCF-101": "ucf101",
    "UCF": "ucf101",
    "SSv2": "ssv2",
}
DATASETS = tuple(dict.fromkeys(KEYS.values()))
ZERO_SHOT = ("hmdb51", "ucf101", "kinetics600")
_CELL = r"\d+\.\d(?:/\d+\.\d)+"


def numbers(cell: str) -> tuple[float | None, ...]:
    return tuple(None if part.strip() == "–" else float(part) for part in cell.split("/"))


def table_rows(text: str) -> list[list[str]]:
    """Cells of the lines of a Markdown table."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]


def from_rows(text: str) -> set:
    """(data set, method, numbers) of a Markdown table with a data set a column; a lone dash is no
    entry.
    """
    names, _, *lines = table_rows(text)
    found = set()
    for method, *cells in lines:
        method = method.split(" (")[0]
        for name, cell in zip(names[1:], cells, strict=True):
            if cell != "–":
                found.add((KEYS[name], method, numbers(cell)))
    return found


def transferred(method: str, cell: str) -> set:
    """Entries of a zero-shot cell: HMDB-51, UCF-101, Kinetics-600."""
    found = zip(ZERO_SHOT, numbers(cell), strict=True)
    return {(dataset, method, (value,)) for dataset, value in found}


def entries(text: str, method: str) -> set:
    """Entries of a cell that names its data sets, as "HMDB 65.3/68.5/71.4/73.0, UCF …"."""
    return {
        (KEYS[name], method, numbers(cell))
        for name, cell in re.findall(rf"([\w-]+) ({_CELL})", text)
        if name in KEYS
    }


def ours(table: str) -> set:
    return {
        (key, row.method, tuple(row.values.values()))
        for key in DATASETS
        for row in published(table, key)
    }


@pytest.fixture(scope="module")
def spec(shared_dir) -> str:
    return (
        (shared_dir / "spec" / "benchmarks.md")
        .read_text()
        .split("## Published numbers")[1]
        .split("\n## ")[0]
    )


@pytest.fixture(scope="module")
def added(shared_dir) -> dict[str, set]:
    """Protocol -> entries of the rows that were read later; top-5 as (data set, method, value)."""
    found: dict[str, set] = {table: set() for table in (*COLUMNS, "top-5")}
    rows = table_rows((shared_dir / "spec" / "published-2026-11.md").read_text())[2:]
    for what, cell, _ in rows:
        method = re.split(r" (?:base/|few-shot)|, from", what)[0] + ")" * ("(P," in what)
        halves, _, rest = cell.partition("zero-shot")
        if what.endswith("top-5"):
            for name, value in re.findall(r"([\w-]+) (\d+\.\d)", cell):
                found["top-5"].add(("kinetics400", name, float(value)))
        elif what.startswith("zero-shot"):
            for name, value in re.findall(rf"([\w-]+(?: CLIP)?) ({_CELL})", cell):
                name = {"frozen CLIP": "CLIP, frozen"}.get(name, name)
                found["zero_shot"] |= transferred(name, value)
        elif "few-shot" in what and re.search(_CELL, cell):
            found["few_shot"] |= entries(cell, method)
        else:
            found["base_to_novel"] |= entries(halves, method)
            for value in re.findall(_CELL, rest):
                found["zero_shot"] |= transferred(method, value)
    return found


@pytest.mark.shared
def test_halves_and_shots_are_the_specifications(spec, added):
    halves, rest = spec.split("Few-shot, K =")
    shots = rest.split("Zero-shot")[0]
    assert len(from_rows(halves)) == 33
    assert len(added["base_to_novel"]) == 4 + 3 + 4 + 1
    assert ours("base_to_novel") == from_rows(halves) | added["base_to_novel"]
    assert len(from_rows(shots)) == 11
    assert len(added["few_shot"]) == 3 + 3
    assert ours("few_shot") == from_rows(shots) | added["few_shot"]


@pytest.mark.shared
def test_zero_shot_and_supervised_are_the_specifications(spec, added):
    text = " ".join(spec.split("Zero-shot (from K-400), ")[1].split())
    names, methods = text.split(". Fully")[0].split(": ")
    assert [KEYS[name] for name in names.split(" / ")] == list(ZERO_SHOT)
    expected = set()
    for message in methods.split("; "):
        expected |= transferred(*message.split(" ", 1))
    assert len(expected) == 12
    assert len(added["zero_shot"]) == 3 * (6 + 1 + 1)
    assert ours("zero_shot") == expected | added["zero_shot"]
    found = re.findall(r"([\w-]*CLIP) ([\d.]+)(?: \(([^)]*)\))?", text.split("top-1: ")[1])
    top5 = {method: value for _, method, value in added["top-5"]}
    assert len(top5) == 3
    assert ours("fully_supervised") == {
        ("kinetics400", method, (float(value), top5.get(method))) for method, value, _ in found
    }
    notes = {row.method: row.note for row in published("fully_supervised", "kinetics400")}
    for method, _, note in found:
        assert notes[method].startswith(f"{note} GFLOPs" if note.isdigit() else note), method


@pytest.mark.shared
def test_what_was_not_confirmed_is_marked(shared_dir):
    rows = table_rows((shared_dir / "spec" / "published-2026-11.md").read_text())[2:]
    cells = {what: f"{numbers} {source}" for what, numbers, source in rows}
    weak = {
        "VTD-CLIP": ("third-party", "third party", published("base_to_novel", "hmdb51")),
        "Vita-CLIP": ("unverified", "unverified", published("fully_supervised", "kinetics400")),
    }
    for method, (word, status, found) in weak.items():
        (cell,) = (cell for what, cell in cells.items() if what.startswith(method))
        assert word in cell
        (row,) = (row for row in found if row.method == method)
        assert row.status == status
        assert row.note


@pytest.mark.parametrize("table", COLUMNS)
def test_every_row_says_whose_it_is_where_it_was_read_and_how_sure_it_is(table):
    rows = [row for key in DATASETS for row in published(table, key)]
    assert rows
    for row in rows:
        assert tuple(row.values) == COLUMNS[table]
        assert re.fullmatch(r"[\w-]+, arXiv \d{4}\.\d{5}( \(\w+ \d{4}\))?", row.source)
        assert row.method.startswith(row.source.split(",")[0])
        assert row.status in ("authors", "third party", "unverified")
        in_repository = re.fullmatch(r"[\w./-]*README\.md of [\w-]+/[\w-]+", row.read_in)
        # what is in no repository needs an explanation
        assert in_repository or (row.read_in and row.note and row.status != "authors"), row
        assert row.learnt_on
        assert all(value is None or 0 < value < 100 for value in row.values.values())
    if table != "fully_supervised":
        assert {row.status for row in rows} >= {"authors"}


def test_harmonic_means_are_those_of_their_halves():
    def mean(base: float, novel: float) -> float:
        return 2 * base * novel / (base + novel)

    rows = [(key, row) for key in DATASETS for row in published("base_to_novel", key)]
    halves = [(key, row) for key, row in rows if row.values["base"] is not None]
    assert len(halves) == 43
    assert {(key, row.method) for key, row in rows if (key, row) not in halves} == {
        ("hmdb51", "VTD-CLIP"),
        ("ssv2", "VTD-CLIP"),
    }
    for key, row in halves:
        base, novel, printed = (row.values[name] for name in ("base", "novel", "HM"))
        # each was rounded to one decimal; the mean grows with both halves
        half = 0.05
        low, high = (mean(base + side, novel + side) + side for side in (-half, half))
        assert low <= printed <= high, (key, row.method)


def test_what_was_learnt_first_is_reported():
    rows = {row.method: row for row in published("base_to_novel", "hmdb51")}
    assert rows["CLIP, class names"].learnt_on == "nothing"
    assert rows["ViFi-CLIP prompts"].note == "learnt on Kinetics-400 first"
    assert "probably not of 16 shots" in rows["VTD-CLIP"].note
    assert rows["VTD-CLIP"].learnt_on == "not known"
    assert rows["TC-CLIP"].learnt_on == "16 shots a base class"
    assert rows["TC-CLIP (P)"].learnt_on.startswith("Kinetics-400")
    with pytest.raises(TypeError):
        rows["TC-CLIP"].values["HM"] = 99.0


def test_few_shot_numbers_say_which_validation_lists_they_are_of():
    for key in ("hmdb51", "ucf101"):
        notes = {row.method: row.note for row in published("few_shot", key)}
        assert "3 validation splits" in notes["ViFi-CLIP"]
        assert "3 validation splits" in notes["ViFi-CLIP prompts"]
        assert "best epoch" in notes["TC-CLIP"]
    assert not any("3 validation" in row.note for row in published("few_shot", "ssv2"))


def test_other_data_sets_and_tables():
    assert published("few_shot", "scenes") == ()
    with pytest.raises(
        UserError,
        match=r"table 'many_shot': nothing is published of it, expected one of base_to_nov",
    ):
        published("many_shot", "hmdb51")
