import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx

import vtd_jax
from support import small_run
from support.helpers import random_state
from support.small_model import LABELS
from support.weights import torch_files as tf
from vtd_jax.clip.weights.checkpoints import load_clip, save_clip
from vtd_jax.errors import UserError
from vtd_jax.model.saved.fingerprint import weights_fingerprint
from vtd_jax.model.saved.tuned import fill_tuned, save_tuned
from vtd_jax.model.vtd_clip import VTDCLIP, learnable
from vtd_jax.train.checkpoints.checkpoint import Checkpoints, flatten_arrays
from vtd_jax.train.config import RunConfig
from vtd_jax.train.from_config import build_model
from vtd_jax.train.learnt import describe
from vtd_jax.train.workdir import save_config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CLIP, and a tuned file of it."""
    folder = tmp_path_factory.mktemp("load")
    save_clip(folder / "clip.safetensors", small_run.SMALL, random_state(small_run.SMALL))
    config = RunConfig.from_dict(small_run.config(folder).to_dict())
    model = VTDCLIP(load_clip(folder / "clip.safetensors"), config.model, rngs=nnx.Rngs(3))
    about = describe(model, config, step=12, class_names=("red", "shoot_bow"), learnt_on={})
    save_tuned(folder / "tuned.safetensors", model, about)
    return folder


def load(source, **options):
    """On one device: programs for eight take longer to compile."""
    return vtd_jax.load(source, devices=jax.devices()[:1], **options)


@nnx.jit
def whole(model, frames, tokens):
    return model(frames, model.encode_classes(tokens)).logits[0]


def test_a_tuned_model_keeps_the_frames_of_its_training(folder, tmp_path):
    clip, tuned = folder / "clip.safetensors", folder / "tuned.safetensors"
    assert load(clip).model.preprocess == "clip"
    for options in ({}, {"preprocess": "release"}):
        assert load(tuned, clip=clip, **options).model.preprocess == "release"
    with pytest.raises(UserError, match=r"preprocess=clip: .*tuned.* was learnt with release"):
        load(tuned, clip=clip, preprocess="clip")
    with pytest.raises(UserError, match="preprocess: 'none', expected one of release, clip"):
        load(clip, preprocess="none")
    changes = {"model.normalization": "clip", "data.preprocess": "clip", "clip.path": str(clip)}
    config = RunConfig.from_dict(small_run.config(folder).to_dict()).with_changes(changes)
    model = build_model(config)
    about = describe(model, config, step=12, class_names=("red", "shoot_bow"), learnt_on={})
    save_tuned(tmp_path / "own.safetensors", model, about)
    assert load(tmp_path / "own.safetensors", clip=clip).model.preprocess == "clip"
    with pytest.raises(UserError, match=r"preprocess=release: .*own.* was learnt with clip"):
        load(tmp_path / "own.safetensors", clip=clip, preprocess="release")
    other = build_model(config.with_changes({"data.preprocess": "release"}))
    with pytest.raises(UserError, match="of preprocess=clip, here it is release; set"):
        fill_tuned(other, tmp_path / "own.safetensors", about)


@pytest.mark.slow
def test_zero_shot_from_any_clip(folder, noise):
    model = load(folder / "clip.safetensors")
    assert (model.class_names, model.frames) == ((), 16)
    assert (model.model.config.normalization, model.model.config.pooling, model.model.fusion) == (
        "clip",
        "confidence",
        None,
    )
    found = model.explain(noise, LABELS, frames=3)
    assert (found.attention, found.change) == (None, None)
    np.testing.assert_allclose(
        found.logits,
        whole(model.model, found.pictures[None], model.model.class_tokens(LABELS)),
        rtol=1e-5,
        atol=1e-4,
    )
    other = load(
        str(folder / "clip.safetensors"), templates=["a video of a person {}."], pooling="mean"
    )
    assert np.abs(other.predict(noise, LABELS, frames=3).logits - found.logits).max() > 1e-3
    assert other.model.config.pooling == "mean"


@pytest.mark.slow
def test_a_tuned_file_knows_its_classes_frames_and_clip(folder, noise):
    model = load(folder / "tuned.safetensors")
    assert model.class_names == ("red", "shoot_bow")
    assert model.frames == small_run.config(folder).data.frames
    found = model.explain(noise)
    assert found.labels == model.class_names
    expected = whole(model.model, found.pictures[None], model.model.class_tokens(model.class_names))
    np.testing.assert_allclose(found.logits, expected, rtol=1e-5, atol=1e-4)
    again = load(folder / "tuned.safetensors", clip=folder / "clip.safetensors", dtype="bfloat16")
    assert again.weights == model.weights
    # eight bits of mantissa through a small tower
    np.testing.assert_allclose(again.predict(noise).scores, found.scores, atol=0.1)


@pytest.mark.slow
def test_the_workdir_of_a_run_whose_records_are_gone(folder, tmp_path, noise):
    config = RunConfig.from_dict(small_run.config(folder).to_dict())
    tuned = load(folder / "tuned.safetensors")
    weights = weights_fingerprint(nnx.state(tuned.model, nnx.Not(nnx.Param)))
    arrays = flatten_arrays(learnable(tuned.model))
    save_config(tmp_path, config)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(7, arrays, arrays, {"step": 7, "clip": weights, "names": "0"})
    checkpoints.close()
    model = load(tmp_path)
    assert model.class_names == ()
    assert model.description == f"{tmp_path} (step 7 of small, config {config.fingerprint})"
    np.testing.assert_array_equal(
        model.predict(noise, LABELS).logits, tuned.predict(noise, LABELS).logits
    )
    with pytest.raises(UserError, match="`checkpoint=8`"):
        load(tmp_path, checkpoint="8")


def test_what_cannot_be_loaded_is_reported(folder, tmp_path):
    tf.save(tmp_path / "release.pth", tf.state_dict({"lrf.fc1.bias": np.zeros(2)}))
    (tmp_path / "empty.pth").touch()
    (tmp_path / "broken.safetensors").write_bytes(b"x" * 50)
    for source, options, message in [
        (tmp_path / "nothing.pt", {}, "nothing.pt"),
        (
            tmp_path / "release.pth",
            {},
            "the authors' format has no settings",
        ),
        (tmp_path / "empty.pth", {}, "empty file: the download failed"),
        (tmp_path / "broken.safetensors", {}, "truncated or damaged safetensors"),
        (folder / "tuned.safetensors", {"templates": ["a {}"]}, "templates are for zero-shot"),
        (
            folder / "clip.safetensors",
            {"clip": "other.pt"},
            "is a CLIP itself; leave out clip=other.pt",
        ),
        (folder / "clip.safetensors", {"pooling": "max"}, "model.pooling: 'max', expected one of"),
        (folder / "clip.safetensors", {"dtype": "float16"}, "float16"),
    ]:
        with pytest.raises(UserError, match=message):
            vtd_jax.load(source, **options)


def test_importing_the_package_imports_nothing_else():
    code = (
        "import sys, vtd_jax; print(sorted({'jax', 'flax', 'numpy', 'av', 'cv2'} & "
        "set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'loads'"):
        vtd_jax.loads  # noqa: B018


@pytest.mark.parametrize("source", ["x" * 300, "a\0b"])
def test_what_no_file_can_be_called_is_reported(source):
    with pytest.raises(
        UserError, match="is not a file name; expected a CLIP, a tuned model, a workdir or 'tiny'"
    ):
        load(source)
