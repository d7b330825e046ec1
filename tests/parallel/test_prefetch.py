"""Batches fetched ahead: the same batches, states and errors, and how long one had to wait for
them.
"""

import threading
import time

import jax
import jax.numpy as jnp
import pytest

from support import warm
from vtd_jax.parallel.prefetch import Ahead


class Numbers:
    """0, 1, … as batches, with a state as the pipeline's: the number of the next one."""

    def __init__(self, wrong=None, pause=0.0):
        self.position, self.wrong, self.pause, self.closed = 0, wrong, pause, False

    def __iter__(self):
        return self

    def __next__(self):
        time.sleep(self.pause)
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
    ahead = Ahead(Numbers(), _negative)
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
    ahead = Ahead(Numbers(wrong=1), _negative)
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

    ahead = Ahead(Numbers(), place)
    assert next(ahead) == (0, 0)
    ahead.prepare()
    with pytest.raises(ValueError, match="no room"):
        next(ahead)


def test_it_ends_with_its_batches():
    ahead = Ahead(iter("ab"), str.upper)
    ahead.prepare()
    assert next(ahead) == ("a", "A")
    assert list(ahead) == [("b", "B")]
    ahead.prepare()
    assert list(ahead) == []


class Running:
    """Stands for results of the devices that are there after so many seconds."""

    def __init__(self, seconds):
        self.end = time.perf_counter() + seconds

    def is_deleted(self):
        return False

    def is_ready(self):
        return time.perf_counter() >= self.end


def test_waiting_counts_where_the_devices_have_nothing_to_do():
    ahead = Ahead(Numbers(pause=0.2), _negative)
    next(ahead)
    assert ahead.waited >= 0.2
    first = ahead.waited
    # busy for longer than the input takes
    ahead.prepare(Running(5.0))
    assert ahead.waited == first
    next(ahead)
    assert ahead.waited == first
    # done long before
    ahead.prepare(jax.block_until_ready(jnp.ones(3)))
    next(ahead)
    assert ahead.waited - first > 0.1


def test_waiting_counts_from_the_end_of_what_the_devices_did():
    ahead = Ahead(Numbers(pause=1.0), _negative)
    ahead.prepare(Running(0.6))
    assert 0 < ahead.waited < 0.6


def test_results_that_were_given_away_are_no_error_here():
    given = jnp.ones(3)
    given.delete()
    ahead = Ahead(Numbers(pause=0.05), _negative)
    ahead.prepare(given)
    assert next(ahead) == (0, 0)


def test_nothing_looks_at_the_devices_after_the_end():
    ahead = Ahead(Numbers(wrong=0), _negative)
    ahead.prepare(Running(60.0))
    assert "vtd-watch" in [thread.name for thread in threading.enumerate()]
    with pytest.raises(KeyError):
        next(ahead)
    ahead.close()
    assert "vtd-watch" not in [thread.name for thread in threading.enumerate()]


ERROR_AHEAD = """
import sys
import jax, jax.numpy as jnp
from vtd_jax.parallel.prefetch import Ahead

class Batches:
    def __iter__(self):
        yield 0
        raise ValueError("a bad record")
    def close(self):
        pass

long = jax.jit(lambda x: jax.lax.fori_loop(0, 60, lambda _, y: jnp.tanh(y @ y), x))
x = jnp.ones((700, 700))
long(x).block_until_ready()
ahead = Ahead(Batches(), lambda batch: batch)
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


def test_an_error_while_the_devices_work_keeps_its_exit_status():
    # a thread that waits inside JAX when Python ends aborts the process: 134 instead of 1
    done = warm.run(["-c", ERROR_AHEAD])
    assert (done.returncode, done.stderr) == (1, "error: a bad record\n")
