"""Answers of the page are those of the predictor: words exactly, numbers to rounding."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from app.conftest import check_fields

from support.small_model import LABELS, NONE, WORDS, small_model
from support.video_files import make_video
from vtd_jax.app.answers import Moments, Texts, explanation, explanation_json
from vtd_jax.app.host_model import HostModel
from vtd_jax.app.timelines.summary import timeline
from vtd_jax.app.timelines.windows import NearestWords
from vtd_jax.cache.text_features import TextCache
from vtd_jax.predict.predictor import Predictor
from vtd_jax.predict.timeline import Pictures, Windows
from vtd_jax.report.clip_page import keyframes
from vtd_jax.video.clip import frames_at, read_clip

CLOSE = dict(rtol=1e-5, atol=1e-5)
SETTINGS = [
    {"top_n": 3},
    {"top_n": 40},
    {"top_n": 3, "ties": "release"},
    {"assignment": "cosine", "ties": "release"},
    {"top_n": 3, "votes": "frames"},
    {"pooling": "mean"},
    {"pooling": "softmax_mean"},
    {"confidence": "uniform"},
    {"temperature": 0.3, "fusion_heads": 4},
    {**NONE, "normalization": "clip"},
    {**NONE, "templates": ("a {}", "one {}, seen")},
]


def predictor_of(model) -> Predictor:
    return Predictor(model, frames=6, cache=TextCache(None), devices=jax.devices()[:1])


def texts_of(predictor, labels=LABELS, words=None) -> Texts:
    codes = np.asarray(predictor.encode_words(tuple(labels)))
    if words is None:
        return Texts(tuple(labels), codes, tuple(labels), codes, True)
    return Texts(
        tuple(labels), codes, tuple(words), predictor.encode_vocabulary(words).codes, False
    )


def answered(predictor, video, texts, frames=6, temperature=None):
    clip = read_clip(video, frames, predictor.size, fit=predictor.fit)
    features = predictor.on_devices.encode_frames(clip.frames)
    host = HostModel.of(predictor.model).at(temperature)
    return explanation(host, clip, features, texts, predictor.on_devices.logit_bias)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (12, 5, 6, 3), np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


@pytest.mark.parametrize(
    "settings", [{}, *(pytest.param(one, marks=pytest.mark.slow) for one in SETTINGS)], ids=str
)
@pytest.mark.parametrize("words", [None, WORDS], ids=["labels", "words"])
def test_an_answer_is_what_the_predictor_explains(noise, settings, words):
    predictor = predictor_of(small_model(**settings))
    expected = predictor.explain(noise, LABELS, vocabulary=words)
    check_fields(answered(predictor, noise, texts_of(predictor, LABELS, words)), expected)


@pytest.mark.slow
@pytest.mark.parametrize("labels", [LABELS[:1], LABELS[:2], WORDS], ids=len)
def test_answers_for_any_number_of_labels_and_frames(noise, labels):
    predictor = predictor_of(small_model())
    for frames in (1, 5, 16):
        expected = predictor.explain(noise, labels, frames=frames)
        found = answered(predictor, noise, texts_of(predictor, labels), frames)
        check_fields(found, expected)


def test_a_temperature_is_that_of_a_model_with_it(noise):
    predictor = predictor_of(small_model())
    warmer = dataclasses.replace(predictor.model.config, temperature=0.2)
    other = predictor_of(small_model(**dataclasses.asdict(warmer)))
    found = answered(predictor, noise, texts_of(predictor), temperature=0.2)
    check_fields(found, other.explain(noise, LABELS))
    own = answered(predictor, noise, texts_of(predictor))
    assert np.abs(found.confidence - own.confidence).max() > 0.05


@pytest.mark.slow
def test_equal_frames_tie_as_the_model_does():
    still = np.full((6, 32, 32, 3), 90, np.uint8)
    for ties in ("frames", "release"):
        predictor = predictor_of(small_model(ties=ties, top_n=2))
        found = answered(predictor, still, texts_of(predictor))
        expected = predictor.explain(still, LABELS)
        assert found.video_token == expected.video_token
        np.testing.assert_allclose(found.votes, expected.votes, **CLOSE)


def moments_of(predictor, path, plan) -> Moments:
    pictures, images, frames = Pictures(), [], frames_at(path, plan.step, predictor.size)
    while True:
        try:
            frame = next(frames)
        except StopIteration as end:
            features = predictor.on_devices.encode_frames(np.stack(images))
            return Moments(str(path), features, pictures, end.value)
        pictures.add(frame.seconds, frame.image)
        images.append(frame.image)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        pytest.param({"top_n": 2}, marks=pytest.mark.slow),
        pytest.param({**NONE, "pooling": "softmax_mean"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_timeline_is_the_predictors(tmp_path, settings):
    path = make_video(tmp_path / "long.mp4", 60, rate=10)
    predictor = predictor_of(small_model(**settings))
    for words in (None, WORDS):
        plan = Windows(4, 2.0, 1.0, 0.25)
        expected = predictor.timeline(
            path, LABELS, window=2.0, stride=1.0, frames=4, vocabulary=words
        )
        moments = moments_of(predictor, path, plan)
        host = HostModel.of(predictor.model)
        texts = texts_of(predictor, LABELS, words)
        found = timeline(host, moments, texts, plan, NearestWords())
        assert found.words == expected.words
        np.testing.assert_allclose(found.mean_scores, expected.mean_scores, **CLOSE)
        np.testing.assert_array_equal(found.top, expected.top)
        np.testing.assert_allclose(found.top_scores, expected.top_scores, **CLOSE)
        assert len(found.segments) == len(expected.segments)
        for mine, theirs in zip(found.segments, expected.segments):
            assert (mine.label, mine.start, mine.end) == (theirs.label, theirs.start, theirs.end)
            assert mine.peak == pytest.approx(theirs.peak, abs=1e-5)


def test_json_has_the_columns_of_the_best_labels(noise):
    predictor = predictor_of(small_model())
    found = predictor.explain(noise, WORDS)
    told = json.loads(json.dumps(explanation_json(found, 3)))
    best = found.order(3).tolist()
    assert told["order"] == best
    assert told["label"] == found.label == WORDS[best[0]]
    assert len(told["scores"]) == len(WORDS)
    np.testing.assert_allclose(told["confidence"], found.confidence[:, best], atol=1e-6)
    np.testing.assert_allclose(np.sum(told["contribution"], 0), found.logits[best], atol=1e-4)
    assert told["rivals"][0] == WORDS[best[1]]
    assert told["keyframes"][0] == keyframes(found, best[0])
    words = [[word for word, _ in frame["words"]] for frame in told["frames"]]
    assert words == [list(names) for names in found.words]
