"""FLOPs, traffic and collectives of programs whose costs are known by hand, and of text that XLA
for TPUs wrote.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from vtd_jax.clip.attention import attend
from vtd_jax.cost.hlo import Program, Sent, array_bytes, traced_work

pytestmark = pytest.mark.mesh

SPLIT, SAME = PartitionSpec("d"), PartitionSpec()


def over_devices(function, ins, outs=SPLIT):
    mesh = Mesh(np.array(jax.devices()[:8]), ("d",))
    return jax.jit(
        jax.shard_map(function, mesh=mesh, in_specs=ins, out_specs=outs, check_vma=False)
    )


def floats(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def rounds(x, w, length):
    """`length` rounds of one product and one all-reduce."""

    def one(x, _):
        return jax.lax.psum(jnp.tanh(x @ w), "d"), None

    return jax.lax.scan(one, x, None, length=length)[0]


@pytest.mark.parametrize("length", [1, 5])
def test_loops_count_as_often_as_they_run(length):
    jitted = over_devices(lambda x, w: rounds(x, w, length), (SPLIT, SAME))
    traced = jitted.trace(floats(64, 16), floats(16, 16))
    expected = {"all-reduce": Sent(length, length * 8 * 16 * 4)}
    work = traced_work(traced.jaxpr)
    assert work.flops == length * 2 * 8 * 16 * 16
    assert work.collectives == expected
    assert Program(traced.lower().compile().as_text()).collectives() == expected


def test_traffic_of_repeats_is_what_the_unrolled_program_has_more():
    def traffic(function, length):
        jitted = over_devices(lambda x, w: function(x, w, length), (SPLIT, SAME))
        compiled = jitted.lower(floats(64, 256), floats(256, 256)).compile()
        repeats = Program(compiled.as_text()).bytes_of_repeats()
        return compiled.cost_analysis()["bytes accessed"], repeats

    def unrolled(x, w, length):
        for _ in range(length):
            x = jax.lax.psum(jnp.tanh(x @ w), "d")
        return x

    once, repeats = traffic(rounds, 9)
    whole, nothing = traffic(unrolled, 9)
    assert nothing == 0
    # XLA counts the body once; what is left are the loop's own counters and a copy
    assert once < 0.2 * whole
    assert once + repeats == pytest.approx(whole, rel=0.03)
    assert repeats == 8 * traffic(rounds, 2)[1]


def test_every_kind_of_collective():
    def function(x):
        gathered = jax.lax.all_gather(x, "d").sum(0)
        passed = jax.lax.ppermute(x, "d", [(i, (i + 1) % 8) for i in range(8)])
        scattered = jax.lax.psum_scatter(gathered, "d", tiled=True)
        exchanged = jax.lax.all_to_all(passed.reshape(8, -1), "d", 0, 0)
        return jax.lax.pmax(exchanged, "d"), scattered

    traced = over_devices(function, SPLIT).trace(floats(64, 16))
    row = 8 * 16 * 4
    expected = {
        "all-reduce": Sent(1, row),
        "all-gather": Sent(1, 8 * row),
        "reduce-scatter": Sent(1, row // 8),
        "collective-permute": Sent(1, row),
        "all-to-all": Sent(1, row),
    }
    assert traced_work(traced.jaxpr).collectives == expected
    assert Program(traced.lower().compile().as_text()).collectives() == expected


def test_alone_nothing_is_sent():
    mesh = Mesh(np.array(jax.devices()).reshape(8, 1), ("d", "alone"))
    function = jax.shard_map(
        lambda x: jax.lax.psum(x, "alone") + jax.lax.all_gather(x, ("alone",)).sum(0),
        mesh=mesh,
        in_specs=SPLIT,
        out_specs=SPLIT,
        check_vma=False,
    )
    traced = jax.jit(function).trace(floats(64, 16))
    assert (
        traced_work(traced.jaxpr).collectives
        == Program(traced.lower().compile().as_text()).collectives()
        == {}
    )


def work(function, *shapes):
    return traced_work(jax.jit(function).trace(*[floats(*shape) for shape in shapes]).jaxpr)


def test_products_agree_with_xla():
    def function(x, w):
        return jnp.einsum("bij,bjk->bik", x, w)

    jitted = jax.jit(function)
    expected = jitted.lower(floats(3, 4, 5), floats(3, 5, 6)).cost_analysis()["flops"]
    assert work(function, (3, 4, 5), (3, 5, 6)).flops == expected == 2 * 3 * 4 * 5 * 6


def test_convolutions_agree_with_xla():
    def function(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=2,
        )

    expected = (
        jax.jit(function).lower(floats(2, 9, 9, 4), floats(3, 3, 2, 6)).cost_analysis()["flops"]
    )
    assert (
        work(function, (2, 9, 9, 4), (3, 3, 2, 6)).flops
        == expected
        == 2 * (2 * 7 * 7 * 6) * (3 * 3 * 2)
    )


def test_recomputation_counts():
    def loss(x, w, wrap):
        # two layers: of one the result that the other needs backwards is all there is to compute
        # again
        return wrap(lambda x: jnp.tanh(jnp.tanh(x @ w) @ w))(x).sum()

    plain = work(jax.grad(lambda x, w: loss(x, w, lambda f: f)), (8, 16), (16, 16)).flops
    again = work(jax.grad(lambda x, w: loss(x, w, jax.checkpoint)), (8, 16), (16, 16)).flops
    product = 2 * 8 * 16 * 16
    assert (plain, again) == (4 * product, 6 * product)


def test_of_a_condition_the_dearer_branch_counts():
    def function(x, w):
        return jax.lax.cond(x.sum() > 0, lambda: x @ w @ w, lambda: x @ w)

    assert work(function, (8, 16), (16, 16)).flops == 2 * (2 * 8 * 16 * 16)


@pytest.mark.parametrize(
    "shape, expected",
    [
        ("f32[8,16]{1,0}", 512),
        ("bf16[3]{0:T(256)(128)(2,1)S(1)}", 6),
        ("u8[1,32,224,224,3]{3,2,4,1,0:T(32,128)(4,1)}", 32 * 224 * 224 * 3),
        ("pred[]", 1),
        ("s4[5]", 3),
        ("c64[2]", 16),
        ("f8e4m3fn[4]", 4),
        ("token[]", 0),
        ("(f32[2], /*index=1*/(s32[], bf16[2,2]))", 20),
    ],
)
def test_bytes_of_a_shape(shape, expected):
    assert array_bytes(shape) == expected


# what XLA for TPUs wrote (libtpu 0.0.52), cut down to what is read
ASYNCHRONOUS = """HloModule jit_f, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[]{:T(128)} parameter(0)
  %b = f32[]{:T(128)} parameter(1)
  ROOT %sum = f32[]{:T(128)} add(%a, %b)
}

