"""The comparing command, on saved scores."""

import csv
import json
import shutil

import numpy as np
import pytest

from support import small_run
from vtd_jax.evaluate.comparison import describe_runs, preprocess_differs
from vtd_jax.evaluate.metrics import SplitResult
from vtd_jax.evaluate.outputs import save_report
from vtd_jax.evaluate.tables import split_table

pytestmark = pytest.mark.command


def _run(folder, seed, commit="abc", videos=60):
    rng, results = np.random.default_rng(seed), {}
    for split, names in (("base", ("a", "b", "c")), ("novel", ("d", "e", "f"))):
        labels = np.arange(videos, dtype=np.int32) % 3
        scores = rng.dirichlet(np.ones(3), videos).astype(np.float32)
        scores[np.arange(videos), labels] += 0.2
        files = tuple(f"{split}{i}.mp4" for i in range(videos))
        results[split] = SplitResult(names, scores, labels, files)
    about = {
        "protocol": "base_to_novel",
        "frames": 8 + seed,
        "commit": commit,
        "config": f"f{seed}",
    }
    save_report(
        folder, "results", split_table(f"run {seed}", "base_to_novel", results, about), results
    )
    return results


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(4):
        _run(folder / str(seed), seed)
    _run(folder / "short", 0, videos=30)
    return folder


def test_two_runs(folder):
    out = folder / "out.json"
    done = small_run.command("compare", str(folder / "0"), str(folder / "1"), f"--out={out}")
    assert done.returncode == 0, done.stderr
    read, rows = json.loads(out.read_text()), None
    rows = read["rows"]
    assert [row["split"] for row in rows] == ["base", "novel", "HM"]
    for side, seed in (("A", 0), ("B", 1)):
        own = json.loads((folder / str(seed) / "results.json").read_text())["rows"]
        assert [row[side] for row in rows] == pytest.approx([row["top-1"] for row in own])
    for row in rows[:2]:
        assert (row["only B right"] - row["only A right"]) / 60 == pytest.approx(row["B − A"])
    assert "commit abc" in read["about"]["A"][0]
    assert read["about"]["settings that differ"] == ["frames: 8 / 9"]
    assert {"base, gained most", "novel, lost most"} <= set(read["about"])


def test_seeds(folder):
    sides = [",".join(str(folder / seed) for seed in pair) for pair in ("01", "23")]
    done = small_run.command("compare", *sides, f"--out={folder / 'seeds.csv'}")
    assert done.returncode == 0, done.stderr
    with (folder / "seeds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    own = [
        json.loads((folder / seed / "results.json").read_text())["rows"][2]["top-1"]
        for seed in "01"
    ]
    assert float(rows[2]["A"]) == pytest.approx(np.mean(own))
    assert "only A right" not in rows[0]
    assert 0 < float(rows[0]["p"]) <= 1


def test_one_run_is_reported_again(folder):
    done = small_run.command(
        "compare", str(folder / "0" / "results_scores.npz"), f"--out={folder / 'own.json'}"
    )
    assert done.returncode == 0, done.stderr
    read, saved = (
        json.loads(path.read_text())
        for path in (folder / "own.json", folder / "0" / "results.json")
    )
    assert (read["title"], read["rows"]) == (saved["title"], saved["rows"])
    assert "base, most confused" in read["about"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "expected RUN_A [RUN_B], got nothing"),
        (("0", "1", "2"), "expected RUN_A [RUN_B], got"),
        (("0", "none"), "none/results_scores.npz: no such file"),
        (("0", "short"), "split base: base30.mp4 is in "),
    ],
)
def test_refusals(folder, arguments, message):
    done = small_run.command("compare", *(str(folder / name) for name in arguments))
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert message in done.stderr


def test_runs_of_other_pixels_are_pointed_out(folder, tmp_path):
    for name in ("clip", "release"):
        shutil.copytree(folder / "0", tmp_path / name)
        table = tmp_path / name / "results.json"
        content = json.loads(table.read_text())
        content["about"]["preprocess"] = f"{name}: some filter"
        table.write_text(json.dumps(content))
    out = tmp_path / "out.json"
    done = small_run.command(
        "compare", str(tmp_path / "clip"), str(tmp_path / "release"), f"--out={out}"
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(out.read_text())["about"]["preprocess differs"]
    assert said.startswith("A clip; B release: other pixels")
    assert f"warning: the runs differ in preprocess: {said}" in done.stderr


def _with_copy(source, folder, **changes):
    """A run evaluated on a copy of some data; its scores stay."""
    copy = {
        "videos": 60, "frames": 960, "list_digest": "0" * 16, "files_digest": "1" * 16,
        "storage": "video files", "sample": [["base1.mp4", "2" * 16]],
    }  # fmt: skip
    shutil.copytree(source, folder)
    table = folder / "results.json"
    content = json.loads(table.read_text())
    facts = {"step": 1, "views": [1, 1], "training": "", "lists": {}}
    content["facts"] = facts | {"data": {"base": copy | changes, "novel": copy}}
    table.write_text(json.dumps(content))
    return str(folder)


def test_runs_on_other_copies_of_the_data_are_refused(folder, tmp_path):
    mine = _with_copy(folder / "0", tmp_path / "mine")
    same = _with_copy(folder / "1", tmp_path / "same")
    other = _with_copy(
        folder / "1", tmp_path / "other", frames=959, sample=[["base1.mp4", "3" * 16]]
    )
    out = tmp_path / "out.json"
    done = small_run.command("compare", mine, same, f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert json.loads(out.read_text())["about"]["data"].startswith("the same copy, fingerprints b")
    done = small_run.command("compare", mine, other)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    what = "960 and 959 frames, other frames in 1 of 1 sampled video (base1.mp4)"
    assert f"/other/results_scores.npz: {what}; a difference may be the data's" in done.stderr
    assert "compare with --other_data all the same" in done.stderr
    done = small_run.command("compare", mine, other, "--other_data", f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert "warning: the runs differ in data: base in " in done.stderr
    assert what in json.loads(out.read_text())["about"]["data"]
    # of an earlier version
    done = small_run.command("compare", mine, str(folder / "0"))
    assert done.returncode == 0, done.stderr
    assert f"data: the copy is not known of {folder}/0/results_scores.npz" in done.stdout


def test_what_tables_say_of_preprocess():
    clip, old, release = {"preprocess": "clip: x"}, {"frames": 8}, {"preprocess": "release: y"}

    def told(a, b):
        lines = describe_runs([{str(i): run for i, run in enumerate(runs)} for runs in (a, b)])
        return lines.get("preprocess differs", "").partition(":")[0], lines["settings that differ"]

    # earlier versions had the release's way only
    assert told([old], [clip]) == (
        "A release; B clip",
        ["frames: 8 / –", "preprocess: – / clip: x"],
    )
    assert told([old], [release | old]) == ("", "none")
    assert told([clip, release], [clip])[0] == "A clip and release; B clip"
    assert told([clip, {}], [clip])[0] == ""
    strange = {"preprocess": "\x1b[31m" * 99}
    differs = preprocess_differs([{"a": strange}, {"b": clip}])
    assert "\x1b" not in differs
    assert len(differs) < 250


def test_common_videos(folder):
    done = small_run.command("compare", str(folder / "0"), str(folder / "short"), "--common")
    assert done.returncode == 0, done.stderr
