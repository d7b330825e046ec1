"""A training step is compiled by the first process, and by no other after it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import warm
from vtd_jax.cache.programs import FOLDER, programs_folder

pytestmark = pytest.mark.command

ROOT = Path(__file__).resolve().parents[2]
# what a command does: turn the cache on, then run the step; prints requests, hits and misses
STEP = """
import collections
from vtd_jax.cache.programs import keep_programs
keep_programs()

import jax, numpy as np
from experiments.configs import _base
from vtd_jax.cost.programs import Names, training_step
from vtd_jax.cost.topology import Target
from vtd_jax.train.config import RunConfig

events = collections.Counter()
jax.monitoring.register_event_listener(lambda name, **_: events.update([name.split("/")[-1]]))
run = _base.base_config(
    name="tiny",
    protocol="base_to_novel",
    data_dir="x",
    train="list",
    evaluate={"base": "b", "novel": "n"},
)
run.clip.update(path="tiny", architecture="tiny")
run.model.update(text_prompts=4, text_depth=2, visual_prompts=2, visual_depth=2)
run.data.update(frames=2, batch_size=4)
here = Target("here", "cpu", (jax.devices()[0],), None)
step = training_step(RunConfig.from_dict(run.to_dict()), here, Names(5, 9))
zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), step.arguments)
placed = [step.mapped.place(number, argument) for number, argument in enumerate(zeros)]
learnable, _, sums = step.mapped(*placed)
assert float(sums["count"]) == 0 and jax.tree.leaves(learnable)
print(*(events[name] for name in ("compile_requests_use_cache", "cache_hits", "cache_misses")))
"""


def start(cache: Path) -> tuple[int, int, int]:
    """(requests to compile, programs found, programs compiled and kept) of a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= dict(
        VTD_JAX_CACHE=str(cache),
        JAX_PLATFORMS="cpu",
        # keeps small programs too, however fast they compile here
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
        XLA_FLAGS=warm.xla_flags(),
    )
    done = subprocess.run(
        [sys.executable, "-c", STEP], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    requests, hits, misses = map(int, done.stdout.split())
    return requests, hits, misses


def kept(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*-cache"))


def test_the_second_process_compiles_nothing(tmp_path):
    requests, hits, misses = start(tmp_path)
    assert misses == len(kept(tmp_path)) > 0
    assert hits + misses == requests
    assert any(name.startswith("jit_step-") for name in kept(tmp_path))
    before = kept(tmp_path)
    assert (tmp_path / FOLDER / programs_folder().name).is_dir()

    again, hits, misses = start(tmp_path)
    assert (again, hits, misses) == (requests, requests, 0)
    assert kept(tmp_path) == before
