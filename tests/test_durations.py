"""Times as people read them."""

import math

import pytest

from vtd_jax.durations import clock, position, timespan


def test_timespan():
    texts = {
        0: "0.0 s",
        0.0010404: "0.001 s",
        0.5: "0.5 s",
        1.04: "1.0 s",
        12: "12 s",
        59.6: "1.0 min",
        210: "3.5 min",
        3599: "1.0 h",
        8640: "2.4 h",
        360_000: "100 h",
    }
    assert {seconds: timespan(seconds) for seconds in texts} == texts


@pytest.mark.parametrize(
    "seconds, text",
    [(0.0, "0:00"), (7, "0:07"), (59.6, "1:00"), (3723.2, "1:02:03"), (math.nan, "?")],
)
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_clock_with_tenths_or_hours():
    assert [clock(x, tenths=True) for x in (7.25, 59.96)] == ["7.2 s", "1:00"]
    assert clock(7, hours=True) == "0:00:07"


@pytest.mark.parametrize(
    "seconds, text", [(0, "0:00.0"), (59.96, "1:00.0"), (3599.9, "59:59.9"), (7325.4, "2:02:05")]
)
def test_position(seconds, text):
    assert position(seconds) == text
