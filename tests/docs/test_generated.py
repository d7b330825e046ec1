"""Pages of results are what stored results make of their templates; no number in them is typed."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_are_what_the_stored_results_make(generate):
    pages = generate.pages()
    assert {path.name for path in pages} >= {"results.md", "published.md", "ablations.md"}
    for path, text in pages.items():
        assert path.read_text() == text, f"{path.name}: run `make results`"
    tables = {path for path in pages if path.parent.name == "scenes"}
    assert tables == set((ROOT / "docs" / "scenes").glob("*.md"))


def test_templates_have_no_typed_results(generate):
    found = {path: path.read_text() for path in generate.templates()}
    assert len(found) == 2
    for path, text in found.items():
        assert generate.typed(text) == [], f"{path.name}: use a placeholder"
    for number, why in generate.SETTINGS.items():
        assert any(number in text for text in found.values()), number
        assert why


@pytest.mark.parametrize(
    "text, numbers",
    [
        ("HM of 83.6", ["83.6"]),
        ('{{ a.cell("90") }} against 92.0 and 45 %', ["92.0", "45"]),
        ("3 ± 2, {# 1.5 #}{% if 2.5 %} 3e-4", ["2", "3e-4"]),
        ("16 shots, 1e-5", []),
    ],
)
def test_a_typed_result_is_noticed(generate, text, numbers):
    assert generate.typed(text) == numbers


def test_cells_and_tables_of_stored_rows(generate, tmp_path, monkeypatch):
    rows = [
        {"rule": "a", "frames": "4", "HM": [0.5, 0.6, 0.7], "gain": -0.015, "p": 0.031},
        {"rule": "b", "frames": "4", "HM": {"mean": 0.75, "std": 0.01}, "gain": 0.2, "p": None},
    ]
    (tmp_path / "votes.json").write_text(json.dumps(rows))
    monkeypatch.setattr(generate, "MEASURED", tmp_path)
    votes = generate.Stored("votes")
    assert votes.lines({"rule": "vote", "HM": "HM", "p": "p"}).splitlines() == [
        "| vote | HM | p |",
        "| --- | ---: | ---: |",
        "| a | 60.0 ± 10.0 | 0.031 |",
        "| b | 75.0 ± 1.0 | – |",
    ]
    assert votes.signed("gain", "a") == "−1.5"
    assert votes.signed("gain", "b") == "+20.0"
    assert votes.mean("HM", "b", "4") == "75.0"
    for labels in (("4",), ("c",)):
        with pytest.raises(SystemExit, match="votes: "):
            votes.cell("HM", *labels)


def test_the_readmes_numbers_are_stored_ones(generate):
    readme = (ROOT / "README.md").read_text()
    table, demo = generate.Stored("scenes/base_to_novel"), generate.Stored("demo")
    for name, labels in {
        "CLIP as it is, mean of frames": ("CLIP, class names",),
        "CLIP as it is, confidence": ("CLIP, class names, confidence instead of mean",),
        "VTD-CLIP": ("VTD-CLIP", "16 shots"),
    }.items():
        cells = [table.cell(column, *labels) for column in ("base", "novel", "HM")]
        assert f"| {' | '.join([name, *cells])} |" in readme
    (hm,) = re.findall(r"an HM of ([\d.]+)", readme)
    assert demo.rows[-1]["HM"].startswith(f"{hm} ")
