"""Compiling for GPUs that are not there: needs the CUDA compiler (`make aot-cuda`)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from conftest import SHARED
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jax.sharding import SingleDeviceSharding

from vtd_jax.cost.cuda import FRACTIONS, OPTIONS, allocated, gpu_target
from vtd_jax.cost.peaks import DEVICES, Peak
from vtd_jax.cost.roofline import pallas_products, roofline

ROOT = Path(__file__).resolve().parents[2]
VIDEOS = [
    "--platform=cuda",
    "--config=experiments/configs/video_folder.py:train=list",
    "--classes=5",
    "--config.data.data_dir=nowhere",
]
# a FLOP takes a second, bytes nothing
FLOPS = Peak(1.0, 1.0, 1e30)


def start(*arguments: str) -> subprocess.Popen:
    """`python -m experiments.aot` with nothing set that says where to compute."""
    unset = ("JAX_PLATFORMS", "XLA_FLAGS", *FRACTIONS)
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    call = [sys.executable, "-m", "experiments.aot", *VIDEOS, *arguments]
    return subprocess.Popen(
        call, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_small_run_on_every_gpu(tmp_path):
    pairs = [("A100:1", "H100:8"), ("H200:1", "B200:1")]
    outs = [tmp_path / "first.json", tmp_path / "second.json"]
    both = [start(f"--topology={','.join(pair)}", f"--out={out}") for pair, out in zip(pairs, outs)]
    programs = []
    for process, out in zip(both, outs):
        output, errors = process.communicate(timeout=1200)
        assert process.returncode == 0, errors
        assert output.splitlines()[-1] == f"6 programs, all fit; wrote {out}"
        # one line a program, and nothing else: no warning
        assert [line.split("]")[0] for line in errors.splitlines()] == [
            f"[{place}/6" for place in range(1, 7)
        ]
        programs += json.loads(out.read_text())["programs"]
    kinds = [kind for pair in pairs for kind in pair for _ in range(3)]
    assert [program["target"] for program in programs] == kinds
    for program in programs:
        gpu = program["target"].partition(":")[0]
        assert program["fits"] is True
        assert 0 < program["parts"]["arguments"] < program["memory"] < program["available"]
        assert program["available"] == allocated(gpu)
        assert program["traffic"] > program["parts"]["outputs"]
        # float32
        least = max(
            program["flops"] / DEVICES[gpu].float32, program["traffic"] / DEVICES[gpu].bandwidth
        )
        assert 0.999 * least < program["seconds_estimated"] < 3 * least
        assert 0 < program["share"] < 1
        assert program["without"] == []
        assert program["kernels"] > 40
        assert program["estimated_by"] == "roofline of the compiled program"
    alone, eight = programs[0], programs[3]
    assert (alone["kind"], alone["devices"], alone["videos"]) == ("training", 1, 4)
    assert (eight["kind"], eight["devices"], eight["videos"]) == ("training", 8, 8)
    assert alone["collectives"] == {}
    # what is learnt goes over the GPUs once, as float32
    assert 2_000 < eight["collectives"]["all-reduce"]["bytes"] < 2_000_000


def test_what_does_not_fit_ends_with_one_line():
    process = start("--topology=H100:1", "--config.data.batch_size=100000")
    output, errors = process.communicate(timeout=1200)
    assert process.returncode == 2
    message = errors.splitlines()[-1]
    assert message.startswith("error: video_folder on H100:1: training needs ")
    assert " GiB a device, of its memory JAX allocates 59.10; " in message
    assert message.endswith(
        "lower --config.data.batch_size=100000 and raise "
        "--config.optimizer.gradient_accumulation_steps=1 by as much or use more GPUs"
    )
    assert " (does not fit 59.10) |" in output


@pytest.fixture
def compiled():
    """Compiles a function of arrays of some shapes for one H100: text, and the traced program."""
    before = {
        name: getattr(jax.config, name)
        for name in ("jax_platforms", "jax_enable_compilation_cache")
    }
    device = gpu_target("H100:1").devices[0]

    def compile_(function, *shapes, dtype=jnp.bfloat16):
        place = SingleDeviceSharding(device)
        arrays = [jax.ShapeDtypeStruct(shape, dtype, sharding=place) for shape in shapes]
        traced = jax.jit(function).trace(*arrays)
        return traced.lower().compile(compiler_options=dict(OPTIONS)).as_text(), traced.jaxpr

    yield compile_
    for name, value in before.items():
        jax.config.update(name, value)


def flops(text: str) -> float:
    return roofline(text, FLOPS, "bfloat16").seconds


def test_flops_of_products_and_attention(compiled):
    text, _ = compiled(lambda x, y: jnp.einsum("bij,bjk->bik", x, y), (3, 64, 32), (3, 32, 128))
    assert flops(text) == pytest.approx(2 * 3 * 64 * 32 * 128)

    def attention(q, k, v):
        found = jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
        return found.astype(jnp.float32).sum()

    queries, keys = (4, 198, 12, 64), (4, 214, 12, 64)
    one = 2 * 4 * 12 * 198 * 214 * 64
    text, _ = compiled(attention, queries, keys, keys)
    assert flops(text) == pytest.approx(2 * one)
    text, _ = compiled(jax.grad(attention, (0, 1, 2)), queries, keys, keys)
    assert flops(text) == pytest.approx(7 * one)


def test_flops_of_convolutions(compiled):
    def convolution(x, kernel):
        axes = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=axes)

    def loss(x, kernel):
        return jnp.square(convolution(x, kernel).astype(jnp.float32)).sum()

    shapes = (8, 56, 56, 64), (3, 3, 64, 128)
    one = 2 * (8 * 28 * 28 * 128) * (3 * 3 * 64)
    assert flops(compiled(convolution, *shapes)[0]) == pytest.approx(one)
    assert flops(compiled(jax.grad(loss, (0, 1)), *shapes)[0]) == pytest.approx(3 * one)


def test_flops_of_a_pallas_kernel(compiled):
    def kernel(x, y, out):
        out[...] = jnp.dot(x[...], y[...])

    def product(x, y):
        rows = pl.BlockSpec((64, 64), lambda i: (i, 0))
        return pl.pallas_call(
            kernel,
            jax.ShapeDtypeStruct((1024, 64), jnp.float32),
            grid=(16,),
            in_specs=[rows, pl.BlockSpec((64, 64), lambda i: (0, 0))],
            out_specs=rows,
            compiler_params=triton.CompilerParams(),
            name="own_product",
        )(x, y)

    text, jaxpr = compiled(product, (1024, 64), (64, 64), dtype=jnp.float32)
    assert roofline(text, FLOPS, "float32").missing == ("products in own_product, Pallas (1 run)",)
    timed = roofline(text, FLOPS, "float32", pallas_products(jaxpr))
    assert (timed.missing, timed.seconds) == ((), pytest.approx(2 * 1024 * 64 * 64))


@pytest.mark.shared
def test_it_agrees_with_the_tool_that_goals_are_measured_by(compiled, tmp_path):
    def loss(x, weights):
        layer = jax.checkpoint(lambda x, w: (jnp.tanh(x @ w), None))
        return jax.lax.scan(layer, x, weights)[0].astype(jnp.float32).sum()

    # products that take longer than the scratch memory that the tool counts
    text, _ = compiled(jax.grad(loss), (2**16, 8192), (3, 8192, 8192))
    (tmp_path / "hlo.txt").write_text(text)
    tool = [sys.executable, SHARED / "tools" / "gpu_time.py", tmp_path / "hlo.txt"]
    said = subprocess.run(tool, check=True, capture_output=True, text=True).stdout.split()
    ours = roofline(text, DEVICES["H100"], "bfloat16")
    milliseconds = float(said[said.index("ms;") - 1])
    assert 1e3 * ours.seconds == pytest.approx(milliseconds, rel=0.01)
    assert ours.kernels == int(said[0])
