"""The exported file: its content, the call that loads it, and refusals of wrong files."""

import dataclasses
import json
import os

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import vtd_jax
from support import small_run
from support.helpers import random_state
from vtd_jax.clip.weights.checkpoints import load_clip, save_clip
from vtd_jax.errors import UserError
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.saved import tuned as export
from vtd_jax.model.vtd_clip import VTDCLIP, learnable
from vtd_jax.train.config import RunConfig
from vtd_jax.train.learnt import describe, exported_config
from vtd_jax.trees import flatten_arrays

NAMES = ("red", "green", "shoot_bow")
LEARNT_ON = {"origin": "own split", "told": "base_train (own split; 10 videos)"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.safetensors"
    save_clip(path, small_run.SMALL, random_state(small_run.SMALL))
    return path


def made(clip, seed=3, dtype="float32", **settings):
    """A model, and what its export says."""
    fields = small_run.config(clip.parent).to_dict()
    fields["model"] |= settings
    fields["clip"]["dtype"] = dtype
    config = RunConfig.from_dict(fields)
    model = VTDCLIP(load_clip(clip, dtype=dtype), config.model, rngs=nnx.Rngs(seed))
    return model, describe(model, config, step=12, class_names=NAMES, learnt_on=LEARNT_ON)


def frames(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (2, 3, 32, 32, 3), np.uint8)


@nnx.jit
def forward(model, clips, tokens):
    return model(clips, model.encode_classes(tokens)).logits


def logits(model):
    return np.asarray(forward(model, frames(), model.class_tokens(NAMES)))


@pytest.fixture
def saved(clip, tmp_path):
    model, info = made(clip)
    export.save_tuned(tmp_path / "x.safetensors", model, info)
    return tmp_path / "x.safetensors", model, info


@pytest.mark.slow
def test_one_call_gives_the_same_model(saved, clip):
    path, model, info = saved
    found = export.load_tuned(path, clip)
    assert found.info == info
    np.testing.assert_array_equal(logits(found.model), logits(model))
    # without a CLIP the path in the file is tried
    found = export.load_tuned(str(path))
    for name, array in flatten_arrays(learnable(model)).items():
        np.testing.assert_array_equal(flatten_arrays(learnable(found.model))[name], array)


def test_what_is_in_the_file(saved, clip):
    path, model, _ = saved
    arrays, expected = load_file(path), flatten_arrays(learnable(model))
    assert set(arrays) == set(expected)
    assert {
        "text_prompts",
        "visual_prompts",
        "fusion.fc1.kernel",
        "fusion.q.bias",
        "logit_scale",
    } <= set(arrays)
    for name, array in expected.items():
        assert arrays[name].dtype == np.float32
        np.testing.assert_array_equal(arrays[name], array)
    with safe_open(path, "numpy") as file:
        message = json.loads(file.metadata()["vtd_jax.tuned"])
    assert message["format"] == 1
    assert message["version"] == vtd_jax.__version__
    assert message["model"] == json.loads(json.dumps(dataclasses.asdict(model.config)))
    assert message["clip"]["architecture"] == small_run.SMALL.architecture
    assert (message["clip"]["path"], message["clip"]["dtype"], message["clip"]["resolution"]) == (
        str(clip),
        "float32",
        32,
    )
    assert message["class_names"] == list(NAMES)
    assert [message[key] for key in ("run", "step", "frames", "learnt_on")] == [
        "small",
        12,
        2,
        LEARNT_ON,
    ]
    assert RunConfig.from_dict(message["settings"]).fingerprint == message["fingerprint"]
    # no frozen weight is in it
    assert path.stat().st_size < 49408 * 64 * 4


@pytest.mark.slow
def test_the_clip_that_ships_needs_no_path(tmp_path):
    fields = small_run.config(tmp_path, clip__path="tiny").to_dict()
    config = RunConfig.from_dict(fields)
    model = VTDCLIP(load_clip("tiny"), config.model, rngs=nnx.Rngs(0))
    info = describe(model, config, step=None, class_names=(), learnt_on={})
    export.save_tuned(tmp_path / "x.safetensors", model, info)
    found = export.load_tuned(tmp_path / "x.safetensors")
    assert found.info.origin == f"an unknown step of small, config {config.fingerprint}"
    for name, array in flatten_arrays(learnable(model)).items():
        np.testing.assert_array_equal(flatten_arrays(learnable(found.model))[name], array)


@pytest.mark.slow
def test_dtype_is_that_of_training_or_the_requested_one(clip, tmp_path):
    model, info = made(clip, dtype="bfloat16")
    export.save_tuned(tmp_path / "x.safetensors", model, info)
    np.testing.assert_array_equal(
        logits(export.load_tuned(tmp_path / "x.safetensors").model), logits(model)
    )
    exact = export.load_tuned(tmp_path / "x.safetensors", dtype="float32")
    np.testing.assert_array_equal(logits(exact.model), logits(made(clip)[0]))
    assert not np.array_equal(logits(exact.model), logits(model))
    with pytest.raises(UserError, match="dtype 'float16', expected float32 or bfloat16"):
        export.load_tuned(tmp_path / "x.safetensors", dtype="float16")


def test_another_clip_is_refused(saved, tmp_path):
    path, _, info = saved
    save_clip(tmp_path / "other.safetensors", small_run.SMALL, random_state(small_run.SMALL, 1))
    with pytest.raises(UserError, match=rf"x\.safetensors: .*another CLIP .*{info.clip.weights}"):
        export.load_tuned(path, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"was learnt on another CLIP \(ViT/16 .*; tiny is tiny\)"):
        export.load_tuned(path, "tiny")


def test_a_clip_that_has_moved(clip, tmp_path):
    model, info = made(clip)
    info = dataclasses.replace(info, clip=dataclasses.replace(info.clip, path="gone/b16.pt"))
    export.save_tuned(tmp_path / "x.safetensors", model, info)
    with pytest.raises(UserError, match=r"was gone/b16\.pt, which is not there; say where it is"):
        export.load_tuned(tmp_path / "x.safetensors")
    assert export.load_tuned(tmp_path / "x.safetensors", clip).info == info


def test_other_settings_are_refused(saved, clip):
    path, _, info = saved
    with pytest.raises(UserError, match=r"text_prompts \(1, 2, 64\) instead of \(1, 3, 64\)"):
        export.fill_tuned(made(clip, text_prompts=3)[0], path, info)


def test_wrong_files(saved, clip, tmp_path):
    path, model, info = saved
    with pytest.raises(
        UserError, match=r"y\.safetensors: no such file, expected what `save_tuned` wrote"
    ):
        export.load_tuned(tmp_path / "y.safetensors")
    for call in (lambda p: export.load_tuned(p), lambda p: export.save_tuned(p, model, info)):
        with pytest.raises(UserError, match=r"x\.bin: the name must end in \.safetensors"):
            call(tmp_path / "x.bin")
    with pytest.raises(UserError, match="not an exported model but other tensors"):
        export.load_tuned(clip)
    whole = path.read_bytes()
    for end in (0, 5, 200, len(whole) - 3):
        path.write_bytes(whole[:end])
        with pytest.raises(
            UserError, match=rf"truncated or damaged safetensors file of {end} bytes"
        ):
            export.load_tuned(path)


@pytest.mark.slow
def test_a_changed_header_or_array(saved, tmp_path):
    path, _, _ = saved
    arrays = load_file(path)
    with safe_open(path, "numpy") as file:
        message = json.loads(file.metadata()[export.METADATA_KEY])

    def again(change=None, **others):
        header = message | (change or {})
        save_file(arrays | others, path, {export.METADATA_KEY: json.dumps(header)})
        return export.load_tuned(path)

    assert again().info.step == 12
    with pytest.raises(UserError, match=r"format 2, expected 1: vtd_jax .*0\.9"):
        again({"format": 2, "version": "0.9"})
    with pytest.raises(
        UserError, match=r"vtd_jax 0\.9 wrote it and knows model settings \(magic\)"
    ):
        again({"version": "0.9", "model": message["model"] | {"magic": 1}})
    for change in ({"model": 3}, {"clip": {}}, {"class_names": None}, {"surprise": 1}):
        with pytest.raises(UserError, match=r"damaged: its vtd_jax\.tuned cannot be read"):
            again(change)
    with pytest.raises(UserError, match=r"model\.assignment: 'x', expected"):
        again({"model": message["model"] | {"assignment": "x"}})
    with pytest.raises(UserError, match="damaged: logit_scale has 1 values that are NaN"):
        again(logit_scale=np.array(np.nan, np.float32))
    with pytest.raises(UserError, match="damaged: logit_scale holds int32"):
        again(logit_scale=np.array(1, np.int32))
    with pytest.raises(UserError, match="these arrays differ: more"):
        again(more=np.zeros(3, np.float32))
    save_file(arrays, path, {export.METADATA_KEY: "{"})
    with pytest.raises(UserError, match=r"damaged: its vtd_jax\.tuned cannot be read"):
        export.load_tuned(path)


def test_settings_that_a_later_version_added_have_their_defaults(saved, clip):
    path, _, _ = saved
    with safe_open(path, "numpy") as file:
        message = json.loads(file.metadata()[export.METADATA_KEY])
    for later in ("normalization", "confidence", "templates", "ties", "votes"):
        del message["model"][later]
    del message["settings"]["model"]["ties"]
    del message["settings"]["optimizer"]["gradient_accumulation_steps"]
    message["settings"]["optimizer"]["accumulation"] = 3
    message["settings"]["memory"]["microbatches"] = 4
    save_file(load_file(path), path, {export.METADATA_KEY: json.dumps(message)})
    info = export.load_tuned(path).info
    model = info.model
    # the one that they were learnt with, where the default is another
    assert (model.ties, exported_config(info).model.ties, ModelConfig().ties) == (
        "release",
        "release",
        "frames",
    )
    assert exported_config(info).optimizer.gradient_accumulation_steps == 3
    assert model.normalization == ModelConfig().normalization
    assert (model.confidence, model.templates, model.votes) == ("softmax", (), "confidence")


@pytest.mark.slow
def test_templates_and_uniform_confidence_are_in_the_file(clip, tmp_path):
    settings = dict(
        text_prompts=0, text_depth=0, templates=("a {}", "the {}."), confidence="uniform"
    )
    model, info = made(clip, **settings)
    export.save_tuned(tmp_path / "x.safetensors", model, info)
    tuned = export.load_tuned(tmp_path / "x.safetensors", clip)
    assert tuned.info == info
    assert exported_config(tuned.info).model == tuned.info.model == info.model
    np.testing.assert_array_equal(logits(tuned.model), logits(model))


@pytest.mark.slow
def test_what_was_there_is_replaced_whole_or_stays(saved, clip):
    path, _, info = saved
    before = path.read_bytes()
    model = made(clip)[0]
    model.logit_scale.set_value(jnp.float32(np.nan))
    with pytest.raises(UserError, match="logit_scale has 1 values that are NaN or infinite"):
        export.save_tuned(path, model, info)
    with pytest.raises(UserError, match="cannot be written: No such file or directory"):
        export.save_tuned(path.parent / "no" / "x.safetensors", made(clip)[0], info)
    assert (path.read_bytes(), os.listdir(path.parent)) == (before, ["x.safetensors"])
    model, info = made(clip, seed=9)
    export.save_tuned(path, model, info)
    np.testing.assert_array_equal(logits(export.load_tuned(path).model), logits(model))


def test_a_file_of_an_earlier_version_knows_its_clip(saved, clip, tmp_path):
    path, model, _ = saved
    with safe_open(path, "numpy") as file:
        message = json.loads(file.metadata()[export.METADATA_KEY])
    # version 0.1.0 noted a CRC-32 of the weights, and fewer digits of the settings
    message["clip"]["weights"], message["fingerprint"] = "38ae04d7", message["fingerprint"][:12]
    save_file(load_file(path), path, {export.METADATA_KEY: json.dumps(message)})
    found = export.load_tuned(path, clip)
    np.testing.assert_array_equal(logits(found.model), logits(model))
    other = tmp_path / "other.safetensors"
    save_clip(other, small_run.SMALL, random_state(small_run.SMALL, 1))
    with pytest.raises(UserError, match=r"another CLIP .*weights 38ae04d7; here"):
        export.load_tuned(path, other)
