"""Pytest plugin: tolerances that leave little room. `pytest -p support.margins -o
enable_assertion_pass_hook=true tests/model`

A test that passes by less than a factor of three passes by one machine's luck. The plugin reads
`assert_allclose` and asserts of the form `number < number`, and lists the lines whose worst error
comes nearer than that to what is allowed.
"""

import itertools
import re
import sys
from pathlib import Path

import numpy as np

ROOM = 3
# an assert with a larger bound is about counts, times or sizes
LARGEST = 1e-2
NUMBER = r"(?:np\.float\d+\(|Array\()?(-?\d[\d.]*(?:e[+-]?\d+)?)(?:, dtype=float\d+)?\)?"
COMPARED = re.compile(rf"^\(?{NUMBER} <=? {NUMBER}(?: <=? {NUMBER})?")

_worst: dict[tuple[str, int], float] = {}
_plain_allclose = np.testing.assert_allclose


def _note(where: tuple[str, int], share: float) -> None:
    _worst[where] = max(_worst.get(where, 0.0), share)


def _allclose(actual, desired, rtol=1e-7, atol=0, **settings):
    caller = sys._getframe(1)
    try:
        a, b = np.asarray(actual, np.float64), np.asarray(desired, np.float64)
        allowed = atol + rtol * np.abs(b)
        apart = np.abs(a - b)
        if apart.size:
            share = np.divide(
                apart, allowed, out=np.where(apart > 0, np.inf, 0.0), where=allowed > 0
            )
            _note((caller.f_code.co_filename, caller.f_lineno), float(np.nanmax(share)))
    except (TypeError, ValueError):
        pass
    return _plain_allclose(actual, desired, rtol, atol, **settings)


def pytest_configure(config):
    """Counts from here on; the asserts need `-o enable_assertion_pass_hook=true`."""
    np.testing.assert_allclose = _allclose


def pytest_unconfigure(config):
    np.testing.assert_allclose = _plain_allclose


def pytest_assertion_pass(item, lineno, orig, expl):
    """An assert held: by how much?"""
    found = COMPARED.match(expl.splitlines()[0])
    if found:
        numbers = [float(x) for x in found.groups() if x is not None]
        for low, high in itertools.pairwise(numbers):
            if 0 < high < LARGEST:
                _note((str(item.path), lineno), low / high)


def pytest_terminal_summary(terminalreporter):
    """One line a tolerance with less room than a factor of three."""
    terminalreporter.write_line(
        f"{len(_worst)} tolerances seen; these leave less than a factor of {ROOM}:"
    )
    for (path, line), share in sorted(_worst.items()):
        if share > 1 / ROOM:
            room = 1 / share if share else float("inf")
            terminalreporter.write_line(
                f"  {Path(path).name}:{line}  {room:.2f} times the error found"
            )
