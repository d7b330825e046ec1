"""The programs of evaluation are compiled as they run; tables of what programs cost."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import nnx

from experiments.configs import _base
from vtd_jax.cost.examine import Report, examine
from vtd_jax.cost.hlo import Sent
from vtd_jax.cost.programs import Names
from vtd_jax.cost.tables import (
    evaluation_steps,
    markdown,
    parts_table,
    report_table,
    run_steps,
    sent,
    to_json,
)
from vtd_jax.cost.timed import Part
from vtd_jax.cost.topology import GIB, Target
from vtd_jax.evaluate import views
from vtd_jax.parallel.mesh import DeviceMesh
from vtd_jax.train import from_config
from vtd_jax.train.config import RunConfig

pytestmark = pytest.mark.mesh

NAMES = [f"class number {place}" for place in range(5)]


def tiny(train: str = "list", **evaluate) -> RunConfig:
    run = _base.base_config(
        name="tiny", protocol="few_shot", data_dir="x", train=train, evaluate={"val": "list"}
    )
    run.clip.update(path="tiny", architecture="tiny")
    run.model.update(text_prompts=4, text_depth=2, visual_prompts=2, visual_depth=2)
    run.data.frames = 2
    run.evaluate.update(batch_size=3, **evaluate)
    return RunConfig.from_dict(run.to_dict())


def here(platform: str = "tpu") -> Target:
    return Target("8 here", platform, tuple(jax.devices()), GIB)


@pytest.mark.parametrize("temporal, spatial", [(1, 1), (2, 3)])
def test_they_are_the_programs_that_evaluation_runs(temporal, spatial):
    config = tiny(temporal_views=temporal, spatial_views=spatial)
    # kernels are those of the CPU that runs this test
    layers = "list" if temporal == 1 else "scan"
    config = dataclasses.replace(config, memory=dataclasses.replace(config.memory, layers=layers))
    model = from_config.build_model(config)
    tokens = model.class_tokens(NAMES)
    score, encode = evaluation_steps(config, here("cpu"), Names(*tokens.shape))
    assert (score.kind, score.videos, score.frames, score.views) == (
        "evaluation",
        8,
        2,
        temporal * spatial,
    )
    graphdef, state = nnx.split(model)
    mesh = DeviceMesh(jax.devices())
    assert score.mapped is views.compiled_scorer(graphdef, mesh, "shard_map")
    assert encode.mapped is views.compiled_encoder(graphdef, mesh, len(NAMES), "shard_map")
    # compiled programs refuse arguments of other shapes, types or places
    encoding, scoring = (
        step.mapped.jitted.lower(*step.arguments).compile() for step in (encode, score)
    )
    state = score.mapped.place(views.STATE, state)
    codebook = encoding(encode.mapped.place(0, mesh.lay_out(tokens)), state)
    axes = (8, 6, 2) if temporal > 1 else (8, 2)
    frames = np.random.default_rng(0).integers(0, 256, (*axes, 64, 64, 3), dtype=np.uint8)
    scores, _ = map(np.asarray, scoring(score.mapped.place(views.FRAMES, frames), state, codebook))
    assert scores.shape == (8, 5)
    np.testing.assert_allclose(scores.sum(1), temporal * spatial, rtol=1e-5)


def test_views_go_one_after_another():
    one, six = (
        examine(
            evaluation_steps(tiny(spatial_views=spatial), here("cuda"), Names(5, 9))[0],
            here("cuda"),
            "",
        )
        for spatial in (1, 3)
    )
    assert six.flops == 3 * one.flops


def test_a_run_that_learns_nothing_has_no_training_step():
    assert [step.kind for step in run_steps(tiny(""), here(), None, Names(5, 9))] == [
        "evaluation",
        "codebook",
    ]
    kinds = [step.kind for step in run_steps(tiny(), here(), Names(3, 9), Names(5, 9))]
    assert kinds == ["training", "evaluation", "codebook"]


def report(**changes) -> Report:
    fields = dict(
        run="run", kind="training", target="v5e:2x4", devices=8, videos=64, frames=32, views=1,
        classes=200, tokens=26, fits=True, memory=3 * GIB, available=round(15.75 * GIB),
        parts={"arguments": 10**9}, flops=2 * 10**13, traffic=10**11,
        collectives={"all-reduce": Sent(2, 13_300_000), "all-gather": Sent(1, 400_000)},
        xla_flops=10**13, text=None, seconds=9.0,
    )  # fmt: skip
    return Report(**fields | changes)


def lines(*reports: Report) -> list[list[str]]:
    """The cells of the rows of a table."""
    table = report_table(reports, {}).to_markdown().splitlines()
    return [line.strip("| ").split(" | ") for line in table[4:] if line.startswith("|")]


def test_a_row_shows_what_a_program_costs():
    text = report_table([report()], {"clip.dtype": "bfloat16"}).to_markdown()
    assert (
        "| run | step | videos | a device | frames | classes | GiB a device | TFLOP | traffic, "
        "GB | sent, MB |" in text
    )
    assert (
        "| run | training | 64 | 8 | 32 | 200 | 3.00 | 20 | 100.0 | 2 reduce 13.3, 1 gather 0.4 |"
        in text
    )
    assert f"- on: v5e:2x4\n- clip.dtype: bfloat16\n- jax: {jax.__version__}\n" in text


def test_targets_stand_beside_each_other():
    larger = report(target="v5e:8x8", devices=64, memory=GIB, flops=10**12)
    (row,) = lines(report(), larger)
    assert row[2:8] == ["64", "8 / 1", "32", "200", "3.00 / 1.00", "20 / 1"]
    assert "- on: v5e:2x4 / v5e:8x8\n" in report_table([report(), larger], {}).to_markdown()


def test_runs_of_the_same_numbers_share_a_row():
    names = ("few_shot_2", "few_shot_4", "few_shot_16")
    on = [report(run=name, target=target) for target in ("a", "b") for name in names]
    assert [row[0] for row in lines(*on)] == ["few_shot_{2,4,16}"]
    on[4] = report(run="few_shot_4", target="b", videos=128)
    assert [(row[0], row[2]) for row in lines(*on)] == [
        ("few_shot_{2,16}", "64"),
        ("few_shot_4", "64 / 128"),
    ]


def test_rows_of_what_does_not_fit_of_views_and_of_codebooks():
    misfit = report(fits=False, memory=round(27.5 * GIB), traffic=None, parts={}, xla_flops=None)
    codebook = report(run="c", kind="codebook", videos=0, frames=0)
    message, views_of, codes = lines(misfit, report(run="b", views=12), codebook)
    assert message[6:] == ["27.50 (does not fit 15.75)", "20", "–", "–"]
    assert views_of[4] == "12 × 32"
    assert codes[1:6] == ["codebook", "–", "–", "–", "200"]


def test_a_table_of_lowered_programs_has_no_memory():
    lowered = report(
        fits=None, memory=None, available=None, traffic=None, xla_flops=None, text=170_000
    )
    table = report_table([lowered], {}).to_markdown()
    assert "GiB" not in table
    assert "libtpu" not in table
    assert "| 1000.0 | 0.17 | 20 | 2 reduce 13.3, 1 gather 0.4 |" in table


def test_json_has_every_number():
    found = json.loads(to_json([report()], {"clip.dtype": "bfloat16"}))
    assert found["settings"] == {"clip.dtype": "bfloat16"}
    assert found["versions"]["jax"] == jax.__version__
    program = found["programs"][0]
    assert program["flops"] == 2 * 10**13
    assert program["collectives"] == {
        "all-reduce": {"count": 2, "bytes": 13_300_000},
        "all-gather": {"count": 1, "bytes": 400_000},
    }
    assert program["parts"] == {"arguments": 10**9}


def test_nothing_sent():
    assert sent({}) == "nothing"


ESTIMATE = dict(
    seconds_estimated=0.2893, share=0.351, estimated_by="the compiler's schedule", kernels=9,
    largest=tuple(Part(f"layer:{n} mul", 0.02 / n, 8 * n) for n in range(1, 8)),
)  # fmt: skip


def test_estimated_times_are_marked():
    text = report_table([report(**ESTIMATE)], {}).to_markdown()
    assert "| GiB a device | TFLOP | ms | of peak | traffic, GB |" in text
    assert "| 3.00 | 20 | 289.3 | 35 % | 100.0 |" in text
    assert "- ms: of one call, by the compiler's schedule, not run; " in text
    assert "- of peak: TFLOP over ms, of the device's peak in bfloat16\n" in text
    # beside one that does not fit, and one that lacks a kernel
    without = ("all-reduce (2 runs)", "no estimate for kernel attention (12 runs)")
    misfit = report(run="b", fits=False, memory=30 * GIB, traffic=None, parts={})
    _, none, less = lines(
        report(**ESTIMATE), misfit, report(run="c", **ESTIMATE | {"without": without})
    )
    assert none[8:10] == ["–", "–"]
    assert less[8] == "289.3 (no estimate for kernel attention (12 runs))"


def test_the_largest_parts_of_each_program():
    assert parts_table([report()]) is None
    other = report(run="run2", target="v5e:8x8", **ESTIMATE)
    without = report(run="c", kind="codebook", **ESTIMATE | {"without": ("sort (1 run)",)})
    same = [report(run=name, **ESTIMATE) for name in ("run2", "run4")]
    table = parts_table([*same, other, without])
    assert table is not None
    rows = table.cells()
    assert rows[0] == ["run{2,4}", "training", "v5e:2x4", "layer:1 mul", "20", "7 %", "8"]
    assert rows[4] == ["", "", "", "layer:5 mul", "4", "1 %", "40"]
    assert rows[5][:3] == ["run2", "training", "v5e:8x8"]
    assert rows[15] == ["", "", "", "not counted: sort (1 run)", "", "", ""]
    assert len(rows) == 16
    assert "# The 5 largest parts" in markdown([other], {})
    assert "largest parts" not in markdown([report()], {})


def test_json_has_the_estimate():
    program = json.loads(to_json([report(**ESTIMATE)], {}))["programs"][0]
    assert (program["seconds_estimated"], program["share"]) == (0.2893, 0.351)
    assert len(program["largest"]) == 7
    assert program["largest"][0] == {"name": "layer:1 mul", "seconds": 0.02, "times": 8}
