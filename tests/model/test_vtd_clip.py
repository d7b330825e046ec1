"""The whole model on a small CLIP: what is learnable, what it refuses, how the parts fit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from support.exact import ROUNDING
from support.helpers import SMALL, random_state
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.layers import Frozen
from vtd_jax.clip.tokenizer import tokenize
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.errors import UserError
from vtd_jax.model.codebook import class_tokens, template_tokens, trim
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.normalization import as_images
from vtd_jax.model.saved.release_names import from_release, to_release
from vtd_jax.model.vtd_clip import VTDCLIP, learnable, learnable_count

CLIP = clip_from_state(SMALL, random_state(SMALL, 5))
SETTINGS = ModelConfig(
    text_prompts=4, text_depth=2, visual_prompts=3, visual_depth=2, fusion_heads=4
)
NAMES = ["arm wrestling", "Playing_Guitar", "pour"]


def _model(**changes):
    return VTDCLIP(CLIP, dataclasses.replace(SETTINGS, **changes), rngs=nnx.Rngs(0))


def _frames(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (2, 5, 32, 32, 3), dtype=np.uint8)


@pytest.mark.slow
def test_shapes_and_learnables():
    model = _model()
    codebook = model.encode_classes(model.class_tokens(NAMES))
    out = model(_frames(), codebook)
    assert codebook.shape == (3, 32)
    assert out.logits.shape == (2, 3)
    assert out.confidence.shape == (2, 5, 3)
    assert out.assignment.shape == (2, 5)
    assert out.video_token.shape == (2, 1, 32)
    assert out.frame_features.shape == (2, 5, 32)
    named = to_release(learnable(model))
    assert named["prompt_learner.ctx"].shape == (4, 64)
    assert named["image_encoder.transformer.resblocks.1.VPT_shallow"].shape == (3, 64)
    fusion = 4 * (32 * 32 + 32) + (32 * 128 + 128) + (128 * 32 + 32)
    assert learnable_count(model) == 2 * 4 * 64 + 2 * 3 * 64 + fusion + 1


def test_everything_else_is_frozen():
    model = _model()
    kinds = {type(v) for _, v in nnx.to_flat_state(nnx.state(model, nnx.Not(nnx.Param)))}
    assert kinds == {Frozen}


def test_context_of_four_starts_as_words_and_longer_ones_at_random():
    ids = class_tokens(["x"], 4)[0, 1:5]
    words = _model().text_prompts[...][0]
    np.testing.assert_array_equal(words, CLIP.text.token_embedding[...][ids])
    longer = _model(text_prompts=16).text_prompts[...]
    assert 0.015 < float(longer.std()) < 0.025


@pytest.mark.slow
def test_short_contexts_replace_the_first_words_and_keep_the_rest():
    """As released: with two tokens, "of a" stays as words between the context and the name."""
    for length in (1, 2, 4):
        assert class_tokens(["pour"], length)[0, 1:5].tolist() == [320, 1125, 539, 320]
    model = _model(text_prompts=2)
    tokens = model.class_tokens(NAMES)
    learned, kept = tokens.copy(), tokens.copy()
    learned[:, 1:3] = 1234
    kept[:, 3] = 1234
    np.testing.assert_array_equal(model.encode_classes(tokens), model.encode_classes(learned))
    assert not np.array_equal(model.encode_classes(tokens), model.encode_classes(kept))


@pytest.mark.slow
def test_stand_in_words_never_matter():
    """With prompts over all stand-ins, the codebook depends on the prompts and the name only."""
    model = _model(text_prompts=6)
    tokens = model.class_tokens(NAMES)
    other = tokens.copy()
    other[:, 1:7] = 1234
    np.testing.assert_array_equal(model.encode_classes(tokens), model.encode_classes(other))


def test_zero_shot_names_are_bare_and_keep_underscores():
    tokens = class_tokens(["Playing_Guitar"], 0)
    spaced = class_tokens(["Playing Guitar"], 0)
    assert tokens[0].tolist() != spaced[0].tolist()
    assert (
        class_tokens(["Playing_Guitar"], 4)[0].tolist()
        == class_tokens(["Playing Guitar"], 4)[0].tolist()
    )


@pytest.mark.slow
def test_uint8_is_normalised_and_floats_are_not():
    model = _model(normalization="clip")
    frames = _frames()
    mean, deviation = (
        np.float32([122.7709, 116.7460, 104.0937]),
        np.float32([68.5005, 66.6322, 70.3232]),
    )
    by_hand = ((frames - mean) / deviation).astype(np.float32)
    # a difference and a quotient, or the product with a rounded reciprocal: three roundings
    images = jax.jit(as_images, static_argnums=1)(
        jnp.asarray(frames.reshape(-1, 32, 32, 3)), "clip"
    )
    np.testing.assert_allclose(images, by_hand.reshape(-1, 32, 32, 3), rtol=4 * ROUNDING)
    features = model.encode_frames(by_hand)
    np.testing.assert_allclose(
        model.encode_frames(frames), features, rtol=0, atol=1e-5 * float(jnp.abs(features).max())
    )


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["confidence", "mean", "softmax_mean"])
def test_poolings_agree_when_all_frames_are_the_same(pooling):
    frames = np.repeat(_frames()[:, :1], 5, axis=1)
    models = {p: _model(pooling=p) for p in (pooling, "mean")}
    logits = [m(frames, m.encode_classes(m.class_tokens(NAMES))).logits for m in models.values()]
    np.testing.assert_allclose(jax.nn.softmax(logits[0]), jax.nn.softmax(logits[-1]), atol=2e-5)


@pytest.mark.slow
def test_top_n_tokens_change_the_fused_frames_but_one_class_does_not():
    one, two = _model(top_n=1), _model(top_n=2)
    codebook = one.encode_classes(one.class_tokens(NAMES))
    a, b = one(_frames(), codebook), two(_frames(), codebook)
    assert b.video_token.shape == (2, 2, 32)
    assert float(jnp.abs(a.logits - b.logits).max()) > 1e-4
    assert two(_frames(), codebook[:1]).video_token.shape == (2, 1, 32)


def test_release_names_round_trip_and_refuse_others():
    state = learnable(_model())
    named = {name: np.asarray(x + 1) for name, x in to_release(state).items()}
    again = to_release(from_release(state, named))
    for name, x in named.items():
        np.testing.assert_array_equal(again[name], x)
    named.pop("lrf.fc1.bias")
    named["extra"] = np.zeros(1)
    with pytest.raises(UserError, match=r"missing: \['lrf.fc1.bias'\]; surplus: \['extra'\]"):
        from_release(state, named, "file.pth")


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"assignment": "manhattan"},
            "model.assignment: 'manhattan', expected one of euclidean, cosine",
        ),
        ({"pooling": "max"}, "model.pooling"),
        ({"fusion_init": "ones"}, "model.fusion_init"),
        ({"normalization": "none"}, "model.normalization"),
        ({"text_depth": 3}, "model.text_depth=3: this CLIP has 2 text layers"),
        ({"visual_depth": 3}, "model.visual_depth=3: this CLIP has 2 visual layers"),
        ({"visual_depth": 0}, "set both, or both to 0"),
        ({"fusion_heads": 5}, "model.fusion_heads=5"),
        ({"temperature": 0.0}, "model.temperature"),
        ({"dropout": 1.0}, "model.dropout"),
        ({"text_prompts": -1}, "model.text_prompts"),
        ({"top_n": 0}, "model.top_n"),
        ({"confidence": "max"}, "model.confidence: 'max', expected one of softmax, uniform"),
        (
            {"templates": ("a {}",)},
            "with model.text_prompts=4: learnt tokens take the place of templates",
        ),
        (
            {"templates": ("a {}", "a {} {}"), "text_prompts": 0},
            "model.templates: 'a {} {}', expected a text with {} once",
        ),
        (
            {"templates": ("a {}", "none"), "text_prompts": 0},
            "model.templates: 'none', expected a text with {} once",
        ),
    ],
)
def test_bad_settings_name_the_field(change, message):
    with pytest.raises(UserError) as caught:
        _model(**change)
    assert message in str(caught.value)


@pytest.mark.slow
def test_a_resnet_takes_no_visual_prompts():
    config = CLIPConfig(32, 32, (1, 1, 1, 1), 32, None, 64, text_layers=2)
    clip = clip_from_state(config, random_state(config))
    with pytest.raises(UserError, match=r"takes no visual prompts; set `model\.visual_prompts=0"):
        VTDCLIP(clip, SETTINGS, rngs=nnx.Rngs(0))
    model = VTDCLIP(
        clip, dataclasses.replace(SETTINGS, visual_prompts=0, visual_depth=0), rngs=nnx.Rngs(0)
    )
    assert model(_frames(), model.encode_classes(model.class_tokens(NAMES))).logits.shape == (2, 3)


@pytest.mark.slow
def test_uniform_confidence_of_the_whole_model():
    softmax, uniform = _model(fusion=False), _model(fusion=False, confidence="uniform")
    codebook = uniform.encode_classes(uniform.class_tokens(NAMES))
    out = uniform(_frames(), codebook)
    np.testing.assert_array_equal(out.confidence, np.full((2, 5, 3), np.float32(1 / 5)))
    np.testing.assert_allclose(out.votes.sum(-1), 1, rtol=1e-6)
    x, c = (np.asarray(a, np.float64) for a in (out.frame_features, codebook))
    cosines = (
        np.einsum("btd,kd->btk", x, c)
        / np.linalg.norm(x, axis=-1)[..., None]
        / np.linalg.norm(c, axis=-1)
    )
    # logits are up to exp(logit_scale) = 100
    np.testing.assert_allclose(out.logits, 100 * cosines.mean(1), rtol=0, atol=1e-4)
    assert float(jnp.abs(out.logits - softmax(_frames(), codebook).logits).max()) > 0.1


TEMPLATES = ("a video of {}", "{}", "is this, perhaps, a video of somebody who is {}?")


@pytest.mark.slow
def test_the_code_of_templates_by_hand():
    model = _model(text_prompts=0, text_depth=0, templates=TEMPLATES)
    tokens = model.class_tokens(NAMES)
    assert tokens.shape[:2] == (3, 3)
    assert tokens.dtype == np.int32
    texts = [[template.replace("{}", name) for template in TEMPLATES] for name in NAMES]
    np.testing.assert_array_equal(
        tokens, trim(np.stack([tokenize(of_class) for of_class in texts]))
    )
    raw = np.stack(
        [
            np.asarray(CLIP.encode_text(jnp.asarray(tokenize(of_class))), np.float64)
            for of_class in texts
        ]
    )
    lengths = np.linalg.norm(raw, axis=-1)
    mean = (raw / lengths[..., None]).mean(1)
    expected = mean / np.linalg.norm(mean, axis=-1, keepdims=True) * lengths.mean(1)[:, None]
    found = model.encode_classes(tokens)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), lengths.mean(1), rtol=1e-5)
    assert model(_frames(), found).logits.shape == (2, 3)


@pytest.mark.slow
def test_one_empty_template_gives_the_bare_names():
    bare = _model(text_prompts=0, text_depth=0)
    same = _model(text_prompts=0, text_depth=0, templates=("{}",))
    tokens = same.class_tokens(NAMES)
    np.testing.assert_array_equal(tokens[:, 0], bare.class_tokens(NAMES))
    expected = bare.encode_classes(bare.class_tokens(NAMES))
    # each is within 2e-6 of float64 (clip/test_towers): two programs of one tower, and a code's
    # length besides
    np.testing.assert_allclose(
        same.encode_classes(tokens), expected, rtol=0, atol=4e-6 * float(jnp.abs(expected).max())
    )


def test_a_name_with_braces_goes_into_a_template_as_it_is():
    tokens = template_tokens(["a_{}"], ["see {}."])
    np.testing.assert_array_equal(tokens[0], tokenize(["see a_{}."]))


@pytest.mark.slow
def test_memory_of_templates_is_that_of_one():
    """Template by template: the temporary memory of 24 templates is near that of 2, not 12 times
    it.
    """
    sizes = []
    for count in (2, 24):
        model = _model(text_prompts=0, text_depth=0, templates=TEMPLATES[:1] * count)
        graphdef, state = nnx.split(model)
        tokens = model.class_tokens([f"name {place}" for place in range(64)])
        encode = jax.jit(
            lambda tokens, state, graphdef=graphdef: nnx.merge(graphdef, state).encode_classes(
                tokens
            )
        )
        sizes.append(encode.lower(tokens, state).compile().memory_analysis().temp_size_in_bytes)
    assert sizes[1] < 2 * sizes[0]
