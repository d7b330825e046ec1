import json
import os
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from support.small_model import LABELS, WORDS, small_model
from vtd_jax.cache.text_features import TextCache
from vtd_jax.errors import UserError
from vtd_jax.model import discretize
from vtd_jax.predict.predictor import Failure, Predictor
from vtd_jax.predict.results import Explanation, Prediction
from vtd_jax.video.clip import read_clip
from vtd_jax.video.decode import VideoError


@nnx.jit
def whole(model, frames, tokens):
    """The method as evaluation runs it."""
    return model(frames, model.encode_classes(tokens))


def plain(model, frames, labels):
    """A video and its labels through the whole model at once."""
    return whole(model, frames[None], model.class_tokens(labels))


def test_scores_are_those_of_the_method(learnt, clips):
    for clip, result in zip(clips, learnt.predict(clips, LABELS)):
        out = plain(learnt.model, read_clip(clip, 4, learnt.size).frames, LABELS)
        assert type(result) is Prediction
        np.testing.assert_allclose(result.logits, out.logits[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(
            result.scores, jax.nn.softmax(out.logits[0]), rtol=1e-5, atol=1e-6
        )
        assert result.scores.sum() == pytest.approx(1, abs=1e-6)
        assert result.video == str(clip)
        assert result.label == LABELS[int(out.logits[0].argmax())]
        assert result.top(2)[0] == (result.label, result.score)


@pytest.mark.slow
@pytest.mark.parametrize("pooling, unit", [("mean", "logit"), ("softmax_mean", "score")])
def test_contributions_add_up_to_what_an_explanation_names(noise, pooling, unit):
    model = small_model(pooling=pooling)
    predictor = Predictor(model, frames=6, cache=TextCache(None), devices=jax.devices()[:1])
    found = predictor.explain(noise, LABELS)
    assert found.unit == unit
    sums = found.contribution.sum(axis=0)
    np.testing.assert_allclose(sums, getattr(found, f"{unit}s"), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("assignment, top_n", [("euclidean", 3), ("cosine", 1)])
def test_an_explanation_is_the_method_taken_apart(noise, assignment, top_n):
    model = small_model(assignment=assignment, top_n=top_n)
    predictor = Predictor(model, frames=6, cache=TextCache(None), devices=jax.devices()[:1])
    found = predictor.explain(noise, LABELS)
    assert type(found) is Explanation
    out = plain(model, read_clip(noise, 6, predictor.size).frames, LABELS)
    np.testing.assert_allclose(found.logits, out.logits[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.confidence, out.confidence[0], rtol=1e-5, atol=1e-6)
    assert [words[0] for words in found.words] == [LABELS[k] for k in out.assignment[0]]
    best = np.argsort(-np.asarray(out.votes[0]), kind="stable")[:top_n]
    assert found.video_token == tuple(LABELS[k] for k in best)
    np.testing.assert_allclose(found.votes, out.votes[0][best], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.contribution.sum(axis=0), found.logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.frame_weight, found.confidence, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.attention.sum(axis=1), 1, rtol=1e-5)
    assert found.attention.shape == (6, top_n)
    assert (found.change > 0).all()
    assert found.vocabulary_is_labels
    assert len(found.words[0]) == len(LABELS)
    similarity = discretize.cosine(out.frame_features, jnp.asarray(predictor.encode_words(LABELS)))[
        0
    ]
    ids = np.array([[LABELS.index(word) for word in words] for words in found.words])
    np.testing.assert_allclose(
        found.similarity, np.take_along_axis(np.asarray(similarity), ids, 1), atol=1e-5
    )
    best = int(found.scores.argmax())
    lead = found.contribution[:, best] - found.contribution[:, found.rival(best)]
    assert found.keyframes(best)[0] == int(lead.argmax())
    second = int(found.order(2)[1])
    np.testing.assert_allclose(lead.sum(), found.logits[best] - found.logits[second], atol=1e-4)
    assert json.loads(json.dumps(found.to_dict(2)))["labels"] == [
        label for label, _ in found.top(2)
    ]


def named_by_words(model, frames, labels, words):
    """Logits where other words than the labels name the frames: the video token is one of the
    words.
    """
    codebook, codes = model.encode_classes(labels), model.encode_classes(words)
    features = model.encode_frames(frames)
    similarity = discretize.cosine(features, codes)
    ids = discretize.assign(features, codes, similarity, "euclidean")
    votes = discretize.count_votes(ids, discretize.confidence(similarity, 0.01))
    confidence = discretize.confidence(discretize.cosine(features, codebook), 0.01)
    return model.score(features, codebook, confidence, discretize.video_tokens(votes, codes, 1))[0]


@pytest.mark.slow
def test_a_vocabulary_names_frames_while_labels_classify(learnt, noise):
    named = learnt.explain(noise, LABELS, vocabulary=WORDS, runner_ups=1)
    assert {word for words in named.words for word in words} <= set(WORDS)
    assert (named.vocabulary_size, named.vocabulary_is_labels) == (len(WORDS), False)
    # the video token is a word, and fusion puts it into the frames: logits are others than with
    # labels as words
    plainly = learnt.explain(noise, LABELS)
    assert np.abs(named.logits - plainly.logits).max() > 1e-3
    np.testing.assert_array_equal(named.confidence, plainly.confidence)
    frames = read_clip(noise, 4, learnt.size).frames
    model, tokens = learnt.model, [learnt.model.class_tokens(texts) for texts in (LABELS, WORDS)]
    expected = nnx.jit(named_by_words)(model, frames[None], *tokens)
    np.testing.assert_allclose(named.logits, expected[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        learnt.predict(noise, LABELS, vocabulary=WORDS).logits, named.logits, rtol=1e-6, atol=1e-6
    )


def test_the_labels_as_vocabulary_change_nothing(learnt, noise):
    one, other = learnt.explain(noise, LABELS), learnt.explain(noise, LABELS, vocabulary=LABELS)
    np.testing.assert_allclose(one.logits, other.logits, rtol=1e-6, atol=1e-6)
    assert (one.words, one.video_token) == (other.words, other.video_token)


@pytest.mark.mesh
def test_one_device_and_eight_agree(learnt, clips):
    eight = Predictor(learnt.model, frames=4, cache=TextCache(None))
    assert eight.chunk == 8 * learnt.chunk
    for one, other in zip(eight.predict(clips, LABELS), learnt.predict(clips, LABELS)):
        np.testing.assert_allclose(one.logits, other.logits, rtol=1e-5, atol=1e-5)


def test_arrays_paths_and_lists_give_the_same(learnt, noise, clips):
    alone = learnt.predict(noise)
    assert alone.labels == LABELS
    assert alone.seconds is None
    both = learnt.predict([noise, str(clips[3]), clips[3]], frames=4, fps=6)
    np.testing.assert_allclose(both[0].logits, alone.logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(both[1].logits, both[2].logits)
    assert both[0].duration == 2
    assert learnt.predict([], LABELS) == []


def test_a_stream_continues_after_a_bad_video_and_reads_little_ahead(learnt, clips, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    drawn = []

    def videos():
        for number in range(100):
            drawn.append(number)
            yield bad if number == 1 else clips[number % 4]

    stream = learnt.stream(videos(), LABELS, frames=2, workers=2, batch_frames=4)
    results = [next(stream) for _ in range(6)]
    assert [isinstance(result, Failure) for result in results] == [
        False,
        True,
        False,
        False,
        False,
        False,
    ]
    assert results[1].video == str(bad)
    assert isinstance(results[1].error, VideoError)
    # two batches of two videos on their way, the scores of another, and four read ahead
    assert len(drawn) <= 6 + 3 * 2 + 4
    stream.close()
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith("vtd_jax_read")
    ]
    with pytest.raises(VideoError, match="cannot be read as a video"):
        learnt.predict([clips[0], bad], LABELS)


def test_a_bad_video_costs_no_other_where_that_is_requested(learnt, clips, tmp_path):
    bad = tmp_path / os.fsdecode(b"bad\xff.mp4")
    bad.write_bytes(b"no video")
    videos = [clips[1], bad, clips[2]]
    whole = learnt.predict([clips[1], clips[2]], LABELS)
    for results in (
        learnt.predict(videos, LABELS, on_error="return"),
        learnt.explain(videos, LABELS, on_error="return"),
        list(learnt.stream(videos, LABELS)),
    ):
        assert [isinstance(result, Failure) for result in results] == [False, True, False]
        assert results[1].to_dict() == {
            "video": f"{tmp_path}/bad\\xff.mp4",
            "error": str(results[1].error),
        }
        for result, expected in zip(results[::2], whole):
            np.testing.assert_allclose(result.logits, expected.logits, rtol=1e-5, atol=1e-5)
    assert isinstance(learnt.predict(bad, LABELS, on_error="return"), Failure)
    assert isinstance(learnt.timeline(bad, LABELS, on_error="return"), Failure)
    for call in (learnt.predict, learnt.explain, learnt.timeline):
        with pytest.raises(VideoError, match=r"bad\\xff\.mp4: cannot be read as a video"):
            call(bad, LABELS)
        with pytest.raises(UserError, match='on_error=\'skip\': expected "raise", or "return"'):
            call(clips[1], LABELS, on_error="skip")
    stream = learnt.stream(videos, LABELS, on_error="raise")
    next(stream)
    with pytest.raises(VideoError, match="cannot be read as a video"):
        next(stream)
    # what is wrong with the call is reported by the call, not by the first result
    for wrong in (
        dict(on_error=""),
        dict(workers=-1),
        dict(frames=0),
        dict(fps=0),
        dict(labels=["a", "a"]),
    ):
        with pytest.raises(UserError):
            learnt.stream(videos, **wrong)


@pytest.mark.slow
def test_thousands_of_labels(learnt, noise):
    labels = [f"label {number}" for number in range(3000)]
    assert len(learnt.predict(noise, labels).scores) == 3000


@pytest.mark.parametrize(
    "labels, message",
    [
        ([], "labels: an empty list"),
        ("hugging", r"labels: 'hugging', expected a list of texts"),
        (["a", " "], "labels: ' ' at place 1, expected a text that is not empty"),
        (["a", "b", "a"], "labels: 'a' is there twice"),
        (["a", "word " * 90], "too long for CLIP"),
        (
            ["caf\xe9", "b", "cafe\u0301"],
            (
                r"labels: CLIP reads 'caf\\xe9' and 'cafe\\u0301' as the same text, 'café'; "
                r"leave one out"
            ),
        ),
        (
            ["a & b", "A &amp; B"],
            r"labels: CLIP reads 'a & b' and 'A &amp; B' as the same text, 'a & b'",
        ),
        (
            ["brush hair", "brush_hair"],
            "labels: CLIP reads 'brush hair' and 'brush_hair' as the same text, 'brush hair'",
        ),
        (["a", "\udcff"], r"labels: '\\udcff' at place 1 cannot be written as UTF-8"),
        (["a", "&nbsp;"], "labels: CLIP reads no text in '&nbsp;'; give another"),
    ],
)
def test_bad_labels_are_reported(learnt, noise, labels, message):
    with pytest.raises(UserError, match=message):
        learnt.predict(noise, labels)


def test_same_names_are_refused_by_every_call_and_underscores_count_as_the_model_takes_them(
    learnt, noise, clips
):
    twice = ["hug", "ＨＵＧ"]
    for call in (
        lambda: learnt.explain(noise, twice),
        lambda: learnt.timeline(clips[0], twice),
        lambda: next(learnt.stream([noise], twice)),
        lambda: learnt.predict(noise, ["a", "b"], vocabulary=twice),
    ):
        with pytest.raises(
            UserError, match="CLIP reads 'hug' and 'ＨＵＧ' as the same text, 'hug'; leave one out"
        ):
            call()
    bare = dict(text_prompts=0, text_depth=0, visual_prompts=0, visual_depth=0, fusion=False)
    zero_shot = Predictor(small_model(**bare), frames=4)
    assert zero_shot.check_labels(["brush_hair", "brush hair"]) == ("brush_hair", "brush hair")


def test_what_room_learnt_prompts_and_templates_leave(learnt):
    assert learnt.label_room == 75 - 4 - 1
    longest = "word " * learnt.label_room
    learnt.encode_words((longest,))
    with pytest.raises(UserError, match="too long"):
        learnt.encode_words((f"{longest} word",))
    bare = dict(text_prompts=0, text_depth=0, visual_prompts=0, visual_depth=0, fusion=False)
    assert Predictor(small_model(**bare), frames=4).label_room == 75
    templates = ("a video of a person {}.", "{}")
    assert Predictor(small_model(**bare, templates=templates), frames=4).label_room == 75 - 6


def test_bad_settings_are_reported(learnt, noise):
    bare = Predictor(learnt.model, frames=4, cache=TextCache(None))
    with pytest.raises(UserError, match="labels: none given"):
        bare.predict(noise)
    with pytest.raises(UserError, match="frames=0"):
        learnt.predict(noise, frames=0)
    with pytest.raises(UserError, match="runner_ups=-1"):
        learnt.explain(noise, runner_ups=-1)
    with pytest.raises(UserError, match="workers=-1"):
        list(learnt.stream([noise], workers=-1))
    with pytest.raises(UserError, match="vocabulary: an empty list"):
        learnt.explain(noise, vocabulary=[])
