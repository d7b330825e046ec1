"""Statistics against plain loops, SciPy's own tests and simulated videos."""

import numpy as np
import pytest
from scipy import stats

from vtd_jax.evaluate import statistics
from vtd_jax.evaluate.metrics import SplitResult, harmonic_mean


def _hits(seed, count, share):
    return np.random.default_rng(seed).random(count) < share


def test_calibration_error_against_a_loop():
    rng = np.random.default_rng(0)
    scores, labels = (
        (4 * rng.dirichlet(np.ones(3), 200)).astype(np.float32),
        rng.integers(0, 3, 200),
    )
    error = 0.0
    rows = [[float(value) / sum(map(float, row)) for value in row] for row in scores]
    for bin_ in range(10):
        held = [i for i, row in enumerate(rows) if bin_ / 10 < max(row) <= (bin_ + 1) / 10]
        if held:
            right = np.mean([rows[i].index(max(rows[i])) == labels[i] for i in held])
            error += len(held) / 200 * abs(right - np.mean([max(rows[i]) for i in held]))
    assert statistics.calibration_error(scores, labels, 10) == pytest.approx(error)


def test_confusion_pairs():
    scores = np.eye(3, dtype=np.float32)[[1, 1, 0, 2, 0, 2]]
    result = SplitResult(("a", "b", "c"), scores, np.array([0, 0, 1, 1, 0, 2]))
    expected = [("a", "b", 2, pytest.approx(2 / 3)), ("b", "a", 1, 0.5), ("b", "c", 1, 0.5)]
    assert statistics.confusion_pairs(result) == expected
    assert statistics.confusion_pairs(result, 1) == expected[:1]


def test_interval_is_that_of_scipys_bootstrap_over_videos():
    base, novel = _hits(1, 300, 0.7), _hits(2, 200, 0.4)
    found = statistics.interval(
        [{"base": base, "novel": novel}], statistics.overall(("base", "novel"))[1], draws=9999
    )
    plain = stats.bootstrap(
        (base, novel), lambda x, y, axis=-1: harmonic_mean([x.mean(axis), y.mean(axis)]),
        method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    assert found == pytest.approx(tuple(plain), abs=0.004)


def test_seeds_on_the_same_videos_are_resampled_jointly():
    hits = _hits(0, 400, 0.5)
    runs, take = [{"val": hits}] * 4, lambda accuracy: accuracy["val"]
    one, joint, own = (
        np.diff(statistics.interval(which, take, joint=how, draws=9999))[0]
        for which, how in ((runs[:1], None), (runs, None), (runs, ()))
    )
    assert joint == pytest.approx(one, rel=0.05)
    assert own == pytest.approx(one / 2, rel=0.1)


def test_intervals_hold_the_truth_as_often_as_they_say():
    held = 0
    for seed in range(400):
        low, high = statistics.interval(
            [{"v": _hits(seed, 200, 0.6)}], lambda a: a["v"], draws=500, seed=seed
        )
        held += low <= 0.6 <= high
    assert 0.92 <= held / 400 <= 0.98


def test_paired_test_against_scipy():
    a, b = _hits(3, 500, 0.5), _hits(4, 500, 0.58)
    found = statistics.paired_test(a, b)
    counts = [int(sum(x == i and y == j for x, y in zip(a, b))) for i, j in ((1, 0), (0, 1))]
    assert [found.only_a, found.only_b] == counts
    assert found.p == pytest.approx(stats.binomtest(counts[0], sum(counts)).pvalue)
    assert statistics.paired_test(a, a) == (0, 0, 1)


def test_randomisation_test_of_one_split_is_mcnemars():
    a, b = _hits(5, 300, 0.5), _hits(6, 300, 0.57)
    found = statistics.paired_difference([{"v": a}], [{"v": b}], lambda accuracy: accuracy["v"])
    # 10 000 exchanges: a standard error of 0.005 at most
    assert found.p == pytest.approx(statistics.paired_test(a, b).p, abs=0.02)
    plain = stats.bootstrap(
        (a, b), lambda x, y, axis=-1: y.mean(axis) - x.mean(axis), paired=True, method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    assert (found.low, found.high) == pytest.approx(tuple(plain), abs=0.01)
    assert found.difference == pytest.approx(b.mean() - a.mean())


def test_seeds_are_exchanged_jointly_video_by_video():
    rng = np.random.default_rng(0)
    a, b = (rng.random((2, 40)) < 0.5 for _ in range(2))
    found = statistics.paired_difference(
        [{"v": x} for x in a], [{"v": x} for x in b], lambda accuracy: accuracy["v"]
    )
    change = b.mean(0) - a.mean(0)
    chance = np.abs((rng.choice([-1, 1], (20_000, 40)) * change).mean(1))
    assert found.p == pytest.approx((chance >= abs(change.mean()) - 1e-12).mean(), abs=0.025)
    uneven = statistics.paired_difference(
        [{"v": a[0]}], [{"v": x} for x in b], lambda accuracy: accuracy["v"]
    )
    assert uneven.p is None
