"""CLIP configurations: nine released models, JSON round trip, refusals."""

import dataclasses

import pytest

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.weights.tensor_names import tensor_shapes
from vtd_jax.errors import UserError

# parameters of OpenAI's released models (vision + text + logit scale), in units of one, buffers not
# counted
RELEASED = {
    "ViT-B/32": 151_277_313,
    "ViT-B/16": 149_620_737,
    "ViT-L/14": 427_616_513,
    "ViT-L/14@336px": 427_944_193,
    "RN50": 102_007_137,
    "RN101": 119_688_033,
    "RN50x4": 178_300_601,
    "RN50x16": 290_979_217,
    "RN50x64": 623_258_305,
}


@pytest.mark.parametrize("name", RELEASED)
def test_released_models_have_the_published_number_of_parameters(name):
    shapes = tensor_shapes(CLIPConfig.named(name))
    count = 0
    for tensor, shape in shapes.items():
        if "running_" not in tensor:
            size = 1
            for n in shape:
                size *= n
            count += size
    assert count == RELEASED[name]
    assert CLIPConfig.named(name).architecture == name


def test_dict_round_trip_keeps_everything():
    for name in (*RELEASED, "tiny"):
        config = CLIPConfig.named(name)
        assert CLIPConfig.from_dict(config.to_dict()) == config


def test_other_sizes_are_described_not_named():
    config = CLIPConfig(32, 32, 2, 64, 16, 64)
    assert config.architecture == "ViT/16 2 layers width 64 at 32"
    assert (
        CLIPConfig.from_dict(CLIPConfig.vit_b16().to_dict() | {"activation": "gelu"}).architecture
        == "ViT-B/16 (GELU)"
    )


@pytest.mark.parametrize(
    "change, message",
    [
        ({"activation": "relu"}, "activation 'relu'"),
        ({"vision_width": 100}, "vision_width 100 is not a multiple"),
        ({"text_width": 100}, "text_width 100 is not a multiple"),
        ({"image_resolution": 225}, "image_resolution 225"),
        ({"depth": 3}, "unknown fields ['depth']"),
    ],
)
def test_nonsense_is_refused_by_name(change, message):
    with pytest.raises(UserError) as caught:
        CLIPConfig.from_dict(CLIPConfig.vit_b16().to_dict() | change)
    assert message in str(caught.value)


def test_only_siglips_patches_may_leave_a_rest():
    siglip = CLIPConfig.named("SigLIP2-SO400M/14-384")
    assert (siglip.image_resolution, siglip.grid, siglip.filled) == (384, 27, 378)
    assert CLIPConfig.from_dict(siglip.to_dict()) == siglip
    assert CLIPConfig.vit_b16().filled == 224
    with pytest.raises(UserError, match="image_resolution 13 is not a multiple"):
        dataclasses.replace(siglip, image_resolution=13)
    with pytest.raises(UserError, match="image_resolution 225 is not a multiple"):
        dataclasses.replace(CLIPConfig.named("PE-Core-B/16-224"), image_resolution=225)


def test_missing_field_and_unknown_name():
    with pytest.raises(UserError, match="embed_dim"):
        CLIPConfig.from_dict({"image_resolution": 224})
    with pytest.raises(UserError, match="expected one of ViT-B/32"):
        CLIPConfig.named("ViT-B/17")
