"""Flags that are lists of whole numbers."""

import pytest

from experiments.common.number_lists import whole_numbers
from vtd_jax.errors import UserError


def test_numbers_are_read():
    assert whole_numbers("seeds", ["0", " 7"], "numbers") == (0, 7)
    assert whole_numbers("frames", ["8", "8"], "numbers", least=1, repeats=True) == (8, 8)
    assert whole_numbers("splits", ["3", "1"], "some of 1, 3", allowed=(1, 3)) == (3, 1)


@pytest.mark.parametrize(
    "values, settings",
    [
        (["a"], {}),
        (["-1"], {}),
        (["²"], {}),
        ([""], {}),
        (["1", "1"], {}),
        ([], {}),
        (["0"], {"least": 1}),
        (["4"], {"allowed": (1, 2, 3)}),
    ],
)
def test_others_are_refused(values, settings):
    with pytest.raises(UserError, match=f"--seeds={','.join(values)}: expected numbers"):
        whole_numbers("seeds", values, "numbers", **settings)
