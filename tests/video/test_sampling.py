"""Frame indices, with expected values worked out by hand from method.md."""

import numpy as np
import pytest

from vtd_jax.errors import UserError
from vtd_jax.video.sampling import evenly_spaced, test_indices, train_indices, view_indices


@pytest.mark.parametrize(
    ("n", "t", "expected"),
    [
        (8, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (16, 4, [2, 6, 10, 14]),
        (10, 4, [1, 3, 6, 8]),  # 1.25 3.75 6.25 8.75
        (7, 3, [1, 3, 5]),  # 1.17 3.5 5.83
        (3, 8, [0, 0, 0, 1, 1, 2, 2, 2]),  # 0.19 0.56 0.94 1.31 1.69 2.06 2.44 2.81
        (1, 4, [0, 0, 0, 0]),
        (300, 3, [50, 150, 250]),
        (5, 1, [2]),
    ],
)
def test_test_indices(n, t, expected):
    assert test_indices(n, t).tolist() == expected


def test_test_indices_need_no_floats():
    for n in range(1, 60):
        for t in range(1, 40):
            expected = [(i * n * 2 + n) // (2 * t) % n for i in range(t)]
            assert test_indices(n, t).tolist() == expected


def test_train_indices_add_the_draw_to_the_segment():
    rng = np.random.default_rng(0)
    n, t = 11, 4  # step 2: starts 0 2 4 6; frames 8, 9, 10 are never drawn
    draws = np.random.default_rng(0).integers(2, size=t)
    assert train_indices(n, t, rng).tolist() == (np.array([0, 2, 4, 6]) + draws).tolist()
    assert set(np.concatenate([train_indices(n, t, rng) for _ in range(200)]).tolist()) == set(range(8))


def test_train_indices_use_every_offset_of_a_segment():
    rng = np.random.default_rng(1)
    seen = np.stack([train_indices(12, 3, rng) for _ in range(300)])
    assert [sorted(set(column.tolist())) for column in seen.T] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


@pytest.mark.parametrize(
    ("n", "t", "expected"),
    [
        (3, 4, [0, 1, 2, 2]),  # 0 0.75 1.5 2.25, halves to even
        (5, 8, [0, 1, 1, 2, 2, 3, 4, 4]),  # 0 .625 1.25 1.875 2.5 3.125 3.75 4.375
        (1, 4, [0, 0, 0, 0]),  # 0 0.25 0.5 0.75 -> 0 0 0 1, wraps to 0
        (2, 5, [0, 0, 1, 1, 0]),  # 0 0.4 0.8 1.2 1.6 -> 2 wraps to 0
    ],
)
def test_train_indices_of_a_short_video_are_fixed(n, t, expected):
    assert train_indices(n, t, np.random.default_rng(3)).tolist() == expected


def test_one_frame_a_segment_has_no_choice():
    assert train_indices(6, 6, np.random.default_rng(0)).tolist() == list(range(6))
    # 7 // 6 == 1: the last frame is not reached
    assert train_indices(7, 6, np.random.default_rng(0)).tolist() == list(range(6))


def test_views_begin_with_the_test_clip_and_are_fixed_by_index():
    views = view_indices(100, 8, 4, index=5)
    assert views.shape == (4, 8)
    assert views[0].tolist() == test_indices(100, 8).tolist()
    assert np.array_equal(views, view_indices(100, 8, 4, index=5))
    assert not np.array_equal(views[1:], view_indices(100, 8, 4, index=6)[1:])
    assert not np.array_equal(views[1], views[2])
    assert ((views[1:] // 12) == np.arange(8)).all()  # step 12: each frame from its own segment
    assert np.array_equal(view_indices(100, 8, 2, index=5), views[:2])


def test_evenly_spaced_keeps_all_or_the_centres():
    assert evenly_spaced(4, 8).tolist() == [0, 1, 2, 3]
    assert evenly_spaced(8, 8).tolist() == list(range(8))
    assert evenly_spaced(100, 4).tolist() == [12, 37, 62, 87]


def test_errors():
    with pytest.raises(UserError, match="0 frames"):
        test_indices(0, 4)
    with pytest.raises(UserError, match="frames=0"):
        train_indices(4, 0, np.random.default_rng(0))
    with pytest.raises(UserError, match="temporal_views=0"):
        view_indices(4, 4, 0, index=0)
