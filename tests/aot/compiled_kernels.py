"""Compiles small programs for TPUs and prints their times as JSON; a process of its own, since
libtpu ends one with the flags of the tests.
"""

import json
from unittest import mock

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.sharding import SingleDeviceSharding

from vtd_jax.cost import examine, kernels
from vtd_jax.cost.hlo import traced_work
from vtd_jax.cost.timed import Timed
from vtd_jax.cost.topology import Target, one_tpu

KINDS = ("v4", "v5e", "v5p", "v6e", "TPU7x")
SIZE, STEPS, ROUNDS = 256, 16, 3


def product(x, o):
    o[0] = jnp.dot(x[0], x[0], preferred_element_type=jnp.float32).astype(o.dtype)


def powers(x, o):
    def once(_, found):
        return jnp.dot(found, x[0], preferred_element_type=jnp.float32).astype(o.dtype)

    o[0] = jax.lax.fori_loop(0, ROUNDS, once, x[0])


def called(kernel, x, name):
    spec = pl.BlockSpec((1, SIZE, SIZE), lambda step: (step, 0, 0))
    return pl.pallas_call(
        kernel, jax.ShapeDtypeStruct(x.shape, x.dtype), grid=(x.shape[0],), in_specs=[spec],
        out_specs=spec, name=name,
    )(x)  # fmt: skip


def both(x):
    """A kernel in a loop, and one with a loop inside."""
    again = jax.lax.scan(lambda y, _: (called(product, y, "one"), None), x, None, ROUNDS)[0]
    return called(powers, again, "many")


def timed(f, target: Target, *shapes, dtype=jnp.bfloat16) -> tuple[Timed, int]:
    """The estimate of a function of arrays, and its FLOPs."""
    on = SingleDeviceSharding(target.devices[0])
    arrays = [jax.ShapeDtypeStruct(shape, dtype, sharding=on) for shape in shapes]
    traced = jax.jit(f).trace(*arrays)
    _, found = examine._compiled(traced, target, str(jnp.dtype(dtype)))
    return found, traced_work(traced.jaxpr).flops


def described(f, target: Target, *shapes, **dtype) -> dict:
    found, flops = timed(f, target, *shapes, **dtype)
    parts = {part.name: part._asdict() for part in found.parts}
    return {"seconds": found.seconds, "flops": flops, "parts": parts, "missing": found.missing}


def plain(kind: str) -> dict:
    """A large product and a large sum."""
    target = one_tpu(kind)
    return {
        "peak": examine.peak(target, "bfloat16"),
        "product": described(jnp.matmul, target, (4096, 4096), (4096, 4096)),
        "sum": described(lambda x: x + 1, target, (2**28,), dtype=jnp.float32),
    }


def main() -> dict:
    found = {kind: plain(kind) for kind in KINDS}
    target = one_tpu("v5e")
    found["kernels"] = [described(both, target, (n * STEPS, SIZE, SIZE)) for n in (1, 2)]
    with mock.patch.multiple(kernels, _lengths=lambda exported, _: [None], _known={}):
        found["missing"] = described(
            lambda x: jnp.tanh(called(product, x, "one")), target, (2, SIZE, SIZE)
        )
    return found


if __name__ == "__main__":
    print(json.dumps(main()))
