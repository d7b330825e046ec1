"""A CLIP's own statistics and scaling reach its frames, wherever it is used; a plain CLIP is found
in any file.
"""

import dataclasses
import json

import jax
import numpy as np
import pytest

import vtd_jax
from support.helpers import SMALL, openai_order, random_state
from support.images.pillow import prepared
from support.weights import torch_files as tf
from vtd_jax.clip.preprocessing import Preprocessing
from vtd_jax.clip.weights.checkpoints import save_clip
from vtd_jax.errors import UserError
from vtd_jax.evaluate.tables import Table
from vtd_jax.model.normalization import STATISTICS, as_images, describe, statistics
from vtd_jax.model.saved.release_files import load_release
from vtd_jax.predict.scoring import finite
from vtd_jax.video.augment import resize, spatial_views
from vtd_jax.video.batches import BatchSpec
from vtd_jax.video.clip import read_clip
from vtd_jax.video.scaling.fit import Fit

HALF = Preprocessing((0.5,) * 3, (0.25,) * 3, "squash")


def load(source, **options):
    return vtd_jax.load(source, devices=jax.devices()[:1], **options)


def test_statistics():
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 3, 3), np.uint8)
    expected = (frames / 255 - 0.5) / 0.25
    np.testing.assert_allclose(
        as_images(jax.numpy.asarray(frames), "clip", HALF), expected, rtol=1e-5, atol=1e-6
    )
    # the release's normalization is the method's, whatever the CLIP; OpenAI's numbers are as they
    # were
    assert statistics("imagenet", HALF) == STATISTICS["imagenet"]
    assert statistics("clip", Preprocessing(resize="squash")) == STATISTICS["clip"]
    assert (
        describe("clip", HALF)
        == "clip, mean 0.5 0.5 0.5, deviation 0.25 0.25 0.25, frames squashed to a square"
    )
    assert (describe("imagenet", HALF), describe("clip", Preprocessing())) == ("imagenet", "clip")


def _seen(model, video):
    """The frames that the model's tower gets."""
    [one] = model.encode_videos(video, frames=3)
    return one.clip.frames


@pytest.mark.slow
def test_a_prediction(tmp_path):
    save_clip(
        tmp_path / "clip.safetensors",
        dataclasses.replace(SMALL, preprocessing=HALF),
        random_state(SMALL),
    )
    model = load(tmp_path / "clip.safetensors", preprocess="release")
    video = np.random.default_rng(0).integers(0, 256, (3, 40, 90, 3), np.uint8)
    squashed = np.stack([resize(frame, 32, 32) for frame in video])
    np.testing.assert_array_equal(_seen(model, video), squashed)
    np.testing.assert_array_equal(squashed, spatial_views(video, 32, 1, squash=True)[0])
    features = jax.jit(model.model.encode_frames)(squashed[None])[0]
    images = ((squashed / 255 - 0.5) / 0.25).astype(np.float32)
    plain = np.asarray(jax.jit(model.model.clip.encode_images)(images))
    np.testing.assert_allclose(features, plain, rtol=1e-4, atol=1e-4)
    # the release's normalization leaves frames to the method
    model.model.config = dataclasses.replace(model.model.config, normalization="imagenet")
    assert not model.model.scaling["squash"]


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_a_clip_as_it_is_sees_frames_as_its_images_were(tmp_path, interpolation):
    own = Preprocessing((0.5,) * 3, (0.25,) * 3, interpolation=interpolation)
    config = dataclasses.replace(SMALL, preprocessing=own)
    save_clip(tmp_path / "clip.safetensors", config, random_state(SMALL))
    video = np.random.default_rng(0).integers(0, 256, (3, 40, 91, 3), np.uint8)
    model = load(tmp_path / "clip.safetensors")
    assert model.fit == Fit("clip", interpolation=interpolation)
    found = _seen(model, video)
    expected = np.stack([prepared(frame, 32, interpolation) for frame in video])
    assert np.abs(found.astype(int) - expected).max() <= 1
    release = load(tmp_path / "clip.safetensors", preprocess="release")
    np.testing.assert_array_equal(_seen(release, video), spatial_views(video, 32, 1)[0])


def test_squashed_frames_have_one_view():
    with pytest.raises(
        UserError, match="spatial_views=3: this CLIP sees whole frames, squashed to a square"
    ):
        BatchSpec("eval", 2, 32, 2, spatial_views=3, fit=Fit(squash=True)).check(4)
    video = np.zeros((2, 8, 16, 3), np.uint8)
    assert read_clip(video, 2, 8, fit=Fit(squash=True)).frames.shape == (2, 8, 8, 3)


def test_a_plain_clip_named_pth(tmp_path, learnt):
    state = random_state(SMALL)
    path = tf.save(
        tmp_path / "clip.pth", {"model": tf.state_dict(openai_order(state), prefix="module.")}
    )
    assert load(path).description.endswith("zero-shot")
    with pytest.raises(
        UserError, match=r"clip\.pth: a CLIP itself, nothing that was learnt on one: give it as"
    ):
        load_release(learnt.model, path)
    path = tf.save(
        tmp_path / "theirs.pth", {"model": tf.state_dict({"logit_scale": np.float32(4)})}
    )
    with pytest.raises(UserError, match="authors' format has no settings"):
        load(path)
    path = tf.save(tmp_path / "open.pth", tf.state_dict(state))
    with pytest.raises(
        UserError, match="the activation and the width of the image tower's attention heads"
    ):
        load(path)
    model = load(path, activation="gelu", head_width=32)
    assert (model.model.clip.config.activation, model.model.clip.config.vision_head_width) == (
        "gelu",
        32,
    )


def test_scores_that_are_no_numbers():
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(UserError, match=r"a\.mp4: .*scores has 1 values that are NaN or inf"):
            finite(np.array([0, value], np.float32), "a.mp4")


def test_tables_hold_no_nan():
    row = {"split": "base", "top-1": float("nan"), "interval": (0.5, float("inf"))}
    table = Table("t", tuple(row), (row,))
    content = json.loads(table.to_json(), parse_constant=pytest.fail)
    assert content["rows"] == [{"split": "base", "top-1": None, "interval": [0.5, None]}]
    assert table.to_csv().splitlines() == ["split,top-1,interval low,interval high", "base,,0.5,"]


def test_a_clip_with_too_few_tokens(tmp_path):
    config = dataclasses.replace(SMALL, vocab_size=30000)
    save_clip(tmp_path / "clip.safetensors", config, random_state(config))
    with pytest.raises(UserError, match="this CLIP has 30000 tokens, CLIP's tokenizer has 49408"):
        load(tmp_path / "clip.safetensors").predict(
            np.zeros((1, 8, 8, 3), np.uint8), ["red", "blue"], frames=1
        )
