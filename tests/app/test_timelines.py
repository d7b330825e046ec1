"""All windows at once are what each window is by itself, and an answer is bounded."""

import dataclasses

import numpy as np
import pytest
from app.conftest import check_fields

from support.small_model import NONE
from vtd_jax.app.answers import Moments, Texts
from vtd_jax.app.host_model import HostModel, softmax
from vtd_jax.app.timelines import summary, windows
from vtd_jax.app.timelines.summary import timeline
from vtd_jax.app.timelines.windows import NearestWords
from vtd_jax.errors import UserError
from vtd_jax.model.config import ModelConfig
from vtd_jax.predict.timeline import Pictures, Row, Summary, WindowCutter, Windows
from vtd_jax.video.codec.wholeness import VideoInfo

WIDTH = 32
SETTINGS = [
    {},
    {"top_n": 3},
    {"top_n": 40},
    # where votes are near 1 the last bit of a sum decides these ties
    {"top_n": 3, "ties": "release", "temperature": 0.3},
    {"top_n": 40, "ties": "release", "temperature": 0.3},
    {"assignment": "cosine", "ties": "release", "temperature": 0.3},
    {"votes": "frames", "temperature": 0.3},
    {"top_n": 3, "votes": "frames"},
    {"top_n": 40, "votes": "frames", "temperature": 0.3},
    {"pooling": "mean"},
    {"pooling": "softmax_mean", "top_n": 2},
    {"confidence": "uniform", "top_n": 2},
    {"temperature": 0.3, "fusion_heads": 4},
    {**NONE, "top_n": 3},
    {**NONE, "pooling": "mean"},
    {**NONE, "pooling": "softmax_mean"},
    {**NONE, "confidence": "uniform"},
]
PLANS = [
    Windows(4, 2.0, None, 0.25),
    Windows(4, 2.0, 2.0, 0.05),
    Windows(5, 2.0, 0.4, 0.6),
    Windows(1, 0.5, 0.5, 0.25),
    Windows(64, 32.0, None, 0.25),
]


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def host(**settings) -> HostModel:
    config, fusion = ModelConfig(**settings), None
    if config.fusion:
        names = ("q", "k", "v", "out", "fc1", "fc2")
        fusion = {f"{name}.kernel": normal(i, WIDTH, WIDTH) / 5 for i, name in enumerate(names)}
        fusion |= {f"{name}.bias": normal(9 + i, WIDTH) / 5 for i, name in enumerate(names)}
    return HostModel(config, np.float32(10.0), fusion)


def moments_of(frames: int, seed: int = 1) -> Moments:
    # neighbours are alike, and some frames are equal
    features = normal(seed, frames // 3 + 1, WIDTH).repeat(3, axis=0)[:frames]
    features[1::5] += normal(seed + 1, *features[1::5].shape) / 3
    pictures = Pictures()
    pictures.add(0.0, np.zeros((8, 8, 3), np.uint8))
    info = VideoInfo(frames, 2.0, frames / 2 - 0.1, 8, 8, "h264")
    return Moments("long.mp4", features, pictures, info)


def texts_of(labels: int, words: int = 0) -> Texts:
    names, codes = tuple(f"label {n}" for n in range(labels)), normal(3, labels, WIDTH)
    if not words:
        return Texts(names, codes, names, codes, True)
    others = tuple(f"word {n}" for n in range(words))
    return Texts(names, codes, others, normal(4, words, WIDTH), False)


def one_by_one(model: HostModel, moments: Moments, texts: Texts, plan: Windows):
    """The plain way: a window after another."""
    ids = model.nearest(moments.features, texts.word_codes, 1).ids[:, 0]
    cutter, found = WindowCutter(plan), Summary(texts.labels, plan)
    for window in [*cutter.add(moments.features, ids), *cutter.last()]:
        token = model.token(window.features, window.ids, texts.word_codes)
        logits = model.parts(window.features, texts.codes, texts.word_codes[token.ids]).logits
        middle = (window.first + plan.frames / 2) * plan.step
        scores = softmax(logits, 0).astype(np.float32)
        found.add(Row(middle, scores, texts.words[token.ids[0]]))
    return found.timeline(moments.name, moments.info, moments.pictures)


def check_same(found, expected):
    check_fields(found, expected, but="segments")
    assert len(found.segments) == len(expected.segments)
    for mine, theirs in zip(found.segments, expected.segments, strict=True):
        for name, value in dataclasses.asdict(theirs).items():
            own = getattr(mine, name)
            assert own == (pytest.approx(value, abs=1e-5) if isinstance(value, float) else value)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize(
    "words", [0, 3, pytest.param(60, marks=pytest.mark.slow)], ids="{} words".format
)
def test_all_windows_at_once_are_each_by_itself(settings, words):
    model, moments = host(**settings), moments_of(50)
    for plan in PLANS:
        for labels in (1, 12):
            texts = texts_of(labels, words)
            expected = one_by_one(model, moments, texts, plan)
            check_same(timeline(model, moments, texts, plan, NearestWords()), expected)


@pytest.mark.parametrize("numbers", [1, 200, 5000])
def test_parts_of_any_size_are_the_same(numbers, monkeypatch):
    model, moments, texts = host(top_n=2), moments_of(47), texts_of(7)
    expected = one_by_one(model, moments, texts, PLANS[0])
    monkeypatch.setattr(windows, "_NUMBERS", numbers)
    check_same(timeline(model, moments, texts, PLANS[0], NearestWords()), expected)


@pytest.mark.parametrize("frames", [1, 3, 4, 5, 6, 7])
def test_short_videos_and_last_windows(frames):
    model, texts = host(), texts_of(5)
    moments = moments_of(frames)
    expected = one_by_one(model, moments, texts, PLANS[0])
    check_same(timeline(model, moments, texts, PLANS[0], NearestWords()), expected)


def test_nearest_words_are_found_once_for_each_video_and_list(monkeypatch):
    calls, find = [], windows._nearest
    monkeypatch.setattr(windows, "_nearest", lambda *given: calls.append(1) or find(*given))
    nearest, model, moments = NearestWords(), host(), moments_of(30)
    words = normal(5, 40, WIDTH)
    found = nearest(model, moments.features, words)
    assert nearest(model, moments.features, words) is found
    assert len(calls) == 1
    np.testing.assert_array_equal(found, model.nearest(moments.features, words, 1).ids[:, 0])
    # other words at the same place in memory are other words
    for seed in range(6, 20):
        words = normal(seed, 40, WIDTH)
        expected = model.nearest(moments.features, words, 1).ids[:, 0]
        np.testing.assert_array_equal(nearest(model, moments.features, words), expected)
    assert len(nearest._kept) <= windows._LISTS


def test_answers_are_bounded(monkeypatch):
    model, moments, texts = host(), moments_of(50), texts_of(12)
    monkeypatch.setattr(summary, "APP_SEGMENTS", 3)
    with pytest.raises(UserError, match=r"^threshold=0\.05: \d+ segments, more than an answer"):
        timeline(model, moments, texts, PLANS[1], NearestWords())
    monkeypatch.setattr(summary, "APP_CONFIDENCES", 1000)
    with pytest.raises(UserError, match="24 windows of 4 frames with 12 labels: more than"):
        timeline(model, moments, texts, PLANS[0], NearestWords())


def test_scores_that_are_not_finite_are_refused():
    model, moments, texts = host(), moments_of(50), texts_of(12)
    moments.features[7] = np.nan
    with pytest.raises(UserError, match="a window: a row of scores"):
        timeline(model, moments, texts, PLANS[0], NearestWords())
