"""What a plan says of a run is what the run does: its batches, its evaluations, and the FLOPs of
its programs.
"""

import dataclasses
import math

import jax
import pytest

from experiments.configs import _base
from vtd_jax.cost import estimate
from vtd_jax.cost.estimate import (
    PlannedRun,
    RunCost,
    assumptions,
    hours,
    plan_table,
    run_cost,
)
from vtd_jax.cost.examine import examine
from vtd_jax.cost.programs import Names, training_step
from vtd_jax.cost.tables import evaluation_steps
from vtd_jax.cost.topology import Target
from vtd_jax.errors import UserError
from vtd_jax.train.config import RunConfig
from vtd_jax.video.batches import BatchSource, BatchSpec
from vtd_jax.video.records import Records

pytestmark = pytest.mark.slow

LEARNT, BASE, NOVEL = Names(5, 12), Names(5, 12), Names(3, 11)
ONE = Target("one", "cpu", (jax.devices()[0],), None)


def tiny(train: str = "list", **changes) -> RunConfig:
    """Two prompted layers in both towers, batches of 4 videos, 3 a batch in evaluation; `changes`
    by full name.
    """
    run = _base.base_config(
        name="tiny",
        protocol="base_to_novel",
        data_dir="x",
        train=train,
        evaluate={"base": "b", "novel": "n"},
    )
    run.clip.update(path="tiny", architecture="tiny")
    run.model.update(text_prompts=4, text_depth=2, visual_prompts=2, visual_depth=2)
    run.data.update(frames=2, batch_size=4)
    run.optimizer.update(epochs=7, gradient_accumulation_steps=2)
    run.evaluate.update(batch_size=3, every_epochs=3)
    for name, value in changes.items():
        group, field = name.split("__")
        run[group][field] = value
    return RunConfig.from_dict(run.to_dict())


def cost(config: RunConfig, videos: int | None = 10) -> RunCost:
    learnt = None if videos is None else (videos, LEARNT)
    return run_cost(config, learnt=learnt, evaluated={"base": (7, BASE), "novel": (6, NOVEL)})


def examined(config: RunConfig, names: Names) -> dict[str, int]:
    found = [training_step(config, ONE, names), *evaluation_steps(config, ONE, names)]
    return {step.kind: examine(step, ONE, "").flops for step in found}


@pytest.fixture(scope="module")
def flops() -> dict[Names, dict[str, int]]:
    """Of each program of a run with all its settings, by the report of programs ahead of time."""
    return {names: examined(tiny(), names) for names in (BASE, NOVEL)}


def one_pass(flops: dict, views: int = 1) -> int:
    """Both splits: 3 batches of 3 for 7 videos, 2 for 6, and a codebook each."""
    base, novel = flops[BASE], flops[NOVEL]
    return (
        views * (3 * base["evaluation"] + 2 * novel["evaluation"])
        + base["codebook"]
        + novel["codebook"]
    )


def test_a_run_costs_its_steps_and_evaluations(flops):
    found = cost(tiny())
    # 2 batches of 4 of 10 videos, 7 epochs; 2 micro-batches an update
    assert (found.steps, found.updates) == (14, 7)
    assert found.training_flops == 14 * flops[LEARNT]["training"]
    # after epochs 3 and 6, and at the end
    assert found.evaluation_flops == 3 * one_pass(flops)
    assert found.flops == found.training_flops + found.evaluation_flops


@pytest.mark.parametrize("every, early", [(0, 0), (1, 6), (6, 1), (7, 0), (10, 0)])
def test_evaluations_while_training_have_one_view_and_the_last_has_all(flops, every, early):
    found = cost(
        tiny(evaluate__every_epochs=every, evaluate__temporal_views=2, evaluate__spatial_views=3)
    )
    assert found.evaluation_flops == early * one_pass(flops) + one_pass(flops, 6)


def test_views_of_a_traced_program_are_what_is_counted(flops):
    config = tiny(evaluate__temporal_views=2, evaluate__spatial_views=3)
    assert examined(config, BASE)["evaluation"] == 6 * flops[BASE]["evaluation"]


def test_a_run_that_learns_nothing_is_evaluated_once(flops):
    found = cost(tiny(""), None)
    assert found == RunCost(0, 0, 0, one_pass(flops))


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("videos", [4, 7, 8, 9])
def test_batches_of_an_epoch_are_the_pipelines(videos, drop):
    class Few(Records):
        def __init__(self):
            pass

        def __len__(self):
            return videos

    # a run of one epoch yields as many batches as the source has
    source = BatchSource(Few(), BatchSpec("train", 2, 64, 4, drop_remainder=drop))
    found = cost(tiny(data__drop_remainder=drop), videos)
    assert found.steps == 7 * len(source)
    assert len(source) == (math.floor(videos / 4) if drop else math.ceil(videos / 4))


