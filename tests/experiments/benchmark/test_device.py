"""`--what=device`: which programs a device takes, the time they get, and what is said of them."""

import dataclasses
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmark.classes import name_lengths, stand_in_tokens
from experiments.benchmark.device import build, plain, run
from experiments.benchmark.device.build import Built
from experiments.benchmark.device.choices import (
    COMPILED,
    OURS,
    PLAIN,
    Choice,
    Device,
    choices,
    device,
    torch_runs_on,
)
from experiments.benchmark.device.measure import Budget, Found, Row, measured, problem
from experiments.benchmark.setting import Options
from experiments.benchmark.tasks import FEATURES, GRADIENT, STEP, Setting
from experiments.benchmark.timing import Timing
from support.helpers import SMALL
from vtd_jax.clip.attention import cudnn
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.cost.timed import ROOFLINE, SCHEDULE, Part, Timed
from vtd_jax.errors import UserError
from vtd_jax.model.config import ModelConfig

TEXTS = Path(__file__).resolve().parents[2] / "cost" / "hlo"
B16 = CLIPConfig.vit_b16()
ONE, TWO, THREE = (Choice(GRADIENT, OURS, "xla", remat, "list") for remat in ("block", "dots", ""))


@pytest.mark.parametrize(
    "dtype, platform, ways, layouts",
    [
        ("bfloat16", "tpu", ("pallas", "xla"), ("scan", "list")),
        ("float32", "tpu", ("pallas", "xla"), ("scan", "list")),
        ("bfloat16", "gpu", ("cudnn", "xla"), ("list", "scan")),
        # cuDNN has no attention of float32
        ("float32", "gpu", ("xla",), ("list", "scan")),
        ("bfloat16", "cpu", ("xla",), ("list", "scan")),
    ],
)
def test_a_device_takes_its_own_attention_first(dtype, platform, ways, layouts, monkeypatch):
    monkeypatch.setattr(cudnn, "is_installed", lambda: True)
    assert device(B16, dtype, platform) == Device(platform, ways, layouts)


def test_the_most_important_programs_come_first():
    found = choices(Device("gpu", ("cudnn", "xla"), ("list", "scan")), torch=True)
    assert found[:10] == [
        Choice(GRADIENT, OURS, "cudnn", "block", "list"),
        Choice(GRADIENT, PLAIN, remat="block"),
        Choice(GRADIENT, PLAIN, "cudnn", "block"),
        Choice(GRADIENT, COMPILED),
        Choice(STEP, OURS, "cudnn", "block", "list"),
        Choice(STEP, COMPILED),
        Choice(FEATURES, OURS, "cudnn", "", "list"),
        Choice(FEATURES, PLAIN),
        Choice(FEATURES, PLAIN, "cudnn"),
        Choice(FEATURES, COMPILED),
    ]
    assert [choice.variant for choice in found[10:15]] == [
        "ours, cudnn, remat dots, list",
        "ours, cudnn, remat none, list",
        "ours, xla, remat block, list",
        "ours, cudnn, remat block, scan",
        "plain JAX, remat none",
    ]
    assert len(set(found)) == len(found) == 2 * 12 + 4 + 5 + 3
    few = choices(Device("cpu", ("xla",), ("list", "scan")), torch=False)
    assert {choice.who for choice in few} == {OURS, PLAIN}
    assert len({choice.name for choice in few}) == len(few) == 2 * 6 + 2 + 3
    assert not torch_runs_on("tpu")


