"""Losses and gradients that are not finite: the run stops or skips, and the batch is on file."""

import json

import jax
import numpy as np
import pytest

from support import small_run
from vtd_jax.errors import UserError
from vtd_jax.train import from_config, loop
from vtd_jax.train.checkpoints import integrity
from vtd_jax.train.checkpoints.checkpoint import Checkpoints
from vtd_jax.train.nonfinite import not_finite
from vtd_jax.train.trainer import Trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_run.build(tmp_path_factory.mktemp("small"))


@pytest.fixture
def spoil(monkeypatch):
    """Makes chosen numbers of chosen steps not finite, as the step itself would report them."""
    original = Trainer.step

    def arm(steps, skip, **values):
        def spoiled(self, state, batch):
            # a step takes the memory of its state
            before = jax.tree.map(np.array, jax.device_get(state))
            after, sums = original(self, state, batch)
            if state.step + 1 in steps:
                sums = sums | {name: np.float32(value) for name, value in values.items()}
                if skip:
                    sums["skipped"] = np.float32(1)
                    after = self.place(before._replace(step=state.step + 1))
            return after, sums

        monkeypatch.setattr(Trainer, "step", spoiled)

    return arm


def _batch(config, step):
    """Indices and files of the batch that a step is made with."""
    records, model = from_config.open_training(config), from_config.build_model(config)
    batches = loop.open_batches(config, model, records)
    index = [next(batches)["index"] for _ in range(step)][-1].tolist()
    batches.close()
    files = [example.file for example in records]
    return [i for i in index if i >= 0], [files[i] for i in index if i >= 0]