def test_too_few_videos_for_a_batch():
    with pytest.raises(
        UserError, match=r"batch_size=4 with drop_remainder leaves no batch of 3 videos"
    ):
        cost(tiny(), 3)


def test_runs_that_differ_in_rates_are_traced_once(monkeypatch):
    cost(tiny())
    monkeypatch.setattr(estimate, "_flops", lambda step: pytest.fail("traced again"))
    other = dataclasses.replace(
        tiny(optimizer__lr=1e-2, optimizer__epochs=3),
        name="other",
        seed=5,
        devices=4,
        codebook_shards=2,
        parallel="shard_map",
    )
    assert cost(other, 100).steps == 75


def test_what_changes_a_program_changes_its_flops():
    plain = cost(tiny(memory__remat="none"))
    assert cost(tiny(memory__remat="block")).training_flops > plain.training_flops
    assert cost(tiny(memory__remat="block")).evaluation_flops == plain.evaluation_flops
    assert cost(tiny(data__frames=4)).evaluation_flops > plain.evaluation_flops
    assert (
        cost(tiny(memory__remat="none", model__fusion=False)).training_flops < plain.training_flops
    )
    assert cost(tiny(data__batch_size=5)).training_flops > plain.training_flops


def test_hours_are_flops_over_the_share_of_the_peak():
    run = RunCost(10, 5, 3 * 10**18, 10**18)
    assert hours(run, "v5e", 8, 0.5, "bfloat16") == pytest.approx(
        4e18 / (197e12 * 8 * 0.5) / 3600, rel=1e-12
    )
    # six bfloat16 passes make one float32 product
    assert hours(run, "v5e", 1, 1.0, "float32") == pytest.approx(
        6 * hours(run, "v5e", 1, 1.0, "bfloat16")
    )
    assert hours(run, "A100", 1, 1.0, "float32") == pytest.approx(
        16 * hours(run, "A100", 1, 1.0, "bfloat16")
    )


def test_this_machine_is_measured_once():
    rate = estimate.peak("here", "float32")
    # any processor of these years, in matrix products
    assert 1e9 < rate < 1e15
    assert estimate.peak("here", "float32") == rate
    assert hours(RunCost(1, 1, 10**15, 0), "here", 1, 0.5, "float32") == pytest.approx(
        1e15 / rate / 1800
    )
    assert "measured on this machine" in assumptions("here", 1, 0.5, "float32")


def test_assumptions_are_reported():
    assert assumptions("v5e", 8, 0.4, "bfloat16") == (
        "an estimate for 8 × v5e: 197 TFLOP/s each in bfloat16 (the vendor's peak), 40 % of it "
        "reached (assumed); reading videos and compiling are not part of it"
    )
    assert "32.8 TFLOP/s each in float32 (the vendor's peak divided by the six bfloat16" in (
        assumptions("v5e", 8, 0.4, "float32")
    )
    assert "19.5 TFLOP/s each in float32 (the vendor's peak outside the tensor cores, " in (
        assumptions("A100", 1, 0.4, "float32")
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ("v9", 1, 0.5, "float32"),
            "device 'v9': unknown peak, expected one of v4, v5e, .*, GB200, here",
        ),
        (("v5e", 0, 0.5, "float32"), "devices 0: expected 1 or more"),
        (
            ("v5e", 1, 0.0, "float32"),
            "utilization 0: expected a share of the peak, above 0 and up to 1",
        ),
        (("v5e", 1, 1.5, "float32"), "utilization 1.5: expected a share of the peak"),
        (("v5e", 1, 0.5, "int8"), "dtype 'int8': expected one of bfloat16, float32"),
    ],
)
def test_devices_that_are_not_known(arguments, message):
    with pytest.raises(UserError, match=message):
        hours(RunCost(1, 1, 1, 1), *arguments)


def test_a_plan_ends_with_its_total():
    rows = [
        PlannedRun("first", 51, 100, RunCost(1200, 600, 32_547 * 10**12, 12 * 10**11), 1.25),
        PlannedRun("nothing learnt", 0, 100, RunCost(0, 0, 0, 8 * 10**11), 0.000289),
    ]
    table = plan_table(rows, "assumed so")
    first, nothing, total = table.cells()
    assert first == ["first", "51", "100", "1200", "32547", "1.2", "1.2 h"]
    assert nothing == ["nothing learnt", "–", "–", "–", "–", "0.8", "1.0 s"]
    assert total == ["total", "–", "–", "1200", "32547", "2", "1.3 h"]
    assert table.to_markdown().endswith("- time: assumed so\n")
    with pytest.raises(UserError, match="plan: no runs in it"):
        plan_table([])
