"""The evaluation command: zero-shot, a run, a run on another config's videos."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from experiments.common import evaluation
from experiments.common.evaluation import feature_store, stem_of
from support import small_run
from support.helpers import random_state
from support.weights.rival_files import vifi_state, write_vifi
from vtd_jax.locks import locked_outputs
from vtd_jax.train import from_config

HALVES = "--config=experiments/configs/zero_shot.py:hmdb51,lists=base_to_novel"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_run.build(tmp_path_factory.mktemp("small"))


def _results(workdir, stem="results"):
    return json.loads((workdir / f"{stem}.json").read_text())


@pytest.mark.command
def test_zero_shot_writes_every_file(folder, tmp_path):
    flags = [f"--config.{name}" for name in small_run.where(folder)]
    workdir = tmp_path / "zero"
    done = small_run.command(
        "evaluate", HALVES, *flags, "--config.clip.architecture=", f"--workdir={workdir}"
    )
    assert done.returncode == 0, done.stderr
    assert "learnt: nothing: no checkpoint, CLIP as it is (zero-shot)" in done.stdout
    assert done.stdout.splitlines()[-1].endswith(
        ".json, _per_class.csv, _confusions.csv, _scores.npz"
    )
    read = _results(workdir)
    assert [row["split"] for row in read["rows"]] == ["base", "novel", "HM"]
    assert [row["videos"] for row in read["rows"]] == [5, 3, None]
    message = {
        "base": "base_val (given list; 5 videos)",
        "novel": "novel_val (given list; 3 videos)",
    }
    assert read["about"]["lists"] == message
    assert read["about"]["views"] == "1 temporal × 1 spatial"
    for split, videos, frames in (("base", 5, 30), ("novel", 3, 18)):
        data, told = read["facts"]["data"][split], read["about"]["data"][split]
        assert (data["videos"], data["frames"], len(data["sample"])) == (videos, frames, videos)
        assert f"data of {split}: {told}\n" in done.stdout
        assert (
            f"- data: base {read['about']['data']['base']}" in (workdir / "results.md").read_text()
        )
    assert {"normalisation", "config", "commit", "versions", "CLIP", "frames"} <= set(read["about"])
    with np.load(workdir / "results_scores.npz") as scores:
        assert scores["novel/scores"].shape == (3, 2)
        hits = scores["base/scores"].argmax(-1) == scores["base/labels"]
        assert scores["base/class_names"].tolist() == list(small_run.BASE)
    assert read["rows"][0]["top-1"] == pytest.approx(hits.mean())
    with (workdir / "results_per_class.csv").open(newline="") as file:
        rows = [(row["split"], row["class"], row["videos"]) for row in csv.DictReader(file)]
    assert rows[0] == ("base", "red", "2")
    assert rows[-1] == ("novel", "black", "1")
    table = (workdir / "results.md").read_text()
    assert f"| base | given | 3 | 5 | {100 * hits.mean():.2f} |" in table
    assert not [path.name for path in workdir.iterdir() if path.name.startswith(".")]
    with locked_outputs([("--workdir", workdir / "results.md", False)]):
        done = small_run.command(
            "evaluate", HALVES, *flags, "--config.clip.architecture=", f"--workdir={workdir}"
        )
    assert done.returncode == 2
    message = f"error: --workdir={workdir / 'results.md'}: process {os.getpid()} on "
    assert done.stderr.splitlines()[-1].startswith(message)
    assert (workdir / "results.md").read_text() == table


def test_a_name_in_a_config_stays_in_the_workdir(tmp_path):
    assert stem_of(tmp_path, "../../elsewhere", None, True, False) == "results_.._.._elsewhere"
    assert stem_of(tmp_path, "../../elsewhere", None, True, True) == "results"
    (tmp_path / "config.json").touch()
    assert stem_of(tmp_path, "x", Path("x/best.safetensors"), False, False) == "results_best"


@pytest.mark.command
def test_a_trained_run_its_own_videos_and_others(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "cache"))
    run, workdir = small_run.flags(folder), tmp_path / "run"
    trained = small_run.command(
        "train", *run, f"--workdir={workdir}", "--config.optimizer.epochs=1"
    )
    assert trained.returncode == 0, trained.stderr
    at_the_end = _results(workdir)
    done = small_run.command("evaluate", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert _results(workdir)["rows"] == at_the_end["rows"]
    # no visual prompt is learnt: the frame features of the first evaluation are those of the second
    message = (
        "frame features of 5 videos of base_val, 0.0 MiB, are kept in "
        f"{tmp_path / 'cache' / 'features'}"
    )
    assert message in trained.stdout.splitlines()
    assert "frame features" not in done.stdout
    assert _results(workdir)["about"]["learnt"] == "checkpoint of step 3 (last)"

    data = f"--config.data.data_dir={folder / 'records'}"
    done = small_run.command(
        "evaluate", f"--workdir={workdir}", HALVES, data, "--config.model.pooling=mean"
    )
    assert done.returncode == 0, done.stderr
    other = _results(workdir, "results_zero_shot_hmdb51_halves")
    assert [row["split"] for row in other["rows"]] == ["base", "novel", "HM"]
    assert other["about"]["learnt"] == "checkpoint of step 3 (last)"
    # the run's model, the other config's frames, the flag's pooling
    message = [
        other["about"][key]
        for key in ("fusion", "normalisation", "frames", "pooling", "training list")
    ]
    assert message == [True, "imagenet", 32, "mean", "base_train (given list; 10 videos)"]

    refused = small_run.command("evaluate", f"--workdir={workdir}", "--config.model.text_prompts=3")
    assert refused.returncode == 2
    assert (
        "another run's checkpoint, these arrays differ: text_prompts (1, 2, 64) instead of (1, "
        "3, 64)" in refused.stderr
    )


@pytest.mark.slow
def test_frame_features_are_kept_where_they_stay_the_same(folder, monkeypatch):
    def store(**changes):
        config = small_run.run_config(
            folder, model__visual_prompts=0, model__visual_depth=0, **changes
        )
        return feature_store(config, from_config.build_model(config))

    assert store().folder.name == "features"
    assert store(evaluate__store_features=False) is None
    config = small_run.run_config(folder)
    assert feature_store(config, from_config.build_model(config)) is None
    monkeypatch.setattr(evaluation, "process_count", lambda: 2)
    assert store() is None


@pytest.mark.command
def test_a_folder_without_anything(tmp_path):
    refused = small_run.command("evaluate", f"--workdir={tmp_path}")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert (
        "config.json: no such file; give the workdir of a run, or --config=… for zero-shot"
        in refused.stderr
    )
    file = tmp_path / "config.json"
    file.touch()
    refused = small_run.command("evaluate", f"--workdir={tmp_path}")
    message = f"error: {file}: empty, expected JSON; put it back, or give another folder\n"
    assert (refused.returncode, refused.stderr) == (2, message)


@pytest.mark.command
def test_files_that_cannot_be_evaluated(folder, tmp_path):
    workdir = f"--workdir={tmp_path / 'run'}"
    (tmp_path / "damaged.safetensors").write_bytes(b"no header")
    for name, flags, message in (
        (
            "no.pth",
            small_run.flags(folder),
            "no.pth: no such file or folder. Expected what the authors",
        ),
        ("no.pth", [], "no.pth: has no settings of its own; give the --config=… that fits it"),
        (
            "damaged.safetensors",
            [],
            "damaged.safetensors: truncated or damaged safetensors file of 9 bytes",
        ),
        (
            "no.safetensors",
            [],
            "no.safetensors: no such file, expected what python -m experiments.export wrote",
        ),
    ):
        refused = small_run.command("evaluate", f"--checkpoint={tmp_path / name}", workdir, *flags)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused.stderr
        assert message in refused.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.command
def test_templates_from_the_command_line(folder, tmp_path):
    """A tuple field is overridden in one flag and ends in the saved settings; another type is
    an error of one line.
    """
    bare = [
        "--config.model.text_prompts=0",
        "--config.model.text_depth=0",
        "--config.model.visual_prompts=0",
    ]
    bare += ["--config.model.visual_depth=0", "--config.model.fusion=false"]
    workdir = tmp_path / "run"
    flag = "--config.model.templates=('a clip of {}','{}')"
    done = small_run.command(
        "evaluate", f"--workdir={workdir}", *small_run.flags(folder), *bare, flag
    )
    assert done.returncode == 0, done.stderr
    about = _results(workdir)["about"]
    assert about["class names"] == "2 templates, e.g. 'a clip of {}'"
    for wrong, message in (
        ("('a {}',3)", "model.templates[1]: 3, expected str"),
        ("('no name',)", "'no name', expected a"),
    ):
        refused = small_run.command(
            "evaluate",
            f"--workdir={workdir}",
            *small_run.flags(folder),
            *bare,
            f"--config.model.templates={wrong}",
        )
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused.stderr
        assert message in refused.stderr


@pytest.mark.command
def test_a_rival_by_its_own_checkpoint(folder, tmp_path):
    state = random_state(small_run.SMALL)
    vifi = write_vifi(tmp_path / "vifi.pth", vifi_state(state, small_run.SMALL))
    flags = [HALVES, *(f"--config.{name}" for name in small_run.where(folder))]
    flags += ["--config.clip.architecture=", f"--workdir={tmp_path / 'out'}", "--rival=vifi"]
    done = small_run.command("evaluate", *flags, f"--checkpoint={vifi}")
    assert done.returncode == 0, done.stderr
    about = _results(tmp_path / "out")["about"]
    assert about["learnt"].startswith(f"{vifi} (ViFi-CLIP, its authors' format: CLIP tuned whole")
    # the file's model and scaling, the config's frames
    assert (about["pooling"], about["normalisation"], about["frames"]) == ("mean", "imagenet", 32)
    assert about["preprocess"].startswith("release")
    for more, message in (
        ([], "--rival=vifi: give the file of its authors, --checkpoint=FILE.pth"),
        (
            [f"--checkpoint={vifi}", "--config.model.pooling=mean"],
            "--config.model.pooling: a rival",
        ),
        ([f"--checkpoint={vifi}", "--rival=xclip"], "--rival=xclip: X-CLIP, which is not computed"),
        ([f"--checkpoint={vifi}", "--rival=vifi_prompts"], f"{vifi}: is of ViFi-CLIP, not of Vi"),
        # forgotten
        ([f"--checkpoint={vifi}", "--rival="], "; if it is of ViFi-CLIP, give --rival=vifi"),
    ):
        done = small_run.command("evaluate", *flags, *more)
        assert done.returncode == 2
        assert message in done.stderr
