"""Times of programs compiled for TPUs, with Pallas kernels: needs libtpu (`make aot`)."""

import tempfile
from pathlib import Path

import pytest
from aot.child import printed

from vtd_jax.cost.peaks import DEVICES

KINDS = ("v4", "v5e", "v5p", "v6e", "TPU7x")
SIZE, STEPS, ROUNDS = 256, 16, 3


@pytest.fixture(scope="module")
def found():
    return printed("compiled_kernels.py", seconds=600)


@pytest.mark.parametrize("kind", KINDS)
def test_a_product_nears_the_peak_and_a_sum_the_bandwidth(found, kind):
    # libtpu makes two devices of a v4
    parts, plain = 2 if kind == "v4" else 1, found[kind]
    assert plain["peak"] * parts == pytest.approx(DEVICES[kind].bfloat16, rel=0.01)
    product, added = plain["product"], plain["sum"]
    assert product["flops"] == 2 * 4096**3
    assert 0.75 < product["flops"] / product["seconds"] / plain["peak"] < 1
    # float32, read and written
    rate = 2 * 4 * 2**28 / added["seconds"]
    assert 0.6 < rate / (DEVICES[kind].bandwidth / parts) < 1


def test_a_kernel_takes_its_length_times_its_grid(found):
    few, more = found["kernels"]
    assert few["missing"] == more["missing"] == []
    # one product a step and round, and as many in the loop of the other kernel
    assert few["flops"] == STEPS * 2 * ROUNDS * 2 * SIZE**3
    one, twice = (program["parts"]["one, Pallas"] for program in (few, more))
    assert one["times"] == twice["times"] == ROUNDS
    assert twice["seconds"] == pytest.approx(2 * one["seconds"])
    assert few["parts"]["many, Pallas (loops counted once)"]["times"] == 1
    # at least what the matrix units need, and not many times as much
    least = ROUNDS * STEPS * 2 * SIZE**3 / DEVICES["v5e"].bfloat16
    assert least < one["seconds"] < 10 * least


def test_a_kernel_without_a_length_is_named(found):
    assert found["missing"]["missing"] == ["no estimate for kernel one (1 run)"]
    assert found["missing"]["seconds"] > 0


def test_nothing_is_left_behind(found):
    assert not list(Path(tempfile.gettempdir()).glob("vtd_jax_kernels_*"))
