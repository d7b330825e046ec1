"""Whole runs on small records: devices, spellings, interruption, resumption, metrics, refusals."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from support import small_run
from support.helpers import random_state
from vtd_jax.clip.preprocessing import Preprocessing
from vtd_jax.clip.weights.checkpoints import save_clip
from vtd_jax.errors import UserError
from vtd_jax.model.vtd_clip import learnable
from vtd_jax.train import from_config, loop
from vtd_jax.train.checkpoints.checkpoint import Checkpoints, flatten_arrays
from vtd_jax.train.config import RunConfig
from vtd_jax.train.learnt import load_learnt
from vtd_jax.train.trainer import Trainer
from vtd_jax.train.workdir import prepare_workdir, read_config
from vtd_jax.video.pipeline import BatchIterator

pytestmark = pytest.mark.slow
_config, _train, _learnt, _rows = (
    small_run.run_config,
    small_run.train,
    small_run.learnt,
    small_run.rows,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_run.build(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """A run that was never interrupted: (workdir, what it learnt)."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, _learnt(_train(_config(folder), workdir).model)


def test_a_run_learns_and_leaves_its_files(folder, whole):
    workdir, learnt = whole
    start = _learnt(from_config.build_model(_config(folder)))
    moved = [name for name, value in learnt.items() if not np.array_equal(value, start[name])]
    assert len(moved) == len(start)
    # 10 videos in batches of 4, the last one padded: 3 batches an epoch
    assert Checkpoints(workdir).steps == [3, 6]
    assert [row["step"] for row in _rows(workdir)] == list("123456")
    # the first update runs at rate 0, the warm-up is one epoch long
    assert float(_rows(workdir)[0]["lr"]) == 0.0
    assert float(_rows(workdir)[3]["lr"]) == pytest.approx(2 / 3 * 1e-2)
    assert RunConfig.from_dict(json.loads((workdir / "config.json").read_text())) == _config(folder)
    assert any((workdir / "events").iterdir())


class Interrupted(Exception):
    """Stands for whatever ends a run."""


@pytest.mark.parametrize("at, every_steps, goes_on_from", [(5, 0, 3), (6, 2, 4)])
def test_resumed_is_bit_for_bit_uninterrupted(
    folder, whole, tmp_path, monkeypatch, at, every_steps, goes_on_from
):
    config = _config(folder, checkpoint__every_steps=every_steps)
    step, calls = Trainer.step, []

    def breaking(self, state, batch):
        calls.append(state.step)
        if state.step + 1 == at and len(calls) == at:
            raise Interrupted
        return step(self, state, batch)

    monkeypatch.setattr(Trainer, "step", breaking)
    with pytest.raises(Interrupted):
        _train(config, tmp_path)
    assert Checkpoints(tmp_path).steps[-1] == goes_on_from
    done = _train(config, tmp_path, resume=True)
    assert calls[at] == goes_on_from
    assert (done.step, done.steps_now) == (6, 6 - goes_on_from)
    for name, value in _learnt(done.model).items():
        np.testing.assert_array_equal(value, whole[1][name], err_msg=name)
    before, after = _rows(whole[0]), _rows(tmp_path)
    assert [row["step"] for row in after] == list("123456")
    assert [(row["loss"], row["lr"]) for row in after] == [
        (row["loss"], row["lr"]) for row in before
    ]


def test_dropout_and_data_order_are_part_of_what_is_equal(folder, whole, tmp_path):
    other_seed = _learnt(_train(_config(folder, seed=1), tmp_path / "seed").model)
    no_dropout = _learnt(_train(_config(folder, model__dropout=0.0), tmp_path / "dropout").model)
    name = "fusion.fc2.bias"
    assert not np.array_equal(other_seed[name], whole[1][name])
    assert not np.array_equal(no_dropout[name], whole[1][name])


def test_every_step_draws_its_own_dropout(folder):
    config = _config(folder)
    records, model = from_config.open_training(config), from_config.build_model(config)
    batches = loop.open_batches(config, model, records)
    trainer, batch = (
        Trainer(config, model, records.class_names, 3, jax.local_devices()[:1]),
        next(batches),
    )
    batches.close()
    losses = [
        float(
            trainer.step(
                trainer.place(trainer.initial)._replace(step=step), trainer.place_batch(batch)
            )[1]["loss"]
        )
        for step in (0, 1, 0)
    ]
    assert losses[0] == losses[2] != losses[1]


