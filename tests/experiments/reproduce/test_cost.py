"""The line below a plan says whether its times are a compiler's or assumed."""

import jax

from experiments.reproduce.cost import _by_compiler
from vtd_jax.cost.compiled import Chip, CompiledTime
from vtd_jax.cost.topology import Target

CHIP = Chip("v5e", Target("v5e", "tpu", (jax.devices()[0],), None), 1)
SOURCE = "the compiler's schedule"


def test_times_of_the_compiler():
    times = {
        "a": CompiledTime(3.0, SOURCE, ("sort (1 run)",)),
        "b": CompiledTime(4.0, SOURCE, ("sort (2 runs)", "all-reduce (2 runs)")),
    }
    (line,) = _by_compiler(CHIP, 8, times)
    assert line == (
        "an estimate for 8 × v5e by the compiler's schedule of the programs compiled for one of "
        "them with its share of the videos, not run (without all-reduce, sort); reading videos, "
        "compiling and what devices send each other are not part of it"
    )


def test_runs_that_have_none_are_named_with_the_reason():
    times = {
        "a": CompiledTime(3.0, SOURCE),
        "b": CompiledTime(None, "training does not fit a v5e (20.0 of 15.75 GiB)"),
        "c": CompiledTime(None, "training does not fit a v5e (20.0 of 15.75 GiB)"),
    }
    lines = _by_compiler(CHIP, 1, times)
    assert "not run; reading videos" in lines[0]
    assert lines[1:] == ["assumed for b, c: training does not fit a v5e (20.0 of 15.75 GiB)"]
