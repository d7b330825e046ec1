"""Means, deviations and intervals over runs, against plain computations."""

import json

import numpy as np
import pytest

from vtd_jax.evaluate.comparison import describe_runs
from vtd_jax.evaluate.metrics import SplitResult, harmonic_mean
from vtd_jax.evaluate.summary import accuracies, compare, distinct_values, spread, summarize
from vtd_jax.evaluate.tables import Spread, Table


def _result(hits, classes=7, seed=0, videos=True):
    """A split of which just these videos are right."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, len(hits)).astype(np.int32)
    scores = rng.random((len(hits), classes)).astype(np.float32) * 0.1
    scores[np.arange(len(hits)), np.where(hits, labels, (labels + 1) % classes)] = 1
    names = tuple(f"{i}.mp4" for i in range(len(hits))) if videos else ()
    return SplitResult(tuple("abcdefg"[:classes]), scores, labels, names)


def _hits(count, right):
    return np.arange(count) < right


def _halves(base, novel):
    return {"base": _result(_hits(20, base)), "novel": _result(_hits(40, novel), seed=1)}


def test_what_each_protocol_reports():
    assert accuracies(_halves(10, 10)) == {"base": 0.5, "novel": 0.25, "HM": pytest.approx(1 / 3)}
    splits = {f"split{i}": _result(_hits(20, 5 * i), seed=i) for i in (1, 2, 3)}
    assert accuracies(splits) == {"split1": 0.25, "split2": 0.5, "split3": 0.75, "mean": 0.5}
    only = accuracies({"val": _result(_hits(20, 10))})
    assert only["top-1"] == 0.5
    assert only["top-5"] >= 0.5
    assert "top-5" not in accuracies({"val": _result(_hits(20, 10), classes=4)})


def test_mean_and_deviation_over_runs_of_harmonic_means_not_of_means():
    runs = [_halves(10, 10), _halves(20, 30), _halves(4, 20)]
    found = summarize(runs)
    means = [harmonic_mean([0.5, 0.25]), harmonic_mean([1.0, 0.75]), harmonic_mean([0.2, 0.5])]
    assert found.values["HM"] == pytest.approx(np.mean(means), abs=1e-12)
    assert found.values["HM"].deviation == pytest.approx(np.std(means, ddof=1), abs=1e-12)
    assert (found.runs, found.headline) == (3, "HM")
    low, high = found.interval
    assert low < np.mean(means) < high
    one = summarize(runs[:1])
    assert not isinstance(one.values["HM"], Spread)
    assert spread([0.25]) == 0.25


def test_interval_of_one_split_is_that_of_a_proportion():
    found = summarize([{"val": _result(_hits(400, 100))}])
    # normal approximation of a share of 0.25 of 400 videos
    half = 1.96 * np.sqrt(0.25 * 0.75 / 400)
    np.testing.assert_allclose(found.interval, (0.25 - half, 0.25 + half), atol=0.01)
    assert found.headline == "top-1"


def test_calibration_is_left_out_where_scores_are_no_probabilities():
    assert summarize([_halves(10, 10)]).calibration is not None
    broken = _result(_hits(20, 10))
    broken.scores[0] = np.nan
    assert summarize([{"val": broken}]).calibration is None


def test_runs_are_compared_on_the_same_videos_only():
    a, b = [_halves(10, 10)], [_halves(15, 30)]
    found = compare(a, b)
    assert found.difference == pytest.approx(
        harmonic_mean([0.75, 0.75]) - harmonic_mean([0.5, 0.25]), abs=1e-12
    )
    assert found.low < found.difference < found.high
    assert compare(a, [{"base": _result(_hits(20, 3))}]) is None
    other = {"base": _result(_hits(21, 3)), "novel": _result(_hits(40, 3), seed=1)}
    assert compare(a, [other]) is None


def test_answers_are_reported_once():
    message = [
        {"commit": "a", "versions": {"jax": "1"}},
        {"commit": "b", "versions": {"jax": "1"}},
        {"commit": "a"},
    ]
    assert distinct_values(message, "commit") == "a, b"
    assert distinct_values(message, "versions", "jax") == "1, unknown"


def test_spreads_in_every_format():
    rows = (
        {"m": "x", "HM": Spread(0.5, 0.125), "CI": (0.25, 0.75)},
        {"m": "y", "HM": 0.25},
        {"m": "z"},
    )
    table = Table("t", ("m", "HM", "CI"), rows)
    assert table.cells()[0] == ["x", "50.00 ± 12.50", "25.0–75.0"]
    assert table.to_csv().splitlines() == [
        "m,HM,HM std,CI low,CI high",
        "x,0.5,0.125,0.25,0.75",
        "y,0.25,,,",
        "z,,,,",
    ]
    read = json.loads(table.to_json())["rows"]
    assert [row["HM"] for row in read] == [{"mean": 0.5, "std": 0.125}, 0.25, None]


def test_runs_that_differ_in_training_alone_are_not_reported_the_same():
    one, two = {"frames": 8, "config": "a1"}, {"frames": 8, "config": "b2"}
    assert describe_runs([{"x": one}, {"y": dict(one)}])["settings that differ"] == "none"
    (message,) = describe_runs([{"x": one}, {"y": two}])["settings that differ"]
    assert "a1 / b2" in message
