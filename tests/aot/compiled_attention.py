"""Compiles attention for TPUs that are not there, and prints what became of it as JSON."""

import json

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from vtd_jax.clip import attention
from vtd_jax.cost.topology import tpu_target

# tokens, width, heads, causal, dtype
TOWERS = {
    "B/32": (50, 768, 12, False, "bfloat16"),
    "B/16": (197, 768, 12, False, "bfloat16"),
    "B/16 float32": (197, 768, 12, False, "float32"),
    "L/14": (257, 1024, 16, False, "bfloat16"),
    "L/14@336": (577, 1024, 16, False, "bfloat16"),
    "L/14@336 float32": (577, 1024, 16, False, "float32"),
    "text": (77, 512, 8, True, "bfloat16"),
    "text of L/14": (77, 768, 12, True, "float32"),
}
JOBS = [("v5e:1x1", name) for name in TOWERS]
JOBS += [(chip, "B/16") for chip in ("v5p:1x1x1", "v6e:1x1")]
SHARED = 16


def compiled(topology: str, name: str) -> list[str]:
    """Names of the kernels in the program of values and gradients."""
    tokens, width, heads, causal, dtype = TOWERS[name]
    sharding = SingleDeviceSharding(tpu_target(topology).devices[0])
    qkv, shared, cotangent = (
        jax.ShapeDtypeStruct(shape, jnp.dtype(dtype), sharding=sharding)
        for shape in ((2, tokens, 3 * width), (SHARED, 2 * width), (2, tokens, width))
    )

    def both(qkv, shared, cotangent):
        def run(qkv, shared):
            return attention.attend((qkv,), shared, heads=heads, way="pallas", causal=causal)

        result, pull_back = jax.vjp(run, qkv, shared)
        return result, pull_back(cotangent)

    text = jax.jit(both).lower(qkv, shared, cotangent).compile().as_text()
    return [kernel for kernel in ("attention_forward", "attention_backward") if kernel in text]


if __name__ == "__main__":
    print(json.dumps([[*job, compiled(*job)] for job in JOBS]))
