"""Nearest words, votes and video tokens of a vocabulary against the plain computation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from support.helpers import SMALL, random_state
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.errors import UserError
from vtd_jax.model import discretize, vocabulary
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.vtd_clip import VTDCLIP

B, T, D = 2, 5, 16


def _features(seed=0):
    return np.random.default_rng(seed).standard_normal((B, T, D)).astype(np.float32) * 3


def _words(count, seed=1):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, D)).astype(np.float32) * rng.uniform(
        0.5, 2, (count, 1)
    ).astype(np.float32)


@functools.partial(jax.jit, static_argnames="metric")
def _all_scores(x, c, metric):
    """Similarity, scores and assignment over all words at once."""
    similarity = discretize.cosine(x[None], c)
    chosen = discretize.assign(x[None], c, similarity, metric)[0]
    if metric == "cosine":
        return similarity[0], similarity[0], chosen
    products = jnp.einsum("nd,vd->nv", x, c, precision=jax.lax.Precision.HIGHEST)
    return similarity[0], 2 * products - jnp.square(c).sum(-1), chosen


def _plain(features, words, top, metric):
    """NumPy's stable sort of all scores takes the lowest id first among equals."""
    similarity, scores, chosen = map(np.asarray, _all_scores(features, words, metric))
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    np.testing.assert_array_equal(ids[:, 0], chosen)
    return ids, np.take_along_axis(similarity, ids, axis=1)


@pytest.fixture(params=["device", "cpu", "host"])
def given(request, monkeypatch):
    """A vocabulary as an array on a device, on a CPU whose memory the host sees, or of the host: in
    parts of 192.
    """
    monkeypatch.setattr(vocabulary, "_STREAMED", 130)
    monkeypatch.setattr(vocabulary, "_COPIED", 130)
    if request.param == "device":
        monkeypatch.setattr(vocabulary, "_on_this_cpu", lambda *_: False)
    return np.asarray if request.param == "host" else jnp.asarray


@pytest.mark.parametrize(
    "metric, count, top, chunk",
    [("euclidean", 389, 5, 100), ("cosine", 389, 5, 100), ("euclidean", 3, 5, None)],
)
def test_the_same_words_as_without_chunks(metric, count, top, chunk, given):
    features, words = _features().reshape(-1, D), _words(count)
    ids, similarity = _plain(features, words, top, metric)
    found = vocabulary.nearest(jnp.asarray(features), given(words), top, metric, chunk=chunk)
    assert found.ids.dtype == jnp.int32
    np.testing.assert_array_equal(found.ids, ids)
    np.testing.assert_allclose(found.similarity, similarity, rtol=0, atol=1e-6)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_lowest_of_equal_words_wins_across_blocks_chunks_and_parts(metric, given):
    # small whole numbers: every product is exact, so equal is equal however it is computed
    rng = np.random.default_rng(3)
    few = rng.integers(-1, 2, (7, D)).astype(np.float32)
    few[0] = 0
    words = few[rng.integers(0, len(few), 389)]
    features = few[rng.integers(0, len(few), B * T)]
    ids, _ = _plain(features, words, 5, metric)
    assert (np.diff(ids) > 1).any()
    found = vocabulary.nearest(jnp.asarray(features), given(words), 5, metric, chunk=100)
    np.testing.assert_array_equal(found.ids, ids)


def test_norms_may_be_given_and_no_big_array_is_made(given):
    features, words = jnp.asarray(_features().reshape(-1, D)), given(_words(389))
    squares = vocabulary.squared_norms(words)
    np.testing.assert_allclose(squares, np.square(words).sum(-1), rtol=1e-6)
    found = vocabulary.nearest(features, words, 5, chunk=100, squares=squares)
    np.testing.assert_array_equal(found.ids, vocabulary.nearest(features, words, 5, chunk=100).ids)
    # norms decide: with others the words are others
    other = vocabulary.nearest(features, words, 5, chunk=100, squares=squares.at[200].set(-1e6))
    assert (np.asarray(other.ids[:, 0]) == 200).all()


def test_scores_of_a_large_vocabulary_never_exist():
    shapes = (
        jax.ShapeDtypeStruct((128, 512), np.float32),
        jax.ShapeDtypeStruct((1_000_000, 512), np.float32),
    )
    squares = jax.ShapeDtypeStruct((1_000_000,), np.float32)
    search = lambda x, c, squares: vocabulary.nearest(x, c, 5, squares=squares, chunk=2048)  # noqa: E731
    used = jax.jit(search).lower(*shapes, squares).compile().memory_analysis()
    # [128, 1 000 000] float32 would be 512 MB; two chunks, their products and little else are
    # needed
    assert used.temp_size_in_bytes < 16e6


@pytest.mark.slow
def test_a_file_is_read_where_it_lies(tmp_path):
    words = _words(389)
    np.save(tmp_path / "words.npy", words)
    mapped = np.load(tmp_path / "words.npy", mmap_mode="r")
    assert mapped.ctypes.data % 64 == 0
    found = vocabulary.nearest(jnp.asarray(_features()[0]), mapped, 2)
    np.testing.assert_array_equal(found.ids, _plain(_features()[0], words, 2, "euclidean")[0])


