"""An index searched and classified: as brute force, and as the videos themselves are predicted."""

import dataclasses
import json

import numpy as np
import pytest
from retrieval.conftest import predictor
from retrieval.test_scan import text_reference

from support.small_model import LABELS, WORDS
from vtd_jax.console import consent
from vtd_jax.errors import UserError
from vtd_jax.predict.results import Explanation, Prediction
from vtd_jax.retrieval import Hit, Index, encoder, scan
from vtd_jax.retrieval import index as index_module
from vtd_jax.retrieval.store import read_contents, write_contents

TEXTS = ["red circle", "a dog", "綱引き"]


@pytest.fixture(scope="module")
def index(tmp_path_factory, made, plain):
    """All clips, by the model that learnt nothing."""
    return Index.build(tmp_path_factory.mktemp("index"), [made], plain)


@pytest.fixture(scope="module")
def fused_index(tmp_path_factory, made, fused):
    return Index.build(tmp_path_factory.mktemp("fused"), [made], fused)


def _encoded(model, clips):
    return list(model.encode_videos(clips, frames=4, workers=0))


def _assert_same(hits, others):
    """The same clips; another number of queries or clips at once rounds otherwise."""
    assert [hit.video for hit in hits] == [hit.video for hit in others]
    scores = [[hit.score for hit in each] for each in (hits, others)]
    np.testing.assert_allclose(*scores, rtol=0, atol=1e-6)


def _clips(made):
    return sorted(made.rglob("*.mp4"))


def test_features_are_those_of_the_videos(index, made, plain):
    assert len(index) == 7
    for kept, one in zip(index, _encoded(plain, _clips(made)), strict=True):
        np.testing.assert_array_equal(kept.features, one.features.astype(np.float16))
        assert kept.clip.name == one.clip.name
        assert kept.clip.frames.size == 0
        for name in ("indices", "seconds"):
            np.testing.assert_array_equal(getattr(kept.clip, name), getattr(one.clip, name))
        assert (kept.clip.total, kept.clip.duration) == (one.clip.total, one.clip.duration)


def test_a_search_is_brute_force(index, made, plain):
    encoded = _encoded(plain, _clips(made))
    features = np.stack([one.features for one in encoded])
    codes = np.asarray(plain.encode_words(tuple(TEXTS)))
    scores, frames = text_reference(features, codes, 0.01, "softmax", "confidence")
    found = index.search(TEXTS, top=4)
    for place, hits in enumerate(found):
        order = np.argsort(-scores[:, place], kind="stable")[:4]
        assert [hit.video for hit in hits] == [encoded[i].clip.name for i in order]
        # rounded to float16 in the index
        np.testing.assert_allclose([hit.score for hit in hits], scores[order, place], atol=1e-3)
        for hit, i in zip(hits, order):
            best = frames[i, place]
            assert hit.second == encoded[i].clip.seconds[best]
            assert hit.frame == encoded[i].clip.indices[best]
    _assert_same(index.search(TEXTS[1], top=4), found[1])
    assert len(index.search(TEXTS[0], top=99)) == 7


def test_the_score_is_the_logit_without_its_scale(index, plain):
    (one,) = [
        row for row in index.classify(TEXTS) if row.video == index.search("a dog", 1)[0].video
    ]
    scale = float(np.exp(plain.model.logit_scale[...]))
    assert index.search("a dog", 1)[0].score == pytest.approx(one.logits[1] / scale, abs=1e-6)


def test_blocks_of_several_sizes_find_the_same(index, monkeypatch):
    expected = index.search(TEXTS, top=3)
    for size in (1, 2, 4):
        monkeypatch.setattr(scan, "_CLIPS", size)
        for hits, others in zip(index.search(TEXTS, top=3), expected, strict=True):
            _assert_same(hits, others)


@pytest.mark.slow
@pytest.mark.parametrize("vocabulary", [None, WORDS])
@pytest.mark.parametrize("kind", ["index", "fused_index"])
def test_labels_score_as_those_of_the_videos(kind, vocabulary, request, made):
    found = request.getfixturevalue(kind)
    model = found.predictor
    for explained in (None, 1):
        results = list(found.classify(LABELS, vocabulary=vocabulary, runner_ups=explained))
        videos = model.predict(_clips(made), LABELS, vocabulary=vocabulary)
        for result, expected in zip(results, videos, strict=True):
            assert type(result) is (Prediction if explained is None else Explanation)
            assert result.video == expected.video
            # what float16 leaves of the features
            np.testing.assert_allclose(result.logits, expected.logits, rtol=0, atol=5e-3)
            np.testing.assert_allclose(result.scores, expected.scores, rtol=0, atol=2e-3)
            assert result.duration == expected.duration
    explanation = model.explain(_clips(made)[-1], LABELS, vocabulary=vocabulary, runner_ups=1)
    assert results[-1].words == explanation.words
    assert json.dumps(results[-1].to_dict(2))


