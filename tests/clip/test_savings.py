"""What the towers leave out (docs/method.md, section 7) against their plain paths: values and
gradients, both layouts.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend import core

from support.helpers import random_state
from vtd_jax.clip.compute import Compute
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.model import CLIP
from vtd_jax.clip.weights.params import clip_from_state, state_from_clip
from vtd_jax.cost.hlo import traced_work
from vtd_jax.model.saved.fingerprint import weights_fingerprint

pytestmark = pytest.mark.slow

CONFIG = CLIPConfig(48, 48, 3, 128, 16, 128, text_layers=3, vocab_size=200, context_length=20)
STATE = random_state(CONFIG, 3)
IMAGES = jnp.asarray(np.random.default_rng(11).standard_normal((3, 48, 48, 3), dtype=np.float32))
SHAPES = [(depth, length) for depth in (1, 2, 3) for length in (1, 7)]
# float32 rounding, of the length of what is compared
ROUNDING = 1e-6


def _tokens(prompts=7):
    """Five texts as `class_tokens` makes them: one start, stand-ins, names of several lengths, one
    end.
    """
    tokens, rng = np.zeros((5, prompts + 9), np.int32), np.random.default_rng(prompts)
    for row, words in enumerate([1, 3, 7, 2, 5]):
        tokens[row, : prompts + words + 2] = [
            198,
            *[5] * prompts,
            *rng.integers(1, 197, words),
            199,
        ]
    return tokens


class Towers(NamedTuple):
    """A CLIP and how it computes."""

    clip: CLIP
    compute: Compute


def _clip(layers="list", *, plain=False, dtype="float32", remat="none"):
    clip = clip_from_state(CONFIG, STATE, layers=layers, dtype=dtype)
    return Towers(clip, Compute(plain=plain, remat=remat))


def _prompts(shape):
    return jnp.asarray(
        np.random.default_rng(shape).standard_normal((*shape, 128)).astype(np.float32)
    )


def _both(encode, clip, given, prompts):
    """Features, and the gradient of a scalar of them for the prompts and for what is given, if it
    is no integer.
    """
    weights = jnp.asarray(np.random.default_rng(5).standard_normal(48), jnp.float32)

    def scalar(prompts, given):
        features = encode(clip, given, prompts)
        return (features @ weights).sum(), features

    wanted = (0, 1) if jnp.issubdtype(given.dtype, jnp.floating) else (0,)
    gradients, features = jax.jit(jax.grad(scalar, wanted, has_aux=True))(prompts, given)
    return features, *gradients


def _image(towers, images, prompts):
    return towers.clip.encode_images(images, prompts, towers.compute)


def _text(towers, tokens, prompts):
    return towers.clip.encode_text(tokens, prompts, towers.compute)


def _features(encode, clip, given, prompts=None):
    """Compiled: op by op, every shape would be a program."""
    return jax.jit(lambda given, prompts: encode(clip, given, prompts))(given, prompts)


@functools.cache
def _plain(encode, shape):
    """The plain path of a list of blocks: what everything is compared with."""
    given = IMAGES if encode is _image else jnp.asarray(_tokens(shape[1]))
    return _both(encode, _clip(plain=True), given, _prompts(shape))


def _near(found, expected, bound=ROUNDING):
    for ours, plain in zip(found, expected, strict=True):
        assert np.linalg.norm(ours - plain) <= bound * np.linalg.norm(plain)


@pytest.mark.parametrize("layers", ["list", "scan"])
@pytest.mark.parametrize("shape", SHAPES)
def test_image_features_and_gradients_are_those_of_the_plain_path(shape, layers):
    prompts = _prompts(shape)
    _near(_both(_image, _clip(layers), IMAGES, prompts), _plain(_image, shape))


@pytest.mark.parametrize("layers", ["list", "scan"])
@pytest.mark.parametrize("shape", SHAPES)
def test_text_features_and_gradients_are_those_of_the_plain_path(shape, layers):
    found = _both(_text, _clip(layers), jnp.asarray(_tokens(shape[1])), _prompts(shape))
    _near(found, _plain(_text, shape))


@pytest.mark.parametrize("layers", ["list", "scan"])
def test_without_prompts_both_towers_are_those_of_the_plain_path(layers):
    clip, plain = _clip(layers), _clip(plain=True)
    for encode, given in ((_image, IMAGES), (_text, jnp.asarray(_tokens()))):
        _near([_features(encode, clip, given)], [_features(encode, plain, given)])


@pytest.mark.parametrize("layers", ["list", "scan"])
@pytest.mark.parametrize("remat", ["block", "dots"])
@pytest.mark.parametrize(
    "encode, given", [(_image, IMAGES), (_text, jnp.asarray(_tokens()))], ids=["image", "text"]
)
def test_computing_again_changes_nothing(encode, given, remat, layers):
    found = _both(encode, _clip(layers, remat=remat), given, _prompts((3, 7)))
    _near(found, _plain(encode, (3, 7)))


@pytest.mark.parametrize("layers", ["list", "scan"])
def test_the_plain_path_is_the_same_in_both_layouts(layers):
    prompts = _prompts((3, 2))
    for encode, given in ((_image, IMAGES), (_text, jnp.asarray(_tokens(2)))):
        found, expected = (
            _features(encode, _clip(kind, plain=True), given, prompts) for kind in (layers, "list")
        )
        _near([found], [expected])


def test_texts_that_share_no_prefix_take_the_plain_path_or_are_not_numbers():
    prompts = _prompts((2, 7))
    other = _tokens()
    other[3, 0] = 17
    short = _tokens()
    short[2, 5] = 199
    short[2, 6:] = 0
    for tokens in (jnp.asarray(other), jnp.asarray(short)):
        plain = _text(_clip(plain=True), tokens, prompts)
        _near([_text(_clip(), tokens, prompts)], [plain])
        traced = _features(_text, _clip(), tokens, prompts)
        assert np.isnan(traced).all()


def test_texts_as_long_as_their_prompts_take_the_plain_path_when_traced():
    prompts, tokens = _prompts((2, 7)), jnp.asarray(_tokens()[:, :8])
    traced = _features(_text, _clip(), tokens, prompts)
    _near([traced], [_text(_clip(plain=True), tokens, prompts)])


def _flops(encode, clip, given, prompts):
    return traced_work(
        jax.make_jaxpr(lambda given, prompts: encode(clip, given, prompts))(given, prompts)
    ).flops


@pytest.mark.parametrize("layers", ["list", "scan"])
def test_what_is_left_out_is_not_computed(layers):
    """FLOPs of matrix products by the formulas of docs/method.md, section 7; both layouts do the
    same work.

    Of what is keys and values only, the queries are made too, once for all.
    """
    width, own, length, images = 128, 10, 7, 3
    prompts = _prompts((3, length))
    linear, keys = 2 * own * width * 12 * width, 2 * length * width * 3 * width
    attention = 4 * own * (own + length) * width
    last = 2 * width * 10 * width + 2 * own * width * 2 * width + 4 * (own + length) * width
    whole = images * (2 * (linear + attention) + last) + 3 * keys
    ends = images * 2 * (9 * 16 * 16 * 3 * width + width * 48)
    assert _flops(_image, _clip(layers), IMAGES, prompts) == whole + ends
    assert _flops(_image, _clip(layers), IMAGES, prompts) < 0.7 * _flops(
        _image, _clip(plain=True), IMAGES, prompts
    )
    tokens = jnp.asarray(_tokens())
    start, suffix, texts = 1 + length, tokens.shape[1] - 1 - length, 5
    per_text = 2 * (2 * suffix * width * 12 * width + 4 * suffix * (suffix + start) * width)
    per_text += (
        2 * width * 10 * width + 2 * suffix * width * 2 * width + 4 * (suffix + start) * width
    )
    once = (
        2 * (2 * start * width * 12 * width + 4 * start * start * width)
        + 3 * 2 * start * width * 3 * width
    )
    assert (
        _flops(_text, _clip(layers), tokens, prompts) == texts * (per_text + 2 * width * 48) + once
    )


@pytest.mark.parametrize("layers", ["list", "scan"])
@pytest.mark.parametrize(
    "encode, given", [(_image, IMAGES), (_text, jnp.asarray(_tokens()))], ids=["image", "text"]
)
def test_no_gradient_of_a_frozen_weight_is_formed(encode, given, layers):
    """Forwards and backwards to the prompts is at most twice the products of forwards, in bfloat16
    as well.
    """
    for dtype in ("float32", "bfloat16"):
        clip, prompts = _clip(layers, dtype=dtype), _prompts((3, 7))
        forward = _flops(encode, clip, given, prompts)

        def scalar(given, prompts, clip=clip):
            return jax.grad(lambda prompts: encode(clip, given, prompts).sum())(prompts)

        both = traced_work(jax.make_jaxpr(scalar)(given, prompts)).flops
        # attention has two products backwards for each forwards
        assert both < 2.35 * forward


@pytest.mark.parametrize("layers", ["list", "scan"])
def test_bfloat16_is_near_float32_forwards_and_backwards(layers):
    prompts, tokens = _prompts((3, 7)), jnp.asarray(_tokens())
    for encode, given in ((_image, IMAGES), (_text, tokens)):
        exact = _both(encode, _clip(), given, prompts)
        low = _both(encode, _clip(layers, dtype="bfloat16"), given, prompts)
        assert all(x.dtype == jnp.float32 for x in low)
        # bfloat16 keeps 8 bits; four blocks and a sine leave about 1e-2
        _near(low, exact, 3e-2)
        assert np.linalg.norm(low[0] - exact[0]) > 1e-4 * np.linalg.norm(exact[0])


def test_every_product_of_bfloat16_sums_in_float32():
    """Neither bfloat16 results nor mixed inputs: both are slow paths on a CPU, the first is inexact
    everywhere.
    """
    clip, prompts = _clip(dtype="bfloat16"), _prompts((3, 7))
    for encode, given in ((_image, IMAGES), (_text, jnp.asarray(_tokens()))):
        jaxpr = jax.make_jaxpr(jax.grad(lambda p, e=encode, g=given: e(clip, g, p).sum()))(prompts)
        found = list(_products(jaxpr.jaxpr))
        assert set(found) == {
            ("bfloat16", "bfloat16", "float32"),
            ("float32", "float32", "float32"),
        }
        # of float32 is the last projection only, forwards and backwards
        assert sum(kinds[0] == "float32" for kinds in found) == 2


def _products(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield tuple(str(x.aval.dtype) for x in (*equation.invars, *equation.outvars))
        for sub in core.jaxprs_in_params(equation.params):
            yield from _products(sub)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_stacked_weights_are_not_kept_twice_for_the_backward_pass(dtype):
    config = dataclasses.replace(CONFIG, vision_layers=8, vision_width=256, text_layers=1)
    clip = clip_from_state(config, random_state(config), layers="scan", dtype=dtype)
    graphdef, state = nnx.split(clip)

    def gradient(state, prompts):
        return jax.grad(
            lambda prompts: nnx.merge(graphdef, state).encode_images(IMAGES, prompts).sum()
        )(prompts)

    compiled = jax.jit(gradient).lower(state, jnp.zeros((8, 2, 256))).compile()
    # one layer's weights at a time, and what blocks keep of three images
    tower = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(nnx.state(clip.visual.blocks)))
    assert compiled.memory_analysis().temp_size_in_bytes < tower / 2


def test_layouts_hold_the_same_tensors_and_have_one_fingerprint():
    small, stacked = _clip("list").clip, _clip("scan").clip
    back = state_from_clip(stacked)
    for name, x in STATE.items():
        np.testing.assert_array_equal(back[name], x, err_msg=name)
    assert weights_fingerprint(nnx.state(stacked)) == weights_fingerprint(nnx.state(small))
    changed = state_from_clip(small)
    changed["transformer.resblocks.2.ln_1.bias"] = changed["transformer.resblocks.2.ln_1.bias"] + 1
    other = clip_from_state(CONFIG, changed, layers="scan")
    assert weights_fingerprint(nnx.state(other)) != weights_fingerprint(nnx.state(small))


def test_a_tower_of_one_layer_has_only_a_last_one():
    config = dataclasses.replace(CONFIG, vision_layers=1, text_layers=1)
    state = {
        name: x for name, x in STATE.items() if not any(f"resblocks.{i}." in name for i in (1, 2))
    }
    for layers in ("list", "scan"):
        clip = clip_from_state(config, state, layers=layers)
        both = Towers(clip, Compute()), Towers(clip, Compute(plain=True))
        for encode, given in ((_image, IMAGES), (_text, jnp.asarray(_tokens()))):
            found, expected = (_features(encode, who, given, _prompts((1, 7))) for who in both)
            _near([found], [expected])
