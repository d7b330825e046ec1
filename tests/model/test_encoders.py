"""The method on CLIPs of SigLIP's and PE's design: tokens, prompts, training, prediction."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from support.weights.encoders import CONFIGS, PE, SIGLIP, small_clip
from vtd_jax.clip.compute import Compute
from vtd_jax.clip.model import CLIP
from vtd_jax.errors import UserError
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.vtd_clip import VTDCLIP, learnable

NAMES = ["brush_hair", "cat", "hugging a cat"]
LEARNT = ModelConfig(text_prompts=3, text_depth=2, visual_prompts=2, visual_depth=3, fusion_heads=4)
BARE = ModelConfig(
    text_prompts=0, text_depth=0, visual_prompts=0, visual_depth=0, fusion=False,
    normalization="clip",
)  # fmt: skip
FRAMES = np.random.default_rng(0).integers(0, 256, (2, 4, 48, 48, 3), np.uint8)


def _model(kind: str, config: ModelConfig, **compute) -> VTDCLIP:
    clip = small_clip(CONFIGS[kind])
    return VTDCLIP(clip, config, rngs=nnx.Rngs(0), compute=Compute(**compute))


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
def test_tokens_have_the_tower_s_positions(kind):
    for config in (LEARNT, BARE, dataclasses.replace(BARE, templates=("a photo of a {}.", "{}"))):
        model = _model(kind, config)
        tokens = model.class_tokens(NAMES)
        longest = model.clip.config.context_length
        # of a causal tower what is behind the longest text is dropped
        assert tokens.shape[-1] == longest if kind == "siglip" else tokens.shape[-1] < longest
        # traced: it fits the tower
        codes = jax.eval_shape(model.encode_classes, tokens)
        assert codes.shape == (3, model.clip.config.embed_dim)
    with pytest.raises(UserError, match="text too long for"):
        model.class_tokens(["x y " * longest])


def test_words_that_prompts_start_as():
    clip = small_clip(SIGLIP)
    ids = clip.tokenizer.encode(["a photo of a"])[0]
    prompts = VTDCLIP(clip, LEARNT, rngs=nnx.Rngs(0)).text_prompts[...]
    np.testing.assert_array_equal(prompts[0], clip.text.token_embedding[...][jnp.array(ids[:3])])


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
def test_logits_and_gradients_are_those_of_the_plain_path(kind):
    def computed(**compute):
        model = _model(kind, LEARNT, **compute)
        tokens = jnp.asarray(model.class_tokens(NAMES))
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)

        def loss(params):
            model = nnx.merge(graphdef, params, rest)
            logits = model(FRAMES, model.encode_classes(tokens)).logits
            return -jax.nn.log_softmax(logits / 50)[:, 0].sum(), logits

        gradients, logits = jax.jit(jax.grad(loss, has_aux=True))(params)
        return logits, gradients

    (ours, gradients), (plain, expected) = computed(), computed(plain=True)
    np.testing.assert_allclose(ours, plain, rtol=2e-5, atol=2e-4)
    prompts = [gradients[name][...] for name in ("text_prompts", "visual_prompts")]
    for found, right in zip(
        prompts, [expected[name][...] for name in ("text_prompts", "visual_prompts")]
    ):
        # every layer's prompts learn
        assert (jnp.linalg.norm(found, axis=(1, 2)) > 0).all()
        assert jnp.linalg.norm(found - right) < 1e-4 * jnp.linalg.norm(right)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
def test_stand_ins_never_matter(kind):
    model = _model(kind, LEARNT)
    tokens = model.class_tokens(NAMES)
    start = model.clip.config.design.starts
    changed = tokens.copy()
    changed[:, start : start + LEARNT.text_prompts] = 7
    encode = jax.jit(model.encode_classes)
    np.testing.assert_array_equal(encode(tokens), encode(changed))


@pytest.mark.slow
def test_what_cannot_be_is_refused():
    alone = VTDCLIP(CLIP(SIGLIP), BARE, rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match=r"made without its tokenizer, .*: use load_clip"):
        alone.class_tokens(NAMES)
    long = dataclasses.replace(BARE, text_prompts=23, text_depth=1)
    with pytest.raises(UserError, match=r"model\.text_prompts=23: leave no room for a name in the"):
        VTDCLIP(small_clip(SIGLIP), long, rngs=nnx.Rngs(0)).class_tokens(NAMES)


def test_settings_that_no_weight_shows():
    assert "design" not in _model("pe", BARE).clip_settings
    assert "rotary True" in _model("pe", BARE).clip_settings
    settings = _model("siglip", BARE).clip_settings
    assert "tokenizer gemma, sigmoid True" in settings
    assert settings.endswith(repr(small_clip(SIGLIP).tokenizer))


def test_the_logit_bias_is_kept_and_never_learnt():
    model = _model("siglip", LEARNT)
    assert "logit_bias" not in learnable(model)
    assert model.clip.logit_bias is not None
    assert VTDCLIP(small_clip(PE), BARE, rngs=nnx.Rngs(0)).clip.logit_bias is None