@functools.cache
def _whole(kind, temperature=0.3):
    """Votes of all words, plainly."""

    def votes(features, words):
        similarity = discretize.cosine(features, words)
        weights = discretize.confidence(similarity, temperature, kind)
        chosen = discretize.assign(features, words, similarity, "euclidean")
        return chosen, discretize.count_votes(chosen, weights)

    return jax.jit(votes)


@pytest.mark.slow
@pytest.mark.parametrize("kind, count", [("softmax", 3), ("softmax", 60), ("uniform", 60)])
@pytest.mark.parametrize("twice", [False, True])
def test_votes_and_video_tokens_are_those_of_the_whole_vocabulary(kind, count, twice):
    words = _words(count)
    if twice:
        # every frame's word is there again, and frames repeat: equal votes, equal codes
        words = np.concatenate([words[-1:], words, words])[:count]
    features = _features(2)
    features[:, 3:] = features[:, :2]
    features, words = jnp.asarray(features), jnp.asarray(words)
    chosen, votes = _whole(kind)(features, words)
    found = vocabulary.word_votes(features, chosen, words[chosen], 0.3, kind)
    for b in range(B):
        ids = np.unique(np.asarray(chosen[b]))
        best = sorted(
            ids, key=lambda i: (-np.asarray(found.votes[b])[list(found.ids[b]).index(i)], i)
        )
        assert found.ids[b].tolist() == [*best, *[-1] * (T - len(ids))]
        np.testing.assert_allclose(
            found.votes[b][: len(ids)], votes[b][np.asarray(best)], rtol=1e-5
        )
        assert not found.votes[b][len(ids) :].any()
    for top_n in (1, 2, 5):
        named = vocabulary.video_words(found, count, top_n)
        expected, ids = jax.lax.top_k(votes, min(top_n, count))
        np.testing.assert_array_equal(named.ids, ids)
        np.testing.assert_allclose(named.votes, expected, rtol=1e-5)
        np.testing.assert_array_equal(
            words[named.ids], discretize.video_tokens(votes, words, top_n)
        )


@pytest.mark.slow
def test_a_word_whose_votes_vanish_stands_before_those_that_named_no_frame():
    # frame 1 is nearest to word 2, yet frame 0 is so much nearer to its direction that softmax
    # leaves exactly 0
    features = jnp.asarray([[[0.0, 9.0], [1.0, 0.1]]])
    words = jnp.asarray([[0.0, 9.0], [90.0, 0.0], [0.0, 0.1], [-90.0, 0.0]])
    chosen, votes = _whole("softmax", 0.005)(features, words)
    assert chosen.tolist() == [[0, 2]]
    assert float(votes[0, 2]) == 0
    found = vocabulary.word_votes(features, chosen, words[chosen], 0.005)
    assert vocabulary.video_words(found, 4, 4).ids.tolist() == [[0, 2, 1, 3]]
    # as released: among those without votes
    found = vocabulary.word_votes(features, chosen, words[chosen], 0.005, rule="release")
    released = vocabulary.video_words(found, 4, 4, "release").ids.tolist()
    assert released == jax.lax.top_k(votes, 4)[1].tolist() == [[0, 1, 2, 3]]


@pytest.mark.slow
def test_a_vocabulary_that_is_the_labels_gives_what_the_model_gives():
    config = ModelConfig(text_prompts=0, visual_prompts=0, visual_depth=0, top_n=2, fusion=False)
    model = VTDCLIP(clip_from_state(SMALL, random_state(SMALL)), config, rngs=nnx.Rngs(0))
    width = SMALL.embed_dim
    rng = np.random.default_rng(0)
    features = jnp.asarray(rng.standard_normal((B, T, width)), jnp.float32)
    codebook = jnp.asarray(rng.standard_normal((11, width)), jnp.float32)
    out = nnx.jit(VTDCLIP.classify)(model, features, codebook)
    named = vocabulary.nearest(features.reshape(-1, width), codebook, 1, config.assignment)
    ids = named.ids.reshape(B, T)
    np.testing.assert_array_equal(ids, out.assignment)
    votes = vocabulary.word_votes(
        features, ids, codebook[ids], config.temperature, config.confidence
    )
    np.testing.assert_array_equal(
        codebook[vocabulary.video_words(votes, 11, 2).ids], out.video_token
    )


@pytest.mark.parametrize(
    "words, settings, message",
    [
        (0, {}, "vocabulary is empty"),
        (3, {"metric": "dot"}, "metric 'dot': expected one of euclidean, cosine"),
        (3, {"top": 0}, "top=0"),
        (3, {"chunk": 0}, "chunk=0"),
    ],
)
def test_what_has_no_nearest_word_is_reported(words, settings, message):
    with pytest.raises(UserError, match=message):
        vocabulary.nearest(jnp.zeros((1, D)), jnp.zeros((words, D)), **settings)