@pytest.mark.mesh
def test_devices_and_spellings_give_the_same_numbers(folder, tmp_path):
    # Adam makes full steps of the rounding of tiny gradients; a large eps keeps steps proportional
    # to gradients
    changes = dict(optimizer__eps=1e3, optimizer__lr=1e3)
    one = _train(_config(folder, **changes), tmp_path / "one")
    losses = [float(row["loss"]) for row in _rows(tmp_path / "one")]
    for spelling in ("shard_map", "pmap"):
        done = _train(_config(folder, parallel=spelling, devices=8, **changes), tmp_path / spelling)
        np.testing.assert_allclose(
            [float(row["loss"]) for row in _rows(tmp_path / spelling)], losses, rtol=1e-4
        )
        for name, value in _learnt(done.model).items():
            np.testing.assert_allclose(
                value, _learnt(one.model)[name], rtol=1e-4, atol=1e-5, err_msg=name
            )
        assert isinstance(jax.tree.leaves(learnable(done.model))[0].sharding, SingleDeviceSharding)


def test_accumulation_updates_every_other_batch(folder, tmp_path):
    config = _config(
        folder,
        optimizer__gradient_accumulation_steps=2,
        checkpoint__every_steps=1,
        optimizer__warmup_epochs=0.0,
    )
    _train(config, tmp_path)
    template = learnable(from_config.build_model(config))
    checkpoints = Checkpoints(tmp_path)
    at = [
        flatten_arrays(checkpoints.learnable(step, template))["logit_scale"] for step in range(1, 7)
    ]
    checkpoints.close()
    # update 0 (after batch 2) runs at rate 0, updates 1 and 2 come after batches 4 and 6
    assert at[0] == at[1] == at[2] != at[3]
    assert at[3] == at[4] != at[5]


def test_evaluations_are_reported_and_choose_the_best(folder, tmp_path):
    message = []

    def evaluate(model, last, check):
        message.append(last)
        return {
            "base_top1": 0.9 / len(message),
            "base_top5": None,
            "novel_top1": 0.5,
            "novel_top5": None,
        }

    _train(_config(folder, checkpoint__keep=1), tmp_path, evaluate=evaluate)
    assert message == [False, True]
    assert (Checkpoints(tmp_path).choose("best"), Checkpoints(tmp_path).choose("last")) == (3, 6)
    rows = [row for row in _rows(tmp_path) if row["base_top1"]]
    assert [(row["step"], row["base_top1"], row["base_top5"]) for row in rows] == [
        ("3", "0.9", ""),
        ("6", "0.45", ""),
    ]


def test_more_epochs_resume_from_a_finished_run(folder, tmp_path):
    _train(_config(folder, optimizer__epochs=1), tmp_path)
    assert _train(_config(folder, optimizer__epochs=1), tmp_path, resume=True).steps_now == 0
    assert _train(_config(folder, optimizer__epochs=2), tmp_path, resume=True).steps_now == 3
    assert [row["step"] for row in _rows(tmp_path)] == list("123456")


def test_a_workdir_with_checkpoints_needs_resume(folder, whole):
    before = (whole[0] / "metrics.csv").read_text()
    with pytest.raises(
        UserError, match=r"holds checkpoints, the last of step 6; leave `resume=False` out"
    ):
        _train(_config(folder), whole[0])
    assert (whole[0] / "metrics.csv").read_text() == before


def test_another_runs_checkpoints_are_refused(folder, whole):
    with pytest.raises(
        UserError,
        match=r"settings differ: data.frames: 2 -> 3; optimizer.lr: 0.01 -> 0.5; "
        r"give .* or `override`",
    ):
        _train(_config(folder, optimizer__lr=0.5, data__frames=3), whole[0], resume=True)
    assert read_config(whole[0]) == _config(folder)


def test_runs_of_before_there_was_a_rule_for_ties_say_how_to_resume(folder, whole, tmp_path):
    fields = _config(folder).to_dict()
    assert fields["model"].pop("ties") == "frames"
    (tmp_path / "config.json").write_text(json.dumps(fields))
    (tmp_path / "checkpoints").symlink_to(whole[0] / "checkpoints")
    message = r"model\.ties: 'release' -> 'frames'; set `model\.ties=release` .*give another folder"
    with pytest.raises(UserError, match=message):
        prepare_workdir(tmp_path, _config(folder), resume=True)
    prepare_workdir(tmp_path, _config(folder, model__ties="release"), resume=True)


def test_checkpoints_learnt_on_another_clip_are_refused(folder, whole, tmp_path):
    save_clip(tmp_path / "other.safetensors", small_run.SMALL, random_state(small_run.SMALL, 7))
    config = _config(folder, clip__path=str(tmp_path / "other.safetensors"))
    with pytest.raises(UserError, match="another run's checkpoint, the CLIP weights differ"):
        _train(config, whole[0], resume=True)
    # the same weights with other statistics
    half = dataclasses.replace(small_run.SMALL, preprocessing=Preprocessing((0.5,) * 3, (0.5,) * 3))
    save_clip(tmp_path / "half.safetensors", half, random_state(small_run.SMALL))
    message = (
        r"the CLIP settings differ \(activation quick_gelu, .*, images of mean 0\.4815 .*; "
        r"here .* mean 0\.5 0\.5"
    )
    with pytest.raises(UserError, match=message):
        _train(
            _config(folder, clip__path=str(tmp_path / "half.safetensors")), whole[0], resume=True
        )
    model = from_config.build_model(_config(folder, clip__path=str(tmp_path / "half.safetensors")))
    with pytest.raises(
        UserError, match=r"was learnt on a CLIP with .* 0\.4815 .*; here it has .* mean 0\.5"
    ):
        load_learnt(model, whole[0])


