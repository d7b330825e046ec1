"""The ResNet tower against OpenAI's PyTorch `ModifiedResNet`: RN50 at full size, the others'
layouts made small.
"""

import dataclasses

import numpy as np
import pytest
import torch
from flax import nnx

from parity import openai
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.clip.weights.tensor_names import tensor_shapes

# the text tower takes no part: as small as it can be
NO_TEXT = dict(text_width=64, text_layers=1, vocab_size=8)
# block counts as published; width and resolution cut, so that a layout of 69 blocks runs in seconds
CASES = {
    "RN50 at full size": CLIPConfig.rn50(),
    "RN101": dataclasses.replace(
        CLIPConfig.rn101(), vision_width=16, image_resolution=64, embed_dim=48
    ),
    "RN50x4": dataclasses.replace(
        CLIPConfig.rn50x4(), vision_width=20, image_resolution=96, embed_dim=40
    ),
    "RN50x16": dataclasses.replace(
        CLIPConfig.rn50x16(), vision_width=24, image_resolution=64, embed_dim=48
    ),
    "RN50x64": dataclasses.replace(
        CLIPConfig.rn50x64(), vision_width=32, image_resolution=64, embed_dim=64
    ),
}


def _openai(config):
    """OpenAI's tower with random weights; running statistics are those of a batch of noise, as
    after training.
    """
    torch.manual_seed(1)
    heads = config.vision_width * 32 // 64
    tower = openai.load("model").ModifiedResNet(
        config.vision_layers, config.embed_dim, heads, config.image_resolution, config.vision_width
    )
    for name, parameter in tower.named_parameters():
        if "bn" in name or "downsample.1" in name:
            parameter.data.add_(0.2 * torch.randn_like(parameter))
        elif "attnpool" in name and name.endswith("weight"):
            # attention that is not flat, and features that are more than biases
            parameter.data.mul_(4)
    for module in tower.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.9
    with torch.no_grad():
        tower.train()(torch.from_numpy(_images(config, 4, seed=5)).permute(0, 3, 1, 2))
    return tower.eval()


def _images(config, count, seed):
    """Noise over large blobs over one colour: of noise alone, averaging leaves the same features
    for all images.
    """
    rng = np.random.default_rng(seed)
    blobs = (
        rng.standard_normal((count, config.grid, config.grid, 3))
        .repeat(32, axis=1)
        .repeat(32, axis=2)
    )
    blobs += rng.standard_normal((count, 1, 1, 3))
    return (1.5 * blobs + rng.standard_normal(blobs.shape)).astype(np.float32)


@pytest.mark.parametrize("name", CASES)
def test_features(name):
    config = dataclasses.replace(CASES[name], **NO_TEXT)
    tower = _openai(config)
    theirs = {f"visual.{key}": value.numpy() for key, value in tower.state_dict().items()}
    theirs = {
        key: value for key, value in theirs.items() if not key.endswith("num_batches_tracked")
    }
    ours = {key: shape for key, shape in tensor_shapes(config).items() if "visual." in key}
    assert {key: value.shape for key, value in theirs.items()} == ours
    state = {
        key: theirs.get(key, np.zeros(shape, np.float32))
        for key, shape in tensor_shapes(config).items()
    }
    images = _images(config, 2, seed=6)
    with torch.no_grad():
        expected = tower(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy().astype(np.float64)
    ours = nnx.jit(lambda clip, x: clip.encode_images(x))(clip_from_state(config, state), images)
    error = np.linalg.norm(np.asarray(ours, np.float64) - expected) / np.linalg.norm(expected)
    apart = np.linalg.norm(expected[0] - expected[1]) / np.linalg.norm(expected[0])
    print(f"{name}: relative error {error:.1e}, the two images differ by {apart:.2f}")
    assert error < 1e-5
    assert apart > 0.1
