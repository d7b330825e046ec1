"""The training command: a run, its continuation, and one line for what cannot be."""

import csv
import json
import os
from dataclasses import replace

import numpy as np
import pytest

from experiments.common import config_flag
from experiments.common.evaluation import Evaluation, has_table
from support import small_run
from vtd_jax.errors import UserError
from vtd_jax.evaluate.facts import Facts
from vtd_jax.evaluate.metrics import SplitResult
from vtd_jax.evaluate.outputs import save_report
from vtd_jax.evaluate.scores import save_scores
from vtd_jax.evaluate.tables import split_table
from vtd_jax.parallel.preemption import EvaluationInterrupted
from vtd_jax.train import from_config
from vtd_jax.train.checkpoints.checkpoint import Checkpoints
from vtd_jax.train.config import RunConfig
from vtd_jax.video.stored_lists import read_stored_list

FILE = "experiments/configs/video_folder.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_run.build(tmp_path_factory.mktemp("small"))


@pytest.mark.command
def test_train_resume_and_refusals(folder, tmp_path):
    flags = [*small_run.flags(folder), f"--workdir={tmp_path / 'run'}"]
    done = small_run.command("train", *flags, "--config.optimizer.epochs=1")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("video_folder: ")
    assert any(line.startswith("step 3/3  epoch 1.00  loss ") for line in lines)
    assert lines[-1].startswith("trained to step 3: val ")
    assert lines[-1].endswith("results.md, metrics.csv, checkpoints/")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["rows"][0]["videos"] == 5
    assert results["about"]["learnt"] == "step 3, the last"
    assert f"data of val: {results['about']['data']['val']}" in lines

    # what resuming compares: other records of a split are noticed
    listed = read_stored_list(folder / "records/video_folder/base_val/1.0.0", "base_val")
    assert Checkpoints(tmp_path / "run").progress(3)["splits"] == {"val": listed.fingerprint}

    # the CLIP of the config's own is a toy, and here are videos of unknown kind
    refused = small_run.command("train", *flags, "--noresume", "--config.clip.path=tiny")
    assert (refused.returncode, refused.stdout) == (2, "")
    note, error = refused.stderr.splitlines()
    assert note.startswith(
        "note: clip.path=tiny: the small CLIP of this package knows coloured, textured shapes only"
    )
    assert error.startswith("error: --workdir=")
    assert "the last of step 3; leave --noresume out" in error

    # as if it had been killed between its last checkpoint and its table
    (tmp_path / "run" / "results_scores.npz").unlink()
    again = small_run.command("train", *flags, "--config.optimizer.epochs=1")
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1] == lines[-1]
    assert json.loads((tmp_path / "run" / "results.json").read_text())["rows"] == results["rows"]

    more = small_run.command("train", *flags, "--config.optimizer.epochs=2", "--profile_steps=5:9")
    assert more.returncode == 0, more.stderr
    assert "resuming from step 3 of 6" in more.stdout
    assert f"profile: steps 5 to 6 traced into {tmp_path / 'run' / 'profile'}" in more.stdout
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        assert sorted({row["step"] for row in csv.DictReader(file)}) == ["3", "6"]


@pytest.mark.parametrize(
    "learnt, step, whole",
    [
        ("step 3, the last", 3, True),
        ("checkpoint of step 3 (best)", 3, True),
        ("step 3, the last", 6, False),
        ("nothing: no checkpoint", 3, False),
    ],
)
def test_a_table_is_that_of_a_step(tmp_path, learnt, step, whole):
    assert not has_table(tmp_path, step)
    results = {
        "val": SplitResult(("a", "b"), np.eye(2, dtype=np.float32), np.array([0, 1], np.int32))
    }
    table = split_table("t", "mine", results, {"learnt": learnt})
    save_report(tmp_path, "results", table, results)
    assert has_table(tmp_path, step) == whole
    # what files are of decides, not how old they are
    os.utime(tmp_path / "results_scores.npz", (0, 0))
    assert has_table(tmp_path, step) == whole
    # scores of another evaluation, written later
    save_scores(
        tmp_path / "results_scores.npz",
        {"val": replace(results["val"], scores=results["val"].scores[::-1])},
    )
    assert not has_table(tmp_path, step)
    (tmp_path / "results_scores.npz").unlink()
    assert not has_table(tmp_path, step)


@pytest.mark.parametrize("step, whole", [(3, True), (None, False), (30, False)])
def test_the_text_of_a_table_does_not_say_its_step(tmp_path, step, whole):
    results = {"val": SplitResult(("a",), np.ones((1, 1), np.float32), np.array([0], np.int32))}
    facts = Facts(step=step, views=(1, 1), training="", lists={})
    table = replace(split_table("t", "mine", results, {"learnt": "x, step 30"}), facts=facts)
    save_report(tmp_path, "results", table, results)
    assert has_table(tmp_path, 3) == whole
    assert has_table(tmp_path, 30) == (step == 30)


