"""Published numbers: each of the specification's, and no others."""

import re

import pytest

from vtd_jax.errors import UserError
from vtd_jax.evaluate.metrics import harmonic_mean
from vtd_jax.evaluate.published import COLUMNS, published

KEYS = {
    "K-400": "kinetics400",
    "K-600": "kinetics600",
    "HMDB-51": "hmdb51",
    "UCF-101": "ucf101",
    "SSv2": "ssv2",
}


def numbers(cell: str) -> tuple[float | None, ...]:
    return tuple(None if part.strip() == "–" else float(part) for part in cell.split("/"))


def from_rows(text: str) -> set:
    """(data set, method, numbers) of a Markdown table with a data set a column; a lone dash is no
    entry.
    """
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    found = set()
    for method, *cells in lines[2:]:
        method = method.split(" (")[0]
        for name, cell in zip(lines[0][1:], cells, strict=True):
            if cell != "–":
                found.add((KEYS[name], method, numbers(cell)))
    return found


def ours(table: str) -> set:
    return {
        (key, row.method, tuple(row.values.values()))
        for key in KEYS.values()
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


@pytest.mark.shared
def test_halves_and_shots_are_the_specifications(spec):
    halves, rest = spec.split("Few-shot, K =")
    shots = rest.split("Zero-shot")[0]
    assert len(from_rows(halves)) == 33
    assert ours("base_to_novel") == from_rows(halves)
    assert len(from_rows(shots)) == 11
    assert ours("few_shot") == from_rows(shots)


@pytest.mark.shared
def test_zero_shot_and_supervised_are_the_specifications(spec):
    text = " ".join(spec.split("Zero-shot (from K-400), ")[1].split())
    names, methods = text.split(". Fully")[0].split(": ")
    expected = set()
    for message in methods.split("; "):
        method, cell = message.split(" ", 1)
        found = zip(names.split(" / "), numbers(cell), strict=True)
        expected |= {(KEYS[name], method, (value, None)) for name, value in found}
    assert len(expected) == 12
    assert ours("zero_shot") == expected
    message = re.findall(r"([\w-]*CLIP) ([\d.]+)(?: \(([^)]*)\))?", text.split("top-1: ")[1])
    assert ours("fully_supervised") == {
        ("kinetics400", method, (float(value), None)) for method, value, _ in message
    }
    notes = {row.method: row.note for row in published("fully_supervised", "kinetics400")}
    assert notes == {m: note if not note.isdigit() else f"{note} GFLOPs" for m, _, note in message}


@pytest.mark.parametrize("table", COLUMNS)
def test_every_row_says_where_it_comes_from(table):
    rows = [row for key in KEYS.values() for row in published(table, key)]
    assert rows
    for row in rows:
        assert tuple(row.values) == COLUMNS[table]
        assert re.fullmatch(r"[\w-]+, arXiv \d{4}\.\d{5}( \(\w+ \d{4}\))?", row.source)
        assert row.method.startswith(row.source.split(",")[0])
        assert row.learnt_on
        assert all(value is None or 0 < value < 100 for value in row.values.values())


def test_harmonic_means_are_those_of_their_halves():
    rows = [row.values for key in KEYS.values() for row in published("base_to_novel", key)]
    whole = [values for values in rows if values["base"] is not None]
    assert len(whole) == 31
    for values in whole:
        mean = 100 * harmonic_mean([values["base"] / 100, values["novel"] / 100])
        # halves and mean are rounded to one decimal each
        assert values["HM"] == pytest.approx(mean, abs=0.1)


def test_what_was_learnt_first_is_reported():
    rows = {row.method: row for row in published("base_to_novel", "hmdb51")}
    assert rows["CLIP, class names"].learnt_on == "nothing"
    assert rows["ViFi-CLIP prompts"].note == "learnt on Kinetics-400 first"
    assert rows["VTD-CLIP"].note == "only HM is known, as cited by a later paper"
    assert rows["TC-CLIP"].learnt_on == "16 shots a base class"
    with pytest.raises(TypeError):
        rows["TC-CLIP"].values["HM"] = 99.0


def test_other_data_sets_and_tables():
    assert published("few_shot", "scenes") == ()
    with pytest.raises(
        UserError,
        match=r"table 'many_shot': nothing is published of it, expected one of base_to_nov",
    ):
        published("many_shot", "hmdb51")