%async_collective_fusion (p: f32[1,4,512]) -> (f32[1,4,512], f32[8,4,512], s32[2]) {
  %p = f32[1,4,512]{2,1,0:S(1)} parameter(0)
  %all-gather.6 = f32[8,4,512]{2,1,0} all-gather(%p), channel_id=1,\
 frontend_attributes={chain_id="0"}
  ROOT %custom-call.12 = (f32[1,4,512]{2,1,0:S(1)}, f32[8,4,512]{2,1,0:S(1)}, s32[2]{0})\
 custom-call(%all-gather.6)
}

%async_collective_fusion.1 (p.1: f32[1,4,512]) -> f32[8,4,512] {
  %p.1 = f32[1,4,512]{2,1,0:S(1)} parameter(0)
  ROOT %all-gather.8 = f32[8,4,512]{2,1,0:S(1)} all-gather(%p.1), channel_id=1,\
 frontend_attributes={chain_id="0"}
}

%wrapped (p.2: f32[2,8]) -> f32[2,8] {
  %p.2 = f32[2,8]{1,0} parameter(0)
  ROOT %all-to-all.1 = f32[2,8]{1,0} all-to-all(%p.2), channel_id=4, dimensions={0}
}

ENTRY %main (x: f32[1,4,512], y: f32[2,8]) -> f32[2,8] {
  %x = f32[1,4,512]{2,1,0} parameter(0)
  %y = f32[2,8]{1,0} parameter(1)
  %fusion.1 = (f32[1,4,512]{2,1,0:S(1)}, f32[8,4,512]{2,1,0:S(1)}, s32[2]{0}) fusion(%x),\
 calls=%async_collective_fusion
  %fusion.2 = f32[8,4,512]{2,1,0:S(1)} fusion(%x), kind=kOutput, calls=%async_collective_fusion.1
  %ag = (f32[2,8]{1,0}, f32[16,8]{1,0}) all-gather-start(%y), channel_id=2, dimensions={0}
  %ag.done = f32[16,8]{1,0} all-gather-done(%ag)
  %cp = (f32[2,8]{1,0}, f32[2,8]{1,0}, u32[]{:S(2)}, u32[]{:S(2)})\
 collective-permute-start(%y), channel_id=3
  %cp.done = f32[2,8]{1,0} collective-permute-done(%cp)
  %a2a = ((f32[2,8]{1,0}), f32[2,8]{1,0}, u32[]{:S(2)}) async-start(%y), calls=%wrapped
  %a2a.done = f32[2,8]{1,0} async-done(%a2a), calls=%wrapped
  %ar = (f32[2,8]{1,0}, /*index=1*/bf16[8]{0}) all-reduce-start(%cp.done, %y), channel_id=5,\
 to_apply=%add
  ROOT %ar.done = (f32[2,8]{1,0}, /*index=1*/bf16[8]{0}) all-reduce-done(%ar)
}
"""


def test_an_asynchronous_collective_counts_once():
    assert Program(ASYNCHRONOUS).collectives() == {
        "all-reduce": Sent(1, 64 + 16),
        "all-gather": Sent(2, 8 * 4 * 512 * 4 + 16 * 8 * 4),
        "collective-permute": Sent(1, 64),
        "all-to-all": Sent(1, 64),
    }


LOOP = """HloModule jit_step, is_scheduled=true

