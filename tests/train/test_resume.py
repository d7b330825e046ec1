"""Resuming: damaged checkpoints make way, other runs' are refused, and steps continue while one is
written.
"""

import json
import shutil
import threading

import jax
import numpy as np
import pytest
from orbax.checkpoint._src.path import atomicity

from support import small_run
from support.helpers import random_state
from vtd_jax.clip.weights.checkpoints import save_clip
from vtd_jax.errors import UserError
from vtd_jax.train import from_config
from vtd_jax.train.checkpoints import integrity
from vtd_jax.train.checkpoints.checkpoint import Checkpoints
from vtd_jax.train.learnt import learnt_names, learnt_on, load_learnt
from vtd_jax.train.trainer import Trainer
from vtd_jax.train.workdir import save_config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_run.build(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """A run with a checkpoint a step: (workdir, what it learnt)."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, small_run.learnt(small_run.train(_config(folder), workdir).model)


def _config(folder, **changes):
    return small_run.run_config(folder, **{"checkpoint__every_steps": 1, **changes})


def _damage(workdir, step):
    shutil.rmtree(workdir / "checkpoints" / str(step) / "optimizer")


@pytest.mark.slow
def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(folder, whole, tmp_path, capsys):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    for step in (2, 5, 6):
        _damage(tmp_path, step)
    done = small_run.train(_config(folder), tmp_path, resume=True)
    out, errors = capsys.readouterr()
    for step, line in zip((2, 5, 6), errors.splitlines(), strict=True):
        assert f"{tmp_path}/checkpoints/{step}: damaged, optimizer is missing; moved to " in line
        assert line.endswith("resuming from step 4")
    assert "resuming from step 4 of 6" in out
    assert done.steps_now == 2
    for name, value in small_run.learnt(done.model).items():
        np.testing.assert_array_equal(value, whole[1][name], err_msg=name)
    assert Checkpoints(tmp_path).steps == [1, 3, 4, 5, 6]
    assert sorted(path.name for path in (tmp_path / "damaged").iterdir()) == ["2", "5", "6"]
    assert [row["step"] for row in small_run.rows(tmp_path)] == list("123456")
    assert [row["loss"] for row in small_run.rows(tmp_path)] == [
        row["loss"] for row in small_run.rows(whole[0])
    ]


def test_nothing_whole_is_refused_every_time(folder, whole, tmp_path):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    for step in range(1, 7):
        _damage(tmp_path, step)
    for _ in range(2):
        with pytest.raises(UserError, match=r"none .*is intact \(1: optimizer is missing; "):
            small_run.train(_config(folder), tmp_path, resume=True)
    assert (Checkpoints(tmp_path).steps, (tmp_path / "damaged").exists()) == (
        [1, 2, 3, 4, 5, 6],
        False,
    )


def test_another_runs_checkpoints_are_not_moved(folder, whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    _damage(tmp_path / "run", 6)
    save_clip(tmp_path / "other.safetensors", small_run.SMALL, random_state(small_run.SMALL, 7))
    config = _config(folder, clip__path=str(tmp_path / "other.safetensors"))
    with pytest.raises(
        UserError, match=r"checkpoints/5: another run's checkpoint, the CLIP weights differ"
    ):
        small_run.train(config, tmp_path / "run", resume=True, override=True)
    assert (tmp_path / "run" / "checkpoints" / "6").is_dir()
    assert not (tmp_path / "run" / "damaged").exists()


@pytest.mark.slow
def test_a_run_of_an_earlier_version_resumes(folder, tmp_path):
    """Its config.json has an earlier name of a field, and one that is no more."""
    two = {"optimizer__gradient_accumulation_steps": 2}
    whole = small_run.train(_config(folder, **two), tmp_path / "whole")
    small_run.train(_config(folder, optimizer__epochs=1, **two), tmp_path / "run")
    file = tmp_path / "run" / "config.json"
    fields = json.loads(file.read_text())
    fields["optimizer"]["accumulation"] = fields["optimizer"].pop("gradient_accumulation_steps")
    fields["memory"]["microbatches"] = 1
    file.write_text(json.dumps(fields))
    done = small_run.train(_config(folder, **two), tmp_path / "run", resume=True)
    assert done.steps_now == 3
    for name, value in small_run.learnt(done.model).items():
        np.testing.assert_array_equal(value, small_run.learnt(whole.model)[name], err_msg=name)


def test_an_evaluation_names_the_whole_ones_and_moves_nothing(folder, whole, tmp_path):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    _damage(tmp_path, 6)
    model = from_config.build_model(_config(folder))
    with pytest.raises(
        UserError,
        match=r"/6: damaged, optimizer is missing; .* `checkpoint=STEP`: 1, 2, 3, 4, 5$",
    ):
        load_learnt(model, tmp_path)
    assert load_learnt(model, tmp_path, "5") == 5
    assert Checkpoints(tmp_path).steps == [1, 2, 3, 4, 5, 6]


def test_an_evaluation_warns_of_a_config_that_was_edited(folder, whole, tmp_path, capsys):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    file, model = tmp_path / "config.json", from_config.build_model(_config(folder))
    # what a continuation may change is no edit
    more = _config(folder, optimizer__epochs=9, evaluate__temporal_views=4)
    for config, differs in (
        (_config(folder), False),
        (more, False),
        (_config(folder, data__frames=3), True),
    ):
        save_config(tmp_path, config)
        assert load_learnt(model, tmp_path) == 6
        warned = capsys.readouterr().err
        assert warned.startswith(f"warning: {file}: " if differs else "")
        assert (warned.count("\n"), "step 6" in warned) == (differs, differs)
    # checkpoints of earlier versions do not store their settings
    stored = integrity.read(tmp_path / "checkpoints" / "6")
    del stored.progress["settings"]
    integrity.write_progress(tmp_path / "checkpoints" / "6", stored)
    assert load_learnt(model, tmp_path) == 6
    assert capsys.readouterr().err == ""


def test_what_was_learnt_on_is_the_checkpoints_word(folder, whole, tmp_path, capsys):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    file, noted = (
        tmp_path / "training_list.json",
        {"origin": "given", "told": "base_train (given list; 10 videos)"},
    )
    for there, what in (
        (noted, ""),
        ({"origin": "own split", "told": "x"}, "wrong"),
        ({}, "missing"),
    ):
        assert learnt_on(tmp_path, 6, there) == noted
        message = capsys.readouterr().err
        assert message.startswith(f"warning: {file}: {what}; " if what else "")
        assert message.endswith("step 6: base_train (given list; 10 videos)\n" if what else "")
        assert message.count("\n") == bool(what)
    # checkpoints of earlier versions do not say it
    stored = integrity.read(tmp_path / "checkpoints" / "6")
    del stored.progress["learnt_on"]
    integrity.write_progress(tmp_path / "checkpoints" / "6", stored)
    assert learnt_on(tmp_path, 6, {}) == {}
    assert capsys.readouterr().err == ""


def test_settings_that_are_gone_can_be_put_back(folder, whole, tmp_path):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "config.json").write_text("")
    with pytest.raises(
        UserError, match=r"config\.json: empty, expected JSON; put it back, or give another folder$"
    ):
        small_run.train(_config(folder), tmp_path, resume=True)
    (tmp_path / "config.json").unlink()
    with pytest.raises(
        UserError, match=r"no such file, expected .*; put it back, or give another folder$"
    ):
        small_run.train(_config(folder), tmp_path, resume=True)


@pytest.mark.slow
def test_data_that_cannot_resume_say_what_to_do(folder, whole, tmp_path):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    config = _config(folder, data__frames=3)
    # as after a change that was allowed once, and before the next checkpoint
    save_config(tmp_path, config)
    with pytest.raises(UserError, match=r"differ: frames \(was 2, is 3\); .*`override`"):
        small_run.train(config, tmp_path, resume=True)


@pytest.mark.slow
def test_steps_continue_while_a_checkpoint_is_written(folder, whole, tmp_path, monkeypatch):
    commit, step, released, meanwhile = (
        atomicity.on_commit_callback,
        Trainer.step,
        threading.Event(),
        [],
    )

    def slow(*args, **kwargs):
        assert released.wait(60)
        return commit(*args, **kwargs)

    def watched(self, state, batch):
        after, sums = step(self, state, batch)
        jax.block_until_ready(sums)
        meanwhile.append((after.step, Checkpoints(tmp_path).steps))
        if after.step == 6:
            released.set()
        return after, sums

    monkeypatch.setattr(atomicity, "on_commit_callback", slow)
    monkeypatch.setattr(Trainer, "step", watched)
    small_run.train(
        _config(folder, checkpoint__every_steps=0, checkpoint__every_epochs=1), tmp_path
    )
    # the one of step 3 was under way until step 6 was made
    assert meanwhile == [(step, []) for step in range(1, 7)]
    assert Checkpoints(tmp_path).steps == [3, 6]
    # and holds what was learnt by step 3, not by the steps after
    mine, theirs = (integrity.read(each / "checkpoints" / "3") for each in (tmp_path, whole[0]))
    for name, value in theirs.learnable.items():
        np.testing.assert_array_equal(mine.learnable[name], value, err_msg=name)
    for name, value in theirs.optimizer.items():
        np.testing.assert_array_equal(mine.optimizer[name], value, err_msg=name)


def test_a_write_that_fails_ends_the_run(folder, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomicity, "on_commit_callback", full)
    with pytest.raises(
        UserError,
        match=r"checkpoints/1: this checkpoint could not be written .*; there is none before",
    ):
        small_run.train(_config(folder), tmp_path)
    assert [row["step"] for row in small_run.rows(tmp_path)] == ["1", "2"]


def test_an_error_of_the_run_is_reported_before_one_of_its_last_checkpoint(
    folder, tmp_path, monkeypatch, capsys
):
    step = Trainer.step

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    def broken(self, state, batch):
        if state.step == 3:
            raise ZeroDivisionError
        return step(self, state, batch)

    monkeypatch.setattr(Trainer, "step", broken)
    monkeypatch.setattr(atomicity, "on_commit_callback", full)
    with pytest.raises(ZeroDivisionError):
        small_run.train(_config(folder, checkpoint__every_steps=0), tmp_path)
    assert "warning: " in capsys.readouterr().err


def _as_before(workdir, step):
    """Spells the fingerprints of a checkpoint as version 0.1.0 did."""
    folder = workdir / "checkpoints" / str(step)
    stored = integrity.read(folder)
    progress = dict(stored.progress, clip="38ae04d7")
    progress |= {"names": progress["names"][:8], "settings": progress["settings"][:12]}
    data = progress["batches"]["data"]
    progress["batches"]["data"] = data | {"fingerprint": f"{data['fingerprint']:0<64}"}
    progress["splits"] = {split: f"{each:0<64}" for split, each in progress["splits"].items()}
    integrity.write_progress(folder, stored._replace(progress=progress))
    file = folder / "progress" / "metadata"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"digest": f"{content['digest']:0<64}"}))


@pytest.mark.slow
def test_a_run_of_an_earlier_version_is_resumed_and_evaluated(folder, whole, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(whole[0], workdir)
    for step in (5, 6):
        shutil.rmtree(workdir / "checkpoints" / str(step))
    _as_before(workdir, 4)
    model = from_config.build_model(_config(folder))
    assert load_learnt(model, workdir) == 4
    assert learnt_names(_config(folder), workdir, 4) == small_run.BASE
    splits = from_config.open_splits(_config(folder))
    other = tmp_path / "other.safetensors"
    save_clip(other, small_run.SMALL, random_state(small_run.SMALL, 7))
    changed = _config(folder, clip__path=str(other))
    with pytest.raises(UserError, match=r"the CLIP weights differ \(fingerprint 38ae04d7; here"):
        small_run.train(changed, workdir, resume=True, override=True)
    with pytest.raises(UserError, match="was learnt on another CLIP"):
        load_learnt(from_config.build_model(changed), workdir)
    capsys.readouterr()
    done = small_run.train(_config(folder), workdir, resume=True, splits=splits)
    assert (done.steps_now, capsys.readouterr().err) == (2, "")
    for name, value in small_run.learnt(done.model).items():
        np.testing.assert_array_equal(value, whole[1][name], err_msg=name)