@pytest.mark.slow
def test_what_is_learnt_only_from_texts_reads_the_index_of_its_clip(index, made):
    learnt = predictor(text_prompts=2, text_depth=2, pooling="mean")
    found = Index.open(index.folder, learnt)
    results = list(found.classify(LABELS))
    for result, expected in zip(results, learnt.predict(_clips(made), LABELS), strict=True):
        np.testing.assert_allclose(result.scores, expected.scores, rtol=0, atol=2e-3)
    assert [hit.video for hit in found.search("a dog", 2)]


@pytest.mark.slow
def test_fusion_takes_the_names_of_training_or_words(fused_index, fused):
    by_names = fused_index.search("a dog")
    assert by_names == fused_index.search("a dog", vocabulary=None)
    words = fused_index.search("a dog", vocabulary=LABELS)
    assert [hit.score for hit in words] == [hit.score for hit in by_names]
    assert all(set(hit.words) <= set(LABELS) for hit in words)
    others = fused_index.search("a dog", vocabulary=WORDS)
    assert {hit.score for hit in others} != {hit.score for hit in by_names}
    # other queries beside it change nothing
    _assert_same(fused_index.search(["a dog", "a cat"])[0], by_names)


@pytest.mark.slow
def test_words_name_frames_as_in_an_explanation(index, plain):
    (hit,) = index.search("red circle", 1, vocabulary=WORDS)
    expected = plain.explain(hit.video, LABELS, vocabulary=WORDS, runner_ups=0).words
    assert hit.words == tuple(names[0] for names in expected)
    assert hit.to_dict()["words"] == list(hit.words)


def test_a_clip_is_most_similar_to_itself(index, made):
    for clip in _clips(made)[:3]:
        first, *others = index.similar(clip, 7, vocabulary=WORDS)
        assert first.video == str(clip)
        assert first.score == pytest.approx(1, abs=1e-3)
        assert [hit.score for hit in others] == sorted((h.score for h in others), reverse=True)
        assert len(others) == 6
        assert set(first.words) <= set(WORDS)
    with pytest.raises(UserError, match=r"none\.mp4"):
        index.similar(made / "none.mp4")


def test_what_cannot_be_searched_is_one_line(index, tmp_path, plain):
    for texts, said in (("", "not empty"), (["a", "a"], "twice"), ([], "empty list")):
        with pytest.raises(UserError, match=said):
            index.search(texts)
    with pytest.raises(UserError, match="top=0"):
        index.search("a", 0)
    with pytest.raises(UserError, match="labels: none given"):
        index.classify()
    with pytest.raises(UserError, match=r"there is no such folder; `Index\.build` makes one"):
        Index.open(tmp_path / "none")
    with pytest.raises(UserError, match=r"no index\.json in it"):
        Index.open(tmp_path, plain)
    soft = Index.open(index.folder, predictor(pooling="softmax_mean"))
    with pytest.raises(UserError, match="`pooling=softmax_mean`: compares labels with"):
        soft.search("a dog")
    assert len(list(soft.classify(LABELS))) == 7


@pytest.mark.parametrize("value", [-1, -(10**30), 10**30, True])
def test_numbers_are_checked_by_the_call_itself(index, made, value):
    for call in (
        lambda: index.classify(LABELS, runner_ups=value),
        lambda: index.search("a dog", top=value),
        lambda: index.similar(made / "0.mp4", top=value),
        lambda: index.predictor.explain(made / "0.mp4", LABELS, runner_ups=value),
    ):
        with pytest.raises(UserError, match=r"`(top|runner_ups)=.*: expected [01] or more"):
            call()


@pytest.mark.parametrize("value", [3, 2**31 - 1])
def test_whole_numbers_of_any_size(index, value):
    assert len(index.search("a dog", top=value)) == min(value, 7)
    for result in index.classify(LABELS, runner_ups=value):
        assert len(result.words[0]) == min(value + 1, len(LABELS))


def test_settings_beside_a_loaded_model_are_refused(index, plain, tmp_path, made):
    said = r"`templates`, `pooling`: for a model that is loaded here, and `model` is loaded already"
    settings = dict(templates=["a {}."], pooling="mean")
    with pytest.raises(UserError, match=said):
        Index.open(index.folder, plain, **settings)
    with pytest.raises(UserError, match=said):
        Index.build(tmp_path / "index", [made], plain, **settings)
    assert not (tmp_path / "index").exists()
    # what says nothing is no setting
    assert len(Index.open(index.folder, plain, templates=(), pooling=None)) == 7
    for model in (plain, "tiny", None):
        with pytest.raises(UserError, match=r"argument template: did you mean templates\?"):
            Index.open(index.folder, model, template="a {}.")
    with pytest.raises(UserError, match="unknown argument source"):
        Index.build(tmp_path / "index", [made], source="tiny")


