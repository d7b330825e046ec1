"""`experiments.reproduce` end to end, on small embedded scenes and a mini layout of benchmarks."""

import contextlib
import csv
import json
import os
import shutil
import signal
import time
import types
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from experiments.reproduce import execute
from support import small_run, warm
from support.hosts.two_processes import run_two
from vtd_jax.clip.model import CLIP
from vtd_jax.errors import UserError
from vtd_jax.evaluate.scores import read_scores
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.vtd_clip import VTDCLIP

pytestmark = pytest.mark.command

ROOT = Path(__file__).resolve().parents[3]
# the command with fewer and smaller clips: four classes, two shares of irrelevant frames
SMALL = """
import dataclasses, functools, os, sys
from experiments.common import hosts
from experiments.reproduce import __main__ as reproduce
from experiments.reproduce import protocols, request, sources
from vtd_jax.scenes.benchmark import NoisyScenes, SceneBenchmark
from vtd_jax.train.logging import RunLog
if __name__ == "__main__":
    fields = dict(classes=4, pool=16, val=6, unseen=2, unseen_val=2, size=32)
    request.SceneBenchmark = functools.partial(SceneBenchmark, **fields)
    sources.NoisyScenes = functools.partial(NoisyScenes, val=2)
    sources.SHARES = protocols.SHARES = (0.0, 0.9)
    if gate := os.environ.get("GATE"):
        # stops after this line of a log, until somebody opens the pipe and closes it again
        line = RunLog.line

        def held(self, text):
            line(self, text)
            if text.startswith(os.environ["HELD_AFTER"]):
                open(gate).read()

        RunLog.line = held
    hosts.run(reproduce.main, reproduce.__doc__, catch_sigterm=True)
"""
EPOCHS = ("--set=optimizer.epochs=3", "--set=data.batch_size=8", "--set=log_every=1")
# one run of every kind
SOME = (
    "*_val_mean,few_shot_scenes_2,few_shot_scenes_4,few_shot_scenes_2_codebook_off,"
    "zero_shot_scenes_mean,*_from_*,*views_mean,*16shot_s1,*16shot_s1_codebook_off,"
    "*_confidence_off,*_top2,*_frames4,*noise?,*noise90"
)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> list[str]:
    """The command on small scenes."""
    script = tmp_path_factory.mktemp("script") / "small_reproduce.py"
    script.write_text(SMALL)
    return [str(script)]


def _environment():
    return dict(os.environ, XLA_FLAGS=warm.xla_flags(), JAX_PLATFORMS="cpu", PYTHONPATH=str(ROOT))


def _run(command, *arguments, status=0):
    done = warm.run([*command, *arguments], _environment(), timeout=500)
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory) -> Path:
    """The base-to-novel table, made in one go."""
    workdir = tmp_path_factory.mktemp("reproduced") / "tables"
    flags = ["--table=base_to_novel", "--splits=1", *EPOCHS, f"--workdir={workdir}"]
    assert _run(small, *flags).stdout.splitlines()[-1] == f"wrote {workdir}/base_to_novel.md"
    return workdir


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_every_row_and_says_how_it_was_made(finished):
    rows = _rows(finished / "base_to_novel.csv")
    assert [row["learnt on"] for row in rows] == ["nothing"] * 4 + ["16 shots", "all base videos"]
    for row in rows:
        assert row["source"] == "this run"
        base, novel = float(row["base"]), float(row["novel"])
        hm = 2 * base * novel / (base + novel) if base * novel else 0.0
        assert float(row["HM"]) == pytest.approx(hm, abs=1e-12)
        assert float(row["95 % CI low"]) <= float(row["HM"]) <= float(row["95 % CI high"])
    about = json.loads((finished / "base_to_novel.json").read_text())["about"]
    assert "optimizer.epochs 3, set by --set" in about["differs from the configs"]
    assert {
        "commit",
        "versions",
        "device",
        "CLIP",
        "CLIP weights",
        "scenes",
        "lists",
        "protocol",
    } <= set(about)
    message = (finished / "base_to_novel.md").read_text()
    assert "| views |" in message
    assert "| norm. | preprocess |" in message


def test_scores_of_every_run_recompute_the_table(finished):
    """A table can be made again from what lies on disk, with nothing but NumPy."""
    row = _rows(finished / "base_to_novel.csv")[-1]
    scores = read_scores(finished / "runs" / "base_to_novel_scenes_all" / "results_scores.npz")
    for half in ("base", "novel"):
        hits = scores[half].scores.argmax(-1) == scores[half].labels
        assert float(row[half]) == pytest.approx(hits.mean(), abs=1e-12)
        assert all(video.endswith(".mp4") for video in scores[half].videos)


def _whole(workdir: Path) -> dict:
    """The whole base-to-novel table, but for the commit, which may change meanwhile."""
    table = json.loads((workdir / "base_to_novel.json").read_text())
    return table | {
        "about": {key: value for key, value in table["about"].items() if key != "commit"}
    }


