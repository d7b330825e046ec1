"""What we write, read by PyTorch itself, and what PyTorch writes of a training script's checkpoint,
read by us.
"""

import argparse

import numpy as np
import pytest
import torch
from flax import nnx

from support.helpers import SMALL, random_state
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.errors import UserError
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.saved.release_files import load_release, save_release
from vtd_jax.model.saved.release_names import to_release
from vtd_jax.model.vtd_clip import VTDCLIP, learnable

NAMES = ("red", "shoot_bow")


def model(seed):
    config = ModelConfig(text_prompts=3, text_depth=2, visual_prompts=2, visual_depth=2)
    return VTDCLIP(clip_from_state(SMALL, random_state(SMALL)), config, rngs=nnx.Rngs(seed))


def assert_same(found, expected):
    for name, array in to_release(learnable(expected)).items():
        np.testing.assert_array_equal(np.asarray(found[name]), array, err_msg=name)


@pytest.mark.parametrize("mmap", [False, True])
def test_pytorch_reads_what_we_write(tmp_path, mmap):
    source, path = model(1), tmp_path / "x.pth"
    prefix, count = "module.", save_release(path, source, with_clip=True, class_names=NAMES)
    state = torch.load(path, weights_only=True, mmap=mmap)["model"]
    assert len(state) == count
    assert all(
        name.startswith(prefix) and tensor.dtype == torch.float32 for name, tensor in state.items()
    )
    assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in state.values())
    assert_same({name.removeprefix(prefix): tensor for name, tensor in state.items()}, source)
    # a linear layer takes its weights as they are
    fc1 = torch.nn.Linear(32, 128)
    fc1.load_state_dict(
        {part: state[f"{prefix}lrf.fc1.{part}"] for part in ("weight", "bias")}, strict=True
    )
    x = np.random.default_rng(0).standard_normal((4, 32), dtype=np.float32)
    with torch.no_grad():
        theirs = fc1(torch.from_numpy(x)).numpy()
    ours = x @ np.asarray(source.fusion.fc1.kernel[...]) + np.asarray(source.fusion.fc1.bias[...])
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


class CfgNode(dict):
    """As the settings that training scripts save beside the weights."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_we_read_what_a_training_script_writes(tmp_path, dtype):
    source, target = model(1), model(2)
    save_release(tmp_path / "x.pth", source, with_clip=True, class_names=NAMES)
    state = {
        name: tensor.to(dtype) for name, tensor in torch.load(tmp_path / "x.pth")["model"].items()
    }
    weight = torch.nn.Parameter(torch.ones(2, 3))
    optimizer = torch.optim.AdamW([weight])
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4])
    weight.sum().backward()
    optimizer.step()
    scheduler.step()
    whole = {
        "model": state,
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": scheduler.state_dict(),
        "max_accuracy": np.float64(70.1),
        "epoch": 3,
        "config": CfgNode(MODEL=CfgNode(ARCH="ViT-B/16")),
        "args": argparse.Namespace(dtype=torch.float16, device=torch.device("cpu")),
    }
    torch.save(whole, tmp_path / "theirs.pth")
    assert load_release(target, tmp_path / "theirs.pth") is True
    exact = {name.removeprefix("module."): tensor.float().numpy() for name, tensor in state.items()}
    for name, array in to_release(learnable(target)).items():
        np.testing.assert_array_equal(array, exact[name], err_msg=name)
    torch.save(torch.nn.Linear(2, 2), tmp_path / "theirs.pth")
    with pytest.raises(
        UserError, match=r"holds an object of code \(torch\.nn\.modules\.linear\.Linear\)"
    ):
        load_release(target, tmp_path / "theirs.pth")
