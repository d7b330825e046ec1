"""Tables: the same numbers on the terminal, in Markdown, CSV and JSON."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import rich.console

from vtd_jax.evaluate.metrics import SplitResult
from vtd_jax.evaluate.tables import Plain, Table, headline, split_table
from vtd_jax.files import write_text


def _result(right: int, count: int, classes: int = 3) -> SplitResult:
    """`right` of `count` videos get the highest score at their label, 0; the others at class 1."""
    scores = np.zeros((count, classes), np.float32)
    scores[np.arange(count), [0] * right + [1] * (count - right)] = 1
    return SplitResult(
        tuple(f"class {i}" for i in range(classes)), scores, np.zeros(count, np.int32)
    )


@pytest.fixture
def table() -> Table:
    splits = {"base": _result(3, 4), "novel": _result(1, 4)}
    return split_table(
        "run | one", "base_to_novel", splits, {"frames": 8, "splits": {"base": "b", "novel": "n"}}
    )


def test_base_novel_and_harmonic_mean(table):
    assert [row["split"] for row in table.rows] == ["base", "novel", "HM"]
    assert [row["top-1"] for row in table.rows] == [0.75, 0.25, pytest.approx(0.375)]
    assert table.columns == ("split", "classes", "videos", "top-1", "95 % CI", "ECE")
    assert headline(table) == "base 75.00 %, novel 25.00 %, HM 37.50 %"


def test_several_splits_end_with_mean_and_deviation():
    splits = {f"split{i}": _result(i, 4, 7) for i in (1, 2, 3)}
    table = split_table("t", "zero_shot", splits)
    low, high = table.rows[-2]["95 % CI"]
    assert table.rows[-2] == {"split": "mean", "top-1": 0.5, "95 % CI": (low, high), "top-5": 1.0}
    # the standard error of the mean of three splits of four videos is sqrt(3 + 4 + 3) / 4 / sqrt(4)
    # / 3 = 0.132
    assert 0.2 < low < 0.3 < 0.7 < high < 0.8
    assert table.rows[-1] == {"split": "deviation", "top-1": pytest.approx(0.25)}
    assert table.columns[-3:] == ("95 % CI", "top-5", "ECE")


def test_one_split_has_no_mean():
    assert [row["split"] for row in split_table("t", "few_shot", {"val": _result(1, 2)}).rows] == [
        "val"
    ]


def test_own_splits_are_marked():
    splits, origins = (
        {"base": _result(3, 4), "novel": _result(1, 4)},
        {"base": "given", "novel": "own split"},
    )
    lines = split_table("t", "base_to_novel", splits, origins=origins).to_markdown().splitlines()
    assert lines[2] == "| split | list | classes | videos | top-1 | 95 % CI | ECE |"
    assert lines[4:7] == [
        "| base | given | 3 | 4 | 75.00 | 25.0–100.0 | 25.00 |",
        "| novel | own split | 3 | 4 | 25.00 | 0.0–75.0 | 75.00 |",
        "| HM | – | – | – | 37.50 | 0.0–75.0 | – |",
    ]


def test_markdown(table):
    lines = table.to_markdown().splitlines()
    assert lines[0] == "# run | one"
    assert lines[2:5] == [
        "| split | classes | videos | top-1 | 95 % CI | ECE |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| base | 3 | 4 | 75.00 | 25.0–100.0 | 25.00 |",
    ]
    assert lines[6] == "| HM | – | – | 37.50 | 0.0–75.0 | – |"
    assert lines[-2:] == ["- frames: 8", "- splits: base b, novel n"]


def test_the_share_of_videos_with_a_tie_is_reported_where_it_is_known():
    splits = {
        "base": replace(_result(3, 4), tied=np.array([True, False, False, False])),
        "novel": _result(1, 4),
    }
    made = split_table("t", "base_to_novel", splits)
    assert made.columns[-2:] == ("ECE", "ties")
    assert [row[-1] for row in made.cells()] == ["25.00", "–", "–"]
    assert [row["ties"] for row in json.loads(made.to_json())["rows"]] == [0.25, None, None]


def test_a_bar_in_a_cell_does_not_break_the_markdown_table():
    assert "a\\|b" in Table("t", ("x",), ({"x": "a|b"},)).to_markdown()


def test_csv_and_json_hold_unrounded_numbers(table):
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    ends = {"95 % CI low": "0.0", "95 % CI high": "0.75"}
    assert rows[2] == {
        "split": "HM",
        "classes": "",
        "videos": "",
        "top-1": "0.375",
        **ends,
        "ECE": "",
    }
    read = json.loads(table.to_json())
    numbers = {"top-1": 0.75, "95 % CI": [0.25, 1.0], "ECE": 0.25}
    assert read["rows"][0] == {"split": "base", "classes": 3, "videos": 4, **numbers}
    assert read["about"]["frames"] == 8


def test_intervals_of_differences_and_other_numbers():
    rows = ({"x": "a", "d": (-0.012, 0.034), "p": Plain(0.03125)}, {"x": "b", "p": Plain(3.1e-7)})
    table = Table("t", ("x", "d", "p"), rows)
    assert table.cells() == [["a", "-1.2 to 3.4", "0.0312"], ["b", "–", "3.1e-07"]]
    assert json.loads(table.to_json())["rows"][1] == {"x": "b", "d": None, "p": 3.1e-7}
    assert table.to_csv().splitlines() == [
        "x,d low,d high,p",
        "a,-0.012,0.034,0.03125",
        "b,,,3.1e-07",
    ]


def test_scores_that_are_no_probabilities_have_no_calibration_error():
    result = _result(1, 2)
    broken = SplitResult(result.class_names, result.scores * np.float32(np.nan), result.labels)
    rows = split_table("t", "mine", {"good": result, "broken": broken}).rows
    assert (rows[0]["ECE"], rows[1]["ECE"], rows[1]["top-1"]) == (0.5, None, 0.0)
    assert "NaN" not in split_table("t", "mine", {"broken": broken}).to_json()


def test_terminal(table):
    console = rich.console.Console(file=io.StringIO(), width=80)
    table.show(console)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert lines[0] == "run | one"
    assert lines[-2] == " HM           –       –  37.50    0.0–75.0      –"


def test_names_are_verbatim_and_text_stands_left():
    names = ("Pushing [red]something left", "and[/or] this", ":car:", "[bold]", "\x1b[31m\n")
    rows = tuple(
        {"video": "a.mp4", "label": name, "score": 0.5, "second": f"{name} 1.0 %"} for name in names
    )
    table = Table("[red] :car:", ("video", "label", "score", "second"), rows, {"labels": names})
    assert table.numbers() == {"score"}
    console = rich.console.Console(file=io.StringIO(), width=40)
    table.show(console)
    lines = console.file.getvalue().splitlines()
    shown = [*names[:4], "\\x1b[31m\\n"]
    assert lines[0] == "[red] :car:"
    for name, line in zip(shown, lines[4:-1], strict=True):
        assert line.split("  ")[1] == name
        assert line.rstrip().endswith(f"50.00  {name} 1.0 %")
    markdown = table.to_markdown().splitlines()
    assert markdown[3] == "| --- | --- | ---: | --- |"
    assert markdown[8] == "| a.mp4 | \\x1b[31m\\n | 50.00 | \\x1b[31m\\n 1.0 % |"
    assert markdown[-1] == f"- labels: {', '.join(shown)}"


def test_text_that_reads_as_numbers_stands_right():
    texts = (
        "38.5 ± 6.3",
        "1–3",
        "-1.2 to 3.4",
        "12 s",
        "3.5 min",
        "0:02.0",
        "338 ms (1–2.5); 0.50",
        "1× (1–1)",
        "1.5e-3",
        "4 × 3",
        "≈ 3",
        "3 classes",
        "3 (a guess)",
    )
    right = [
        Table("t", ("x", "n"), ({"x": "a", "n": text}, {"x": "b"})).numbers() for text in texts
    ]
    assert [bool(column) for column in right] == [True] * 8 + [False, True, False, False, False]


def test_save_writes_three_files_and_leaves_no_part(table, tmp_path):
    written = table.save(tmp_path, "results")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "results.csv",
        "results.json",
        "results.md",
    ]
    assert written[0].read_text() == table.to_markdown()


def test_write_text_keeps_the_old_file_when_writing_fails(tmp_path):
    path = write_text(tmp_path / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "old"
