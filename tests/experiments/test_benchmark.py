"""The benchmark command and its parts: turns, ratios, what it prints and writes."""

import json

import pytest

import warm
from vtd_jax.train import benchmark


def _run(*arguments):
    return warm.run(["-m", "experiments.benchmark", *arguments])


def test_tasks_run_in_turn_after_a_warm_up():
    calls = []
    tasks = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    timings = benchmark.interleaved(tasks, {"a": 2, "b": 0}, rounds=3)
    assert calls == list("ab" + "ab" * 3)
    assert [len(t.seconds) for t in timings] == [3, 3]


def test_table_has_medians_and_ratios():
    timings = [
        benchmark.Timing("feature extraction", (2.0, 4.0, 3.0), 6),
        benchmark.Timing("training step", (6.0,), 6),
        benchmark.Timing("codebook", (1.0,), 0),
    ]
    text = benchmark.markdown(timings, {"training step": 7.25})
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]
    assert rows[0] == ["feature extraction", "–", "3.000 (2.000–4.000)", "2.00", "1.00×"]
    assert rows[1] == ["training step", "7.2", "6.000 (6.000–6.000)", "1.00", "0.50×"]
    assert rows[2] == ["codebook", "–", "1.000 (1.000–1.000)", "–", "–"]


def test_command_measures_and_writes_json(tmp_path):
    out = tmp_path / "benchmark.json"
    done = _run("--architecture=tiny", "--frames=2", "--classes=3", "--rounds=2", "--device_only", f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith(f"wrote {out}")
    report = json.loads(out.read_text())
    assert (
        set(report["seconds"]) == {"feature extraction", "codebook", "training step"} == set(report["compile_seconds"])
    )
    assert all(len(s) == 2 and min(s) > 0 for s in report["seconds"].values())
    assert report["architecture"] == "tiny"
    assert report["cores"] >= 1


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--architecture=ViT-B/17"], "expected one of ViT-B/32"),
        (["--data_dir=x"], "--data_dir and --records go together"),
    ],
)
def test_bad_arguments(arguments, told):
    done = _run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
