"""One run's scores do not depend on the machine: shaken features, another instruction set, another
jax (`versions`).
"""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from support import versions

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def frames():
    return versions.clips()


@pytest.fixture(scope="module")
def here(frames):
    return versions.run(frames)


def assert_same(here, there):
    """To 1e-4 in every video that rounding cannot decide, and these are over 99 %."""
    clear, apart, moved = versions.compare(here, there)
    print(
        f"{here['jax']} and {there['jax']}: {100 * clear:.1f} % of videos clear, there "
        f"{apart:.1e} apart; {moved} moved"
    )
    assert clear > 0.99
    assert apart < 1e-4


def test_votes_tie_often(here):
    assert here["tied"].mean() > 0.3
    assert here["scores_frames"].shape == (256, 16)
    # so the rule matters
    assert (np.abs(here["scores_frames"] - here["scores_release"]).max(axis=1) > 0.01).mean() > 0.05


def test_rounding_of_features_moves_no_score(frames, here):
    shaken = versions.run(frames, 1e-7)
    assert_same(here, shaken)
    # as released it moves some of the same videos
    assert versions.compare(here, shaken, "release")[1] > 0.01


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="instruction sets of x86")
def test_another_instruction_set(here, tmp_path):
    # this process may have been given one itself
    other = "" if "xla_cpu_max_isa" in os.environ["XLA_FLAGS"] else "--xla_cpu_max_isa=SSE4_2"
    command = [sys.executable, versions.__file__, str(tmp_path / "there.npz")]
    done = subprocess.run(
        command, env=os.environ | {"XLA_FLAGS": other}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert_same(here, dict(np.load(tmp_path / "there.npz")))


@pytest.mark.skipif(
    versions.OTHER not in os.environ, reason=f"{versions.OTHER}: no scores of another jax given"
)
def test_another_version_of_jax(here):
    there = dict(np.load(os.environ[versions.OTHER]))
    if str(there["jax"]) == str(here["jax"]):
        pytest.skip("these scores are of the same jax")
    assert_same(here, there)
