"""The benchmark's PyTorch side computes what we compute: features, codebook, logits, loss,
gradients, one update.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx

from experiments.benchmark import torch_side as bench
from experiments.benchmark.classes import class_names
from experiments.benchmark.device.torch_side import program
from experiments.benchmark.tasks import GRADIENT, TASKS, Programs, Setting
from support.helpers import random_state
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.weights.params import clip_from_state, state_from_clip
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.train import step

CONFIG = CLIPConfig(48, 32, 3, 128, 8, 64, text_layers=3)
DEPTHS = [(3, 3), (1, 1), (2, 3)]


def _pair(text_depth, visual_depth):
    """Our model and PyTorch's with the same weights, dropout off, and a batch for both."""
    settings = ModelConfig(
        text_prompts=6,
        text_depth=text_depth,
        visual_prompts=4,
        visual_depth=visual_depth,
        dropout=0.0,
    )
    model = VTDCLIP(clip_from_state(CONFIG, random_state(CONFIG)), settings, rngs=nnx.Rngs(0))
    # a softmax that is not saturated, and prompts that matter
    model.logit_scale.set_value(jnp.float32(2.0))
    for prompts in (model.text_prompts, model.visual_prompts):
        prompts.set_value(10 * prompts[...])
    setting = Setting(CONFIG, settings, 5, 3, model.class_tokens(class_names(7)))
    return model, _from_ours(model), setting


def _from_ours(model):
    """PyTorch's model with the same weights, in float32, on the CPU."""
    prompts = {
        "text": np.array(model.text_prompts[...]),
        "visual": np.array(model.visual_prompts[...]),
    }
    clip = bench.torch_clip(model.clip.config, state_from_clip(model.clip))
    made = bench.TorchVTDCLIP(clip, model.config, prompts, float(model.logit_scale[...])).eval()
    with torch.no_grad():
        for name in ("q", "k", "v", "out", "fc1", "fc2"):
            ours, theirs = getattr(model.fusion, name), getattr(made.fusion, name)
            theirs.weight.copy_(torch.tensor(np.array(ours.kernel[...]).T))
            theirs.bias.copy_(torch.tensor(np.array(ours.bias[...])))
    return made


def _padded(setting):
    return torch.from_numpy(
        np.pad(setting.tokens, ((0, 0), (0, 77 - setting.tokens.shape[1])))
    ).long()


def _assert_close(found, expected, message):
    found = found.detach().numpy().astype(np.float64)
    expected = np.asarray(expected, np.float64)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    print(f"{message}: relative error {error:.1e}")
    assert error < 1e-5, message


@pytest.mark.parametrize("depths", DEPTHS)
def test_forward(depths):
    ours, theirs, setting = _pair(*depths)
    frames = setting.videos()["frames"]
    features, codes = (
        jax.jit(ours.encode_frames)(frames),
        jax.jit(ours.encode_classes)(setting.tokens),
    )
    with torch.no_grad():
        _assert_close(theirs.encode_frames(torch.from_numpy(frames)), features, "features")
        _assert_close(theirs.encode_classes(_padded(setting)), codes, "codebook")
        given = (torch.tensor(np.array(x)) for x in (features, codes))
        _assert_close(
            theirs.classify(*given), jax.jit(ours.classify)(features, codes).logits, "logits"
        )


@pytest.mark.parametrize("depths", DEPTHS)
def test_loss_and_gradients(depths):
    ours, theirs, setting = _pair(*depths)
    videos = setting.videos()
    loss = theirs.loss(
        torch.from_numpy(videos["frames"]), torch.from_numpy(videos["label"]), _padded(setting)
    )
    loss.backward()
    parts = step.split(ours)
    function = jax.jit(jax.value_and_grad(step.loss_fn, has_aux=True), static_argnums=2)
    (expected, _), grads = function(
        parts.learnable,
        parts.frozen,
        parts.graphdef,
        jax.device_put(videos),
        jnp.asarray(setting.tokens),
    )
    _assert_close(loss, expected, "loss")
    _assert_close(theirs.text_prompts.grad, grads["text_prompts"][...], "text prompts")
    _assert_close(theirs.visual_prompts.grad, grads["visual_prompts"][...], "visual prompts")
    # a sum that cancels: its rounding is that of its parts, which are as large as the loss
    assert abs(float(theirs.logit_scale.grad) - float(grads["logit_scale"][...])) < 1e-5 * float(
        expected
    )
    for name in ("v", "out", "fc1", "fc2"):
        layer, expected = getattr(theirs.fusion, name), grads["fusion"][name]
        _assert_close(layer.weight.grad.T, expected["kernel"][...], f"{name} kernel")
        _assert_close(layer.bias.grad, expected["bias"][...], f"{name} bias")
    assert all(p.grad is None for p in theirs.clip.parameters())


def test_the_learnable_numbers_are_ours():
    ours, theirs, _ = _pair(3, 3)
    count = sum(x.size for x in jax.tree.leaves(nnx.state(ours, nnx.Param)))
    assert count == sum(p.numel() for p in theirs.parameters() if p.requires_grad)


def test_an_update_moves_everything_by_as_much():
    ours, theirs, setting = _pair(2, 3)
    before = {name: p.detach().clone() for name, p in theirs.named_parameters() if p.requires_grad}
    (job,) = bench.jobs(setting, theirs, "PyTorch", device="cpu", tasks=("training step",))
    job.run()
    parts, videos = step.split(ours), setting.videos()
    optimizer = optax.adamw(4e-4, 0.9, 0.98, 1e-8, weight_decay=0.001)
    grads, _ = jax.jit(step.gradients, static_argnums=2)(
        parts.learnable,
        parts.frozen,
        parts.graphdef,
        jax.device_put(videos),
        jnp.asarray(setting.tokens),
    )
    updates, _ = optimizer.update(grads, optimizer.init(parts.learnable), parts.learnable)
    for name in ("text_prompts", "visual_prompts"):
        moved = theirs.get_parameter(name).detach() - before[name]
        expected = np.asarray(updates[name][...])
        # Adam's first step is the sign of the gradient: only gradients near zero can differ, by
        # rounding
        assert np.mean(np.abs(moved.numpy() - expected) < 1e-2 * 4e-4) > 0.999, name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_jobs_run_in_both_types_and_update(dtype):
    _, theirs, setting = _pair(3, 3)
    theirs = theirs.to(getattr(torch, dtype))
    before = theirs.visual_prompts.detach().clone()
    jobs = bench.jobs(setting, theirs, "PyTorch", device="cpu")
    assert [job.task for job in jobs] == list(TASKS)
    results = {job.task: job.run() for job in jobs}
    assert results["evaluation"].shape == (3, 7)
    assert torch.isfinite(results["evaluation"]).all()
    assert results["image features"].dtype == getattr(torch, dtype)
    assert not torch.equal(before, theirs.visual_prompts)


@pytest.mark.parametrize("depth", [1, 3])
def test_the_gradient_to_the_prompts_alone_agrees(depth):
    model, theirs, setting = _pair(1, depth)
    found = program(setting, theirs, GRADIENT, device="cpu")()
    (job,) = Programs(setting, model, "", tasks=(GRADIENT,)).jobs
    for name, x, y in zip(("value", "gradient"), found, job.run(), strict=True):
        _assert_close(x, y, name)