@pytest.mark.parametrize(
    "broken", ["{", "[]", '{"about": 3}', "[" * 100_000, '{"title": "", "rows": [], "about": {}}']
)
def test_a_table_that_cannot_be_read_is_none(tmp_path, broken):
    (tmp_path / "results.json").write_text(broken)
    (tmp_path / "results_scores.npz").write_bytes(b"")
    assert not has_table(tmp_path, 3)


@pytest.mark.slow
def test_an_evaluation_may_be_broken_off_between_splits(folder):
    config = RunConfig.from_dict(small_run.config(folder).to_dict())
    evaluation, checks = Evaluation(config, from_config.open_splits(config)), []

    def check():
        checks.append(1)
        if len(checks) == 2:
            raise EvaluationInterrupted

    with pytest.raises(EvaluationInterrupted):
        evaluation(from_config.build_model(config), True, check)
    # half an evaluation is none
    assert (evaluation.finished, evaluation.results) == (False, {})
    found = evaluation(from_config.build_model(config), True, lambda: None)
    assert list(found) == ["base_top1", "base_top5", "novel_top1", "novel_top5"]
    assert evaluation.finished


@pytest.mark.command
def test_nothing_is_made_for_an_unknown_field(folder, tmp_path):
    flags = [*small_run.flags(folder), f"--workdir={tmp_path / 'run'}"]
    refused = small_run.command("train", *flags, "--config.optimizer.lrr=1")
    assert refused.returncode == 2
    assert "unknown config field optimizer.lrr: did you mean optimizer.lr" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.command
def test_steps_to_profile_are_checked_before_anything_is_made(folder, tmp_path):
    flags = [*small_run.flags(folder), f"--workdir={tmp_path / 'run'}"]
    refused = small_run.command("train", *flags, "--profile_steps=15:10")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: --profile_steps=15:10: expected FIRST:LAST")
    assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.command
def test_help_has_examples():
    message = small_run.command("train", "--help").stdout
    assert (
        "python -m experiments.train --config=experiments/configs/base_to_novel.py:hmdb51,shots=16 "
        in message
    )
    assert all(
        flag in message for flag in ("--[no]resume", "--[no]override_config", "--profile_steps")
    )
    assert "exit status 75" in message


class Inner:
    """Stands for ml_collections' parser."""

    syntactic_help = ""

    def parse(self, argument):
        if "broken" in argument:
            try:
                raise UserError("the reason")
            except UserError as error:
                raise ValueError("Error whilst parsing config file: Traceback …") from error
        return small_run.config(small_run.Path("nowhere"))


@pytest.mark.parametrize(
    "argument, message",
    [
        (
            "experiments/configs/nothing.py",
            "no such file; give one, or a config by name: base_to_novel, few_shot",
        ),
        (f"{FILE}:broken", "^the reason$"),
        ("pyproject.json", "no such file"),
    ],
)
def test_config_files_that_cannot_be_read(argument, message, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train", f"--config={argument}"])
    with pytest.raises(UserError, match=message):
        config_flag.ConfigParser(Inner()).parse(argument)


@pytest.mark.parametrize("field", ["lr", "optimizer.lr2", "model.optimizer", "data.evaluate.test"])
def test_unknown_fields(field, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train", f"--config={FILE}", f"--config.{field}=1"])
    with pytest.raises(UserError, match=f"unknown config field {field}: "):
        config_flag.ConfigParser(Inner()).parse(FILE)


@pytest.mark.parametrize(
    "field",
    ["optimizer.lr=1", "nomodel.fusion", "data.evaluate={'base': 'x'}", "data.evaluate.base=x"],
)
def test_known_fields(field, monkeypatch):
    item = f"--noconfig.{field[2:]}" if field.startswith("no") else f"--config.{field}"
    monkeypatch.setattr("sys.argv", ["train", f"--config={FILE}", item])
    assert config_flag.ConfigParser(Inner()).parse(FILE).name == "small"


def test_saved_configs_are_locked(tmp_path):
    path, saved = tmp_path / "config.json", small_run.run_config(tmp_path).to_dict()
    path.write_text(json.dumps(saved))
    config = config_flag.read_json(path)
    assert RunConfig.from_dict(config.to_dict()).to_dict() == saved
    with pytest.raises(AttributeError):
        config.model.c = 1
    for text, message in (("{", ""), (json.dumps(saved | {"a": 1}), "unknown config field a")):
        path.write_text(text)
        with pytest.raises(UserError, match=rf"config\.json: {message}"):
            config_flag.read_json(path)


def test_a_flag_is_found_before_flags_are_parsed(monkeypatch):
    monkeypatch.setattr(
        "sys.argv", ["evaluate", "--workdir", "here", "--config=a.py", "-checkpoint=3"]
    )
    assert [
        config_flag.argument(name) for name in ("workdir", "config", "checkpoint", "nothing")
    ] == [
        "here",
        "a.py",
        "3",
        None,
    ]