def _lines(workdir):
    return [json.loads(line) for line in (workdir / "nonfinite.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(
    "values, message",
    [({"loss": np.nan}, "loss is nan"), ({"grad_norm": np.inf}, "norm of the gradient is inf")],
)
def test_a_run_stops_and_names_the_batch(folder, tmp_path, spoil, values, message):
    spoil([5], False, **values)
    config = small_run.run_config(folder, log_every=6, seed=3)
    with pytest.raises(UserError) as error:
        small_run.train(config, tmp_path)
    assert str(error.value).startswith(
        f"step 5: the {message}; training stops, the videos of this batch are in {tmp_path}/"
    )
    assert "the last checkpoint is of step 3; " in str(error.value)
    assert Checkpoints(tmp_path).steps == [3]
    (line,) = _lines(tmp_path)
    assert (line["step"], line["epoch"], line["what"], line["seed"], line["skipped"]) == (
        5,
        1,
        message,
        3,
        False,
    )
    assert line["list"] == "base_train"
    assert (line["index"], line["files"]) == _batch(config, 5)
    # the window of six steps was reported up to there
    assert [row["step"] for row in small_run.rows(tmp_path)] == ["3", "4"]
    name, value = next(iter(values.items()))
    assert line[name] == str(value)
    assert line["lr"] == pytest.approx(config.optimizer.lr, rel=0.5)
    # the file has one line a step, however often a run comes to it
    with pytest.raises(UserError):
        small_run.train(config, tmp_path, resume=True)
    assert len(_lines(tmp_path)) == 1


def test_padding_is_no_video(folder, tmp_path, spoil):
    spoil([3], False, loss=np.nan)
    with pytest.raises(UserError):
        small_run.train(small_run.run_config(folder), tmp_path)
    # 10 videos in batches of 4
    assert len(_lines(tmp_path)[0]["files"]) == len(_lines(tmp_path)[0]["index"]) == 2


@pytest.mark.slow
def test_skipped_updates_are_counted_and_the_count_resumes(folder, tmp_path, spoil, capsys):
    spoil([2, 5], True, loss=np.nan)
    changes = dict(on_nonfinite="skip", optimizer__epochs=1)
    small_run.train(small_run.run_config(folder, **changes), tmp_path)
    small_run.train(small_run.run_config(folder, on_nonfinite="skip"), tmp_path, resume=True)
    assert [row["skipped"] for row in small_run.rows(tmp_path)] == list("011122")
    assert [row["loss"] for row in small_run.rows(tmp_path)].count("nan") == 2
    assert [line["step"] for line in _lines(tmp_path)] == [2, 5]
    assert "  2 skipped" in capsys.readouterr().out
    progress = Checkpoints(tmp_path).progress(6)
    assert (progress["skipped"], progress["in_a_row"]) == (2, 0)


@pytest.mark.slow
def test_the_mean_of_a_window_leaves_skipped_batches_out(folder, tmp_path, spoil):
    spoil([2], True, loss=np.nan, grad_norm=np.nan)
    small_run.train(small_run.run_config(folder, on_nonfinite="skip", log_every=3), tmp_path)
    first = small_run.rows(tmp_path)[0]
    assert (first["step"], first["skipped"]) == ("3", "1")
    assert np.isfinite([float(first["loss"]), float(first["grad_norm"])]).all()


@pytest.mark.slow
def test_a_run_that_skips_all_the_time_stops(folder, tmp_path, spoil):
    spoil(range(2, 99), True, loss=np.inf)
    config = small_run.run_config(folder, on_nonfinite="skip", optimizer__epochs=9)
    with pytest.raises(
        UserError,
        match=r"step 11: the loss is inf, and 10 updates in a row were skipped",
    ):
        small_run.train(config, tmp_path)
    assert len(_lines(tmp_path)) == 10


@pytest.mark.slow
def test_ten_in_a_row_are_ten_over_a_continuation(folder, tmp_path, spoil):
    spoil(range(2, 99), True, loss=np.inf)
    changes = dict(on_nonfinite="skip", checkpoint__every_steps=1)
    small_run.train(small_run.run_config(folder, optimizer__epochs=2, **changes), tmp_path)
    with pytest.raises(UserError, match=r"step 11: .* 10 updates in a row"):
        small_run.train(
            small_run.run_config(folder, optimizer__epochs=9, **changes), tmp_path, resume=True
        )


@pytest.mark.slow
def test_real_rates_that_leave_float32(folder, tmp_path):
    config = small_run.run_config(
        folder, optimizer__lr=1e30, optimizer__warmup_epochs=0.0, checkpoint__every_steps=1
    )
    with pytest.raises(
        UserError, match=r"step \d: the .* training stops, .*the last checkpoint is of step"
    ):
        small_run.train(config, tmp_path)
    assert Checkpoints(tmp_path).steps
    for folder in (tmp_path / "checkpoints").iterdir():
        stored = integrity.read(folder)
        assert not_finite(stored.learnable | stored.optimizer) == []


def test_parameters_that_are_not_finite_are_not_saved(folder, tmp_path, monkeypatch):
    original = Trainer.step

    def broken(self, state, batch):
        after, sums = original(self, state, batch)
        if after.step == 2:
            after.learnable["logit_scale"][...] = np.inf
        return after, sums

    monkeypatch.setattr(Trainer, "step", broken)
    config = small_run.run_config(folder, checkpoint__every_steps=1)
    with pytest.raises(
        UserError, match=r"step 2: the update left logit_scale not finite; training stops"
    ):
        small_run.train(config, tmp_path)
    assert Checkpoints(tmp_path).steps == [1]


def test_not_finite_names_arrays():
    arrays = {
        "a": np.ones(2),
        "b": np.array([1, np.nan], np.float32),
        "c": np.array(3),
        "d": np.array(-np.inf),
    }
    assert not_finite(arrays) == ["b", "d"]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"3\n", "nonfinite.jsonl:1: expected object, got int"),
        (b'{"step": 1}\n{"step": "2"}\n', "nonfinite.jsonl:2: step: expected int, got str"),
        (b'{"step": 1}\n{"st', "nonfinite.jsonl:2: not JSON"),
        (b"[" * 100_000, "nonfinite.jsonl:1: "),
        (b'{"step": ' + b"9" * 5000 + b"}", "nonfinite.jsonl:1: "),
        (b"\xff\xfe\x00", "nonfinite.jsonl: byte 0 is not UTF-8"),
    ],
)
def test_a_damaged_list_of_batches_is_kept_aside(folder, tmp_path, spoil, capsys, content, message):
    (tmp_path / "nonfinite.jsonl").write_bytes(content)
    spoil({2}, False, loss=np.nan)
    with pytest.raises(UserError, match="step 2: the loss is nan"):
        small_run.train(small_run.run_config(folder), tmp_path)
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("warning: ")
    assert message in errors[0]
    assert (tmp_path / "nonfinite.jsonl.damaged").read_bytes() == content
    assert [line["step"] for line in _lines(tmp_path)] == [2]
