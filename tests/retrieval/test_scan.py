"""The kernels against NumPy, blocks of shards of any size, and the best clips against a sort."""

import jax.numpy as jnp
import numpy as np
import pytest

from vtd_jax.retrieval import scan

B, T, D, Q = 5, 4, 24, 3


def _numbers(seed=0, clips=B):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((clips, T, D)).astype(np.float16)
    return features, rng.standard_normal((Q, D)).astype(np.float32)


def _unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def text_reference(features, codes, temperature, confidence, pooling):
    """`scan.text_scores` in NumPy, float64."""
    features, codes = features.astype(np.float64), codes.astype(np.float64)
    cosines = np.einsum("btd,qd->btq", _unit(features), _unit(codes))
    if pooling == "mean":
        scores = np.einsum("bd,qd->bq", _unit(features.mean(axis=1)), _unit(codes))
    else:
        weights = np.ones_like(cosines)
        if confidence == "softmax":
            weights = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / temperature)
        scores = (weights * cosines).sum(axis=1) / weights.sum(axis=1)
    return scores, cosines.argmax(axis=1)


@pytest.mark.parametrize("pooling", ["confidence", "mean"])
@pytest.mark.parametrize("confidence", ["softmax", "uniform"])
def test_scores_of_texts(pooling, confidence):
    features, codes = _numbers()
    settings = dict(temperature=0.07, confidence=confidence, pooling=pooling)
    scores, frames = scan.text_scores(features, codes, **settings)
    expected = text_reference(features, codes, **settings)
    np.testing.assert_allclose(scores, expected[0], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(frames, expected[1])
    assert scores.dtype == np.float32


def test_scores_of_an_example():
    features, _ = _numbers()
    example = features[2].astype(np.float32) * 3
    scores, frames = scan.example_scores(features, example)
    units = _unit(features.astype(np.float64))
    means, mean = _unit(units.mean(axis=1)), _unit(_unit(example.astype(np.float64)).mean(axis=0))
    np.testing.assert_allclose(scores[:, 0], means @ mean, rtol=0, atol=1e-5)
    assert float(scores[2, 0]) == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(frames[:, 0], (units @ mean).argmax(axis=1))


def _shards(sizes, dropped=()):
    """(number, the clips that count, features); a clip's features are its number in all."""
    first = 0
    for number, size in enumerate(sizes):
        kept = [place for place in range(size) if (number, place) not in dropped]
        values = np.arange(first, first + size, dtype=np.float16)
        yield number, kept, np.broadcast_to(values[:, None, None], (size, 2, 3))
        first += size


@pytest.mark.parametrize("size", [1, 2, 4, 16])
@pytest.mark.parametrize(
    "sizes, dropped",
    [((3,), ()), ((4, 4), ()), ((1, 1, 1, 5), ()), ((3, 4, 2), {(0, 1), (1, 0), (1, 3), (2, 0)})],
)
def test_blocks_hold_every_clip_once_in_order(size, sizes, dropped):
    found = list(scan.blocks(_shards(sizes, dropped), size))
    starts = np.cumsum((0, *sizes))
    numbers, places = [], []
    for block in found:
        assert block.features.shape == (size, 2, 3)
        numbers += block.features[: len(block.places), 0, 0].astype(int).tolist()
        places += map(tuple, block.places.tolist())
        # padding is the last clip
        assert (block.features[len(block.places) :] == block.features[len(block.places) - 1]).all()
    expected = [
        (number, place)
        for number, count in enumerate(sizes)
        for place in range(count)
        if (number, place) not in dropped
    ]
    assert places == expected
    assert numbers == [starts[number] + place for number, place in expected]


@pytest.mark.parametrize("top", [1, 5, 40])
def test_the_best_are_those_of_a_stable_sort(top):
    rng = np.random.default_rng(1)
    # few different values: ties go to the earlier clip
    scores = rng.integers(0, 6, (23, Q)).astype(np.float32)
    frames = rng.integers(0, T, (23, Q))

    def block(rows, count):
        # features that say which clips they are
        features = np.array(rows, np.float16)[:, None, None]
        return scan.Block(features, np.array([(7, row) for row in rows[:count]]))

    def score(features):
        rows = features[:, 0, 0].astype(int)
        return jnp.asarray(scores[rows]), jnp.asarray(frames[rows])

    blocks = [block([*range(i, i + 4)], 4) for i in range(0, 20, 4)]
    # the last one is padded
    found = scan.best(iter([*blocks, block([20, 21, 22, 22], 3)]), score, Q, top)
    order = np.argsort(-scores, axis=0, kind="stable")[:top].T
    np.testing.assert_array_equal(found.places[..., 1], order)
    np.testing.assert_array_equal(found.scores, np.take_along_axis(scores.T, order, 1))
    np.testing.assert_array_equal(found.frames, np.take_along_axis(frames.T, order, 1))
    assert (found.places[..., 0] == 7).all()


def test_no_blocks_are_no_clips():
    found = scan.best(iter(()), lambda features: (features, features), 2, 3)
    assert found.scores.shape == (2, 0)


@pytest.mark.parametrize(
    "frames, width, queries, clips, size",
    [
        (16, 512, 1, 100_000, 256),
        (16, 512, 10_000, 100_000, 64),
        (4096, 8192, 1, 9, 1),
        (4, 8, 1, 7, 8),
        (4, 8, 1, 1, 1),
        (4, 8, 10**9, 5, 1),
    ],
)
def test_blocks_are_bounded_and_of_few_sizes(frames, width, queries, clips, size):
    assert scan.block_size(frames, width, queries, clips) == size
