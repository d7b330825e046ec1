"""The fusion block and the three ways from frames to logits, against loops in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vtd_jax.model import discretize, fusion

B, T, K, D, HEADS = 2, 5, 7, 32, 4


def _block(init="release", dropout=0.1):
    return fusion.Fusion(D, HEADS, dropout=dropout, init=init, rngs=nnx.Rngs(0))


def _inputs(n=1, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((B, T, D), np.float32), rng.standard_normal((B, n, D), np.float32)


def _dense(layer, x):
    return x @ np.asarray(layer.kernel[...], np.float64) + np.asarray(layer.bias[...], np.float64)


def _reference(block, features, tokens):
    """Frame by frame and head by head, without dropout."""
    out, width = np.zeros(features.shape), D // HEADS
    for b in range(B):
        k, v = (
            _dense(block.k, tokens[b].astype(np.float64)),
            _dense(block.v, tokens[b].astype(np.float64)),
        )
        for t in range(T):
            x = features[b, t].astype(np.float64)
            q, mixed = _dense(block.q, x), np.zeros(D)
            for h in range(HEADS):
                at = slice(h * width, (h + 1) * width)
                scores = np.exp(k[:, at] @ q[at] / np.sqrt(width))
                mixed[at] = scores / scores.sum() @ v[:, at]
            hidden = np.maximum(_dense(block.fc1, _dense(block.out, mixed)), 0)
            out[b, t] = x + _dense(block.fc2, hidden)
    return out


@pytest.mark.parametrize("n", [1, 3])
def test_block_matches_the_loops(n):
    block, (features, tokens) = _block(), _inputs(n)
    np.testing.assert_allclose(
        block(jnp.asarray(features), jnp.asarray(tokens)),
        _reference(block, features, tokens),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.slow
def test_with_one_token_every_frame_gets_the_same_vector_and_q_k_no_gradient():
    block, (features, tokens) = _block(), _inputs()
    added = np.asarray(block(jnp.asarray(features), jnp.asarray(tokens))) - features
    np.testing.assert_allclose(added, np.broadcast_to(added[:, :1], added.shape), atol=1e-6)
    graphdef, state = nnx.split(block)
    grads = jax.grad(
        lambda s: (nnx.merge(graphdef, s)(jnp.asarray(features), jnp.asarray(tokens)) ** 2).sum()
    )(state)
    for layer in ("q", "k"):
        assert float(jnp.abs(grads[layer]["kernel"][...]).max()) == 0
    assert float(jnp.abs(grads["v"]["kernel"][...]).max()) > 0


def test_zero_init_starts_from_unfused_frames():
    features, tokens = _inputs()
    np.testing.assert_array_equal(
        _block("zero")(jnp.asarray(features), jnp.asarray(tokens)), features
    )


def test_release_init_is_pytorchs_default_range():
    block = _block()
    for layer, fan_in in ((block.fc1, D), (block.fc2, 4 * D)):
        for x in (layer.kernel[...], layer.bias[...]):
            assert 0.9 / np.sqrt(fan_in) < float(jnp.abs(x).max()) <= 1 / np.sqrt(fan_in)


@pytest.mark.slow
def test_dropout_is_per_video_scaled_and_off_without_keys():
    block, (features, tokens) = _block(dropout=0.5), _inputs()
    x, z = jnp.asarray(features), jnp.asarray(tokens)
    keys = jax.random.split(jax.random.key(0), B)
    both = block(x, z, keys)
    alone = jnp.concatenate([block(x[i : i + 1], z[i : i + 1], keys[i : i + 1]) for i in range(B)])
    np.testing.assert_allclose(both, alone, atol=1e-6)
    assert float(jnp.abs(both - block(x, z)).max()) > 1e-3
    many = jax.random.split(jax.random.key(1), 16000)
    attended = jax.vmap(lambda key: block._attend(x[:1], z[:1], key[None]))(many)
    # the mean over draws of a mask of 0 or 2 with probability 1/2: standard error about
    # 1/sqrt(16000) of the value
    np.testing.assert_allclose(attended.mean(0), block._attend(x[:1], z[:1], None), atol=0.05)


def test_confidence_logits_match_the_sum():
    rng = np.random.default_rng(1)
    features, codebook = rng.standard_normal((B, T, D)), rng.standard_normal((K, D))
    weights, scale = rng.uniform(0.1, 1, (B, T, K)), 14.0
    expected = np.zeros((B, K))
    for b in range(B):
        for k in range(K):
            for t in range(T):
                x, c = features[b, t], codebook[k]
                expected[b, k] += weights[b, t, k] * (x @ c) / np.sqrt((x @ x) * (c @ c))
            expected[b, k] *= scale / weights[b, :, k].sum()
    ours = fusion.confidence_logits(
        *(jnp.asarray(x, jnp.float32) for x in (features, codebook, weights, scale))
    )
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_mean_and_softmax_mean_logits():
    rng = np.random.default_rng(2)
    features, codebook = (
        jnp.asarray(rng.standard_normal(s), jnp.float32) for s in ((B, T, D), (K, D))
    )
    cosines = discretize.cosine(features, codebook)
    scores = np.asarray(jax.nn.softmax(5.0 * cosines, axis=-1)).mean(axis=1)
    ours = fusion.softmax_mean_logits(features, codebook, jnp.float32(5.0))
    np.testing.assert_allclose(jax.nn.softmax(ours), scores, rtol=1e-5)
    np.testing.assert_allclose(jnp.exp(ours), scores, rtol=1e-5)
    mean = fusion.mean_logits(features, codebook, jnp.float32(5.0))
    pooled = np.asarray(features).mean(1)
    for b in range(B):
        for k in range(K):
            c = np.asarray(codebook[k])
            cosine = pooled[b] @ c / np.linalg.norm(pooled[b]) / np.linalg.norm(c)
            np.testing.assert_allclose(mean[b, k], 5 * cosine, rtol=1e-5, atol=1e-6)
