"""Accuracies against values worked out by hand."""

import numpy as np
import pytest

from vtd_jax.evaluate.metrics import SplitResult, harmonic_mean, top_k

NAMES = tuple("abcdefg")


def _result(scores, labels, names=NAMES):
    return SplitResult(names, np.asarray(scores, np.float32), np.asarray(labels, np.int32))


def _ranked(*orders):
    """Scores whose order from the highest is the given one."""
    scores = np.zeros((len(orders), len(NAMES)), np.float32)
    for row, order in enumerate(orders):
        scores[row, list(order)] = np.arange(len(NAMES), 0, -1)
    return scores


def test_top1_top5_and_count():
    first = (0, 1, 2, 3, 4, 5, 6)
    result = _result(_ranked(first, first, first, first), [0, 4, 5, 6])
    assert result.count == 4
    assert result.top1 == 0.25
    assert result.top5 == 0.5
    assert result.predictions.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("classes, meant", [(5, False), (6, True)])
def test_top5_needs_more_than_five_classes(classes, meant):
    result = _result(np.eye(classes), np.arange(classes), NAMES[:classes])
    assert (result.top5 == 1.0) is meant
    assert (result.top5 is None) is not meant


def test_of_equal_scores_the_lower_class_wins():
    assert top_k(np.ones((2, 3), np.float32), np.array([0, 1]), 1) == 0.5
    assert _result(np.ones((2, 7)), [0, 1]).predictions.tolist() == [0, 0]


def test_a_score_that_is_not_a_number_is_wrong():
    scores = np.array([[1.0, np.nan], [1.0, 0.0]], np.float32)
    assert top_k(scores, np.array([0, 0]), 1) == 0.5


def test_per_class_and_a_class_without_videos():
    result = _result(np.eye(7)[[0, 0, 1]], [0, 1, 1])
    assert result.per_class[:2].tolist() == [1.0, 0.5]
    assert np.isnan(result.per_class[2:]).all()


def test_harmonic_mean_is_the_published_one():
    # rows of the published base-to-novel table, percent with one decimal
    for base, novel, expected in ((53.3, 46.8, 49.8), (73.8, 53.3, 61.9), (18.3, 12.2, 14.6)):
        assert harmonic_mean([base, novel]) == pytest.approx(expected, abs=0.06)
    assert harmonic_mean([0.0, 0.5]) == 0.0
