"""Predictions of a zero-shot SigLIP: how probable each label is by itself, beside the scores."""

import jax
import numpy as np
import pytest

import vtd_jax
from support.helpers import random_state
from support.weights.encoders import PE, SIGLIP, small_clip
from vtd_jax.clip.weights.checkpoints import save_clip

LABELS = ["brush hair", "cat", "hugging a cat"]
VIDEO = np.random.default_rng(0).integers(0, 256, (5, 60, 80, 3), np.uint8)


def _load(folder, config, **options):
    clip = small_clip(config)
    state = random_state(config, 3)
    state["logit_scale"] = np.float32(2.0)
    save_clip(folder / "clip.safetensors", config, state, tokenizer=clip.tokenizer)
    # features of words are not kept for others
    options |= dict(devices=jax.devices()[:1], cache=folder / "cache")
    return vtd_jax.load(folder / "clip.safetensors", **options)


@pytest.mark.slow
def test_labels_of_siglip_have_probabilities_of_their_own(tmp_path):
    model = _load(tmp_path, SIGLIP)
    bias = random_state(SIGLIP, 3)["logit_bias"]
    for found in (
        model.predict(VIDEO, LABELS, frames=3),
        model.explain(VIDEO, LABELS, frames=3),
    ):
        assert found.scores.sum() == pytest.approx(1)
        expected = 1 / (1 + np.exp(-(found.logits.astype(np.float64) + bias)))
        np.testing.assert_allclose(found.matches, expected, rtol=1e-5)
        first = found.to_dict()["top"][0]
        assert first["match"] == pytest.approx(found.matches.max(), rel=1e-6)
    # no label need fit: the others of a list do not matter
    alone = model.predict(VIDEO, LABELS[:1], frames=3)
    assert alone.matches[0] == pytest.approx(found.matches[0], rel=1e-4)
    assert alone.scores[0] == 1
    assert model.label_room == 23
    mean = _load(tmp_path, SIGLIP, pooling="softmax_mean")
    assert mean.predict(VIDEO, LABELS, frames=3).matches is None


@pytest.mark.slow
def test_other_models_have_none(tmp_path):
    found = _load(tmp_path, PE).predict(VIDEO, LABELS, frames=3)
    assert found.matches is None
    assert set(found.to_dict()["top"][0]) == {"label", "score"}
