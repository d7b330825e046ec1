"""The towers as they are laid out for a TPU and a GPU, on a CPU, against their plain paths."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import print_saved_residuals

from support.helpers import random_state
from vtd_jax.clip.block import KEPT
from vtd_jax.clip.compute import Compute
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.weights.params import clip_from_state

pytestmark = pytest.mark.slow

# two heads of 64 channels, one tile of a TPU; 10 tokens an image
CONFIG = CLIPConfig(48, 48, 3, 128, 16, 128, text_layers=3, vocab_size=200, context_length=20)
STATE = random_state(CONFIG, 3)
RANDOM = np.random.default_rng(11)
IMAGES = jnp.asarray(RANDOM.standard_normal((2, 48, 48, 3), dtype=np.float32))
TOKENS = jnp.asarray([[198, *[5] * 7, *names, 199] for names in ([7, 8, 9], [4, 4, 2], [1, 2, 3])])
ROUNDING = 2e-6
WAYS = {"tpu": "pallas", "gpu": "cudnn"}


def _prompts(depth, length):
    random = np.random.default_rng((depth, length))
    return jnp.asarray(random.standard_normal((depth, length, 128), dtype=np.float32))


def _compute(platform, **settings):
    return Compute(platform=platform, attention=WAYS[platform], interpret=True, **settings)


def _both(tower, given, prompts, compute, layers="list", dtype="float32"):
    """Features, and the gradient of a scalar of them for the prompts."""
    clip = clip_from_state(CONFIG, STATE, layers=layers, dtype=dtype)
    encode = clip.encode_images if tower == "image" else clip.encode_text

    def scalar(prompts):
        features = encode(given, prompts, compute)
        return jnp.sin(features).sum(), features

    gradient, features = jax.jit(jax.grad(scalar, has_aux=True))(prompts)
    return features, gradient


@functools.cache
def _plain(tower, depth, length):
    given = IMAGES if tower == "image" else TOKENS
    return _both(tower, given, _prompts(depth, length), Compute(plain=True))


def _near(found, expected, bound=ROUNDING):
    for ours, plain in zip(found, expected, strict=True):
        assert np.linalg.norm(ours - plain) <= bound * np.linalg.norm(plain)


@pytest.mark.parametrize("layers", ["list", "scan"])
@pytest.mark.parametrize("depth, length", [(3, 7), (2, 4), (1, 7)])
@pytest.mark.parametrize("platform", WAYS)
def test_image_features_and_gradients_are_those_of_the_plain_path(platform, depth, length, layers):
    found = _both("image", IMAGES, _prompts(depth, length), _compute(platform), layers)
    _near(found, _plain("image", depth, length))


@pytest.mark.parametrize("platform", WAYS)
def test_text_features_and_gradients_are_those_of_the_plain_path(platform):
    # cuDNN takes no keys of a context: those rows of a GPU's texts go through XLA's attention
    found = _both("text", TOKENS, _prompts(3, 7), _compute(platform))
    _near(found, _plain("text", 3, 7))


@pytest.mark.parametrize("layers", ["list", "scan"])
@pytest.mark.parametrize("remat", ["block", "dots"])
@pytest.mark.parametrize("platform", WAYS)
def test_computing_again_changes_nothing(platform, remat, layers):
    found = _both("image", IMAGES, _prompts(3, 7), _compute(platform, remat=remat), layers)
    _near(found, _plain("image", 3, 7))


@pytest.mark.parametrize("platform", WAYS)
def test_bfloat16_is_as_near_as_on_a_cpu(platform):
    prompts, exact = _prompts(3, 7), _plain("image", 3, 7)
    low = _both("image", IMAGES, prompts, _compute(platform), dtype="bfloat16")
    cpu = _both("image", IMAGES, prompts, Compute(platform="cpu"), dtype="bfloat16")
    for ours, theirs, true in zip(low, cpu, exact, strict=True):
        assert np.linalg.norm(ours - true) <= 1.3 * np.linalg.norm(theirs - true)


@pytest.mark.parametrize("platform", ["cpu", *WAYS])
def test_dots_keeps_by_name_what_frozen_weights_need(platform, capsys):
    clip = clip_from_state(CONFIG, STATE, layers="list", dtype="bfloat16")
    compute = Compute(platform=platform, remat="dots", interpret=True)
    print_saved_residuals(lambda p: clip.encode_images(IMAGES, p, compute).sum(), _prompts(3, 7))
    kept = [line for line in capsys.readouterr().out.splitlines() if "named" in line]
    names = {name: sum(f"'{name}'" in line for line in kept) for name in (*KEPT, "qkv")}
    # two whole blocks and the last one, whose q, k and v are of few rows
    assert names["mid"] == names["hidden"] == 3
    assert names["qkv"] == 2 * (3 if platform == "gpu" else 1)
    assert names["stats"] >= 3 * 4
