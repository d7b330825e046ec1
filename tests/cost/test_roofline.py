"""The roofline of programs that XLA compiled for an H100, cut down to what is read, with bytes and
FLOPs counted by hand.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl

from vtd_jax.cost.peaks import Peak
from vtd_jax.cost.roofline import pallas_products, roofline, traffic
from vtd_jax.cost.timed import ROOFLINE

# jax 0.10.2, x [1024, 512] and w [3, 512, 512] in bfloat16:
#   y, all = scan(lambda x, w: tanh(x @ w), x, w); y = cond(flag, sort, double); y[:8]
SCAN = (Path(__file__).parent / "hlo" / "scan_h100.txt").read_text()
# a byte or a FLOP takes a second, the other one nothing
BYTES = Peak(1e30, 1e30, 1.0)
FLOPS = Peak(1.0, 2.0, 1e30)
X, W = 1024 * 512 * 2, 512 * 512 * 2
EXPECTED = {
    "copy": (2 * 4 + 2 * X, 2),
    # only written
    "broadcast_in_dim": (3 * X, 1),
    # one of three matrices, and which one
    "dynamic_slice": (3 * (2 * W + 4), 3),
    # without scratch memory
    "dot_general": (3 * (2 * X + W), 3),
    "loop_convert_fusion": (3 * 2 * X, 3),
    # in place
    "dynamic_update_slice": (3 * (2 * X + 4), 3),
    "add": (3 * 8, 3),
    # the slower branch, with indices
    "sort": (2 * X + 1024 * 512 * 4, 1),
    "slice": (2 * 8 * 512 * 2, 1),
}


def test_bytes_of_every_kernel():
    timed = roofline(SCAN, BYTES, "bfloat16")
    assert {part.name: (part.seconds, part.times) for part in timed.parts} == EXPECTED
    assert timed.seconds == sum(seconds for seconds, _ in EXPECTED.values())
    assert timed.kernels == sum(times for _, times in EXPECTED.values()) == 20
    assert (timed.source, timed.missing) == (ROOFLINE, ())


@pytest.mark.parametrize("dtype, rate", [("bfloat16", 1), ("float32", 2)])
def test_flops_are_those_of_the_products(dtype, rate):
    timed = roofline(SCAN, FLOPS, dtype)
    assert timed.seconds == pytest.approx(3 * 2 * 1024 * 512 * 512 / rate)
    assert timed.largest(1)[0].name == "dot_general"


def test_a_kernel_takes_the_larger_of_both():
    product = "dot_general"
    moved = sum(size for name, (size, _) in EXPECTED.items() if name != product)
    for peak in (1e5, 1e6):
        timed = roofline(SCAN, Peak(peak, peak, 1e3), "bfloat16")
        seconds = max(3 * 2 * 1024 * 512 * 512 / peak, EXPECTED[product][0] / 1e3)
        assert timed.seconds == pytest.approx(moved / 1e3 + seconds)


CALLS = """HloModule jit_g, is_scheduled=true

