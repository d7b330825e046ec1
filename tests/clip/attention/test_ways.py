"""Every way of attention against the plain reference, values and gradients, without its device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vtd_jax.clip import attention
from vtd_jax.clip.attention import pallas, reference

ROWS, TOKENS, SHARED = 2, 50, 16
# float32 rounding, of the largest value
ROUNDING = 3e-6


def _given(width, shared, dtype):
    """Seeded `qkv`, context and cotangent."""
    rng = np.random.default_rng(width + shared)
    shapes = (ROWS, TOKENS, 3 * width), (shared, 2 * width), (ROWS, TOKENS, width)
    qkv, context, cotangent = (jnp.asarray(rng.standard_normal(s), dtype) for s in shapes)
    return qkv, context if shared else None, cotangent


def _computed(function, qkv, context, cotangent):
    """The result, and the gradients of `qkv` and of the context."""
    result, pull_back = jax.vjp(function, qkv, context)
    return [np.asarray(x, np.float64) for x in jax.tree.leaves((result, pull_back(cotangent)))]


def _way(way, heads, **settings):
    def run(qkv, context):
        parts = (qkv,) if way != "cudnn" else jnp.split(qkv, 3, axis=-1)
        return attention.attend(
            parts, context, heads=heads, way=way, interpret=way != "xla", **settings
        )

    return jax.jit(run)


def _exact(heads, qkv, context, cotangent, **settings):
    """The reference in float64, of the same inputs."""
    with jax.enable_x64(True):
        wide = [None if x is None else x.astype(jnp.float64) for x in (qkv, context, cotangent)]

        def run(qkv, context):
            return reference.attend((qkv,), context, heads=heads, **settings)

        return _computed(jax.jit(run), *wide)


def _worst(found, exact):
    """Largest error of any array, as a share of its largest value."""
    return max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(found, exact, strict=True))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shared", [0, SHARED])
@pytest.mark.parametrize("way, width, heads", [
    ("xla", 128, 2), ("pallas", 128, 1),
    pytest.param("pallas", 128, 4, marks=pytest.mark.slow),
    pytest.param("pallas", 256, 4, marks=pytest.mark.slow),
])  # fmt: skip
def test_every_way_is_the_formula(way, width, heads, shared, causal):
    given = _given(width, shared, jnp.float32)
    found = _computed(_way(way, heads, causal=causal), *given)
    assert _worst(found, _exact(heads, *given, causal=causal)) < ROUNDING


@pytest.mark.slow
def test_a_context_of_any_length():
    qkv, context, cotangent = _given(128, SHARED, jnp.float32)
    for shared in (1, 11):
        given = qkv, context[:shared], cotangent
        found = _computed(_way("pallas", 2, causal=True), *given)
        assert _worst(found, _exact(2, *given, causal=True)) < ROUNDING


@pytest.mark.parametrize("tokens", [50, 49])
@pytest.mark.parametrize("way", ["xla", "cudnn"])
def test_padding_is_no_key_and_gets_no_gradient(way, tokens):
    qkv, _, cotangent = _given(128, 0, jnp.float32)
    cotangent = cotangent.at[:, tokens:].set(0)
    found = _computed(_way(way, 2, tokens=tokens), qkv, None, cotangent)
    exact = _exact(2, qkv[:, :tokens], None, cotangent[:, :tokens])
    assert _worst([x[:, :tokens] for x in found], exact) < ROUNDING
    assert not found[1][:, tokens:].any()


@pytest.mark.slow
@pytest.mark.parametrize("shared", [0, SHARED])
def test_bfloat16_is_no_worse_than_xlas(shared):
    given = _given(128, shared, jnp.bfloat16)
    exact = _exact(2, *given)
    xlas, ours = (
        [np.sqrt(np.square(a - b).mean() / np.square(b).mean()) for a, b in zip(found, exact)]
        for found in (_computed(_way(way, 2), *given) for way in ("xla", "pallas"))
    )
    # of the result, and of each gradient
    for theirs, own in zip(xlas, ours, strict=True):
        assert own < 1.05 * theirs < 0.006


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_the_tiles_of_a_grid_step_change_nothing(count):
    qkv, context, cotangent = _given(256, SHARED, jnp.float32)
    setting = pallas.Setting(64, True, count, interpret=True)
    run = functools.partial(pallas.attend, setting=setting)
    found = _computed(lambda *given: run(*given), qkv, context, cotangent)
    exact = _exact(4, qkv, context, cotangent, causal=True)
    assert _worst(found, exact) < ROUNDING


@pytest.mark.slow
def test_large_scores_overflow_nothing():
    qkv, context, cotangent = _given(128, SHARED, jnp.float32)
    given = 30 * qkv, 30 * context, cotangent
    for way in ("xla", "pallas"):
        found = _computed(_way(way, 2), *given)
        assert all(np.isfinite(x).all() for x in found)
        # scores of thousands are rounded by 1e-4, and differences of their gradients by more
        assert _worst(found[:1], _exact(2, *given)[:1]) < 1e-4
