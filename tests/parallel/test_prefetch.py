"""Batches fetched ahead: the same batches, states and errors, and how long one had to wait for
them.
"""

import threading

import jax
import jax.numpy as jnp
import pytest

from support import warm
from vtd_jax.parallel.prefetch import Prefetcher


class Numbers:
    """0, 1, … as batches, with a state as the pipeline's: the number of the next one."""

    def __init__(self, wrong=None, making=lambda: None):
        self.position, self.wrong, self.making, self.closed = 0, wrong, making, False

    def __iter__(self):
        return self

    def __next__(self):
        self.making()
        if self.position == self.wrong:
            raise KeyError(self.position)
        self.position += 1
        return self.position - 1

    def get_state(self):
        return {"batch": self.position}

    def close(self):
        self.closed = True


def _negative(number):
    return -number


def test_prepared_or_not_the_batches_and_states_are_the_same():
    ahead = Prefetcher(Numbers(), _negative)
    for number in range(6):
        assert ahead.get_state() == {"batch": number}
        if number % 3:
            ahead.prepare()
            ahead.prepare()
            assert ahead.get_state() == {"batch": number}
        assert next(ahead) == (number, -number)
    ahead.close()
    assert ahead._source.closed


def test_an_error_ahead_is_raised_when_its_batch_is_due():
    ahead = Prefetcher(Numbers(wrong=1), _negative)
    ahead.prepare()
    assert next(ahead) == (0, 0)
    ahead.prepare()
    assert ahead.get_state() == {"batch": 1}
    with pytest.raises(KeyError):
        next(ahead)


def test_an_error_in_placing_too():
    def place(number):
        if number:
            raise ValueError("no room")
        return number

    ahead = Prefetcher(Numbers(), place)
    assert next(ahead) == (0, 0)
    ahead.prepare()
    with pytest.raises(ValueError, match="no room"):
        next(ahead)


def test_it_ends_with_its_batches():
    ahead = Prefetcher(iter("ab"), str.upper)
    ahead.prepare()
    assert next(ahead) == ("a", "A")
    assert list(ahead) == [("b", "B")]
    ahead.prepare()
    assert list(ahead) == []


class Running:
    """Stands for results of the devices; not ready before they are set."""

    def __init__(self):
        self.there = threading.Event()

    def is_deleted(self):
        return False

    def is_ready(self):
        return self.there.is_set()


class Clock:
    """Stands for the module `time`."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def advance(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("vtd_jax.parallel.prefetch.time", clock)
    return clock


def _seen():
    """Waits until it is noted that the devices are done."""
    for thread in threading.enumerate():
        if thread.name == "vtd-watch":
            thread.join(60)
            assert not thread.is_alive()


def test_waiting_counts_where_the_devices_have_nothing_to_do(clock):
    numbers = Numbers(making=lambda: clock.advance(0.25))
    ahead = Prefetcher(numbers, _negative)
    next(ahead)
    assert ahead.waited == 0.25
    # busy for longer than the input takes
    ahead.prepare(Running())
    assert ahead.waited == 0.25
    next(ahead)
    assert ahead.waited == 0.25
    # done long before
    numbers.making = lambda: (_seen(), clock.advance(0.5))
    ahead.prepare(jax.block_until_ready(jnp.ones(3)))
    next(ahead)
    assert ahead.waited == 0.75


def test_waiting_counts_from_the_end_of_what_the_devices_did(clock):
    running = Running()

    def making():
        clock.advance(0.75)
        running.there.set()
        _seen()
        clock.advance(0.5)

    ahead = Prefetcher(Numbers(making=making), _negative)
    ahead.prepare(running)
    assert ahead.waited == 0.5


def test_results_that_were_given_away_are_no_error_here():
    given = jnp.ones(3)
    given.delete()
    ahead = Prefetcher(Numbers(making=_seen), _negative)
    ahead.prepare(given)
    assert next(ahead) == (0, 0)


def test_nothing_looks_at_the_devices_after_the_end():
    ahead = Prefetcher(Numbers(wrong=0), _negative)
    ahead.prepare(Running())
    assert "vtd-watch" in [thread.name for thread in threading.enumerate()]
    with pytest.raises(KeyError):
        next(ahead)
    ahead.close()
    assert "vtd-watch" not in [thread.name for thread in threading.enumerate()]


ERROR_AHEAD = """
import sys
import jax, jax.numpy as jnp
from vtd_jax.parallel.prefetch import Prefetcher

class Batches:
    def __iter__(self):
        yield 0
        raise ValueError("a bad record")
    def close(self):
        pass

long = jax.jit(lambda x: jax.lax.fori_loop(0, 60, lambda _, y: jnp.tanh(y @ y), x))
x = jnp.ones((700, 700))
long(x).block_until_ready()
ahead = Prefetcher(Batches(), lambda batch: batch)
next(ahead)
running = long(x)
ahead.prepare(running)
assert not running.is_ready()
try:
    next(ahead)
except ValueError as error:
    ahead.close()
    sys.exit(f"error: {error}")
"""


@pytest.mark.command
def test_an_error_while_the_devices_work_keeps_its_exit_status():
    # a thread that waits inside JAX when Python ends aborts the process: 134 instead of 1
    done = warm.run(["-c", ERROR_AHEAD])
    assert (done.returncode, done.stderr) == (1, "error: a bad record\n")