%fused (p: bf16[64,32], p.1: bf16[32,16]) -> f32[64,16] {
  %p = bf16[64,32]{1,0} parameter(0)
  %p.1 = bf16[32,16]{1,0} parameter(1)
  ROOT %dot.1 = f32[64,16]{1,0} dot(%p, %p.1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%several (p.2: f32[8,16,4], p.3: f32[1,16,4], p.4: s32[]) -> (f32[8,16,4], f32[64,1]) {
  %p.2 = f32[8,16,4]{2,1,0} parameter(0)
  %p.3 = f32[1,16,4]{2,1,0} parameter(1)
  %p.4 = s32[] parameter(2)
  %update.1 = f32[8,16,4]{2,1,0} dynamic-update-slice(%p.2, %p.3, %p.4, %p.4, %p.4)
  %flat.1 = f32[64,1]{1,0} bitcast(%p.3)
  %negative.1 = f32[64,1]{1,0} negate(%flat.1)
  ROOT %both = (f32[8,16,4]{2,1,0}, f32[64,1]{1,0}) tuple(%update.1, %negative.1)
}

%wrapped (p.5: f32[8,16,4]) -> f32[8,16,4] {
  %p.5 = f32[8,16,4]{2,1,0} parameter(0)
  ROOT %copied = f32[8,16,4]{2,1,0} copy(%p.5), metadata={op_name="jit(g)/copy"}
}

ENTRY %main (q: bf16[4,198,12,64], k: bf16[4,214,12,64], x: bf16[8,57,57,64],\
 w: bf16[128,3,3,64], a: bf16[64,32], b: bf16[32,16], c: f32[8,16,4], d: f32[1,16,4])\
 -> f32[64,16] {
  %q = bf16[4,198,12,64]{3,2,1,0} parameter(0)
  %k = bf16[4,214,12,64]{3,2,1,0} parameter(1)
  %x = bf16[8,57,57,64]{3,2,1,0} parameter(2)
  %w = bf16[128,3,3,64]{3,2,1,0} parameter(3)
  %a = bf16[64,32]{1,0} parameter(4)
  %b = bf16[32,16]{1,0} parameter(5)
  %c = f32[8,16,4]{2,1,0} parameter(6)
  %d = f32[1,16,4]{2,1,0} parameter(7)
  %i = s32[] constant(3)
  %forward = (bf16[4,12,198,64]{3,1,2,0}, f32[4,12,198]{2,1,0}, u8[0]{0}) custom-call(%q, %k, %k),\
 custom_call_target="__cudnn$fmhaSoftmax", metadata={op_name="jit(g)/jvp()/attention_fwd"}
  %o = bf16[4,12,198,64]{3,1,2,0} get-tuple-element(%forward), index=0
  %backward = (bf16[4,12,198,64]{3,1,2,0}, bf16[4,12,214,64]{3,1,2,0}, bf16[4,12,214,64]{3,1,2,0},\
 u8[1024]{0}) custom-call(%q, %k, %k, %o), custom_call_target="__cudnn$fmhaSoftmaxBackward",\
 metadata={op_name="jit(g)/transpose(jvp())/attention_bwd"}
  %conv = (bf16[8,28,28,128]{3,2,1,0}, u8[0]{0}) custom-call(%x, %w), window={size=3x3 stride=2x2},\
 dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward",\
 metadata={op_name="jit(g)/checkpoint/conv"}
  %y = bf16[8,28,28,128]{3,2,1,0} get-tuple-element(%conv), index=0
  %filter = (bf16[128,3,3,64]{3,2,1,0}, u8[0]{0}) custom-call(%x, %y),\
 dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardFilter",\
 metadata={op_name="jit(g)/transpose(jvp())/filter"}
  %input = (bf16[8,57,57,64]{3,2,1,0}, u8[0]{0}) custom-call(%y, %w),\
 dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardInput",\
 metadata={op_name="jit(g)/transpose(jvp())/rematted_computation/input"}
  %own = f32[64,16]{1,0} custom-call(%a, %b), custom_call_target="__gpu$xla.gpu.triton",\
 metadata={op_name="jit(g)/attention_forward/pallas_call"}
  %three = (f32[8,16,4]{2,1,0}, f32[64,1]{1,0}) fusion(%c, %d, %i), kind=kLoop, calls=%several,\
 metadata={op_name="jit(g)/several"}
  %start = ((f32[8,16,4]{2,1,0}), f32[8,16,4]{2,1,0}) async-start(%c), calls=%wrapped
  %done = f32[8,16,4]{2,1,0} async-done(%start), calls=%wrapped
  ROOT %product = f32[64,16]{1,0} fusion(%a, %b), kind=kCustom, calls=%fused,\
 metadata={op_name="jit(g)/mi,io->mo/dot_general"}
}
"""
CONVOLUTION = 2 * (8 * 28 * 28 * 128) * (3 * 3 * 64)


def test_flops_of_libraries_and_fused_products():
    expected = {
        "attention_fwd": 4 * (4 * 198 * 12 * 64) * 214,
        "attention_bwd, backward": 10 * (4 * 198 * 12 * 64) * 214,
        "conv": CONVOLUTION,
        "filter, backward": CONVOLUTION,
        "input, recomputed": CONVOLUTION,
        "mi,io->mo": 2 * 64 * 32 * 16,
    }
    found = {part.name: part.seconds for part in roofline(CALLS, FLOPS, "bfloat16").parts}
    assert {name: found[name] for name in expected} == expected
    assert all(seconds < 1 for name, seconds in found.items() if name not in expected)


def test_bytes_of_libraries_and_of_several_results():
    found = {part.name: part.seconds for part in roofline(CALLS, BYTES, "bfloat16").parts}
    q, k = 4 * 198 * 12 * 64 * 2, 4 * 214 * 12 * 64 * 2
    assert found["attention_fwd"] == 2 * q + 2 * k + 4 * 12 * 198 * 4
    assert found["attention_bwd, backward"] == 3 * q + 4 * k
    # the update is read once, written into its place, and written once more
    assert found["several"] == 3 * 16 * 4 * 4 + 4
    assert found["copy"] == 2 * 8 * 16 * 4 * 4
    assert traffic(CALLS) == sum(found.values())


def test_kernels_of_our_own():
    name, moved = "attention_forward, Pallas", (64 * 32 + 32 * 16) * 2 + 64 * 16 * 4
    peak = Peak(1.0, 1.0, 1.0)
    unknown = roofline(CALLS, peak, "bfloat16")
    assert unknown.missing == (f"products in {name} (1 run)",)
    known = roofline(CALLS, peak, "bfloat16", {"attention_forward": 10 * moved})
    assert known.missing == ()
    assert known.seconds == unknown.seconds + 9 * moved
    assert {part.name: part.seconds for part in known.parts}[name] == 10 * moved


def test_products_of_pallas_kernels_are_read_off_the_traced_program():
    def kernel(x, y, out):
        out[...] = jnp.dot(x[...], y[...])

    def product(x, y, rows):
        return pl.pallas_call(
            kernel,
            jax.ShapeDtypeStruct((x.shape[0], 16), jnp.float32),
            grid=(x.shape[0] // rows,),
            in_specs=[pl.BlockSpec((rows, 8), lambda i: (i, 0)), pl.BlockSpec(y.shape)],
            out_specs=pl.BlockSpec((rows, 16), lambda i: (i, 0)),
            name="product",
        )(x, y)

    x, y = jnp.zeros((64, 8)), jnp.zeros((8, 16))
    traced = jax.jit(lambda x, y: product(x, y, 16)).trace(x, y)
    assert pallas_products(traced.jaxpr) == {"product": 2 * 64 * 8 * 16}
    # of several, the least
    both = jax.jit(lambda x, y: (product(x, y, 16), product(x[:32], y, 8))).trace(x, y)
    assert pallas_products(both.jaxpr) == {"product": 2 * 32 * 8 * 16}


def test_no_program():
    timed = roofline("", BYTES, "bfloat16")
    assert (timed.seconds, timed.parts, timed.kernels) == (0, (), 0)