def _held(process: warm.Started, gate: Path) -> int:
    """Waits until the process stands still at a pipe, and opens it."""
    for _ in range(2400):
        with contextlib.suppress(OSError):
            return os.open(gate, os.O_WRONLY | os.O_NONBLOCK)
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("it never came there")


def test_stopped_and_killed_it_resumes_to_the_same_table(small, finished, tmp_path):
    workdir = tmp_path / "tables"
    shutil.copytree(finished / "scenes", workdir / "scenes")
    arguments = ["--table=base_to_novel", "--splits=1", *EPOCHS, f"--workdir={workdir}"]
    log, gate = workdir / "runs" / "base_to_novel_scenes_16shot_s1" / "run.log", tmp_path / "gate"
    os.mkfifo(gate)
    for number, status, where in ((signal.SIGTERM, 75, "step 2/"), (signal.SIGKILL, -9, "step 6/")):
        process = warm.Started(
            [*small, *arguments], _environment() | {"GATE": str(gate), "HELD_AFTER": where}
        )
        opened = _held(process, gate)
        assert where in log.read_text()
        process.send_signal(number)
        os.close(opened)
        assert process.wait(120) == status
        assert not (workdir / "base_to_novel.md").exists()
    done = _run(small, *arguments)
    assert "zero_shot_scenes_halves_mean: finished already" in done.stdout
    assert _whole(workdir) == _whole(finished)
    for name in ("base_to_novel_scenes_16shot_s1", "base_to_novel_scenes_all"):
        one, two = (
            read_scores(at / "runs" / name / "results_scores.npz") for at in (finished, workdir)
        )
        for split in one:
            np.testing.assert_array_equal(one[split].scores, two[split].scores)


def test_every_table_and_plot_and_the_tables_alone(small, finished):
    """What another table has made already stays; a row of every kind is in its table."""
    arguments = ["--table=all", "--splits=1", *EPOCHS, f"--workdir={finished}"]
    done = _run(small, *arguments, f"--only={SOME}")
    assert "base_to_novel_scenes_16shot_s1: finished already" in done.stdout
    tables = {path.stem: _rows(path) for path in finished.glob("*.csv")}
    assert set(tables) == {
        "base_to_novel",
        "few_shot",
        "zero_shot",
        "fully_supervised",
        "ablations",
        "irrelevant",
    }
    assert len(tables["base_to_novel"]) == 6
    assert "16" not in tables["few_shot"][0]
    few = {row["method"]: row for row in tables["few_shot"]}
    assert few["VTD-CLIP"]["2"]
    assert few["VTD-CLIP"]["4"]
    assert not few["prompts, mean of features"]["4"]
    assert few["CLIP, class names"]["0"]
    transfer = tables["zero_shot"][-1]
    splits = [float(transfer[f"split{i}"]) for i in (1, 2, 3)]
    assert float(transfer["mean"]) == pytest.approx(np.mean(splits), abs=1e-12)
    assert {row["views"] for row in tables["fully_supervised"]} == {"4 × 3"}
    ablations = {row["method"]: row for row in tables["ablations"]}
    full, off = ablations["VTD-CLIP"], ablations["codebook off: mean of features"]
    assert float(off["− full"]) == pytest.approx(float(off["HM"]) - float(full["HM"]), abs=1e-12)
    assert 0 < float(off["p"]) <= 1
    assert not full["p"]
    assert {"0", "90"} <= set(tables["irrelevant"][0])
    for plot in ("few_shot", "ablations", "irrelevant"):
        assert (finished / f"{plot}.png").stat().st_size > 10_000
    before = {path: path.read_text() for path in finished.glob("*.md")}
    assert len(before) == 6
    again = _run(small, "--table=all", f"--workdir={finished}", "--tables_only")
    assert "runs/" not in again.stdout
    assert {path: path.read_text() for path in finished.glob("*.md")} == before


def test_what_was_learnt_elsewhere_is_lent_and_runs_are_compared(small, finished):
    learnt = finished / "runs" / "base_to_novel_scenes_all"
    arguments = [f"--source={learnt}", "--only=*_from_*", f"--workdir={finished}"]
    _run(small, "--table=zero_shot", *arguments, "--set=data.batch_size=8")
    row = _rows(finished / "zero_shot.csv")[-1]
    assert (row["method"], row["learnt on"]) == ("VTD-CLIP", str(learnt))
    message = json.loads(
        (finished / "runs/zero_shot_scenes_from_base_to_novel_scenes_all/results.json").read_text()
    )
    assert message["about"]["learnt"] == "base_to_novel_scenes_all, step 12"
    compare = ["-m", "experiments.compare"]
    done = _run(compare, str(finished / "runs/zero_shot_scenes_halves_mean"), str(learnt))
    for half in ("base", "novel", "HM"):
        assert any(line.split()[:1] == [half] for line in done.stdout.splitlines()), done.stdout


