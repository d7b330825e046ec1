"""Votes that tie to rounding: one rule, the same in every implementation; the release's, as it was;
and votes that count frames.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

from support.small_model import small_model
from vtd_jax.clip.compute import Compute
from vtd_jax.errors import UserError
from vtd_jax.model import discretize, fast_discretize, ties
from vtd_jax.model.axes import Axes
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.predict.programs import Vocabulary
from vtd_jax.predict.serve import CODEBOOK, export_program, served_program

B, T, K, D = 48, 8, 13, 32
BARE = dict(text_prompts=0, text_depth=0, visual_prompts=0, visual_depth=0)
PATHS = ("plain", "fast", "chunks", "shards", "vocabulary")


@functools.cache
def videos():
    """Features and codes: frames next to codes, whose classes have all of their confidence; others
    between codes.
    """
    rng = np.random.default_rng(0)
    codes = (8 * np.eye(K, D) + 0.1 * rng.standard_normal((K, D))).astype(np.float32)
    named = np.where(
        rng.random((B, T)) < 0.5, rng.integers(0, K, (B, 1)), rng.integers(0, K, (B, T))
    )
    near = codes[named] + 0.02 * rng.standard_normal((B, T, D))
    between = 3 * (rng.standard_normal((B, 1, D)) + 0.2 * rng.standard_normal((B, T, D)))
    return np.float32(np.where(np.arange(B)[:, None, None] % 2, between, near)), codes


def expected(rule, count, temperature=0.01):
    """The classes of the tokens, whether votes tie and how far the votes are from other ties, by
    loops in float64.
    """
    x, c = (array.astype(np.float64) for array in videos())
    cosines = (
        np.einsum("btd,kd->btk", x, c)
        / np.linalg.norm(x, axis=-1, keepdims=True)
        / np.linalg.norm(c, axis=-1)
    )
    weights = np.exp(cosines / temperature)
    weights /= weights.sum(axis=1, keepdims=True)
    assignment = (np.square(c).sum(-1) - 2 * np.einsum("btd,kd->btk", x, c)).argmin(-1)
    found, tied, border = [], [], np.inf
    for b in range(B):
        frames = np.bincount(assignment[b], minlength=K)
        votes = np.array([weights[b, assignment[b] == k, k].sum() for k in range(K)])
        left, tokens = list(range(K)), []
        if rule == "most frames":
            tied.append((frames == frames.max()).sum() > 1)
            while len(tokens) < count:
                many = [k for k in left if frames[k] == max(frames[left])]
                most = max(votes[many])
                border = min([border, *(abs(most - votes[k] - 1e-5) for k in many if frames[k])])
                tokens.append(next(k for k in many if votes[k] >= most - 1e-5))
                left.remove(tokens[-1])
            found.append(tokens)
            continue
        tied.append((votes[frames > 0] >= votes.max() - 1e-5).sum() > 1)
        while len(tokens) < count:
            most = max(votes[k] for k in left)
            border = min([border, *(abs(most - votes[k] - 1e-5) for k in left if frames[k])])
            near = [k for k in left if votes[k] >= most - 1e-5]
            best = (
                min(near, key=lambda k: (-frames[k], k))
                if rule == "frames"
                else max(left, key=lambda k: votes[k])
            )
            tokens.append(best)
            left.remove(best)
        found.append(tokens)
    return np.array(found), np.array(tied), border


def model_of(rule, count, plain=False):
    how = {"votes": "frames"} if rule == "most frames" else {"ties": rule}
    model = small_model(**BARE, **how, top_n=count)
    return model.with_compute(Compute(plain=True)) if plain else model


@functools.cache
def output(path, rule, count):
    """Raw video tokens, and whether votes tie, by one of the implementations."""
    with pytest.MonkeyPatch.context() as patch:
        if path == "chunks":
            patch.setattr(fast_discretize, "_WHOLE", 0)
            patch.setattr(fast_discretize, "_CHUNKS", {"cpu": 4 * (B * T + D) * 5})
            assert fast_discretize.chunk_size(jnp.zeros((B, T, D)), K) == 5
        return _output(path, rule, count)


def _output(path, rule, count):
    features, codes = map(jnp.asarray, videos())
    model = model_of(rule, count, path == "plain")
    if path == "vocabulary":
        words = Vocabulary([f"{k}" for k in range(K)], codes)
        ids = words.nearest(videos()[0].reshape(-1, D), 1, "euclidean").ids.reshape(B, T)
        return words.video_tokens(videos()[0], ids, model.config).codes, None
    if path != "shards":
        found = jax.jit(functools.partial(VTDCLIP.classify, model))(features, codes)
        return found.video_token, found.tied
    graphdef, state = nnx.split(model)

    def device(codes):
        found = nnx.merge(graphdef, state).classify(
            features, codes, axes=Axes(codebook="codebook", classes=K)
        )
        return found.video_token[None], found.tied[None]

    mesh = Mesh(np.array(jax.devices()), ("codebook",))
    split = PartitionSpec("codebook")
    padded = jnp.concatenate([codes, jnp.repeat(codes[-1:], -K % 8, 0)])
    mapped = jax.shard_map(device, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)
    tokens, tied = jax.jit(mapped)(padded)
    # all devices say the same
    for one in (tokens, tied):
        np.testing.assert_array_equal(one, np.broadcast_to(one[:1], one.shape))
    return tokens[0], tied[0]


@pytest.mark.parametrize("rule", ["frames", "most frames"])
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("path", PATHS)
def test_every_implementation_follows_the_rule(path, count, rule):
    classes, tied, border = expected(rule, count)
    assert border > 1e-9, "these videos tie to rounding in the reference too"
    # of frames as many is rarer than of all confidence
    assert (0.3 if rule == "frames" else 0.04) < tied.mean() < 0.7
    found, message = output(path, rule, count)
    np.testing.assert_array_equal(found, videos()[1][classes])
    if message is not None:
        np.testing.assert_array_equal(message, tied)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("path", PATHS)
def test_as_released_the_greatest_number_wins(path, count):
    """Where nothing ties both rules say the same."""
    found, _ = output(path, "release", count)
    classes, tied, _ = expected("release", 1)
    np.testing.assert_array_equal(found[~tied, 0], videos()[1][classes[~tied, 0]])
    if count == 1:
        # the rules do differ on these videos
        assert not np.array_equal(found, output(path, "frames", 1)[0])


@pytest.mark.slow
@pytest.mark.parametrize("plain", [False, True])
def test_as_released_to_the_last_bit(plain):
    features, codes = map(jnp.asarray, videos())
    for rule, same in (("release", True), ("frames", False)):
        found = jax.jit(functools.partial(VTDCLIP.classify, model_of(rule, 1, plain)))(
            features, codes
        )
        assert np.array_equal(found.video_token, codes[jax.lax.top_k(found.votes, 1)[1]]) == same


def tally(votes, frames):
    return ties.Tally(1 - jnp.asarray(votes, jnp.float32), jnp.asarray(frames, jnp.float32))


@pytest.mark.parametrize(
    "votes, frames, order",
    [
        # within 1e-5: the class of more frames; of as many the lower one
        ([1.0, 0.999992, 0.999995, 0.5], [1, 2, 2, 8], [1, 2, 0, 3]),
        # the tie is with the greatest of those that are left: 1 is no tie of 0, 2 is one of 1
        ([1.0, 0.999985, 0.99998, 0.0], [1, 1, 4, 0], [0, 2, 1, 3]),
        # a class whose frames have no confidence in it comes before those that named none
        ([0.0, 0.0, 1.0, 0.0], [0, 3, 2, 1], [2, 1, 3, 0]),
        # counts of frames, as of uniform confidence
        ([0.25, 0.25, 0.375, 0.125], [2, 2, 3, 1], [2, 0, 1, 3]),
    ],
)
def test_the_rule(votes, frames, order):
    classes = jnp.arange(4)[None]
    for count in range(1, 5):
        assert ties.rank(tally([votes], [frames]), classes, count).tolist() == [order[:count]]
    # places do not matter, classes do
    mixed = jnp.asarray([[2, 0, 3, 1]])
    turned = tally([np.array(votes)[mixed[0]]], [np.array(frames)[mixed[0]]])
    assert ties.rank(turned, mixed, 4).tolist() == [order]


@pytest.mark.parametrize(
    "votes, frames, order",
    [
        # one frame holds all confidence in its class, six hold most of it in theirs
        ([1.0, 0.97, 0.0], [1, 6, 0], [1, 0, 2]),
        # of as many frames the most confidence, to 1e-5; then the lower class
        ([0.9, 0.999995, 1.0], [3, 3, 3], [1, 2, 0]),
        ([1.0, 0.5, 0.6], [2, 3, 3], [2, 1, 0]),
    ],
)
def test_the_rule_where_frames_are_the_votes(votes, frames, order):
    for count in range(1, 4):
        found = ties.rank(tally([votes], [frames]), jnp.arange(3)[None], count, votes="frames")
        assert found.tolist() == [order[:count]]
    mixed = jnp.asarray([[1, 2, 0]])
    turned = tally([np.array(votes)[mixed[0]]], [np.array(frames)[mixed[0]]])
    assert ties.rank(turned, mixed, 3, votes="frames").tolist() == [order]
    tied = ties.tied(tally([votes], [frames]), votes="frames")
    assert tied.tolist() == [frames.count(max(frames)) > 1]


def test_votes_are_counts_of_frames_in_every_output():
    features, codes = map(jnp.asarray, videos())
    for plain in (False, True):
        model = model_of("most frames", 1, plain)
        found = jax.jit(functools.partial(VTDCLIP.classify, model))(features, codes)
        counts = [np.bincount(row, minlength=K) for row in np.asarray(found.assignment)]
        np.testing.assert_array_equal(found.votes, counts)
    words = Vocabulary([f"{k}" for k in range(K)], codes)
    told = words.video_tokens(videos()[0], np.asarray(found.assignment), model.config)
    np.testing.assert_array_equal(told.votes[:, 0], np.max(counts, axis=1))


def test_frames_do_not_count_with_the_ties_of_the_release():
    match = r"model.votes='frames' with model.ties='release': the release counts confidence; set"
    with pytest.raises(UserError, match=match):
        ModelConfig(votes="frames", ties="release")


@pytest.mark.slow
def test_uniform_confidence_has_no_ties_but_of_as_many_frames():
    features, codes = map(jnp.asarray, videos())
    model = small_model(**BARE, confidence="uniform")
    found = jax.jit(functools.partial(VTDCLIP.classify, model))(features, codes)
    counts = np.array([np.bincount(row, minlength=K) for row in np.asarray(found.assignment)])
    np.testing.assert_array_equal(found.video_token[:, 0], codes[counts.argmax(axis=1)])
    np.testing.assert_array_equal(
        found.tied, (counts == counts.max(axis=1, keepdims=True)).sum(axis=1) > 1
    )


@pytest.mark.slow
def test_gradients_reach_the_token_that_the_rule_took():
    features, codes = map(jnp.asarray, videos())
    classes = expected("frames", 4)[0]
    of_codes = {}
    for plain in (False, True):
        for count in (1, 4):
            model = model_of("frames", count, plain)
            loss = lambda codes, model=model: model.classify(features, codes).video_token.sum()  # noqa: E731
            of_codes[plain, count] = np.asarray(jax.jit(jax.grad(loss))(codes))
    for (_, count), found in of_codes.items():
        taken = np.bincount(classes[:, :count].ravel(), minlength=K)
        np.testing.assert_array_equal(found, np.broadcast_to(taken[:, None], (K, D)))


def test_votes_that_are_not_numbers_take_a_class_that_is_there():
    for votes in ("confidence", "frames"):
        found = ties.winner(tally([[np.nan] * 3], [[1, 2, 2]]), jnp.arange(3)[None], votes=votes)
        assert found.tolist() == [0 if votes == "confidence" else 1]


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["frames", "release"])
def test_a_served_program_follows_the_rule(rule):
    """Two images, one of them seen once and the other three times, whose features are the codes."""
    model = small_model(**BARE, ties=rule, temperature=1e-4)
    images = np.random.default_rng(1).integers(0, 256, (1, 2, 32, 32, 3), dtype=np.uint8)
    frames = images[:, [0, 1, 1, 1]]
    features = jax.jit(model.encode_frames)(frames)
    codes = features[0, :2]
    program, weights = served_program(model)
    weights[CODEBOOK] = np.asarray(codes)
    exported = export_program(program, weights, 4, 32, ("cpu",))
    found = exported.call(weights, jnp.asarray(frames))
    assert found["assignment"].tolist() == [[0, 1, 1, 1]]
    weights = discretize.confidence(discretize.cosine(features, codes), 1e-4)
    votes = discretize.count_votes(jnp.asarray([[0, 1, 1, 1]]), weights)
    np.testing.assert_allclose(votes, 1, atol=1e-6)
    scores = [jax.jit(model.score)(features, codes, weights, codes[None, [k]])[0] for k in (0, 1)]
    assert abs(scores[0] - scores[1]).max() > 1e-3
    taken = 1 if rule == "frames" else int(votes[0].argmax())
    np.testing.assert_allclose(found["logits"], scores[taken], rtol=1e-4)
