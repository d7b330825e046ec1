"""The kernels of a TPU and a GPU inside `shard_map` over eight devices, on a CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from support.helpers import random_state
from vtd_jax.clip.compute import Compute
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.weights.params import clip_from_state

pytestmark = pytest.mark.mesh

CONFIG = CLIPConfig(48, 48, 2, 128, 16, 128, text_layers=1, vocab_size=200, context_length=20)
WAYS = {"tpu": "pallas", "gpu": "cudnn"}


# what runs a Pallas kernel on a CPU has no types for the check
@pytest.mark.parametrize(
    "platform, check_vma",
    [("cpu", False), ("cpu", True), ("tpu", False), ("gpu", False), ("gpu", True)],
)
def test_every_device_computes_its_share(platform, check_vma):
    random = np.random.default_rng(5)
    images = jnp.asarray(random.standard_normal((8, 48, 48, 3), dtype=np.float32))
    prompts = jnp.asarray(random.standard_normal((2, 7, 128), dtype=np.float32))
    clip = clip_from_state(CONFIG, random_state(CONFIG, 3))
    compute = Compute(platform=platform, attention=WAYS.get(platform, "auto"), interpret=True)

    def loss(prompts, images):
        return jnp.sin(clip.encode_images(images, prompts, compute)).sum()

    def of_device(prompts, images):
        # its own copy, so that the sum over devices is written out with and without the check
        own = jax.lax.pcast(prompts, ("data",), to="varying") if check_vma else prompts
        value, gradient = jax.value_and_grad(loss)(own, images)
        return jax.lax.psum((value, gradient), "data")

    split, whole = PartitionSpec("data"), PartitionSpec()
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    mapped = jax.shard_map(
        of_device, mesh=mesh, in_specs=(whole, split), out_specs=whole, check_vma=check_vma
    )
    found = jax.jit(mapped)(prompts, images)
    expected = jax.jit(jax.value_and_grad(loss))(prompts, images)
    for ours, alone in zip(found, expected, strict=True):
        assert np.linalg.norm(ours - alone) <= 2e-6 * np.linalg.norm(alone)
