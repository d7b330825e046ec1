"""Frame indices, with expected values worked out by hand from docs/method.md."""

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
    assert set(np.concatenate([train_indices(n, t, rng) for _ in range(200)]).tolist()) == set(
        range(8)
    )


def test_train_indices_use_every_offset_of_a_segment():
    rng = np.random.default_rng(1)
    seen = np.stack([train_indices(12, 3, rng) for _ in range(300)])
    assert [sorted(set(column.tolist())) for column in seen.T] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
    ]


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


def run(*ranges) -> list[int]:
    """`run((0, 3), (5, 7))` is [0, 1, 2, 5, 6]."""
    return [i for first, end in ranges for i in range(first, end)]


@pytest.mark.parametrize(
    ("n", "t", "centres", "draws"),
    [
        # one frame fewer than wanted: i n / t + n / 2t, and round(i n / t); where both tie, halves
        # to even
        (
            6,
            7,
            [0, 1, 2, 3, 3, 4, 5],
            [0, 1, 2, 3, 3, 4, 5],
        ),  # centre 3 is 21 / 7, a quotient that floats may miss
        (7, 8, [0, 1, 2, 3, 3, 4, 5, 6], [0, 1, 2, 3, 4, 4, 5, 6]),  # draws: 3.5 -> 4
        (15, 16, run((0, 8), (7, 15)), run((0, 9), (8, 15))),  # draws: 7.5 -> 8
        (31, 32, run((0, 16), (15, 31)), run((0, 17), (16, 31))),  # draws: 15.5 -> 16
        (63, 64, run((0, 32), (31, 63)), run((0, 33), (32, 63))),  # draws: 31.5 -> 32
        # one frame more: segments of one frame for the draws, the last frame is never drawn
        (8, 7, [0, 1, 2, 4, 5, 6, 7], run((0, 7))),
        (9, 8, [0, 1, 2, 3, 5, 6, 7, 8], run((0, 8))),
        (17, 16, run((0, 8), (9, 17)), run((0, 16))),
        (33, 32, run((0, 16), (17, 33)), run((0, 32))),
        (65, 64, run((0, 32), (33, 65)), run((0, 64))),
        # one and two frames
        (1, 1, [0], [0]),
        (1, 7, [0] * 7, [0] * 7),
        (1, 64, [0] * 64, [0] * 64),
        (
            2,
            8,
            [0] * 4 + [1] * 4,
            [0, 0, 0, 1, 1, 1, 0, 0],
        ),  # draws: 0 .25 .5 .75 1 1.25 1.5 1.75; 2 wraps to 0
        (
            2,
            32,
            [0] * 16 + [1] * 16,
            [0] * 9 + [1] * 15 + [0] * 8,
        ),  # draws: i / 16, 8 -> 0, 24 -> 2 wraps to 0
    ],
)
def test_lengths_around_the_clips(n, t, centres, draws):
    assert test_indices(n, t).tolist() == centres
    for seed in range(3):  # nothing is left to chance
        assert train_indices(n, t, np.random.default_rng(seed)).tolist() == draws


@pytest.mark.parametrize("t", [1, 7, 8, 16, 32, 64])
def test_lengths_that_divide(t):
    assert test_indices(t, t).tolist() == run((0, t))
    assert train_indices(t, t, np.random.default_rng(0)).tolist() == run((0, t))
    # segments 0-2, 3-5, ...: centre 3 i + 1, draws 3 i + 0, 1 or 2
    assert test_indices(3 * t, t).tolist() == [3 * i + 1 for i in range(t)]
    drawn = np.stack(
        [train_indices(3 * t, t, np.random.default_rng(seed)) for seed in range(40)]
    ) - 3 * np.arange(t)
    assert [set(column) for column in drawn.T.tolist()] == [{0, 1, 2}] * t


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
