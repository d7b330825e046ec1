"""SigLIP and PE as files: what is read, written, and refused because nothing says it."""

import dataclasses
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from support.helpers import assert_same_state, random_state
from support.weights.encoders import (
    CONFIGS,
    HALVES,
    PE,
    SIGLIP,
    SIGLIP_JSON,
    small_clip,
    tokenizer,
    write_siglip,
)
from support.weights.foreign_files import changed, write_json
from support.weights.gemma_files import tokenizer_json
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.weights.architecture import sizes_of
from vtd_jax.clip.weights.checkpoints import load_clip, read_checkpoint, read_config, save_clip
from vtd_jax.clip.weights.kinds.pe_core import pe_core_settings
from vtd_jax.clip.weights.tensor_names import tensor_shapes
from vtd_jax.errors import UserError

STATE = random_state(SIGLIP, 3)


@pytest.fixture
def folder(tmp_path):
    return write_siglip(tmp_path, STATE)


def test_a_folder_of_hugging_face(folder):
    config, state = read_checkpoint(folder)
    assert config == SIGLIP
    assert_same_state(state, STATE)
    clip = load_clip(folder)
    assert clip.tokenizer == tokenizer()
    assert float(clip.logit_bias[...]) == STATE["logit_bias"]


@pytest.mark.slow
def test_a_tokenizer_as_it_is_published(folder):
    padding = dict(
        strategy={"Fixed": 64}, direction="Right", pad_to_multiple_of=None, pad_id=0,
        pad_type_id=0, pad_token="<pad>",
    )  # fmt: skip
    truncation = dict(direction="Right", max_length=64, strategy="LongestFirst", stride=0)
    content = tokenizer_json(padding=padding, truncation=truncation)
    write_json(folder / "tokenizer.json", content)
    tokens = load_clip(folder).tokenizer.tokenize(["a cat"])
    np.testing.assert_array_equal(tokens, tokenizer().tokenize(["a cat"]))
    assert tokens.shape == (1, 64)
    assert tokens[0, -1] == content["model"]["vocab"]["<pad>"]
    # a folder that transformers 5 saved again says nothing of the side
    changed(folder / "tokenizer_config.json", "padding_side", None)
    assert load_clip(folder).config == SIGLIP


@pytest.mark.slow
def test_patches_need_not_fill_the_images(folder, tmp_path):
    changed(folder / "config.json", "vision_config.image_size", 54)
    changed(folder / "preprocessor_config.json", "size", {"height": 54, "width": 54})
    clip = load_clip(folder)
    assert (clip.config.image_resolution, clip.config.grid) == (54, 3)
    assert clip.config == dataclasses.replace(SIGLIP, image_resolution=54)
    save_clip(tmp_path / "own.safetensors", clip.config, STATE, tokenizer=clip.tokenizer)
    again = load_clip(tmp_path / "own.safetensors")
    assert again.config == clip.config
    # the rest on the right and at the bottom is not seen, and all else is
    images = np.random.default_rng(0).standard_normal((1, 54, 54, 3), dtype=np.float32)
    seen = small_clip(SIGLIP).encode_images(jnp.asarray(images[:, :48, :48]))
    np.testing.assert_array_equal(again.encode_images(jnp.asarray(images)), seen)
    with pytest.raises(UserError, match="images are 48×48, this ViT takes 54×54"):
        again.encode_images(jnp.asarray(images[:, :48, :48]))
    # a whole patch more is another model
    for size in (47, 64, 54.0, [54, 48]):
        changed(folder / "config.json", "vision_config.image_size", size)
        with pytest.raises(UserError, match=r"image_size is .*, expected 48, or less than a patch"):
            load_clip(folder)


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_saved_is_read_again(kind, tmp_path):
    clip = small_clip(CONFIGS[kind])
    state = random_state(clip.config, 3)
    path = tmp_path / "clip.safetensors"
    save_clip(path, clip.config, state, tokenizer=clip.tokenizer)
    again = load_clip(path)
    assert (again.config, again.tokenizer) == (clip.config, clip.tokenizer)
    assert_same_state(read_checkpoint(path)[1], state)
    names = ["clip.safetensors", *(["clip.tokenizer.json"] if clip.tokenizer else [])]
    assert sorted(file.name for file in tmp_path.iterdir()) == names


