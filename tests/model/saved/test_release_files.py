"""The authors' checkpoints: read whatever lies beside the weights, refused where they do not fit,
written back.
"""

import argparse
import os
from collections import Counter, OrderedDict

import numpy as np
import pytest

from support.weights import torch_files as tf
from support.weights.release_models import NAMES, assert_learnt, frozen, learnt, model
from vtd_jax.errors import UserError
from vtd_jax.model.saved.release_files import load_release, save_release


class CfgNode(dict):
    """As the settings of training scripts: a dict of a class of their own, with attributes."""

    def __init__(self, *args):
        super().__init__(*args)
        self.frozen = True


class Runs:
    """Pickles to a call that would leave a file behind."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def beside(mark):
    """What training scripts put beside the weights, with one thing that would run."""
    moments = {"step": tf.tensor(np.float32(3)), "exp_avg": tf.tensor(np.ones((2, 3)))}
    return {
        "optimizer": {"state": {0: moments}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.98)}]},
        "lr_scheduler": {"milestones": Counter({3: 1}), "base_lrs": [0.1], "last": Runs(mark)},
        "max_accuracy": np.float64(71.5),
        "epoch": 9,
        "config": CfgNode(
            {"MODEL": CfgNode({"ARCH": "ViT-B/16", "LAYERS": [1, 2]}), "TRAIN": {"LR": 1e-3}}
        ),
        "args": argparse.Namespace(local_rank=0, config=CfgNode()),
        "rng": np.arange(3),
        "odd": {Runs: 1},
    }


@pytest.mark.parametrize("prefix", ["", "module."])
def test_everything_that_a_training_script_saves(tmp_path, prefix):
    source, target, mark = model(1), model(2), tmp_path / "ran"
    state = learnt(source) | frozen(source)
    state |= {"prompt_learner.token_prefix": np.ones((2, 1, 64), np.float32)}
    state |= {"prompt_learner.token_suffix": np.ones((2, 73, 64), np.float32)}
    root = {"model": tf.state_dict(state, prefix=prefix)} | beside(mark)
    assert load_release(target, tf.save(tmp_path / "x.pth", root)) is True
    assert_learnt(target, source)
    assert not mark.exists()


@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: {"model": x}, lambda x: {"state_dict": x, "epoch": 1}]
)
def test_what_is_learnable_alone(tmp_path, wrap):
    source, target = model(1), model(2)
    assert (
        load_release(target, tf.save(tmp_path / "x.pth", wrap(tf.state_dict(learnt(source)))))
        is False
    )
    assert_learnt(target, source)


@pytest.mark.parametrize(
    "settings", [dict(visual_prompts=0, visual_depth=0), dict(fusion=False), dict(text_prompts=0)]
)
def test_parts_that_a_model_lacks(tmp_path, settings):
    source, target = model(1, **settings), model(2, **settings)
    save_release(tmp_path / "x.pth", source, with_clip=True, class_names=NAMES)
    assert load_release(target, tmp_path / "x.pth") is True
    assert_learnt(target, source)


@pytest.mark.parametrize("kind", ["f2", "bf16", "f8"])
def test_stored_in_other_precision(tmp_path, kind):
    source, target = model(1), model(2)
    load_release(
        target,
        tf.save(
            tmp_path / "x.pth", {"model": tf.state_dict(learnt(source) | frozen(source), kind)}
        ),
    )
    found, expected = learnt(target), learnt(source)
    for name, array in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(
            found[name], array, rtol={"f2": 5e-4, "bf16": 8e-3, "f8": 0}[kind], atol=1e-7
        )


@pytest.mark.parametrize(
    "kind, change, same", [("f4", 1e-7, 1), ("f4", 2e-6, 0), ("f2", 2e-4, 1), ("f2", 3e-3, 0)]
)
def test_the_frozen_clip_is_compared(tmp_path, kind, change, same):
    source = model(1)
    state = frozen(source)
    name = "text_encoder.transformer.resblocks.1.mlp.c_fc.weight"
    state[name] = state[name].copy()
    at = np.unravel_index(np.abs(state[name]).argmax(), state[name].shape)
    state[name][at] *= 1 + change
    path = tf.save(tmp_path / "x.pth", {"model": tf.state_dict(learnt(source) | state, kind)})
    if same:
        assert load_release(model(2), path) is True
        return
    with pytest.raises(
        UserError,
        match=rf"x\.pth: was learnt on another CLIP: {name} differs from the one given by ",
    ):
        load_release(model(2), path)


def refused(tmp_path, state, target=None):
    """What loading says of a state dict; the model stays as it is."""
    target = target or model(2)
    before = learnt(target)
    path = tf.save(tmp_path / "x.pth", {"model": tf.state_dict(state)})
    with pytest.raises(UserError) as caught:
        load_release(target, path)
    for name, array in learnt(target).items():
        np.testing.assert_array_equal(array, before[name])
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


@pytest.mark.slow
def test_another_clip_is_reported_by_its_first_tensor(tmp_path):
    message = refused(tmp_path, learnt(model(1)) | frozen(model(1, clip_seed=5)))
    assert message.startswith(
        "was learnt on another CLIP: image_encoder.conv1.weight differs from the one given by "
    )
    wide = {"image_encoder.conv1.weight": np.zeros((64, 3, 8, 8), np.float32)}
    message = refused(tmp_path, learnt(model(1)) | frozen(model(1)) | wide)
    assert message.startswith(
        "was learnt on another CLIP: image_encoder.conv1.weight is (64, 3, 8, 8) there, (64, 3, "
        "16, 16)"
    )


@pytest.mark.slow
def test_other_settings_name_the_fields_to_set(tmp_path):
    other = dict(text_prompts=4, text_depth=1, visual_prompts=5, visual_depth=1, fusion=False)
    message = refused(tmp_path, learnt(model(1, **other)))
    assert message == (
        "was learnt with other settings, give `model.text_prompts=4` (here 3), "
        "`model.text_depth=1` (here 2), `model.visual_prompts=5` (here 2), "
        "`model.visual_depth=1` (here 2), `model.fusion=False` (here True)"
    )
    message = refused(tmp_path, learnt(model(1, visual_prompts=0, visual_depth=0)))
    assert message.endswith(
        "give `model.visual_prompts=0` (here 2), `model.visual_depth=0` (here 2)"
    )
    # what it asks for is what loads
    target = model(2, visual_prompts=0, visual_depth=0)
    assert load_release(target, tmp_path / "x.pth") is False


@pytest.mark.slow
def test_names_and_values_that_do_not_fit(tmp_path):
    state = learnt(model(1))
    whole = dict(state)
    del state["lrf.fc1.bias"]
    assert refused(tmp_path, state) == "not the tensors that VTD-CLIP learns; missing: lrf.fc1.bias"
    extra = {f"temporal.{i}.weight": np.zeros(2, np.float32) for i in range(6)}
    message = refused(tmp_path, state | extra)
    assert message.endswith(
        "missing: lrf.fc1.bias; surplus: " + ", ".join(list(extra)[:4]) + " and 2 more"
    )
    assert "surplus: w" in refused(tmp_path, {"w": np.zeros(2, np.float32)})
    assert "missing: logit_scale, prompt_learner.ctx" in refused(
        tmp_path, {"w": np.zeros(2, np.float32)}
    )
    message = refused(tmp_path, whole | {"lrf.fc1.bias": np.zeros(3, np.float32)})
    assert "misshapen: ['lrf.fc1.bias is (3,), expected (128,)']" in message
    message = refused(tmp_path, whole | {"prompt_learner.ctx": np.zeros((), np.float32)})
    assert "`model.text_prompts=0` (here 3)" in message
    broken = whole["lrf.fc2.weight"].copy()
    broken[3, 5] = np.nan
    message = refused(tmp_path, whole | {"lrf.fc2.weight": broken})
    assert "tensor lrf.fc2.weight has 1 values" in message
    assert "nan at [3, 5]" in message


def test_files_that_are_none(tmp_path):
    path, target = tmp_path / "x.pth", model(2)
    tensors = tf.state_dict(learnt(model(1)))
    for write, message in (
        (
            lambda: None,
            r"x\.pth: no such file or folder\. Expected what the authors' training script writes",
        ),
        (lambda: path.write_bytes(b""), "empty file: the download failed"),
        (lambda: path.write_text("<html></html>"), "a web page saved under this name"),
        (lambda: path.write_bytes(b"\x80\x02}."), "a Python pickle, which could run code"),
        (
            lambda: path.write_bytes(tf.save(path, {"model": tensors}).read_bytes()[:-40]),
            "truncated or damaged",
        ),
        (
            lambda: tf.save(path, {"epoch": 3, "optimizer": {}}),
            "without a state dict, bare .* it holds epoch, optimizer",
        ),
        (
            lambda: tf.save(path, {"model": CfgNode()}),
            r"holds an object of code \(.*CfgNode\), which is not run",
        ),
        (
            lambda: tf.save(path, CfgNode()),
            r"holds an object of code \(.*CfgNode\), which is not run",
        ),
        (
            lambda: tf.save(path, {"model": OrderedDict(tensors, x=CfgNode())}),
            r"carries code \(.*CfgNode\) as 'x' among",
        ),
        (lambda: tf.save(path, {"model": tensors}, drop=["data/0"]), "record data/0 is missing"),
    ):
        write()
        with pytest.raises(UserError, match=message):
            load_release(target, path)
    with pytest.raises(UserError, match=r"is a folder, expected a \.pth file"):
        load_release(target, tmp_path)
