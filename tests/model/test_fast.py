"""The fast path of `classify`: values, gradients, ties, shards.

Bounds are relative errors in the L2 norm, `FACTOR` times a yardstick that no XLA version sets: how
far one float32 rounding (2⁻²⁴) of every cosine moves a float64 reference. It is 2e-7 to 2e-6, and
8e-6 for gradients of frames, as temperature 0.01 multiplies a rounding by 100.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

from support.exact import ROUNDING, apart, clip_like, kept, logits, with_rounding
from support.helpers import random_state
from vtd_jax.clip.compute import Compute
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.model import fast_discretize, fast_fusion
from vtd_jax.model.axes import WHOLE, Axes, cross_entropy
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.vtd_clip import VTDCLIP, learnable

B, T, K, D = 4, 10, 101, 512
WIDE = CLIPConfig(D, 32, 1, 64, 16, 64, text_layers=1)
NOTHING = dict(text_prompts=0, text_depth=0, visual_prompts=0, visual_depth=0)
KEYS = jax.random.split(jax.random.key(1), B)
LABELS = jnp.arange(B)
# Measured for arrays: up to 1.5 (AVX-512, SSE4.2, jax 0.10, 0.12); for a single number, one draw
# of the errors that an array averages, up to 3.5.
FACTOR, FACTOR_OF_NUMBER = 4, 8
FEW_ROUNDINGS = 16 * ROUNDING  # for sums of the same numbers in another order


@functools.cache
def _clip():
    return clip_from_state(WIDE, random_state(WIDE, 5))


def _model(plain=False, **settings):
    config = ModelConfig(**NOTHING | settings)
    model = VTDCLIP(_clip(), config, rngs=nnx.Rngs(0), compute=Compute(plain=plain))
    if model.fusion is not None:
        # the video token adds vectors two thirds as long as frames
        model.fusion.fc2.kernel.set_value(8 * model.fusion.fc2.kernel[...])
    return model


@pytest.fixture(params=["whole", "chunks"])
def chunked(request, monkeypatch):
    """Whether classes go in chunks, which do not divide K."""
    if request.param == "chunks":
        monkeypatch.setattr(fast_discretize, "_WHOLE", 0)
        monkeypatch.setattr(fast_discretize, "_CHUNKS", {"cpu": 4 * (B * T + D) * 17})
        assert fast_discretize.chunk_size(jnp.zeros((B, T, D)), K) == 17
    return request.param == "chunks"


def _run(model, features, codebook, keys=None, axes=WHOLE):
    """(output, gradients by name) of the loss, compiled."""
    graphdef, parameters, rest = nnx.split(model, nnx.Param, ...)

    def loss(parameters, features, codebook):
        output = nnx.merge(graphdef, parameters, rest).classify(
            features, codebook, dropout_keys=keys, axes=axes
        )
        return cross_entropy(output.logits, LABELS, axes).mean(), output

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))
    (of_parameters, of_features, of_codebook), output = gradient(parameters, features, codebook)
    return output, _named(of_parameters, of_features, of_codebook)


def _named(of_parameters, of_features, of_codebook):
    found = jax.tree.leaves_with_path(of_parameters)
    parameters = {jax.tree_util.keystr(path): x for path, x in found}
    return parameters | {"features": of_features, "codebook": of_codebook}


@functools.cache
def _plain(seed=0, dropout=False, **settings):
    """The plain path's answer on `clip_like` features; for all variants of the fast one."""
    features, codebook = clip_like(B, T, K, seed=seed)
    return _run(_model(True, **settings), features, codebook, KEYS if dropout else None)


@functools.cache
def _float64(seed=0, dropout=False, **settings):
    """`_exact` of the variant, on the video tokens of the plain path."""
    token = _plain(seed, dropout, **settings)[0].video_token
    return _exact(
        _model(**settings), *clip_like(B, T, K, seed=seed), token, KEYS if dropout else None
    )


def _exact(model, features, codebook, token, keys=None, first=0):
    """(logits and gradients by name in float64, how far rounding moves each), given raw codes as
    video tokens.
    """
    places = np.array(
        [np.flatnonzero((codebook == row).all(axis=1))[0] for row in np.asarray(token[:, 0])]
    )
    config = model.config
    settings = dict(temperature=config.temperature, uniform=config.confidence == "uniform")
    if keys is not None:
        settings["kept"] = kept(model.fusion, keys, T)
    with jax.enable_x64(True):
        wide = functools.partial(jax.tree.map, lambda x: jnp.asarray(np.asarray(x), jnp.float64))
        args = wide(learnable(model)), jnp.float64(features), jnp.float64(codebook)

        def loss(parameters, features, codebook, off):
            found = logits(
                nnx.to_pure_dict(parameters), features, codebook, places, off=off, **settings
            )
            return cross_entropy(found, LABELS).mean(), found

        gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))

        def results(off):
            gradients, found = gradient(*args, off)
            return _known(found, _named(*gradients), first)

        return with_rounding(results, (*features.shape[:2], len(codebook)))


