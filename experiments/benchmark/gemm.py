"""The machine's own ceiling: plain matrix products of the shapes that a tower has."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmark.timing import Job
from vtd_jax.clip.config import CLIPConfig

# seconds that one run keeps the device busy: the first product after a pause is up to half slower,
# and on a fast device starting a small one takes longer than the product
_BUSY = 0.25
TASK = "product"


def shapes(config: CLIPConfig, images: int) -> list[tuple[int, int, int]]:
    """`(m, k, n)` of the products of one layer on `images` images, and a square one.

    A ResNet has no such layer; its text tower stands for it.
    """
    rows, width = images * (1 + config.grid**2), config.vision_width
    if config.is_resnet:
        rows, width = images * config.context_length, config.text_width
    return [
        (rows, width, 4 * width),
        (rows, 4 * width, width),
        (rows, width, 3 * width),
        (2048, 2048, 2048),
    ]


def jobs(config: CLIPConfig, images: int, dtype: str, variant: str) -> list[Job]:
    """One job a shape, on JAX's first device; bfloat16 is accumulated and returned in float32.

    Every product reuses the memory of the one before, as within a program: on a CPU, mapping new
    pages may take longer than the product.
    """
    exact = jax.lax.Precision.HIGHEST if dtype == "float32" else jax.lax.Precision.DEFAULT

    @partial(jax.jit, donate_argnums=0, keep_unused=True)
    def multiply(_: jax.Array, left: jax.Array, right: jax.Array) -> jax.Array:
        return jnp.matmul(left, right, precision=exact, preferred_element_type=jnp.float32)

    def over_the_last(m: int, k: int, n: int) -> Callable[[], jax.Array]:
        left, right = (jnp.full(size, 1 / size[1], dtype) for size in ((m, k), (k, n)))
        out = jnp.zeros((m, n), jnp.float32)

        def once() -> jax.Array:
            nonlocal out
            out = multiply(out, left, right)
            return out

        return once

    sizes = shapes(config, images)
    return [job(size, variant, over_the_last(*size), jax.block_until_ready) for size in sizes]


def job(
    shape: tuple[int, int, int],
    variant: str,
    multiply: Callable[[], Any],
    wait: Callable[[Any], Any],
) -> Job:
    """A job of as many products as keep the device busy for a while, waited for once.

    Args:
      shape: `(m, k, n)`.
      variant: whose product it is.
      multiply: starts one product and returns it.
      wait: blocks until a product is computed.
    """
    wait(multiply())
    start = time.perf_counter()
    wait(multiply())
    count = max(1, min(1000, round(_BUSY / (time.perf_counter() - start))))

    def run() -> None:
        for _ in range(count - 1):
            multiply()
        wait(multiply())

    m, k, n = shape
    return Job(f"{TASK} {m}×{k}×{n}", variant, run, 2 * m * k * n * count)
