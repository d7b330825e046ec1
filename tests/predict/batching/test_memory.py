"""The batch follows from a device's memory; a frame's bytes are bounded by what XLA takes."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from support.helpers import random_state
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.predict.batching.memory import CHUNK, frame_bytes, frames_a_device
from vtd_jax.predict.programs import compiled

NONE = dict(text_prompts=0, text_depth=0, visual_prompts=0, visual_depth=0, fusion=False)


def model(name: str, dtype: str = "float32") -> VTDCLIP:
    """A CLIP of two layers with random weights, otherwise as large as the named one."""
    sizes = CLIPConfig.named(name).to_dict() | {"text_layers": 1}
    if not CLIPConfig.named(name).is_resnet:
        sizes["vision_layers"] = 2
    config = CLIPConfig.from_dict(sizes)
    clip = clip_from_state(config, random_state(config, 0), dtype=dtype)
    return VTDCLIP(clip, ModelConfig(**NONE), rngs=nnx.Rngs(0))


def device(**stats):
    """A device that says this of its memory."""
    return SimpleNamespace(memory_stats=lambda: stats or None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, dtype",
    [
        ("ViT-B/32", "float32"),
        ("ViT-B/16", "float32"),
        ("ViT-B/16", "bfloat16"),
        ("RN50", "float32"),
        ("tiny", "float32"),
    ],
)
def test_the_estimate_is_above_what_xla_takes_and_not_far(name, dtype):
    one, frames = model(name, dtype), 16
    graphdef, state = nnx.split(one.rounded())
    size = one.clip.config.image_resolution
    images = jax.ShapeDtypeStruct((frames, size, size, 3), jnp.uint8)
    found = compiled(graphdef).encode.lower(state, images).compile().memory_analysis()
    taken = (found.temp_size_in_bytes + found.output_size_in_bytes) / frames + 3 * size**2
    assert taken <= frame_bytes(one) <= 4 * taken


def test_a_batch_is_a_power_of_two_that_the_memory_has_room_for():
    one = model("tiny")
    a_frame = frame_bytes(one)
    assert frames_a_device([device()], one) == CHUNK
    for free, expected in ((1e12, 256), (200 * a_frame, 64), (2 * a_frame, 1), (0, 1)):
        found = device(bytes_limit=int(free) + 1000, bytes_in_use=1000)
        assert frames_a_device([found], one) == expected
        # the fullest device decides
        assert frames_a_device([device(bytes_limit=10**12), found], one) == expected
