"""Measuring itself: turns, repeats, ratios of rounds, ceilings, the class names, and what of a
device is known.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from experiments.benchmark import gemm, timing
from experiments.benchmark.classes import class_names, name_lengths, stand_in_tokens
from experiments.benchmark.timing import Job, Timing, best_rates, interleaved, machine, ratio
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.model.codebook import class_tokens, trim


def test_jobs_run_in_turn_after_a_warm_up():
    calls = []
    jobs = [Job("task", name, lambda name=name: calls.append(name), 7, 2) for name in "ab"]
    timings = interleaved(jobs, 3, at_least=0, pause=0)
    # what is fast runs twice before anything is measured
    assert calls == list("aabb" + "ab" * 3)
    assert [(t.task, t.variant, len(t.seconds), t.flops, t.clips) for t in timings] == [
        ("task", name, 3, 7, 2) for name in "ab"
    ]


def test_what_is_fast_is_repeated_and_what_is_slow_is_not(monkeypatch):
    counts, clock = {"fast": 0, "slow": 0}, [0.0]

    def job(name, seconds):
        def run():
            counts[name] += 1
            clock[0] += seconds

        return Job(name, "", run)

    # what is counted in powers of two is exact
    known = SimpleNamespace(perf_counter=lambda: clock[0], sleep=lambda seconds: None)
    monkeypatch.setattr(timing, "time", known)
    fast, slow = interleaved([job("fast", 2**-10), job("slow", 2**-5)], 2, at_least=2**-6, pause=0)
    assert counts == {"fast": 2 + 2 * 16, "slow": 2 + 2}
    # seconds are those of one run
    assert (fast.seconds, slow.seconds) == ((2**-10,) * 2, (2**-5,) * 2)


@pytest.mark.parametrize("rounds, said", [(5, "about 2.0 min"), (1, "")])
def test_a_long_wait_is_announced_after_the_first_round(monkeypatch, caplog, rounds, said):
    clock = [0.0]

    def run():
        clock[0] += 30

    known = SimpleNamespace(perf_counter=lambda: clock[0], sleep=lambda seconds: None)
    monkeypatch.setattr(timing, "time", known)
    with caplog.at_level("INFO", "vtd_jax"):
        interleaved([Job("task", "", run)], rounds, known=[1.0])
    assert len(caplog.records) == bool(said)
    assert said in caplog.text


def test_ratios_are_of_the_same_round():
    # the machine became ten times slower in the second round: the ratio did not change
    assert ratio((2.0, 20.0, 3.0), (1.0, 10.0, 1.0)) == (2.0, 2.0, 3.0)
    with pytest.raises(ValueError, match="shorter"):
        ratio((1.0, 2.0), (1.0,))


def test_a_ceiling_is_the_best_shape_of_each_round():
    one, other = Timing("a", "", (1.0, 4.0), 8), Timing("b", "", (2.0, 2.0), 10)
    assert best_rates([one, other]) == (8.0, 5.0)


def test_products_are_counted_by_their_repeats():
    config = CLIPConfig.tiny()
    assert gemm.shapes(config, 3)[0] == (3 * 65, 64, 256)
    started, waited = [], []
    job = gemm.job((2, 3, 4), "mine", lambda: started.append(1), lambda _: waited.append(1))
    before = len(started)
    job.run()
    count = len(started) - before
    assert (job.task, job.variant, job.flops) == ("product 2×3×4", "mine", 2 * 2 * 3 * 4 * count)
    assert len(waited) == 3


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_products_run(dtype):
    jobs = gemm.jobs(CLIPConfig.tiny(), 1, dtype, "JAX")
    timings = interleaved(jobs[:1], 1, at_least=0, pause=0)
    assert timings[0].rates[0] > 0


def test_the_machine_reports_its_versions_and_units():
    about = machine()
    assert {"device", "processor", "cores", "jax", "jaxlib", "flax", "optax", "numpy"} <= set(about)
    assert about["platform"] == "cpu"
    assert timing.processor() == about["processor"]


def test_names_are_different_and_have_the_lengths_that_the_table_says():
    names = class_names(350)
    assert len(set(names)) == 350
    assert (names[0], names[100], names[101]) == ("ApplyEyeMakeup", "YoYo", "ApplyEyeMakeup 2")
    assert names[303] == "ApplyEyeMakeup 4"
    real = trim(class_tokens(names, 10))
    made = stand_in_tokens(name_lengths(350), 10)
    assert made.shape == real.shape
    np.testing.assert_array_equal(made.argmax(-1), real.argmax(-1))
    np.testing.assert_array_equal(made[:, 0], real[:, 0])
    assert made.dtype == real.dtype


def test_jobs_that_ran_already_do_not_warm_up():
    runs = []
    job = Job("task", "variant", lambda: runs.append(1))
    (found,) = interleaved([job], 3, known=[1.0])
    assert len(runs) == len(found.seconds) == 3
