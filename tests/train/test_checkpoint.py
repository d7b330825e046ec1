"""Checkpoints: what is in them, which are kept, how the wrong ones are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from helpers import SMALL, random_state
from vtd_jax.clip.params import clip_from_state
from vtd_jax.errors import UserError
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.vtd_clip import VTDCLIP, learnable
from vtd_jax.train.checkpoint import Checkpoints, clip_fingerprint, flatten_arrays, unflatten_arrays

CONFIG = ModelConfig(text_prompts=2, text_depth=2, visual_prompts=2, visual_depth=1)


@pytest.fixture(scope="module")
def parts():
    model = VTDCLIP(clip_from_state(SMALL, random_state(SMALL)), CONFIG, rngs=nnx.Rngs(0))
    params = learnable(model)
    return params, optax.MultiSteps(optax.adamw(1e-3), 2).gradient_transformation().init(params)


def _save(checkpoints, parts, step, metric=None):
    learnt, opt_state = parts
    scaled = jax.tree.map(lambda value: value + step, learnt)
    checkpoints.save(step, scaled, opt_state, {"step": step, "batches": {"json": {"next": [step]}}}, metric)


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
    restored = again.optimizer(3, parts[1])
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
    assert (checkpoints.choose("last"), checkpoints.choose("best"), checkpoints.choose("4")) == (5, 2, 4)
    checkpoints.close()
    with pytest.raises(UserError, match=r"--checkpoint=3: expected last, best or one of the steps \[2, 4, 5\]"):
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


def test_a_damaged_checkpoint_is_named(tmp_path, parts):
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, parts, 1)
    checkpoints.close()
    for path in (tmp_path / "checkpoints" / "1" / "learnable").rglob("*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"checkpoints/1: cannot be read .* remove this folder"):
        Checkpoints(tmp_path).learnable(1, parts[0])


def test_other_settings_are_refused_by_name():
    here = {"prompts": jnp.zeros((2, 3)), "scale": jnp.zeros(())}
    there = {"prompts": np.zeros((4, 3), np.float32), "fusion": np.zeros(1)}
    with pytest.raises(UserError, match=r"where: another run's .* fusion, scale, prompts \(4, 3\) instead of \(2, 3\)"):
        unflatten_arrays(here, there, "where")


def test_clips_of_one_architecture_have_fingerprints_of_their_own():
    first, second = (nnx.state(clip_from_state(SMALL, random_state(SMALL, seed))) for seed in (0, 1))
    assert clip_fingerprint(first) == clip_fingerprint(first) != clip_fingerprint(second)
