"""What is asked over codebook shards against the plain answer: ties, padding, gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from vtd_jax.model import discretize
from vtd_jax.model.axes import WHOLE, Axes, cross_entropy
from vtd_jax.model.fusion import confidence_logits

pytestmark = pytest.mark.mesh

P = PartitionSpec


def _shards(function, count, classes, x, *same):
    """`function(axes, x, *same)` with the last axis of `x` over `count` devices, padded with values
    that would win.
    """
    mesh = Mesh(np.array(jax.devices()[:count]), ("codebook",))
    missing = -classes % count
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)], constant_values=1e4)
    split = P(*[None] * (x.ndim - 1), "codebook")
    call = jax.shard_map(
        partial(function, Axes(codebook="codebook", classes=classes)),
        mesh=mesh,
        in_specs=(split, *[P()] * len(same)),
        out_specs=P("codebook"),
        check_vma=False,
    )
    # every device answers; all answers have to be the same
    answers = np.split(np.asarray(jax.jit(lambda *args: call(*args))(padded, *same)), count)
    for other in answers[1:]:
        np.testing.assert_array_equal(other, answers[0])
    return answers[0]


def _values(classes, seed=0, rows=40, distinct=None):
    rng = np.random.default_rng(seed)
    if distinct:
        return rng.integers(0, distinct, (rows, classes)).astype(np.float32)
    return rng.standard_normal((rows, classes)).astype(np.float32)


@pytest.mark.parametrize("count, classes", [(2, 7), (4, 7), (8, 3), (8, 51)])
def test_the_lowest_class_wins_a_tie(count, classes):
    x = _values(classes, distinct=4)
    least = _shards(
        lambda axes, x: axes.argmin(-x), count, classes, x
    )  # padding would have been the least
    np.testing.assert_array_equal(least, x.argmax(-1))
    largest = _shards(lambda axes, x: axes.argmax(jnp.where(x > 1e3, -x, x)), count, classes, x)
    np.testing.assert_array_equal(largest, x.argmax(-1))
    np.testing.assert_array_equal(WHOLE.argmin(jnp.asarray(x)), x.argmin(-1))


@pytest.mark.parametrize("count, classes", [(2, 7), (4, 7), (8, 3), (8, 51)])
def test_values_of_classes_on_other_devices(count, classes):
    x, wanted = _values(classes), np.random.default_rng(1).integers(0, classes, 40)
    expected = np.take_along_axis(x, wanted[:, None], 1)[:, 0]
    picked = _shards(lambda axes, x, wanted: axes.pick(x, wanted), count, classes, x, wanted)
    np.testing.assert_array_equal(picked, expected)
    np.testing.assert_array_equal(WHOLE.pick(jnp.asarray(x), jnp.asarray(wanted)), expected)


@pytest.mark.parametrize("count, classes", [(2, 7), (4, 7), (8, 3), (8, 51)])
def test_the_loss_and_its_gradient(count, classes):
    # logits of CLIP's size, far apart
    x, labels = 100 * _values(classes), np.random.default_rng(1).integers(0, classes, 40)
    np.testing.assert_allclose(
        _shards(lambda axes, x, labels: cross_entropy(x, labels, axes), count, classes, x, labels),
        cross_entropy(jnp.asarray(x), jnp.asarray(labels)),
        rtol=1e-6,
    )

    def slope(axes, x, labels):
        return jax.grad(lambda x: cross_entropy(x, labels, axes).sum() / axes.shards)(x).T

    mesh = Mesh(np.array(jax.devices()[:count]), ("codebook",))
    padded = np.pad(x, [(0, 0), (0, -classes % count)])
    mapped = jax.shard_map(
        partial(slope, Axes(codebook="codebook", classes=classes)),
        mesh=mesh,
        in_specs=(P(None, "codebook"), P()),
        out_specs=P("codebook"),
        check_vma=False,
    )
    found = np.asarray(jax.jit(mapped)(padded, labels))
    np.testing.assert_allclose(
        found[:classes], slope(WHOLE, jnp.asarray(x), jnp.asarray(labels)), atol=1e-6
    )
    np.testing.assert_array_equal(found[classes:], 0)


@pytest.mark.parametrize("wanted", [1, 3, 60])
@pytest.mark.parametrize("count, classes", [(2, 7), (4, 7), (8, 3), (8, 51)])
def test_codes_with_the_most_votes(count, classes, wanted):
    # most classes have no vote at all, as in a video; padding has none either
    votes = np.maximum(_values(classes, distinct=6) - 3, 0)
    codebook = np.random.default_rng(2).standard_normal((classes, 5)).astype(np.float32)
    expected = WHOLE.best_rows(jnp.asarray(votes), jnp.asarray(codebook), wanted)
    assert expected.shape == (40, min(wanted, classes), 5)
    order = np.argsort(-votes, axis=1, kind="stable")[:, :wanted]
    np.testing.assert_array_equal(expected, codebook[order])
    padded = np.concatenate([codebook, np.repeat(codebook[-1:], -classes % count, 0)])

    def best(axes, votes, codes):
        shard = jax.lax.dynamic_slice_in_dim(codes, axes.ids(votes.shape[1])[0], votes.shape[1])
        return axes.best_rows(jnp.where(votes > 1e3, 0, votes), shard, wanted)

    np.testing.assert_array_equal(_shards(best, count, classes, votes, padded), expected)


def test_log_softmax_is_that_of_all_classes():
    x = 100 * _values(7)
    mesh = Mesh(np.array(jax.devices()[:2]), ("codebook",))
    mapped = jax.shard_map(
        lambda x: Axes(codebook="codebook", classes=7).log_softmax(x),
        mesh=mesh,
        in_specs=P(None, "codebook"),
        out_specs=P(None, "codebook"),
        check_vma=False,
    )
    padded = np.pad(x, [(0, 0), (0, 1)], constant_values=1e4)
    found = np.asarray(jax.jit(mapped)(padded))[:, :7]
    np.testing.assert_allclose(found, jax.nn.log_softmax(x), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("count, classes", [(2, 7), (8, 3)])
def test_uniform_confidence_over_shards(count, classes):
    """Counts tie often, across shards too; no frame may take padding."""
    rng = np.random.default_rng(3)
    features = rng.standard_normal((20, 4, 5)).astype(np.float32)
    codebook = rng.standard_normal((classes, 5)).astype(np.float32)

    def parts(axes, codes):
        similarity = discretize.cosine(jnp.asarray(features), codes)
        weights = discretize.confidence(similarity, 0.01, "uniform")
        chosen = discretize.assign(jnp.asarray(features), codes, similarity, "euclidean", axes)
        votes = discretize.count_votes(chosen, weights, axes)
        tokens = discretize.video_tokens(votes, codes, 2, axes)
        return (
            tokens,
            votes,
            confidence_logits(jnp.asarray(features), codes, weights, jnp.float32(1)),
        )

    mapped = jax.shard_map(
        partial(parts, Axes(codebook="codebook", classes=classes)),
        mesh=Mesh(np.array(jax.devices()[:count]), ("codebook",)),
        in_specs=P("codebook"),
        out_specs=(P(), P(None, "codebook"), P(None, "codebook")),
        check_vma=False,
    )
    padded = np.concatenate([codebook, np.repeat(codebook[-1:], -classes % count, 0)])
    tokens, votes, logits = jax.jit(mapped)(padded)
    expected = parts(WHOLE, jnp.asarray(codebook))
    np.testing.assert_array_equal(tokens, expected[0])
    np.testing.assert_array_equal(votes[:, :classes], expected[1])
    np.testing.assert_array_equal(votes[:, classes:], 0)
    np.testing.assert_allclose(logits[:, :classes], expected[2], rtol=0, atol=1e-6)
