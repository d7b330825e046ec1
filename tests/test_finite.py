"""Numbers that are not finite are counted, found and refused."""

import numpy as np
import pytest

from vtd_jax.errors import UserError
from vtd_jax.finite import check_finite, finite_rows


def test_the_first_is_named():
    good = np.zeros((2, 3), np.float32)
    assert check_finite(good, "x") is good
    bad = good.copy()
    bad[1, 2], bad[1, 0] = np.nan, -np.inf
    with pytest.raises(UserError) as caught:
        check_finite(bad, "x.pt: tensor w", "take another file")
    for text in ("x.pt: tensor w has 2 values", "-inf at [1, 0]", ": take another file"):
        assert text in str(caught.value)
    with pytest.raises(UserError, match=r"nan at \[\]$"):
        check_finite(np.array(np.nan), "w")


def test_rows_that_can_be_ranked():
    scores = np.array([[0, 1], [np.nan, 1], [0, np.inf]])
    assert finite_rows(scores).tolist() == [True, False, False]