class Clock:
    """A clock that programs set forward."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def building(self, seconds: float, run: float = 0.0):
        def build(choice: Choice) -> Built:
            self.now += seconds
            return Built(lambda: self.forward(run), seconds)

        return build

    def forward(self, seconds: float) -> None:
        self.now += seconds


def test_what_there_is_no_time_for_is_left_out():
    clock = Clock()
    found = measured(
        (ONE, TWO, THREE), clock.building(10), 2, Budget(25, clock), clock
    )  # fmt: skip
    assert [row.choice for row in found.rows] == [ONE, TWO]
    assert found.left_out == (THREE,)
    assert found.compiling == ((ONE, 10), (TWO, 10))
    assert found.rounds == 2
    assert all(len(row.timing.seconds) == 2 for row in found.rows)
    # the first one is always measured, in as many rounds as there is time for
    clock = Clock()
    found = measured((ONE, TWO), clock.building(10, 3), 5, Budget(1, clock), clock)
    assert [row.choice for row in found.rows] == [ONE]
    assert found.rounds == 1


def test_estimates_take_the_time_that_is_spared():
    clock, guess = Clock(), Timed(0.5, (), 1, SCHEDULE)

    def build(choice):
        def estimate():
            clock.forward(10)
            return guess

        return Built(lambda: None, 0.0, None, estimate)

    found = measured((ONE, TWO, THREE), build, 1, Budget(1, clock), clock, spare=15)
    assert [row.estimate for row in found.rows] == [guess, guess, None]
    assert found.unestimated == (THREE,)


def _fails(*_):
    raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 7 bytes.\nmore")


def test_a_program_that_does_not_fit_is_a_row():
    after = iter([None, None])

    def later():
        # two runs succeed, the rounds do not
        return next(after) if (left := after.__length_hint__()) else _fails(left)

    def build(choice):
        return {ONE: lambda: Built(lambda: None, 1.0), TWO: _fails, THREE: lambda: Built(later, 1)}[
            choice
        ]()

    found = measured((ONE, TWO, THREE), build, 1, Budget(60))
    assert [row.problem for row in found.rows] == ["", "out of memory", "out of memory"]
    assert [row.timing is None for row in found.rows] == [False, True, True]
    table = run.results_table(found, "title", 4, {GRADIENT: 10}, None)
    assert table.cells()[1][:3] == [TWO.name, "out of memory", "–"]


def test_problems_in_one_line():
    tpu = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 16.25G of 15.75G hbm."
    assert problem(RuntimeError(tpu)) == "out of memory: needs 16.2 of 15.75 GiB"
    assert problem(RuntimeError("CUDA out of memory. Tried")) == "out of memory"
    assert problem(ValueError("no kernel\nat all")) == "failed: no kernel"


def test_the_table_compares():
    guess = Timed(0.5, (Part("product", 0.5, 1),), 1, SCHEDULE)
    rows = (
        Row(ONE, Built(print, 2.0, 2**30), Timing(GRADIENT, ONE.variant, (1.0, 1.0)), guess),
        Row(Choice(GRADIENT, PLAIN), Built(print, 1.0), Timing(GRADIENT, PLAIN, (2.0, 4.0))),
    )
    found = Found(rows, (TWO,), 2, ((ONE, 3.0),))
    table = run.results_table(found, "title", 8, {GRADIENT: 10**12}, 4e12)
    assert table.columns[-1] == "× plain JAX"
    assert table.cells() == [
        [ONE.name, "1 s (1–1)", "8", "500 ms", "2", "25.0%", "1", "3 (2–4)"],
        [rows[1].choice.name, "3 s (2–4)", "2.67", "–", "–", "8.3%", "–", "1 (1–1)"],
    ]


@pytest.mark.parametrize(
    "text, platform, kind, source",
    [
        ("scan_h100.txt", "gpu", "NVIDIA H100 80GB HBM3", ROOFLINE),
        ("scan_v5e.txt", "tpu", "TPU v5 lite", SCHEDULE),
        ("scan_h100.txt", "gpu", "NVIDIA GeForce", None),
        ("scan_h100.txt", "cpu", "cpu", None),
    ],
)
def test_estimates_are_of_the_program_that_is_measured(text, platform, kind, source):
    compiled = SimpleNamespace(as_text=(TEXTS / text).read_text)
    fake = Mock(spec=jax.Device, platform=platform, device_kind=kind, num_cores=1)
    traced = jax.jit(jnp.sin).trace(1.0)
    found = build.estimate(traced, compiled, fake, "bfloat16")
    assert (found and found.source) == source
    assert found is None or found.seconds > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "depth, remat, activation",
    [(SMALL.vision_layers, "none", "quick_gelu"), (1, "block", "gelu_tanh")],
)
def test_plain_jax_computes_what_ours_does(depth, remat, activation):
    model = ModelConfig(text_prompts=5, text_depth=1, visual_prompts=3, visual_depth=depth)
    config = dataclasses.replace(SMALL, activation=activation)
    setting = Setting(config, model, 2, 1, stand_in_tokens(name_lengths(2), 5))
    builder = build.Builder(setting, "float32", "list")
    for task in (GRADIENT, FEATURES)[: 1 + (remat == "none")]:
        ours, theirs = Choice(task, OURS, "xla", "none", "list"), Choice(task, PLAIN, "", remat)
        found, expected = (jax.tree.leaves(builder.build(one).run()) for one in (theirs, ours))
        for x, y in zip(found, expected, strict=True):
            assert float(jnp.linalg.norm(x - y)) <= 1e-5 * float(jnp.linalg.norm(y)), task
    assert builder.flops(GRADIENT) > builder.flops(FEATURES) > 0


@pytest.mark.slow
def test_plain_attention_pads_for_cudnn(monkeypatch):
    given, real = [], jax.nn.dot_product_attention

    def spy(*arrays, implementation, **more):
        given.append((implementation, [x.shape[1] for x in arrays]))
        return real(*arrays, **more)

    q, k = (jax.random.normal(jax.random.key(n), (2, n, 2, 8)) for n in (5, 7))
    expected = real(q, k, k)
    monkeypatch.setattr(jax.nn, "dot_product_attention", spy)
    found = plain._attention(q, k, k, "cudnn")
    assert given == [("cudnn", [6, 8, 8])]
    assert found.shape == expected.shape
    assert float(jnp.abs(found - expected).max()) < 1e-6


def test_images_become_clips():
    options = Options("tiny", 1, 1, 3, 5, 12, 1, stand_in=True)
    assert [(o.frames, o.batch) for o in map(partial(run.sized, options), (128, 16, 4, 20))] == [
        (16, 8),
        (16, 1),
        (4, 1),
        (20, 1),
    ]


def test_bad_wishes(monkeypatch):
    options = Options("RN50", 1, 1, 3, 5, 12, 1, stand_in=True)
    with pytest.raises(UserError, match="--architecture=RN50: --what=device measures ViTs"):
        run.compare(options, "bfloat16", images=1, minutes=1, torch=None)
    monkeypatch.setattr(run, "has_torch", lambda: False)
    with pytest.raises(UserError, match="--torch: PyTorch's side needs torch"):
        run.compare(Options("tiny", 1, 1, 3, 5, 12, 1), "bfloat16", images=1, minutes=1, torch=True)
    monkeypatch.setattr(run, "has_torch", lambda: True)
    with pytest.raises(UserError, match="does not run on this tpu; use --notorch"):
        run._with_torch("tpu", True)