def _known(logits, gradients, first=0):
    """Logits and gradients by name, those of frames from video `first` on.

    Without those of q and k, which are exactly zero with one video token.
    """
    kept = {
        name: np.asarray(x)
        for name, x in gradients.items()
        if "['q']" not in name and "['k']" not in name
    }
    return kept | {"logits": np.asarray(logits), "features": kept["features"][first:]}


def _assert_exact(found, exact, largest=1e-5):
    """Every result within its bound of float64; one rounding moves none by more than `largest`."""
    for name, right in exact[0].items():
        factor = FACTOR if np.ndim(right) else FACTOR_OF_NUMBER
        assert apart(found[name], right) < factor * exact[1][name], name
        assert exact[1][name] < largest, name


VARIANTS = [
    {},
    {"confidence": "uniform"},
    {"fusion": False},
    {"temperature": 0.3, "assignment": "cosine"},
]


@pytest.mark.slow
@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_values_and_gradients_are_the_plain_ones(settings, chunked):
    """Both paths are as near to float64 as rounding lets them be."""
    fast, plain = _run(_model(**settings), *clip_like(B, T, K)), _plain(**settings)
    _assert_same(fast[0], plain[0], settings.get("temperature", 0.01))
    for output, gradients in (fast, plain):
        _assert_exact(_known(output.logits, gradients), _float64(**settings))
        assert not any(
            np.any(x) for name, x in gradients.items() if "['q']" in name or "['k']" in name
        )


@pytest.mark.slow
def test_with_dropout(chunked):
    fast, plain = _run(_model(), *clip_like(B, T, K, seed=1), KEYS), _plain(1, True)
    _assert_same(fast[0], plain[0])
    for output, gradients in (fast, plain):
        _assert_exact(_known(output.logits, gradients), _float64(1, True))


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{"pooling": "mean"}, {"pooling": "softmax_mean"}, {"top_n": 3}], ids=str
)
def test_other_poolings_and_more_tokens(settings, chunked):
    features, codebook = clip_like(B, T, K, seed=1)
    _assert_same(
        *(
            jax.jit(_model(plain, **settings).classify)(features, codebook)
            for plain in (False, True)
        )
    )


def _assert_same(fast, plain, temperature=0.01):
    np.testing.assert_array_equal(fast.assignment, plain.assignment)
    np.testing.assert_array_equal(fast.video_token, plain.video_token)
    # a cosine's rounding is divided by the temperature before the exponential
    rounding = max(FEW_ROUNDINGS, ROUNDING / temperature)
    for name in ("logits", "confidence", "votes"):
        assert apart(getattr(fast, name), getattr(plain, name)) < rounding, name


@pytest.mark.slow
def test_confidence_and_token_pass_gradients_too(chunked):
    features, codebook = clip_like(B, T, K, seed=2)
    chosen = np.random.default_rng(0).standard_normal((B, T, K)).astype(np.float32)

    def total(model):
        def function(features, codebook):
            output = model.classify(features, codebook)
            return (
                (output.confidence * chosen).sum()
                + output.video_token.sum()
                + 1e6 * output.votes.sum()
            )

        return jax.jit(jax.grad(function, argnums=(0, 1)))(features, codebook)

    fast, plain = (total(_model(plain, temperature=0.3)) for plain in (False, True))
    for found, right in zip(fast, plain, strict=True):
        assert apart(found, right) < FEW_ROUNDINGS


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_assignments_differ_only_where_two_codes_are_as_near_to_rounding(metric, chunked):
    features, codebook = clip_like(64, T, K, seed=3)
    pairs = np.random.default_rng(3).integers(0, K, (2, 32, T))  # frames between two codes
    features[32:] = (
        0.5 * codebook[pairs].sum(0) if metric == "euclidean" else _units(codebook)[pairs].sum(0)
    )
    found = np.asarray(jax.jit(_model(assignment=metric).classify)(features, codebook).assignment)
    x, c = features.astype(np.float64), codebook.astype(np.float64)
    products = np.einsum("btd,kd->btk", x, c)
    length = np.linalg.norm(x, axis=-1, keepdims=True), np.linalg.norm(c, axis=-1)
    euclidean = metric == "euclidean"
    distance = length[1] ** 2 - 2 * products if euclidean else -products / length[0] / length[1]
    two = np.sort(distance, axis=-1)[..., :2]
    rounding = FEW_ROUNDINGS * (1 if metric == "cosine" else 100)  # squared lengths are about 100
    clear = two[..., 1] - two[..., 0] > rounding
    assert 0.5 < clear.mean() < 1
    np.testing.assert_array_equal(found[clear], distance.argmin(-1)[clear])
    taken = np.take_along_axis(distance, found[..., None], axis=-1)[..., 0]
    assert (taken - two[..., 0] <= rounding).all()


