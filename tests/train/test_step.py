"""One step: gradient of the weighted mean loss, AdamW by hand, padding, devices, accumulation."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from support.helpers import SMALL, random_state
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.errors import UserError
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.train import step
from vtd_jax.train.groups import OptimizerConfig
from vtd_jax.train.optimizer import learning_rate, make_optimizer, update_count

pytestmark = pytest.mark.slow

SETTINGS = ModelConfig(
    text_prompts=4, text_depth=2, visual_prompts=3, visual_depth=2, fusion_heads=4
)
OPTIMIZER = OptimizerConfig(lr=1e-3, warmup_epochs=0, cosine_epochs=10, epochs=1)


def _parts(**changes):
    clip = clip_from_state(SMALL, random_state(SMALL, 5))
    model = VTDCLIP(clip, dataclasses.replace(SETTINGS, **changes), rngs=nnx.Rngs(0))
    return step.split(model), model.class_tokens(["pour", "arm wrestling", "abseiling"])


def _batch(size=8, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "frames": rng.integers(0, 256, (size, 3, 32, 32, 3), dtype=np.uint8),
        "label": rng.integers(0, 3, size).astype(np.int32),
        "weight": np.ones(size, np.float32),
        "index": np.arange(size, dtype=np.int64),
    }


def _grads(parts, tokens, batch, key=None):
    gradient = jax.jit(jax.grad(step.loss_fn, has_aux=True), static_argnums=2)
    return gradient(parts.learnable, parts.frozen, parts.graphdef, batch, tokens, key)


def _close(a, b, rtol=1e-5):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        scale = max(float(jnp.abs(y).max()), 1e-6)
        np.testing.assert_allclose(np.asarray(x) / scale, np.asarray(y) / scale, atol=rtol)


def test_padding_changes_nothing():
    parts, tokens = _parts()
    batch = _batch(5)
    padded = {k: np.concatenate([v, np.zeros_like(v[:3])]) for k, v in batch.items()}
    (grads, (sums, _)), (again, (padded_sums, _)) = (
        _grads(parts, tokens, b) for b in (batch, padded)
    )
    _close(again, grads)
    assert float(sums["count"]) == float(padded_sums["count"]) == 5
    np.testing.assert_allclose(sums["loss"], padded_sums["loss"], rtol=1e-5)


def test_first_update_is_adamw_by_hand():
    parts, tokens = _parts()
    config = dataclasses.replace(OPTIMIZER, weight_decay=0.1)
    optimizer = make_optimizer(config, 4)
    state, opt_state = parts.learnable, optimizer.init(parts.learnable)
    grads = []
    for n in range(2):
        grads.append(
            _grads(step.Split(parts.graphdef, state, parts.frozen), tokens, _batch(8, n))[0]
        )
        before = state
        args = (state, opt_state, parts.frozen, _batch(8, n), tokens, None)
        state, opt_state, _ = jax.jit(partial(step.train_step, parts.graphdef, optimizer))(*args)
        if n == 0:
            _close(state, before, 0)  # update 0 runs at rate 0
    rate = float(learning_rate(config, 4)(1))
    assert rate == pytest.approx(1e-3)

    def by_hand(p, g0, g1):
        m = (0.9 * 0.1 * g0 + 0.1 * g1) / (1 - 0.9**2)
        v = (0.98 * 0.02 * g0**2 + 0.02 * g1**2) / (1 - 0.98**2)
        return p - rate * (m / (jnp.sqrt(v) + 1e-8) + 0.1 * p)

    expected = jax.tree.map(by_hand, parts.learnable, *grads)
    _close(state, expected, 1e-5)


def test_what_is_not_finite_changes_nothing_where_it_is_skipped():
    parts, tokens = _parts(dropout=0.0)
    optimizer = optax.adam(1e-3)
    opt_state = optimizer.init(parts.learnable)
    for broken in (False, True):
        frames = _batch()["frames"].astype(np.float32)
        frames[3, 0, 0, 0, 0] = np.inf if broken else 0
        args = (
            parts.learnable,
            opt_state,
            parts.frozen,
            _batch() | {"frames": frames},
            tokens,
            None,
        )
        run = jax.jit(partial(step.train_step, parts.graphdef, optimizer, skip_nonfinite=True))
        learnt, after, sums = run(*args)
        assert bool(sums["skipped"]) is broken
        assert np.isfinite(float(sums["grad_norm"])) is not broken
        same = [
            np.array_equal(x, y)
            for x, y in zip(jax.tree.leaves((learnt, after)), jax.tree.leaves(args[:2]))
        ]
        assert all(same) if broken else not all(same)
        assert int(update_count(after)) == 1 - broken
        unguarded = jax.jit(partial(step.train_step, parts.graphdef, optimizer))(*args)
        assert float(unguarded[2]["skipped"]) == 0
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(unguarded[0])) is not broken


def test_the_norm_is_that_of_the_gradient():
    parts, tokens = _parts(dropout=0.0)
    optimizer = optax.sgd(1.0)
    args = (parts.learnable, optimizer.init(parts.learnable), parts.frozen, _batch(), tokens, None)
    sums = jax.jit(partial(step.train_step, parts.graphdef, optimizer))(*args)[2]
    grads = _grads(parts, tokens, _batch())[0]
    expected = np.sqrt(
        sum(np.square(np.asarray(x, np.float64)).sum() for x in jax.tree.leaves(grads))
    )
    np.testing.assert_allclose(sums["grad_norm"], expected, rtol=1e-5)


def test_accumulated_micro_batches_are_one_large_batch():
    parts, tokens = _parts(dropout=0.0)
    batch = _batch(8)
    config = dataclasses.replace(OPTIMIZER, gradient_accumulation_steps=2)
    optimizer = make_optimizer(config, 4)
    state, opt_state = parts.learnable, optimizer.init(parts.learnable)
    run = jax.jit(partial(step.train_step, parts.graphdef, optimizer))
    for start in (0, 4, 0, 4):
        half = {k: v[start : start + 4] for k, v in batch.items()}
        state, opt_state, _ = run(state, opt_state, parts.frozen, half, tokens, None)
    plain = make_optimizer(OPTIMIZER, 4)
    expected, plain_state = parts.learnable, plain.init(parts.learnable)
    for _ in range(2):
        updates, plain_state = plain.update(
            _grads(parts._replace(learnable=expected), tokens, batch)[0], plain_state, expected
        )
        expected = optax.apply_updates(expected, updates)
    # update 1 runs at f(1) with accumulation 2 and at f(0) without: both 1e-3 to the cosine's first
    # steps
    _close(state, expected, 1e-4)


def test_frozen_arrays_are_not_in_the_optimizer():
    parts, _ = _parts()
    moments = make_optimizer(OPTIMIZER, 4).init(parts.learnable)
    sizes = sum(x.size for x in jax.tree.leaves(moments) if x.ndim)
    assert sizes == 2 * sum(x.size for x in jax.tree.leaves(parts.learnable) if x.ndim)


@pytest.mark.parametrize(
    "field, value",
    [
        ("lr", -1.0),
        ("epochs", 0),
        ("gradient_accumulation_steps", 0),
        ("b1", 1.0),
        ("weight_decay", -0.1),
        ("eps", 0.0),
    ],
)
def test_bad_settings_name_the_field(field, value):
    with pytest.raises(UserError, match=f"optimizer.{field}"):
        dataclasses.replace(OPTIMIZER, **{field: value})
