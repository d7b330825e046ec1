"""Checkpoints: what is in them, which are kept, how the wrong ones are refused."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from orbax.checkpoint._src.path import atomicity

from support.helpers import SMALL, random_state
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.errors import UserError
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.saved.fingerprint import weights_fingerprint
from vtd_jax.model.vtd_clip import VTDCLIP, learnable
from vtd_jax.train.checkpoints import integrity
from vtd_jax.train.checkpoints.checkpoint import Checkpoints
from vtd_jax.trees import flatten_arrays, unflatten_arrays

CONFIG = ModelConfig(text_prompts=2, text_depth=2, visual_prompts=2, visual_depth=1)


@pytest.fixture(scope="module")
def parts():
    model = VTDCLIP(clip_from_state(SMALL, random_state(SMALL)), CONFIG, rngs=nnx.Rngs(0))
    params = learnable(model)
    return params, optax.MultiSteps(optax.adamw(1e-3), 2).gradient_transformation().init(params)


def _save(checkpoints, parts, step, metric=None):
    learnt, opt_state = parts
    scaled = jax.tree.map(lambda value: value + step, learnt)
    checkpoints.save(
        step, scaled, opt_state, {"step": step, "batches": {"json": {"next": [step]}}}, metric
    )


def test_everything_comes_back(tmp_path, parts):
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, parts, 3)
    checkpoints.close()
    again = Checkpoints(tmp_path)
    assert again.steps == [3]
    assert again.progress(3) == {"step": 3, "batches": {"json": {"next": [3]}}}
    found, start = flatten_arrays(again.learnable(3, parts[0])), flatten_arrays(parts[0])
    assert found.keys() == start.keys()
    for name, value in start.items():
        np.testing.assert_array_equal(found[name], value + 3)
    restored = unflatten_arrays(parts[1], again.stored(3).optimizer, "optimizer")
    for ours, theirs in zip(flatten_arrays(restored).values(), flatten_arrays(parts[1]).values()):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    again.close()


def test_only_what_is_learnable_is_stored(tmp_path, parts):
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, parts, 1)
    checkpoints.close()
    stored = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    learnt = sum(value.nbytes for value in flatten_arrays(parts[0]).values())
    # parameters, two moments and accumulated gradients; the frozen token table alone has 12 MB
    assert learnt < stored < 6 * learnt < 49408 * 64 * 4


def test_last_and_best_are_kept(tmp_path, parts):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, metric in ((1, 0.1), (2, 0.9), (3, 0.2), (4, None), (5, 0.3)):
        _save(checkpoints, parts, step, metric)
    assert checkpoints.steps == [2, 4, 5]
    assert (checkpoints.choose("last"), checkpoints.choose("best"), checkpoints.choose("4")) == (
        5,
        2,
        4,
    )
    checkpoints.close()
    with pytest.raises(
        UserError, match=r"`checkpoint=3`: expected last, best or one of the steps \[2, 4, 5\]"
    ):
        Checkpoints(tmp_path).choose("3")


def test_none_there(tmp_path):
    checkpoints = Checkpoints(tmp_path / "nowhere")
    assert checkpoints.steps == []
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(UserError, match="no checkpoints there"):
        checkpoints.choose("last")


def test_no_best_before_an_evaluation(tmp_path, parts):
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, parts, 1)
    with pytest.raises(UserError, match="no checkpoint was evaluated yet"):
        checkpoints.choose("best")
    checkpoints.close()


def test_writing_continues_in_the_background_with_the_values_of_then(tmp_path, monkeypatch):
    commit, released = atomicity.on_commit_callback, threading.Event()

    def slow(*args, **kwargs):
        assert released.wait(30)
        return commit(*args, **kwargs)

    monkeypatch.setattr(atomicity, "on_commit_callback", slow)
    handed = []
    monkeypatch.setattr(
        integrity,
        "sealed",
        lambda stored, seal=integrity.sealed: handed.append(stored) or seal(stored),
    )
    checkpoints, arrays = Checkpoints(tmp_path), {"a": np.arange(6.0)}
    device = {"a": jnp.arange(6.0)}
    checkpoints.save(1, arrays, device, {"step": 1})
    # what orbax holds on to is not shared: a device's buffers are written over by the next step
    assert not np.shares_memory(handed[0].learnable["a"], arrays["a"])
    assert not np.shares_memory(handed[0].optimizer["a"], np.asarray(device["a"]))
    arrays["a"] += 1
    assert not (tmp_path / "checkpoints" / "1").exists()
    released.set()
    assert checkpoints.steps == [1]
    np.testing.assert_array_equal(checkpoints.learnable(1, arrays)["a"], np.arange(6.0))
    checkpoints.close()


@pytest.mark.parametrize("end", ["save", "close", "steps"])
def test_a_write_that_fails_is_one_line_and_never_silent(tmp_path, monkeypatch, end, caplog):
    checkpoints, arrays = Checkpoints(tmp_path), {"a": np.arange(6.0)}
    checkpoints.save(1, arrays, arrays, {"step": 1})
    checkpoints.wait()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomicity, "on_commit_callback", full)
    checkpoints.save(2, arrays, arrays, {"step": 2})
    ends = {
        "save": lambda: checkpoints.save(3, arrays, arrays, {"step": 3}),
        "close": checkpoints.close,
        "steps": lambda: checkpoints.steps,
    }
    message = (
        r"checkpoints/2: this .* could not be written "
        r"\(OSError.*No space left.*last one is of step 1"
    )
    with pytest.raises(UserError, match=message):
        ends[end]()
    assert not [record for record in caplog.records if record.exc_info]
    monkeypatch.undo()
    assert Checkpoints(tmp_path).steps == [1]
    # and the step can be written by a later run
    again = Checkpoints(tmp_path)
    again.save(2, arrays, arrays, {"step": 2})
    assert again.steps == [1, 2]
    again.close()
    checkpoints.close()


def test_what_a_killed_run_left_is_no_checkpoint_and_goes(tmp_path, parts):
    folder = tmp_path / "checkpoints"
    for name in ("3.orbax-checkpoint-tmp", "leaving/1"):
        (folder / name / "learnable").mkdir(parents=True)
        (folder / name / "learnable" / "file").write_text("half")
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps == []
    _save(checkpoints, parts, 3)
    checkpoints.close()
    assert [path.name for path in folder.iterdir()] == ["3"]


@pytest.mark.slow
def test_a_metric_that_comes_later_is_the_one_that_counts(tmp_path, parts):
    checkpoints = Checkpoints(tmp_path, keep=4)
    for step, metric in ((2, 0.2), (3, 0.3), (4, None)):
        _save(checkpoints, parts, step, metric)
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path, keep=1)
    assert checkpoints.metric(4) is None
    checkpoints.add_metric(4, 0.9, rows=7)
    again = Checkpoints(tmp_path)
    assert (again.choose("best"), again.rows(4), again.progress(4)) == (
        4,
        7,
        checkpoints.progress(4),
    )
    _save(checkpoints, parts, 5, metric=0.3)
    # orbax goes by it as well
    assert checkpoints.steps == [4, 5]
    checkpoints.close()


def test_other_settings_are_refused_by_name():
    here = {"prompts": jnp.zeros((2, 3)), "scale": jnp.zeros(())}
    there = {"prompts": np.zeros((4, 3), np.float32), "fusion": np.zeros(1)}
    with pytest.raises(
        UserError,
        match=r"where: another run's .* fusion, scale, prompts \(4, 3\) instead of \(2, 3\)",
    ):
        unflatten_arrays(here, there, "where")


def test_clips_of_one_architecture_have_fingerprints_of_their_own():
    first, second = (
        nnx.state(clip_from_state(SMALL, random_state(SMALL, seed))) for seed in (0, 1)
    )
    assert weights_fingerprint(first) == weights_fingerprint(first) != weights_fingerprint(second)