def _units(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.slow
def test_the_lowest_class_wins_ties_of_distances_and_of_votes(chunked):
    codebook = np.zeros((K, D), np.float32)
    codebook[np.arange(K), np.arange(K)] = 8
    codebook[60:] = codebook[: K - 60]  # 60 and above are those from 0 on again
    # 5 and 5 of 10 frames, in every order; counts of 0.1 tie exactly
    order = np.random.default_rng(0).permuted(
        np.tile([70, 83, 70, 83, 70, 83, 70, 83, 70, 83], (40, 1)), axis=1
    )
    output = jax.jit(_model(confidence="uniform").classify)(codebook[order], codebook)
    np.testing.assert_array_equal(output.assignment, order - 60)
    np.testing.assert_array_equal(output.video_token[:, 0], np.tile(codebook[10], (40, 1)))
    votes, winner = fast_discretize.vote(jnp.asarray(order), jnp.full(order.shape, 0.1))
    np.testing.assert_array_equal(winner, np.full(40, 70))
    np.testing.assert_allclose(votes, np.full(order.shape, 0.5), rtol=FEW_ROUNDINGS)


@pytest.mark.slow
def test_frames_that_their_token_takes_away_are_multiplied_again(monkeypatch):
    """`h = x + δ` with `δ` near `-x`: products of `x` and of `δ` would leave little but their
    rounding.
    """
    features, codebook = clip_like(1, T, K, seed=4)
    # frames that differ little: what the token leaves of them is short, and its direction is all
    # that counts
    mean = features.mean(1, keepdims=True)
    features = np.repeat(mean + np.float32(0.03) * (features - mean), B, axis=0)
    models = [_model(plain) for plain in (False, True)]
    for model in models:
        model.fusion.fc2.kernel.set_value(3e-4 * model.fusion.fc2.kernel[...])
        model.fusion.fc2.bias.set_value(-jnp.asarray(features[0].mean(0)))
    fast, plain = (_run(model, features, codebook) for model in models)
    exact = _exact(models[1], features, codebook, plain[0].video_token)
    for parts in exact:
        parts.pop("['logit_scale'].value")  # a sum of numbers that nearly cancel
    for output, gradients in (fast, plain):
        _assert_exact(_known(output.logits, gradients), exact, 2e-4)
    monkeypatch.setattr(fast_fusion, "_LONGER", np.inf)
    once = _run(models[0], features, codebook)
    name = "['fusion']['fc2']['kernel'].value"
    assert apart(once[1][name], exact[0][name]) > 4 * FACTOR * exact[1][name]  # measured: 31


@pytest.mark.slow
def test_frames_of_zeros_stay_finite():
    features, codebook = clip_like(B, T, K)
    features[0] = 0
    for settings in ({}, {"fusion_init": "zero"}):
        fast, plain = (
            _run(_model(plain, **settings), features, codebook) for plain in (False, True)
        )
        # frames of zeros have no direction, and 1e12 times the gradient of others
        exact = _exact(_model(**settings), features, codebook, plain[0].video_token, first=1)
        for output, gradients in (fast, plain):
            assert all(np.isfinite(x).all() for x in gradients.values())
            _assert_exact(_known(output.logits, gradients, 1), exact)


@pytest.mark.mesh
@pytest.mark.parametrize(
    "settings", [{}, {"assignment": "cosine", "confidence": "uniform"}], ids=str
)
def test_over_shards_of_the_codebook(settings, chunked):
    """Three classes of padding, which must not be taken; the shares of all devices add up to the
    gradient.
    """
    model, (features, codebook) = _model(**settings), clip_like(B, T, K, seed=5)
    padded = np.concatenate([codebook, np.repeat(codebook[-1:], -K % 8, 0)])
    axes = Axes(codebook="codebook", classes=K)
    graphdef, parameters, rest = nnx.split(model, nnx.Param, ...)

    def share(parameters, features, codebook):
        output = nnx.merge(graphdef, parameters, rest).classify(features, codebook, axes=axes)
        return cross_entropy(output.logits, LABELS, axes).mean() / axes.shards, output

    def device(features, codebook):
        (of_parameters, of_features, of_codebook), output = jax.grad(
            share, argnums=(0, 1, 2), has_aux=True
        )(parameters, features, codebook)
        same = jax.lax.psum((of_parameters, of_features), "codebook")
        return same, of_codebook, output.assignment, output.video_token, output.logits, output.votes

    split, over = PartitionSpec("codebook"), PartitionSpec(None, "codebook")
    mapped = jax.shard_map(
        device,
        mesh=Mesh(np.array(jax.devices()), ("codebook",)),
        in_specs=(PartitionSpec(), split),
        out_specs=(PartitionSpec(), split, PartitionSpec(), PartitionSpec(), over, over),
        check_vma=False,
    )
    if chunked:
        fast_discretize._CHUNKS["cpu"] = 4 * (B * T + D) * 5  # of the 13 classes of a device
    (of_parameters, of_features), of_codebook, *output = jax.jit(mapped)(features, padded)
    plain, gradients = _plain(5, **settings)
    np.testing.assert_array_equal(output[0], plain.assignment)
    np.testing.assert_array_equal(output[1], plain.video_token)
    assert apart(output[3][:, :K], plain.votes) < ROUNDING / 0.01
    assert not np.any(of_codebook[K:])
    sharded = _named(of_parameters, of_features, of_codebook[:K])
    for of_classes, found in ((output[2][:, :K], sharded), (plain.logits, gradients)):
        _assert_exact(_known(of_classes, found), _float64(5, **settings))
