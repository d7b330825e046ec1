"""The machine's own ceiling: plain matrix products of the shapes that a tower has."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.train.benchmark import Job

# seconds that one run keeps the device busy: dispatch of a small product on a fast device must not count
_BUSY = 0.02
TASK = "product"


def shapes(config: CLIPConfig, images: int) -> list[tuple[int, int, int]]:
    """`(m, k, n)` of the products of one layer on `images` images, and a square one.

    A ResNet has no such layer; its text tower stands for it.
    """
    rows, width = images * (1 + config.grid**2), config.vision_width
    if config.is_resnet:
        rows, width = images * config.context_length, config.text_width
    return [(rows, width, 4 * width), (rows, 4 * width, width), (rows, width, 3 * width), (2048, 2048, 2048)]


def jobs(config: CLIPConfig, images: int, dtype: str, variant: str) -> list[Job]:
    """One job a shape, on JAX's first device; bfloat16 is accumulated and returned in float32."""

    def operand(m: int, n: int) -> jax.Array:
        return jnp.full((m, n), 1 / n, dtype)

    exact = jax.lax.Precision.HIGHEST if dtype == "float32" else jax.lax.Precision.DEFAULT
    multiply = jax.jit(partial(jnp.matmul, precision=exact, preferred_element_type=jnp.float32))
    made = []
    for m, k, n in shapes(config, images):
        left, right = operand(m, k), operand(k, n)
        made.append(job((m, k, n), variant, partial(multiply, left, right), jax.block_until_ready))
    return made


def job(shape: tuple[int, int, int], variant: str, multiply: Callable[[], Any], wait: Callable[[Any], Any]) -> Job:
    """A job of as many products as keep the device busy for a while, waited for once.

    Args:
      shape: `(m, k, n)`.
      variant: whose product it is.
      multiply: starts one product and returns it.
      wait: returns when a product is there.
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