def test_a_tokenizer_belongs_to_its_file(tmp_path):
    path = tmp_path / "clip.safetensors"
    with pytest.raises(UserError, match="is saved with its tokenizer, which is not given"):
        save_clip(path, SIGLIP, STATE)
    with pytest.raises(UserError, match="is saved with no tokenizer"):
        save_clip(path, PE, random_state(PE), tokenizer=tokenizer())
    assert not list(tmp_path.iterdir())
    save_clip(path, SIGLIP, STATE, tokenizer=tokenizer())
    (tmp_path / "clip.tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"put its tokenizer\.json beside the weights"):
        load_clip(path)
    small = dataclasses.replace(SIGLIP, vocab_size=200)
    save_clip(path, small, random_state(small), tokenizer=tokenizer())
    with pytest.raises(
        UserError, match=r"clip\.tokenizer\.json: .* tokens, the weights .* have 200"
    ):
        load_clip(path)


@pytest.mark.parametrize(
    "file, where, value, message",
    [
        ("config.json", "made_up", 1, "made_up is 1: a setting that is not known"),
        ("config.json", "vision_config.made_up", 1, "vision_config.made_up is 1"),
        ("config.json", "vision_config.hidden_size", 64, "hidden_size is 64, expected 128"),
        ("config.json", "vision_config.layer_norm_eps", 1e-5, "layer_norm_eps is 1e-05"),
        ("config.json", "vision_config.vision_use_head", False, "vision_use_head is False"),
        ("config.json", "vision_config.num_attention_heads", 7, "a divisor of the width 128"),
        ("config.json", "text_config.projection_size", 64, "projection_size is 64, expected 128"),
        ("config.json", "text_config.hidden_act", "gelu", "expected the same in both towers"),
        ("config.json", "text_config.hidden_act", "relu", "hidden_act is 'relu', expected one of"),
        ("config.json", "model_type", "siglip2", "model_type is 'siglip2', expected 'clip' or"),
        ("config.json", "model_type", "clip", "but the weights beside it have others"),
        ("tokenizer_config.json", "add_bos_token", True, "add_bos_token is True, expected False"),
        ("tokenizer_config.json", "padding_side", "left", "padding_side is 'left', expected"),
        ("tokenizer_config.json", "tokenizer_class", "T5Tokenizer", "is 'T5Tokenizer', expected"),
        ("preprocessor_config.json", "do_center_crop", 7, "do_center_crop is 7"),
        ("preprocessor_config.json", "image_processor_type", "CLIPImageProcessor", "expected 'Sig"),
    ],
)
def test_settings_that_are_not_theirs(folder, file, where, value, message):
    changed(folder / file, where, value)
    if where == "do_center_crop":
        changed(folder / file, "size", {"shortest_edge": 48})
    with pytest.raises(UserError, match=message):
        read_checkpoint(folder)


def test_images_without_a_file_are_as_those_of_all_siglips(folder, capsys):
    (folder / "preprocessor_config.json").unlink()
    assert read_config(folder).preprocessing == HALVES
    assert "so what all SigLIP 2 and PE-Core have is taken (mean 0.5" in capsys.readouterr().err


def test_nothing_is_guessed(folder):
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"not OpenAI's \(class_token, patch_bias.*config.json"):
        read_checkpoint(folder, activation="gelu_tanh", head_width=32)
    other = folder / "other"
    other.mkdir()
    save_file(random_state(PE), other / "pe.safetensors")
    with pytest.raises(UserError, match=r"\(pooling, pooling_mlp_width\), and nothing beside"):
        read_checkpoint(other / "pe.safetensors", activation="gelu")


def test_a_config_of_siglip_beside_a_clip(tmp_path):
    plain = CLIPConfig(128, 48, 3, 128, 16, 64, text_layers=3, context_length=24, vocab_size=400)
    save_file(random_state(plain), tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", SIGLIP_JSON)
    # its names are OpenAI's, so the file of Hugging Face says nothing of them
    with pytest.raises(UserError, match="the activation"):
        read_checkpoint(tmp_path)


def test_pe_core_is_known_by_its_sizes_and_names():
    config = CLIPConfig.named("PE-Core-B/16-224")
    shapes = tensor_shapes(config)
    sizes = sizes_of(shapes, "pe.pt")
    found = pe_core_settings(shapes, sizes)
    assert found is not None
    assert found["design"] == config.design
    assert found["activation"] == "gelu"
    assert pe_core_settings(shapes, sizes | {"vision_layers": 11}) is None
    assert pe_core_settings({}, sizes) is None
    # the giant has no class token, and an MLP that is no multiple of its width
    giant = CLIPConfig.named("PE-Core-G/14-448")
    assert pe_core_settings(tensor_shapes(giant), sizes_of(tensor_shapes(giant), "pe.pt"))


def test_the_whole_folder_is_needed(folder, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("model.safetensors", "config.json", "preprocessor_config.json"):
        shutil.copy(folder / name, alone)
    with pytest.raises(UserError, match="this CLIP's tokenizer comes with it: put its tokenizer"):
        load_clip(alone)
    write_json(alone / "tokenizer.json", tokenizer_json(model=dict(type="WordPiece")))
    with pytest.raises(UserError, match=r"model\.type is 'WordPiece'"):
        load_clip(alone)


def test_two_tensors_of_one_name_are_refused(folder):
    state = dict(load_file(folder / "model.safetensors"))
    state["text_projection.weight"] = np.zeros_like(state["text_model.head.weight"])
    save_file(state, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"holds text_projection \(in OpenAI's naming\) twice"):
        read_checkpoint(folder)


@pytest.mark.parametrize("name, value, message", [
    ("logit_scale", -200, "logit_scale is -200, expected the logarithm"),
    ("logit_bias", 1e30, r"logit_bias is 1e\+30, expected within ±1000"),
])  # fmt: skip
def test_numbers_that_no_siglip_has(folder, name, value, message):
    state = dict(load_file(folder / "model.safetensors"))
    state[name] = np.full_like(state[name], value)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(UserError, match=message):
        read_checkpoint(folder)
