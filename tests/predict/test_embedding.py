"""Features for search: of unit length, of any number, the same as the model's own."""

import jax
import numpy as np
import pytest

from support.small_model import LABELS, small_model
from support.video_files import make_audio
from vtd_jax.cache.text_features import TextCache
from vtd_jax.errors import UserError
from vtd_jax.predict.predictor import Predictor
from vtd_jax.video.clip import read_clip


@pytest.fixture(scope="module")
def plain() -> Predictor:
    """Nothing learnt: texts may have all positions."""
    model = small_model(
        text_prompts=0, text_depth=0, visual_prompts=0, visual_depth=0, fusion=False
    )
    return Predictor(model, frames=4, cache=TextCache(None), devices=jax.devices()[:1])


def _lengths(rows):
    return np.linalg.norm(rows, axis=-1)


def _unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.mark.slow
def test_a_video_is_the_mean_of_its_unit_frames(learnt, clips):
    frames = np.stack([read_clip(clip, 4, learnt.size, fit=learnt.fit).frames for clip in clips])
    raw = np.asarray(learnt.model.encode_frames(frames))
    expected = _unit(_unit(raw).mean(axis=1))
    found = learnt.embed_video(clips)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(_lengths(found), 1, atol=1e-6)
    np.testing.assert_allclose(learnt.embed_video(clips[1]), expected[1], atol=1e-5)

    single = learnt.embed_video(clips, pool=None)
    np.testing.assert_allclose(single, _unit(raw), atol=1e-5)
    assert learnt.embed_video(clips[3], frames=7, pool=None, workers=0).shape == (7, raw.shape[-1])


def test_a_wrong_video_or_option_is_one_line(learnt, clips, tmp_path):
    sound = make_audio(tmp_path / "sound.mp4")
    with pytest.raises(UserError, match=r"sound\.mp4"):
        learnt.embed_video([clips[0], sound])
    with pytest.raises(UserError, match="pool='max': expected \"mean\", or None"):
        learnt.embed_video(clips[0], pool="max")
    with pytest.raises(UserError, match="video: an empty list"):
        learnt.embed_video([])
    with pytest.raises(UserError, match="frames=0`: expected 1 or more"):
        learnt.embed_video(clips[0], frames=0)


@pytest.mark.slow
def test_frames_of_any_size_are_encoded_as_those_of_videos(learnt, noise):
    scaled = read_clip(noise, len(noise), learnt.size, fit=learnt.fit).frames
    expected = np.asarray(learnt.model.encode_frames(scaled[None]))[0]
    found = learnt.encode_frames(noise)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    # more than a batch
    many = np.tile(noise, (4, 1, 1, 1))
    assert len(many) > learnt.chunk
    np.testing.assert_allclose(
        learnt.encode_frames(many), np.tile(found, (4, 1)), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    "frames", [np.zeros((4, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8), np.zeros((0, 8, 8, 3), "u1")]
)
def test_other_arrays_are_refused(learnt, frames):
    with pytest.raises(UserError, match=r"frames: an array \[.*expected uint8 RGB frames \[N"):
        learnt.encode_frames(frames)


@pytest.mark.slow
def test_texts_are_the_codebook_at_unit_length(learnt):
    codes = np.asarray(learnt.encode_words(LABELS))
    found = learnt.embed_text(LABELS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, _unit(codes), atol=1e-5)
    np.testing.assert_array_equal(learnt.embed_text([*LABELS, LABELS[0]])[-1], found[0])
    np.testing.assert_allclose(learnt.embed_text(LABELS[1]), found[1], atol=1e-5)
    # labels that CLIP reads as the same are refused, texts are not
    same = learnt.embed_text(["hugging", "Hugging "])
    np.testing.assert_allclose(same[0], same[1], atol=1e-6)


def test_a_long_text_is_refused_or_cut_at_a_word(plain):
    room, dogs = plain.label_room, "dog " * 500
    with pytest.raises(UserError, match="too long"):
        plain.embed_text(dogs)
    whole = plain.embed_text(" ".join(["dog"] * room))
    np.testing.assert_array_equal(plain.embed_text(dogs, truncate=True), whole)
    np.testing.assert_allclose(plain.embed_text(["a", dogs], truncate=True)[1], whole, atol=1e-5)
    one_word = plain.embed_text("1" * 500, truncate=True)
    np.testing.assert_allclose(one_word, plain.embed_text("1" * room), atol=1e-5)


@pytest.mark.parametrize("texts", [[], [""], " ", ["a", "\t"]])
def test_empty_texts_are_refused(plain, texts):
    with pytest.raises(UserError, match=r"^texts: "):
        plain.embed_text(texts)


def test_a_feature_of_zeros_stays_zero_and_a_huge_one_finite():
    from vtd_jax.predict.embedding import _unit as unit

    rows = np.float32([[0, 0], [3e30, 4e30], [3e-30, 4e-30]])
    np.testing.assert_allclose(unit(rows), [[0, 0], [0.6, 0.8], [0.6, 0.8]], rtol=1e-6)


def test_a_text_of_any_length_is_cut_and_otherwise_one_line_says_what_to_do(plain):
    expected = plain.embed_text("dog " * plain.label_room)
    for text in ("dog " * 2000, " \n" * 4000 + "dog " * 2000, "dog " * 10**7):
        np.testing.assert_array_equal(plain.embed_text(text, truncate=True), expected)
        with pytest.raises(UserError, match=r"of [\d,]+ characters, .* `truncate=True`$"):
            plain.embed_text(text)
    with pytest.raises(UserError, match="texts: '' at place 0, expected a text that is not empty"):
        plain.embed_text(" " * 10**7, truncate=True)


@pytest.mark.parametrize(
    "text, message",
    [
        ("\0", r"texts: CLIP reads no text in '\\x00'"),
        ("&nbsp;", "texts: CLIP reads no text in '&nbsp;'"),
        ("a\udcff", r"texts: 'a\\udcff' at place 0 cannot be written as UTF-8"),
        ("\ud800" * 5000, r"texts: '\\ud800.* at place 0 cannot be written as UTF-8"),
    ],
)
def test_a_text_that_no_label_may_be_is_refused(plain, text, message):
    for given in (text, [text]):
        with pytest.raises(UserError, match=message):
            plain.embed_text(given, truncate=True)
