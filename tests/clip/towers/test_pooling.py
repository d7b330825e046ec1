"""Attention pooling: its formula, head by head, and what the fast path leaves out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vtd_jax.clip.towers.pooling import AttentionPool
from vtd_jax.cost.hlo import traced_work

WIDTH, HEADS, HIDDEN, EPS = 48, 4, 80, 1e-6
TOKENS = np.random.default_rng(1).standard_normal((3, 10, WIDTH))


def _pool() -> AttentionPool:
    pool = AttentionPool(WIDTH, HEADS, HIDDEN, "gelu_tanh", EPS)
    rng = np.random.default_rng(0)
    for _, variable in nnx.to_flat_state(nnx.state(pool)):
        value = 0.2 * rng.standard_normal(variable.shape)
        variable.set_value(jnp.asarray(value, jnp.float32))
    return pool


def _formula(pool: AttentionPool, x: np.ndarray) -> np.ndarray:
    """In float64, one head and one image after another."""

    def exact(variable) -> np.ndarray:
        return np.asarray(variable[...], np.float64)

    kernel, bias = exact(pool.qkv.kernel), exact(pool.qkv.bias)
    (q_kernel, k_kernel, v_kernel), (q_bias, k_bias, v_bias) = (
        np.split(array, 3, axis=-1) for array in (kernel, bias)
    )
    query, rows = exact(pool.probe)[0, 0] @ q_kernel + q_bias, []
    for tokens in x:
        keys, values, mixed = tokens @ k_kernel + k_bias, tokens @ v_kernel + v_bias, []
        for head in np.split(np.arange(WIDTH), HEADS):
            powers = np.exp(keys[:, head] @ query[head] / np.sqrt(WIDTH // HEADS))
            mixed.append(powers / powers.sum() @ values[:, head])
        rows.append(np.concatenate(mixed))
    y = np.stack(rows) @ exact(pool.out.kernel) + exact(pool.out.bias)
    unit = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + EPS)
    hidden = unit * exact(pool.layernorm.scale) + exact(pool.layernorm.bias)
    hidden = hidden @ exact(pool.c_fc.kernel) + exact(pool.c_fc.bias)
    inner = np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)
    hidden = 0.5 * hidden * (1 + np.tanh(inner))
    return y + hidden @ exact(pool.c_proj.kernel) + exact(pool.c_proj.bias)


@pytest.mark.slow
def test_both_paths_are_the_formula():
    pool, x = _pool(), jnp.asarray(TOKENS, jnp.float32)
    expected = _formula(pool, TOKENS)
    for plain in (False, True):
        found = np.asarray(pool(x, plain=plain))
        assert np.abs(found - expected).max() < 2e-6 * np.abs(expected).max()


@pytest.mark.slow
def test_gradients_are_those_of_the_plain_path():
    pool, x = _pool(), jnp.asarray(TOKENS, jnp.float32)
    ours, plain = (
        jax.grad(lambda x, plain=plain: jnp.sin(pool(x, plain=plain)).sum())(x)
        for plain in (False, True)
    )
    assert np.abs(ours - plain).max() < 3e-6 * np.abs(plain).max()


def test_keys_and_values_of_all_tokens_are_not_computed():
    pool, x = _pool(), jnp.asarray(TOKENS, jnp.float32)
    fast, plain = (
        traced_work(jax.make_jaxpr(lambda x, plain=plain: pool(x, plain=plain))(x)).flops
        for plain in (False, True)
    )
    images, tokens = TOKENS.shape[:2]
    of_probe = 2 * WIDTH * WIDTH
    behind = images * (2 * WIDTH * WIDTH + 4 * WIDTH * HIDDEN)
    assert plain == of_probe + images * tokens * (4 * WIDTH * WIDTH + 4 * WIDTH) + behind
    folded = 2 * WIDTH * WIDTH + images * 2 * WIDTH * WIDTH
    assert fast == of_probe + folded + images * tokens * 4 * WIDTH * HEADS + behind


@pytest.mark.slow
def test_bfloat16_stays_near():
    pool, x = _pool(), jnp.asarray(TOKENS, jnp.bfloat16)
    found = pool(x)
    assert found.dtype == jnp.bfloat16
    expected = _formula(pool, np.asarray(x, np.float64))
    assert np.abs(np.asarray(found, np.float64) - expected).max() < 0.03 * np.abs(expected).max()
