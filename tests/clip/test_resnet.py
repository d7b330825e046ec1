"""The ResNet image tower against a plain NumPy float64 reference, non-trivial running statistics
included.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from support.helpers import random_state
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.layers import Frozen
from vtd_jax.clip.resnet import ModifiedResNet
from vtd_jax.clip.weights.params import clip_from_state, state_from_clip
from vtd_jax.clip.weights.tensor_names import tensors
from vtd_jax.errors import UserError

RNG = np.random.default_rng(11)
CONFIG = CLIPConfig(24, 64, (1, 2, 1, 1), 16, None, 64, text_layers=1, vocab_size=50)
# parameters of the towers as the paper's table 20 and OpenAI's checkpoints have them, running
# statistics left out
PUBLISHED = {"RN50": 38_316_896, "RN101": 56_259_936, "RN50x4": 87_137_080}


def _state(config):
    """Random weights: running statistics far from 0 and 1, attention that is not flat."""
    state = random_state(config, 3)
    for name in state:
        if name.endswith("running_var"):
            state[name] = RNG.uniform(0.3, 3, state[name].shape).astype(np.float32)
        elif name.endswith("running_mean"):
            state[name] = RNG.normal(0, 0.5, state[name].shape).astype(np.float32)
        elif name.endswith("bn3.weight") or "q_proj.weight" in name or "k_proj.weight" in name:
            state[name] = 2 * state[name]
        elif ".bn" in name:
            state[name] = 4 * state[name] if name.endswith("bias") else state[name]
    return state


def _conv(state, conv, norm, x, stride=1):
    """Convolution of `[N, C, H, W]`, tap by tap, then the normalisation of evaluation mode."""
    weight = state[f"{conv}.weight"]
    size = weight.shape[-1]
    padded = np.pad(x, [(0, 0), (0, 0), (size // 2,) * 2, (size // 2,) * 2])
    height = (padded.shape[2] - size) // stride + 1
    end = stride * (height - 1) + 1
    y = 0
    for row in range(size):
        for column in range(size):
            tap = padded[:, :, row : row + end : stride, column : column + end : stride]
            y = y + np.einsum("oi,nihw->nohw", weight[:, :, row, column], tap)
    mean, var, scale, bias = (
        state[f"{norm}.{part}"][:, None, None]
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (y - mean) / np.sqrt(var + 1e-5) * scale + bias


def _halve(x):
    return (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4


def _bottleneck(state, name, x, stride):
    y = np.maximum(_conv(state, f"{name}.conv1", f"{name}.bn1", x), 0)
    y = np.maximum(_conv(state, f"{name}.conv2", f"{name}.bn2", y), 0)
    y = _conv(state, f"{name}.conv3", f"{name}.bn3", _halve(y) if stride == 2 else y)
    if f"{name}.downsample.0.weight" in state:
        x = _conv(
            state, f"{name}.downsample.0", f"{name}.downsample.1", _halve(x) if stride == 2 else x
        )
    return np.maximum(x + y, 0)


def _pooled(state, x, head_width=64):
    """Attention pooling, head by head; the only query is the mean."""
    name = "visual.attnpool"
    x = x.reshape(*x.shape[:2], -1).transpose(0, 2, 1)
    x = (
        np.concatenate([x.mean(1, keepdims=True), x], axis=1)
        + state[f"{name}.positional_embedding"]
    )
    q, k, v = (
        x @ state[f"{name}.{p}_proj.weight"].T + state[f"{name}.{p}_proj.bias"] for p in "qkv"
    )
    mixed = []
    for i in range(x.shape[-1] // head_width):
        part = slice(i * head_width, (i + 1) * head_width)
        scores = np.einsum("nc,nmc->nm", q[:, 0, part], k[..., part]) / np.sqrt(head_width)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed.append(
            np.einsum("nm,nmc->nc", weights / weights.sum(-1, keepdims=True), v[..., part])
        )
    return (
        np.concatenate(mixed, -1) @ state[f"{name}.c_proj.weight"].T + state[f"{name}.c_proj.bias"]
    )


def _reference(state, config, images):
    state = {name: x.astype(np.float64) for name, x in state.items()}
    x = images.astype(np.float64).transpose(0, 3, 1, 2)
    for i in (1, 2, 3):
        x = np.maximum(
            _conv(state, f"visual.conv{i}", f"visual.bn{i}", x, stride=2 if i == 1 else 1), 0
        )
    x = _halve(x)
    for stage, blocks in enumerate(config.vision_layers):
        for block in range(blocks):
            x = _bottleneck(
                state, f"visual.layer{stage + 1}.{block}", x, 2 if stage and not block else 1
            )
    return _pooled(state, x)


def _relative(ours, expected):
    return np.linalg.norm(np.asarray(ours, np.float64) - expected) / np.linalg.norm(expected)


@nnx.jit
def _encode(clip, images):
    return clip.encode_images(images)


def _features(state, images=None, dtype="float32"):
    return _encode(
        clip_from_state(CONFIG, state, dtype=dtype),
        jnp.asarray(IMAGES if images is None else images),
    )


STATE = _state(CONFIG)
# large blobs under the noise: averaging leaves nothing of noise alone, and both images would have
# the same features
BLOBS = RNG.standard_normal((2, 4, 4, 3)).repeat(16, axis=1).repeat(16, axis=2)
IMAGES = (2 * BLOBS + RNG.standard_normal((2, 64, 64, 3))).astype(np.float32)


def test_matches_the_reference():
    ours = _features(STATE)
    assert ours.shape == (2, CONFIG.embed_dim)
    assert ours.dtype == jnp.float32
    expected = _reference(STATE, CONFIG, IMAGES)
    error = _relative(ours, expected)
    print(f"relative error {error:.1e}")
    assert error < 2e-6
    assert _relative(expected[0], expected[1]) > 0.1


@pytest.mark.parametrize(
    "name", ["visual.bn2.running_mean", "visual.layer4.0.bn3.running_var", "visual.bn1.weight"]
)
def test_every_statistic_counts(name):
    changed = STATE | {name: STATE[name] * 1.5}
    ours = _features(changed)
    expected = _reference(changed, CONFIG, IMAGES)
    assert _relative(ours, expected) < 2e-6
    assert _relative(_reference(STATE, CONFIG, IMAGES), expected) > 1e-3


@pytest.mark.slow
def test_bfloat16_stays_near_float32_and_returns_float32():
    low = _features(STATE, dtype="bfloat16")
    assert low.dtype == jnp.float32
    # bfloat16 keeps 8 bits: twenty convolutions leave about 1e-2
    assert 1e-4 < _relative(low, _reference(STATE, CONFIG, IMAGES)) < 5e-2


def test_images_of_a_batch_do_not_meet():
    swapped = _features(STATE, np.stack([IMAGES[0], -IMAGES[1]]))
    both = _features(STATE)
    np.testing.assert_allclose(both[0], swapped[0], rtol=1e-5, atol=1e-5)
    assert _relative(swapped[1], np.asarray(both[1])) > 0.1


def test_every_array_is_frozen_and_round_trips():
    clip = clip_from_state(CONFIG, STATE)
    assert {type(v) for _, v in nnx.to_flat_state(nnx.state(clip.visual))} == {Frozen}
    back = state_from_clip(clip)
    assert set(back) == set(STATE)
    for name, x in STATE.items():
        np.testing.assert_array_equal(back[name], x, err_msg=name)


@pytest.mark.parametrize("name", ["RN50", "RN101", "RN50x4", "RN50x16", "RN50x64"])
def test_names_and_shapes_cover_the_tower(name):
    config = CLIPConfig.named(name)
    tower = nnx.eval_shape(lambda: ModifiedResNet(config))
    arrays = {tuple(path): v.shape for path, v in nnx.to_flat_state(nnx.state(tower))}
    visual = [tensor for tensor in tensors(config) if tensor.name.startswith("visual.")]
    assert {tensor.path for tensor in visual} == {("visual", *path) for path in arrays}
    turn = {
        "same": lambda s: s,
        "linear": lambda s: s[::-1],
        "conv": lambda s: (*s[2:], s[1], s[0]),
    }
    for openai, path, kind, shape in visual:
        assert arrays[path[1:]] == turn[kind](shape), openai
    if name in PUBLISHED:
        learnt = sum(
            int(np.prod(tensor.shape)) for tensor in visual if "running" not in tensor.name
        )
        assert learnt == PUBLISHED[name]


def test_prompts_are_refused():
    clip = clip_from_state(CONFIG, STATE)
    with pytest.raises(
        UserError, match="a ResNet takes no visual prompts: set visual_prompts=0, or choose a ViT"
    ):
        clip.encode_images(jnp.asarray(IMAGES), jnp.zeros((1, 4, 16)))


def test_images_of_another_size_are_refused():
    clip = clip_from_state(CONFIG, STATE)
    with pytest.raises(UserError, match="images are 96×64, this ResNet takes 64×64"):
        clip.encode_images(jnp.zeros((1, 96, 64, 3)))


@pytest.mark.slow
def test_under_jit_and_gradient_to_the_image():
    clip = clip_from_state(CONFIG, STATE)
    graph, state = nnx.split(clip)
    total = jax.jit(
        jax.grad(lambda images: jnp.sum(nnx.merge(graph, state).encode_images(images) ** 2))
    )
    gradient = total(jnp.asarray(IMAGES))
    assert gradient.shape == IMAGES.shape
    assert float(jnp.abs(gradient).max()) > 0
