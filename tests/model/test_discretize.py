"""Confidence, assignment, votes and video tokens against loops over the formulas of the method."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vtd_jax.model import discretize
from vtd_jax.model.fusion import confidence_logits

B, T, K, D = 3, 6, 9, 32


def _data(seed=0):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((B, T, D)).astype(np.float32) * 3
    codebook = rng.standard_normal((K, D)).astype(np.float32) * rng.uniform(0.5, 2, (K, 1)).astype(
        np.float32
    )
    return features, codebook


def _cosine(x, c):
    return float(x @ c / np.sqrt((x @ x) * (c @ c)))


def _reference(features, codebook, temperature, metric):
    """Loops in float64: confidence, assignment, votes."""
    x, c = features.astype(np.float64), codebook.astype(np.float64)
    weights, chosen, votes = np.zeros((B, T, K)), np.zeros((B, T), int), np.zeros((B, K))
    for b in range(B):
        for k in range(K):
            scores = np.exp(np.array([_cosine(x[b, t], c[k]) for t in range(T)]) / temperature)
            weights[b, :, k] = scores / scores.sum()
        for t in range(T):
            distance = [((x[b, t] - c[k]) ** 2).sum() for k in range(K)]
            near = [-_cosine(x[b, t], c[k]) for k in range(K)]
            chosen[b, t] = np.argmin(distance if metric == "euclidean" else near)
            votes[b, chosen[b, t]] += weights[b, t, chosen[b, t]]
    return weights, chosen, votes


def _ours(features, codebook, temperature, metric):
    similarity = discretize.cosine(jnp.asarray(features), jnp.asarray(codebook))
    weights = discretize.confidence(similarity, temperature)
    chosen = discretize.assign(jnp.asarray(features), jnp.asarray(codebook), similarity, metric)
    return weights, chosen, discretize.count_votes(chosen, weights)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("temperature", [0.01, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_matches_the_loops(metric, temperature, seed):
    features, codebook = _data(seed)
    weights, chosen, votes = _reference(features, codebook, temperature, metric)
    ours = _ours(features, codebook, temperature, metric)
    # a cosine's rounding (6e-8) is divided by the temperature before the exponential
    tolerance = 1e-5 if temperature > 0.1 else 4e-5
    np.testing.assert_allclose(ours[0], weights, rtol=tolerance, atol=1e-6)
    np.testing.assert_array_equal(ours[1], chosen)
    np.testing.assert_allclose(ours[2], votes, rtol=tolerance, atol=1e-6)


def test_the_two_metrics_can_disagree():
    features = np.array([[[1.0, 0.0]]], np.float32)
    codebook = np.array([[5.0, 0.0], [0.7, 0.6]], np.float32)
    assert int(_ours(features, codebook, 0.01, "euclidean")[1][0, 0]) == 1
    assert int(_ours(features, codebook, 0.01, "cosine")[1][0, 0]) == 0


def test_confidence_sums_to_one_over_frames_for_every_class():
    features, codebook = _data()
    weights, _, _ = _ours(features, codebook, 0.01, "euclidean")
    np.testing.assert_allclose(weights.sum(axis=1), np.ones((B, K)), rtol=1e-6)


def test_a_tie_goes_to_the_first_code():
    codebook = np.ones((4, 3), np.float32)
    features = np.ones((1, 2, 3), np.float32)
    for metric in ("euclidean", "cosine"):
        assert _ours(features, codebook, 0.01, metric)[1].tolist() == [[0, 0]]


def test_video_tokens_are_raw_codes_best_first():
    _, codebook = _data()
    votes = jnp.asarray([[0, 0.2, 0, 0.9, 0, 0, 0.5, 0, 0]], jnp.float32)
    tokens = discretize.video_tokens(votes, jnp.asarray(codebook), 3)
    np.testing.assert_array_equal(tokens[0], codebook[[3, 6, 1]])
    assert discretize.video_tokens(votes, jnp.asarray(codebook), 50).shape == (1, K, D)


def test_gradients_reach_the_codebook_through_the_gather_only():
    features, codebook = _data()
    similarity = discretize.cosine(jnp.asarray(features), jnp.asarray(codebook))
    weights = discretize.confidence(similarity, 0.3)

    def total(book):
        chosen = discretize.assign(jnp.asarray(features), book, similarity, "euclidean")
        return discretize.video_tokens(discretize.count_votes(chosen, weights), book, 1).sum()

    gradient = jax.grad(total)(jnp.asarray(codebook))
    winners = np.argmax(_reference(features, codebook, 0.3, "euclidean")[2], axis=-1)
    expected = np.zeros((K, D))
    np.add.at(expected, winners, 1.0)
    np.testing.assert_array_equal(gradient, expected)
    passed = jax.grad(lambda w: discretize.count_votes(jnp.zeros((B, T), jnp.int32), w).sum())(
        weights
    )
    assert float(jnp.abs(passed).max()) == 0


def test_zero_frames_stay_finite():
    codebook = jnp.asarray(_data()[1])
    similarity = discretize.cosine(jnp.zeros((1, 2, D)), codebook)
    assert float(jnp.abs(similarity).max()) == 0
    gradient = jax.grad(lambda x: discretize.cosine(x, codebook).sum())(jnp.zeros((1, 2, D)))
    assert bool(jnp.isfinite(gradient).all())


def test_uniform_confidence_is_counting_and_the_plain_mean():
    features, codebook = _data()
    similarity = discretize.cosine(jnp.asarray(features), jnp.asarray(codebook))
    weights = discretize.confidence(similarity, 0.01, "uniform")
    assert weights.dtype == jnp.float32
    np.testing.assert_array_equal(weights, np.full((B, T, K), np.float32(1 / T)))
    chosen = _reference(features, codebook, 0.01, "euclidean")[1]
    counts = np.stack([np.bincount(row, minlength=K) for row in chosen])
    np.testing.assert_allclose(
        discretize.count_votes(jnp.asarray(chosen), weights), counts / T, rtol=1e-6
    )
    fused, scale = features[::-1].copy(), 7.0
    logits = confidence_logits(
        jnp.asarray(fused), jnp.asarray(codebook), weights, jnp.float32(scale)
    )
    cosines = [
        [[_cosine(x, c) for c in codebook.astype(float)] for x in video]
        for video in fused.astype(float)
    ]
    np.testing.assert_allclose(logits, scale * np.mean(cosines, axis=1), rtol=0, atol=1e-6 * scale)


@pytest.mark.slow
def test_no_gradient_passes_through_uniform_weights():
    codebook, cosines = jnp.asarray(_data()[1]), jnp.ones((B, T, K))
    passed = {
        kind: jax.grad(
            lambda s, kind=kind: (
                discretize.confidence(s, 0.3, kind) * jnp.arange(T)[:, None]
            ).sum()
        )(cosines)
        for kind in ("softmax", "uniform")
    }
    assert float(jnp.abs(passed["softmax"]).max()) > 0.01
    assert float(jnp.abs(passed["uniform"]).max()) == 0
    # what is left of a logit's gradient is that of the cosines
    x = jnp.asarray(_data()[0])

    def logits(x):
        weights = discretize.confidence(discretize.cosine(x, codebook), 0.01, "uniform")
        return confidence_logits(x, codebook, weights, jnp.float32(1))

    found = jax.grad(lambda x: logits(x)[0, 0])(x)
    plain = jax.grad(lambda x: discretize.cosine(x, codebook)[0, :, 0].mean())(x)
    np.testing.assert_allclose(found, plain, atol=1e-7)