@pytest.fixture
def of_b16(index, tmp_path):
    """An index without videos, of a large CLIP of OpenAI's."""
    folder = tmp_path / "of_b16"
    folder.mkdir()
    before = read_contents(index.folder)
    write_contents(folder, dataclasses.replace(before, model="ViT-B/16", width=512, shards=()))
    return folder


@pytest.mark.parametrize(
    "model, settings, said",
    [
        ("ViT-B/32", {}, "was made with ViT-B/16, which ViT-B/32 cannot read: its image"),
        ("openai:ViT-B/32", {}, "openai:ViT-B/32 cannot read: its image tower is another"),
        ("tiny", {}, r"tiny cannot read: its features have 128 numbers, there 512; give"),
        ("hf:google/siglip2-base-patch16-224", {}, "its features have 768 numbers, there"),
        ("ViT-B/16", {"frames": 3}, "frames of each video, not 3"),
    ],
)
def test_another_encoder_is_refused_before_it_is_loaded(
    of_b16, made, monkeypatch, model, settings, said
):
    monkeypatch.setattr(index_module, "load", None)
    monkeypatch.setattr(encoder, "load", None)
    with pytest.raises(UserError, match=said):
        Index.build(of_b16, [made], model, **settings)
    if not settings:
        with pytest.raises(UserError, match=said):
            _ = Index.open(of_b16, model).predictor


def test_what_may_be_the_same_encoder_is_named_and_loaded(of_b16, made, monkeypatch, caplog):
    def load(source, **_):
        raise UserError(f"loading {source}")

    monkeypatch.setattr(index_module, "load", load)
    for model, count in (("hf:org/copy-of-b16", 1), ("ViT-B/16", 0), ("openai:ViT-B/16", 0)):
        caplog.clear()
        with caplog.at_level("INFO", "vtd_jax"), pytest.raises(UserError, match=f"loading {model}"):
            Index.build(of_b16, [made], model)
        assert caplog.text.count(f"was made with ViT-B/16; {model} is loaded") == count
    # nothing of it stays
    with pytest.raises(UserError, match="loading ViT-B/32"):
        Index.build(of_b16, [made], "ViT-B/32", restart=True)


def test_another_image_tower_is_refused(index, fused_index):
    other = predictor(normalization="clip")
    with pytest.raises(UserError, match="small cannot read: its image tower is another; give"):
        Index.open(index.folder, other)
    with pytest.raises(UserError, match="its image tower is another"):
        Index.open(index.folder, fused_index.predictor)


@pytest.mark.parametrize("path", ["runs/hmdb51", "/etc/passwd", "../x.pt", "a\x1b[31m"])
def test_a_path_that_an_index_says_is_not_opened(index, tmp_path, path, monkeypatch):
    write_contents(
        tmp_path, dataclasses.replace(read_contents(index.folder), model=path, shards=())
    )
    monkeypatch.setattr(encoder, "load", None)
    found = Index.open(tmp_path)
    with pytest.raises(UserError, match="a path is not opened because an index says so"):
        found.search("a dog")


def test_a_name_that_an_index_says_is_no_consent(index, tmp_path, monkeypatch):
    loaded = []

    def load(source, **settings):
        loaded.append((source, settings, consent.file_that_names(source)))
        raise UserError("stop")

    monkeypatch.setattr(encoder, "load", load)
    contents = dataclasses.replace(
        read_contents(index.folder), settings={"preprocess": "release", "dtype": None}, shards=()
    )
    for name, source in (("hf:a/b", "hf:a/b"), ("ViT-B/16", "openai:ViT-B/16")):
        write_contents(tmp_path, dataclasses.replace(contents, model=name))
        with pytest.raises(UserError, match="stop"):
            Index.open(tmp_path, pooling="mean").search("a")
        settings = dict(
            preprocess="release", dtype=None, activation=None, head_width=None, pooling="mean"
        )
        assert loaded.pop() == (source, settings, str(tmp_path / "index.json"))


@pytest.mark.slow
def test_the_index_of_a_name_loads_it_and_finds_what_is_shown(tmp_path, made):
    built = Index.build(tmp_path / "index", [made / "0.mp4"], "tiny", frames=2)
    assert built.about.model == "tiny"
    found = Index.open(tmp_path / "index").search("red circle")
    assert found == built.search("red circle")
    assert isinstance(found[0], Hit)
    assert found[0].to_dict() == {
        "video": str(made / "0.mp4"),
        "score": round(found[0].score, 6),
        "second": round(found[0].second, 3),
        "frame": found[0].frame,
        "duration": 0.12,
    }
