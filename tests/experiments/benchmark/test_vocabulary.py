"""The vocabulary benchmark: ratios are right, other words are counted, and what the command prints
and writes.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.benchmark import vocabulary as bench

ROOT = Path(__file__).resolve().parents[3]


def test_ratios_are_medians_over_rounds_to_the_faster_product():
    times = {
        bench.PRODUCTS[0]: [4.0, 4.0, 4.0],
        bench.PRODUCTS[1]: [1.0, 2.0, 3.0],
        "plain, top 1": [8.0, 8.0, 8.0],
    }
    times |= {"plain, top 5": [9.0, 9.0, 9.0], "nearest, euclidean, top 1": [2.0, 2.0, 9.0]}
    rows = [bench.Result(16, way, wall, [2 * x for x in wall], 1.5) for way, wall in times.items()]
    table = bench.table(rows)
    message = [
        "16",
        "nearest, euclidean, top 1",
        "2.00",
        "2.00–9.00",
        "2.00×",
        "2.00×",
        "0.25×",
        "1.5 MB",
    ]
    assert table.cells()[-1] == message
    assert table.columns[4] == "to the product"


def test_frames_with_other_words_are_counted():
    ids = np.arange(15).reshape(3, 5)
    found = {
        "plain, top 1": ids[:, :1],
        "plain, top 5": ids,
        "nearest, cosine, top 1": ids[::-1, :1],
    }
    found |= {"nearest, euclidean, top 1": ids[[0, 0, 0], :1], "nearest, euclidean, top 5": ids}
    assert bench.other_words(found) == {
        "nearest, euclidean, top 1": 2,
        "nearest, euclidean, top 5": 0,
    }


def test_all_ways_run_in_turn_after_one_round_to_warm_up():
    calls, ids = [], np.zeros((2, 1), int)
    ways = (*bench.PRODUCTS, "plain, top 1", "plain, top 5", "nearest, euclidean, top 1")
    jobs = {way: (lambda way=way: calls.append(way) or ids, 2e6) for way in ways}
    results, others = bench.measure(jobs, 2, rounds=2)
    assert calls == [*ways] * 3
    assert [
        (row.way, len(row.seconds), len(row.cpu_seconds), row.megabytes) for row in results
    ] == [(way, 2, 2, 2.0) for way in ways]
    assert others == {"nearest, euclidean, top 1": 0}


def _run(*arguments):
    command = [sys.executable, "-m", "experiments.benchmark", "--what=vocabulary", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.command
def test_command_compares_measures_and_writes_json(tmp_path):
    out = tmp_path / "vocabulary.json"
    done = _run(
        "--words=300",
        "--width=8",
        "--frames=3",
        "--rounds=1",
        "--encoded=4",
        f"--folder={tmp_path}",
        f"--out={out}",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith(f"wrote {out}")
    assert "| 3 | nearest, euclidean, top 5 |" in done.stdout
    assert "other words than the plain computation: none." in done.stdout
    report = json.loads(out.read_text())
    assert len(report["results"]) == 9
    assert list(report["other words"].values()) == [0, 0, 0, 0]
    assert report["words/s encoded"] > 0
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
