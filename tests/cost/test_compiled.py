"""How long a run takes by what a compiler says of its programs; the compiler is made up here."""

import jax
import pytest

from experiments.configs import _base
from vtd_jax.cost import compiled, topology
from vtd_jax.cost.compiled import Chip, CompiledTime, run_time
from vtd_jax.cost.examine import Report
from vtd_jax.cost.programs import Names
from vtd_jax.cost.topology import GIB, Target
from vtd_jax.train.config import RunConfig

LEARNT, NOVEL = Names(5, 12), Names(3, 11)
CHIP = Chip("v5e", Target("v5e", "tpu", (jax.devices()[0],), 16 * GIB), 1)
SECONDS = {"training": 0.3, "evaluation": 0.02, "codebook": 0.001}


def tiny() -> RunConfig:
    run = _base.base_config(
        name="tiny", protocol="base_to_novel", data_dir="x", train="list",
        evaluate={"base": "b", "novel": "n"},
    )  # fmt: skip
    run.clip.update(path="tiny", architecture="tiny")
    run.data.update(frames=2, batch_size=4)
    run.optimizer.update(epochs=7, gradient_accumulation_steps=2)
    run.evaluate.update(batch_size=3, every_epochs=3, temporal_views=2, spatial_views=3)
    return RunConfig.from_dict(run.to_dict())


def report(kind: str, **changes) -> Report:
    fields = dict(
        run="tiny", kind=kind, target="v5e", devices=1, videos=4, frames=2, views=1, classes=5,
        tokens=12, fits=True, memory=GIB, available=16 * GIB, parts={}, flops=10**12, traffic=1,
        collectives={}, xla_flops=1, text=None, seconds=1.0, seconds_estimated=SECONDS[kind],
        estimated_by="the compiler's schedule", without=("sort (1 run)",),
    )  # fmt: skip
    return Report(**fields | changes)


@pytest.fixture
def asked(monkeypatch):
    """What is compiled: kind and videos on the device."""
    found = []

    def made(kind, run, names, chip):
        size = run.config.data.batch_size if kind == "training" else run.config.evaluate.batch_size
        found.append((kind, size, names.classes))
        return report(kind)

    monkeypatch.setattr(compiled, "_report", made)
    return found


def times(chip: Chip = CHIP, devices: int = 1, learnt=(10, LEARNT)) -> CompiledTime:
    evaluated = {"base": (7, LEARNT), "novel": (6, NOVEL)}
    return run_time(tiny(), chip, devices, learnt=learnt, evaluated=evaluated)


def test_a_run_takes_its_calls_times_their_seconds(asked):
    found = times()
    # 3 batches of 4 of 10 videos, 7 epochs; evaluations after epochs 3 and 6 of one view, and one
    # of six; 3 batches of 3 for 7 videos, 2 for 6
    steps = 7 * (2 if tiny().data.drop_remainder else 3)
    expected = steps * 0.3 + (2 + 6) * (3 + 2) * 0.02 + 3 * 2 * 0.001
    assert found.seconds == pytest.approx(expected)
    assert (found.source, found.without) == ("the compiler's schedule", ("sort (1 run)",))
    assert asked == [
        ("training", 4, 5),
        ("evaluation", 3, 5),
        ("codebook", 3, 5),
        ("evaluation", 3, 3),
        ("codebook", 3, 3),
    ]
    assert times(learnt=None).seconds == pytest.approx(6 * 5 * 0.02 + 2 * 0.001)


def test_devices_share_a_batch_and_take_as_many_calls(asked):
    seconds = times().seconds
    asked.clear()
    assert times(devices=3).seconds == seconds
    assert asked[:2] == [("training", 2, 5), ("evaluation", 1, 5)]
    asked.clear()
    # two cores a chip
    times(CHIP._replace(parts=2), 2)
    assert asked[0] == ("training", 1, 5)


@pytest.mark.parametrize(
    "changes, source",
    [
        (
            {"fits": False, "memory": 20 * GIB, "seconds_estimated": None},
            "training does not fit a v5e (20.0 of 16.00 GiB)",
        ),
        ({"seconds_estimated": None}, "the compiler has no estimate for training"),
    ],
)
def test_why_there_is_no_estimate(monkeypatch, changes, source):
    monkeypatch.setattr(compiled, "_report", lambda kind, *_: report(kind, **changes))
    assert times() == CompiledTime(None, source)


def test_there_is_no_compiler_for_others(monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    for kind in ("v5e", "H100", "here"):
        assert compiled.chip_of(kind) is None