%limit (c: (s32[], f32[8])) -> pred[] {
  %constant.1 = s32[]{:T(128)} constant(4)
  %c = (s32[]{:T(128)}, f32[8]{0:T(128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%c), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %constant.1), direction=LT
}

%body (c.1: (s32[], f32[8])) -> (s32[], f32[8]) {
  %c.1 = (s32[]{:T(128)}, f32[8]{0:T(128)}) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%c.1), index=0
  %x.1 = f32[8]{0:T(128)} get-tuple-element(%c.1), index=1
  %sum.1 = f32[8]{0:T(128)} all-reduce(%x.1), channel_id=1, to_apply=%add
  ROOT %t = (s32[]{:T(128)}, f32[8]{0:T(128)}) tuple(%i.1, %sum.1)
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0:T(128)} parameter(0)
  %zero = s32[]{:T(128)} constant(0)
  %start = (s32[]{:T(128)}, f32[8]{0:T(128)}) tuple(%zero, %x)
  %loop = (s32[]{:T(128)}, f32[8]{0:T(128)}) while(%start), condition=%limit, body=%body
  ROOT %y = f32[8]{0:T(128)} get-tuple-element(%loop), index=1
}
"""


def test_rounds_are_read_off_the_condition_where_xla_does_not_give_them():
    program = Program(LOOP)
    assert program.collectives() == {"all-reduce": Sent(4, 4 * 32)}
    assert program.bytes_of_repeats() == 3 * (32 + 32)


def test_a_loop_of_unknown_length_counts_once():
    program = Program(LOOP.replace("constant(4)", "parameter(1)"))
    assert program.collectives() == {"all-reduce": Sent(1, 32)}
    assert program.bytes_of_repeats() == 0


def test_flops_of_attention_by_kernels_are_those_of_its_formula():
    qkv, shared = jnp.zeros((2, 64, 3 * 128)), jnp.zeros((16, 2 * 128))

    def attended(qkv):
        return attend((qkv,), shared, heads=2, way="pallas", interpret=True)

    one = 2 * 2 * 64 * (64 + 16) * 128
    assert traced_work(jax.make_jaxpr(attended)(qkv)).flops == 2 * one
    gradient = jax.grad(lambda qkv: attended(qkv).sum())
    # the backward pass computes the scores again
    assert traced_work(jax.make_jaxpr(gradient)(qkv)).flops == (2 + 5) * one
