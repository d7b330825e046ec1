"""Towers of SigLIP's and PE's design: what they leave out changes nothing, and prompts are where
they should be. tests/parity compares them with PyTorch's.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.weights.encoders import CONFIGS, PE, SIGLIP, small_clip
from vtd_jax.clip.compute import Compute
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.kept import bytes_kept_of_frames, bytes_kept_of_texts
from vtd_jax.clip.towers.design import Design
from vtd_jax.errors import UserError

IMAGES = jnp.asarray(np.random.default_rng(2).standard_normal((2, 48, 48, 3), dtype=np.float32))
PLAIN = Compute(plain=True)
# float32 rounding, of the length of what is compared
ROUNDING = 2e-6


def _prompts(shape, width):
    values = np.random.default_rng(shape).standard_normal((*shape, width), dtype=np.float32)
    return jnp.asarray(values)


def _tokens(config: CLIPConfig, prompts: int):
    if config.design.causal:
        tokens, rng = np.zeros((3, prompts + 8), np.int32), np.random.default_rng(0)
        for row, words in zip(tokens, (1, 5, 3)):
            ids = [49406, *[5] * prompts, *rng.integers(1, 49000, words), 49407]
            row[: len(ids)] = ids
        return jnp.asarray(tokens)
    return jnp.asarray(
        np.random.default_rng(0).integers(0, config.vocab_size, (3, config.context_length))
    )


def _both(clip, tower, given, prompts, compute):
    """Features, and the gradient of a scalar of them for the prompts."""
    encode = clip.encode_images if tower == "vision" else clip.encode_text
    weights = jnp.asarray(np.random.default_rng(5).standard_normal(clip.config.embed_dim))

    def scalar(prompts):
        features = encode(given, prompts, compute)
        return (features @ weights).sum(), features

    gradient, features = jax.jit(jax.grad(scalar, has_aux=True))(prompts)
    return features, gradient


def _near(found, expected, bound=ROUNDING):
    for ours, plain in zip(found, expected, strict=True):
        assert np.linalg.norm(plain) > 0
        assert np.linalg.norm(ours - plain) <= bound * np.linalg.norm(plain)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 2), (2, 5), (3, 2)])
@pytest.mark.parametrize("tower", ["vision", "text"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_features_and_gradients_are_those_of_the_plain_path(kind, tower, shape):
    config = CONFIGS[kind]
    given = IMAGES if tower == "vision" else _tokens(config, shape[1])
    prompts = _prompts(shape, getattr(config, f"{tower}_width"))
    expected = _both(small_clip(config), tower, given, prompts, PLAIN)
    ways = [("list", Compute()), ("scan", Compute()), ("scan", Compute(remat="dots"))]
    # prompts as tokens of each row, on a GPU; and beside them, by a TPU's kernels
    ways += [("list", Compute(attention="cudnn", platform="gpu", interpret=True))]
    if tower == "vision":
        ways += [("list", Compute(attention="pallas", platform="tpu", interpret=True))]
    for layers, compute in ways:
        found = _both(small_clip(config, layers=layers), tower, given, prompts, compute)
        _near(found, expected, 1e-5 if compute.interpret else ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
def test_without_prompts(kind):
    clip = small_clip(CONFIGS[kind])
    tokens = _tokens(clip.config, 0)
    for encode, given in ((clip.encode_images, IMAGES), (clip.encode_text, tokens)):
        # compiled: op by op, every shape would be a program
        ours, plain = (
            jax.jit(lambda given, compute=compute, encode=encode: encode(given, compute=compute))
            for compute in (Compute(), PLAIN)
        )
        _near([ours(given)], [plain(given)])


@pytest.mark.slow
def test_the_parts_of_a_design_all_matter():
    for config, changes in (
        (PE, {"rotary": False}),
        (PE, {"pooling_heads": 4}),
        (SIGLIP, {"norm_eps": 1e-2}),
        (SIGLIP, {"pooling_heads": 8}),
    ):
        clip = small_clip(config)
        other = dataclasses.replace(config, design=dataclasses.replace(config.design, **changes))
        features = clip.encode_images(IMAGES), small_clip(other).encode_images(IMAGES)
        assert np.linalg.norm(features[0] - features[1]) > 1e-4 * np.linalg.norm(features[0])


@pytest.mark.slow
def test_padding_is_seen_and_so_must_be_there():
    clip, tokens = small_clip(SIGLIP), _tokens(SIGLIP, 0)
    changed = tokens.at[:, -3].set(7)
    assert float(abs(clip.encode_text(changed) - clip.encode_text(tokens)).max()) > 1e-4
    with pytest.raises(UserError, match="texts have 9 tokens, this text tower takes all its 24"):
        clip.encode_text(tokens[:, :9])


def test_memory_is_estimated():
    for config in CONFIGS.values():
        assert bytes_kept_of_frames(config, "float32", 8, 4, "none") > 0
        assert bytes_kept_of_texts(config, "bfloat16", 8, 4, "dots") > 0
    # every position of a tower that is not causal is computed
    one, two = (bytes_kept_of_texts(SIGLIP, "float32", 1, prompts, "block") for prompts in (1, 12))
    assert one == 23 * 3 * 64 * 4
    assert two == 12 * 3 * 64 * 4


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(pooling="mean"), "design.pooling 'mean', expected one of class, attention"),
        (dict(class_token=False), "there is no class token"),
        (dict(pooling="attention"), "design.pooling_heads 0, expected a whole number from 1"),
        (dict(pooling_heads=8), "design.pooling_heads 8, expected a whole number from 0 to 0"),
        (dict(rotary=True), "design.rotary True, expected false where the class token"),
        (dict(tokenizer="gemma"), "design.causal True, expected false with the tokenizer gemma"),
        (dict(norm_eps=0.0), "design.norm_eps 0.0, expected a number from"),
        (dict(norm_eps="x"), "design.norm_eps 'x'"),
        (dict(sigmoid=1), "design.sigmoid 1, expected true or false"),
        (dict(made_up=1), "design is .*made_up.*, expected causal, class_token"),
        (7, "design is 7, expected"),
    ],
)
def test_designs_that_no_tower_has(fields, message):
    with pytest.raises(UserError, match=message):
        Design.from_dict(fields)


@pytest.mark.parametrize(
    "base, changes, message",
    [
        (PE, dict(vision_head_width=2), "is not a multiple of 4, as rotary"),
        (SIGLIP, dict(embed_dim=64), "is not embed_dim 64, and there is no image projection"),
        (PE, dict(vision_width=100, vision_head_width=20), "pooling_heads 8"),
        (CLIPConfig.rn50(), dict(design=PE.design), "a ResNet with rotary True"),
    ],
)
def test_designs_that_do_not_fit_the_sizes(base, changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(base, **changes)


def test_a_config_as_json():
    for config in (*CONFIGS.values(), CLIPConfig.named("SigLIP2-B/16-224")):
        assert CLIPConfig.from_dict(config.to_dict()) == config
    # files of OpenAI's design are as they were
    assert "design" not in CLIPConfig.vit_b16().to_dict()