def test_a_source_that_is_not_finished_lends_nothing(tmp_path):
    """Its last checkpoint would be one of a run that failed on its way."""
    folder = execute.run_folder(tmp_path, "learnt")
    folder.mkdir(parents=True)
    (folder / "identity.json").write_text(json.dumps({"finished": False}))
    assert not execute.is_finished(folder)
    with pytest.raises(
        UserError, match="learnt: this run, whose parameters are evaluated, is not finished"
    ):
        execute._lend(
            VTDCLIP(CLIP(small_run.SMALL), ModelConfig(0, 0, 0, 0), rngs=nnx.Rngs(0)),
            tmp_path,
            types.SimpleNamespace(rival="", source="learnt"),
        )


def test_other_settings_are_refused_run_by_run_and_nothing_is_lost(small, finished):
    before = (finished / "runs/base_to_novel_scenes_all/results.json").read_text()
    arguments = [
        "--table=base_to_novel",
        "--splits=1",
        "--only=*_all",
        f"--workdir={finished}",
        *EPOCHS,
    ]
    done = _run(small, *arguments, "--set=optimizer.lr=1e-3", status=2)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "error: 1 run failed and is not in the tables: base_to_novel_scenes_all: "
    )
    assert "holds a run with other config; give another --workdir, or remove it" in last
    assert (finished / "runs/base_to_novel_scenes_all/results.json").read_text() == before


def test_dry_run_prints_the_plan_and_makes_nothing(small, tmp_path):
    workdir = tmp_path / "none"
    done = _run(
        small,
        "--table=fully_supervised",
        f"--workdir={workdir}",
        "--dry_run",
        "--device_kind=v5e",
        "--devices=4",
    )
    # --only takes the names, so none is cut, and no time is printed as 0.000289 hours
    for name in ("mean", "actionclip16_mean", "video_of_a_person_mean", "confidence"):
        assert f" zero_shot_scenes_views_{name} " in done.stdout
    assert " fully_supervised_scenes " in done.stdout
    assert " s\n" in done.stdout
    assert (
        "4 × v5e: 32.8 TFLOP/s each in float32 (the vendor's peak divided by the six bfloat16 "
        "passes of a float32 product), 30 % of it reached (assumed)" in done.stdout
    )
    assert done.stdout.splitlines()[-1].startswith("5 runs, about ")
    assert not workdir.exists()


def test_several_processes_make_one_table(finished, tmp_path):
    """The first one renders, prints and writes; scores are those of one process to float32
    rounding.

    Adam's first updates divide gradients by their own size, so 12 of them on four devices bring
    1e-4 of a probability; losses and gradients themselves are compared at 1e-5 where several
    processes train (test_train_hosts).
    """
    workdir = tmp_path / "tables"
    some = "--only=*_halves_mean,*16shot_s1"
    arguments = [
        "--table=base_to_novel",
        "--splits=1",
        *EPOCHS,
        "--set=data.workers=0",
        some,
        f"--workdir={workdir}",
    ]
    first, second = run_two(SMALL, *arguments, devices=2, timeout=300)
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert not second.stdout
    assert first.stdout.splitlines()[-1] == f"wrote {workdir}/base_to_novel.md"
    for name, apart in (
        ("zero_shot_scenes_halves_mean", 1e-5),
        ("base_to_novel_scenes_16shot_s1", 1e-3),
    ):
        one, two = (
            read_scores(at / "runs" / name / "results_scores.npz") for at in (finished, workdir)
        )
        for half in ("base", "novel"):
            assert one[half].videos == two[half].videos
            np.testing.assert_allclose(two[half].scores, one[half].scores, rtol=0, atol=apart)


@pytest.mark.shared
def test_mini_benchmarks_give_a_base_to_novel_table_of_all_four(mini_records, tmp_path):
    """The real lists, filtered to videos that exist; published numbers stand beside ours."""
    command = ["-m", "experiments.reproduce", "--table=base_to_novel", "--clip=tiny"]
    small = {
        "optimizer.epochs": 1,
        "data.frames": 2,
        "data.workers": 0,
        "model.visual_prompts": 2,
        "memory.remat": "none",
    }
    arguments = [f"--data_dir={mini_records}", f"--workdir={tmp_path}", "--splits=1"]
    arguments += ["--only=*_halves_mean,*_16shot_s1"]
    done = _run(command, *arguments, *(f"--set={field}={value}" for field, value in small.items()))
    rows = _rows(tmp_path / "base_to_novel.csv")
    for dataset in ("hmdb51", "ucf101", "ssv2", "kinetics400"):
        ours = [row for row in rows if row["data set"] == dataset and row["source"] == "this run"]
        assert [row["learnt on"] for row in ours] == ["nothing", "16 shots"], done.stdout
        assert {row["lists"] for row in ours} == {"given"}
        theirs = {
            row["method"]: row
            for row in rows
            if row["data set"] == dataset and row["source"] != "this run"
        }
        assert "arXiv" in theirs["ViFi-CLIP"]["source"]
    message = (tmp_path / "base_to_novel.md").read_text()
    assert "base_to_novel_kinetics400_all: no list base_train" in message
    assert "model.text_depth at most 2, what a tiny takes" in message