def test_too_few_videos(folder, tmp_path):
    with pytest.raises(
        UserError, match="batch_size=16 with drop_remainder leaves no batch of 10 videos"
    ):
        _train(_config(folder, data__batch_size=16, data__drop_remainder=True), tmp_path)


def test_workdir_that_cannot_be_one(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file, expected a folder"):
        prepare_workdir(tmp_path / "file", _config(folder), False)
    with pytest.raises(UserError, match=r"config\.json: no such file"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json: "):
        read_config(tmp_path)


def test_a_changed_config_resumes_where_requested(folder, tmp_path, capsys):
    _train(_config(folder, optimizer__epochs=1), tmp_path)
    changed = _config(folder, optimizer__lr=0.5, data__frames=3)
    done = _train(changed, tmp_path, resume=True, override=True)
    printed = capsys.readouterr()
    # how towers compute is chosen by the device, so each start says it
    line = "memory: attention by xla for frames and by xla for texts, remat none"
    assert printed.out.splitlines().count(line) == 2
    assert printed.err.splitlines() == [
        "warning: `override`: data.frames: 2 -> 3",
        "warning: `override`: optimizer.lr: 0.01 -> 0.5",
    ]
    assert done.steps_now == 3
    assert read_config(tmp_path) == changed
    assert [row["step"] for row in _rows(tmp_path)] == list("123456")


def test_replaced_records_of_a_split_are_noticed(folder, whole, tmp_path):
    config = _config(folder, optimizer__epochs=1)
    splits = from_config.open_splits(config)
    _train(config, tmp_path, splits=splits)
    assert _train(config, tmp_path, resume=True, splits=splits).steps_now == 0
    novel = from_config.open_splits(config)["novel"]
    novel.info["fingerprint"] = "other"
    message = (
        r"checkpoints/3: data\.evaluate\.novel: the records of novel_val were replaced "
        r"\(.*, is other\)"
    )
    with pytest.raises(UserError, match=message):
        _train(config, tmp_path, resume=True, splits=splits | {"novel": novel})
    _train(config, tmp_path, resume=True, override=True, splits=splits | {"novel": novel})
    # a checkpoint that knows of no splits, as those of earlier versions
    assert Checkpoints(whole[0]).progress(6)["splits"] == {}
    assert _train(_config(folder), whole[0], resume=True, splits=splits).steps_now == 0


def test_shapes_that_do_not_fit_are_refused_whatever_is_requested(folder, whole):
    config = _config(folder, model__text_prompts=3)
    with pytest.raises(
        UserError, match=r"these arrays differ: text_prompts \(1, 2, 64\) instead of \(1, 3, 64\)"
    ):
        _train(config, whole[0], resume=True, override=True)
    # what the folder says of its checkpoints is still true
    assert read_config(whole[0]) == _config(folder)


def test_the_key_of_dropout_comes_back(folder, whole):
    progress = Checkpoints(whole[0]).progress(6)
    key = jax.random.wrap_key_data(
        np.asarray(progress["key"]["data"], np.uint32), impl=progress["key"]["impl"]
    )
    assert key == jax.random.key(0)


def test_random_numbers_of_another_kind_are_refused(folder, whole):
    with (
        jax.default_prng_impl("rbg"),
        pytest.raises(UserError, match="drew its random numbers with threefry2x32"),
    ):
        _train(_config(folder), whole[0], resume=True)


@pytest.mark.parametrize(
    "broken, message", [(4, ["1", "2", "3", "4"]), (6, ["1", "2", "3", "4", "5", "6"])]
)
def test_an_error_of_the_input_comes_when_its_batch_is_due(
    folder, tmp_path, monkeypatch, broken, message
):
    """A batch is fetched while the step before it runs; 6 are needed, so what is wrong with a 7th
    is never reported.
    """
    read = BatchIterator.__next__

    def reading(self):
        if self.get_state()["batch"] == broken:
            raise UserError("a record cannot be read")
        return read(self)

    monkeypatch.setattr(BatchIterator, "__next__", reading)
    if broken < 6:
        with pytest.raises(UserError, match="a record cannot be read"):
            _train(_config(folder), tmp_path)
    else:
        assert _train(_config(folder), tmp_path).step == 6
    assert [row["step"] for row in _rows(tmp_path)] == message
    assert all(0 <= float(row["input_wait"]) <= 1 for row in _rows(tmp_path))
