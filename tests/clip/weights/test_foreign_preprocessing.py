"""Files beside foreign weights on what images and texts go through: processors, tokenizers."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from support.helpers import openai_order, random_state
from support.weights import torch_files as tf
from support.weights.foreign_files import (
    CONFIG,
    HALF,
    HF_CONFIG,
    OPEN_CLIP,
    PREPROCESS,
    PROCESSOR,
    hugging_face,
    refused,
    write_json,
)
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.preprocessing import OPENAI, Preprocessing
from vtd_jax.clip.tokenizer import merges, vocabulary
from vtd_jax.clip.weights.checkpoints import read_checkpoint, save_clip


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    return random_state(CONFIG)


@pytest.fixture(params=["hugging_face", "open_clip"])
def folder(tmp_path, state, request) -> Path:
    """A folder of either format with a config and preprocessing of 0.5."""
    if request.param == "hugging_face":
        save_file(hugging_face(state), tmp_path / "model.safetensors")
        write_json(tmp_path / "config.json", HF_CONFIG)
        write_json(tmp_path / "preprocessor_config.json", PROCESSOR)
    else:
        save_file(state, tmp_path / "open_clip_model.safetensors")
        write_json(tmp_path / "open_clip_config.json", OPEN_CLIP | {"preprocess_cfg": PREPROCESS})
    return tmp_path


def test_preprocessing_is_read_kept_and_shown(folder, tmp_path):
    config, arrays = read_checkpoint(folder)
    assert config.preprocessing == Preprocessing((0.5,) * 3, (0.5,) * 3)
    assert str(config.preprocessing) == "mean 0.5 0.5 0.5, deviation 0.5 0.5 0.5"
    save_clip(tmp_path / "ours.safetensors", config, arrays)
    assert read_checkpoint(tmp_path / "ours.safetensors")[0] == config
    assert CLIPConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("given, found", [(2, "bilinear"), (3, "bicubic"), (None, "bicubic")])
def test_the_interpolation_is_read_and_kept(tmp_path, state, given, found):
    save_file(hugging_face(state), tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", HF_CONFIG)
    write_json(tmp_path / "preprocessor_config.json", PROCESSOR | {"resample": given})
    config, arrays = read_checkpoint(tmp_path)
    assert config.preprocessing.interpolation == found
    # files and fingerprints of earlier versions stay what they are
    assert "interpolation" not in repr(config)
    assert ("interpolation" in config.to_dict()["preprocessing"]) == (found == "bilinear")
    save_clip(tmp_path / "ours.safetensors", config, arrays)
    assert read_checkpoint(tmp_path / "ours.safetensors")[0] == config


@pytest.mark.parametrize("given", ["bilinear", "bicubic", "random", None])
def test_open_clips_interpolation_is_that_of_its_evaluation(tmp_path, state, given):
    save_file(state, tmp_path / "open_clip_model.safetensors")
    cfg = PREPROCESS | {"interpolation": given}
    write_json(tmp_path / "open_clip_config.json", OPEN_CLIP | {"preprocess_cfg": cfg})
    found = read_checkpoint(tmp_path / "open_clip_model.safetensors")[0].preprocessing
    assert found.interpolation == ("bilinear" if given == "bilinear" else "bicubic")


def test_squashed_images(tmp_path, state, capsys):
    save_file(hugging_face(state), tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", HF_CONFIG)
    assert read_checkpoint(tmp_path)[0].preprocessing == OPENAI
    assert "note: " in (message := capsys.readouterr().err)
    assert "nothing beside the weights says how images were normalised" in message
    # without a config too, and where the model is not OpenAI's after all
    read_checkpoint(tf.save(tmp_path / "o.pt", tf.state_dict(openai_order(state))))
    assert capsys.readouterr().err == ""
    read_checkpoint(tmp_path / "o.pt", activation="gelu")
    assert "o.pt: nothing beside the weights says" in capsys.readouterr().err
    # in transformers 5 the processor's file holds the image processor's
    square = PROCESSOR | {"size": {"height": 32, "width": 32}}
    write_json(
        tmp_path / "processor_config.json",
        {"image_processor": square, "processor_class": "CLIPProcessor"},
    )
    assert read_checkpoint(tmp_path)[0].preprocessing == Preprocessing(
        tuple(HALF), tuple(HALF), "squash"
    )
    save_file(state, tmp_path / "open_clip_model.safetensors")
    bare = read_checkpoint(
        tmp_path / "open_clip_model.safetensors", activation="gelu", head_width=64
    )
    assert bare[0].preprocessing.squash
    write_json(
        tmp_path / "open_clip_config.json",
        OPEN_CLIP | {"preprocess_cfg": {"resize_mode": "squash"}},
    )
    found = read_checkpoint(tmp_path / "open_clip_model.safetensors")[0].preprocessing
    assert found == Preprocessing(resize="squash")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("image_mean", [0.5, 0.5], "image_mean is .*expected three finite numbers"),
        ("image_std", [0.5, 0, 0.5], "image_std is .*expected numbers above 0"),
        ("size", 64, "size is 64, expected 32, the tower's image size"),
        ("size", {"longest_edge": 32}, "size is .*expected 32"),
        ("crop_size", 31, "crop_size is 31, expected 32"),
        ("do_center_crop", False, "do_center_crop is False, expected true"),
        ("do_normalize", False, "do_normalize is False, expected True"),
        ("rescale_factor", 1.0, "rescale_factor is 1.0, expected 1 / 255"),
        (
            "image_processor_type",
            "SiglipImageProcessor",
            "image_processor_type is 'SiglipImageProcessor'",
        ),
        ("resample", 0, "resample is 0, expected 3 or 2"),
        ("do_pad", True, "do_pad is True"),
    ],
)
def test_images_that_frames_cannot_follow(tmp_path, state, key, value, message):
    save_file(hugging_face(state), tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", HF_CONFIG)
    write_json(tmp_path / "preprocessor_config.json", PROCESSOR | {key: value})
    refused(tmp_path, rf"preprocessor_config\.json: {message}")


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("resize_mode", "longest", "resize_mode is 'longest', expected one of shortest, squash"),
        ("mean", "half", "mean is 'half', expected three finite numbers"),
        ("std", [1, 1, -1], "std is .*above 0"),
        ("mode", "L", "mode is 'L', expected 'RGB'"),
        ("size", [32, 64], "size is .*expected 32"),
        ("interpolation", "nearest", "interpolation is 'nearest'"),
    ],
)
def test_open_clip_images_that_frames_cannot_follow(tmp_path, state, key, value, message):
    save_file(state, tmp_path / "open_clip_model.safetensors")
    write_json(
        tmp_path / "open_clip_config.json",
        OPEN_CLIP | {"preprocess_cfg": PREPROCESS | {key: value}},
    )
    refused(tmp_path, rf"open_clip_config\.json: preprocess_cfg\.{message}")


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["hugging_face"], indirect=True)
def test_tokenizer_files(folder):
    words, pairs = dict(vocabulary()), [list(pair) for pair in merges()]
    more = words | {"<|extra|>": 49408, "<|more|>": 49409}
    write_json(folder / "vocab.json", more)
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, pairs)) + "\n")
    write_json(
        folder / "tokenizer.json", {"model": {"type": "BPE", "vocab": more, "merges": pairs}}
    )
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "CLIPTokenizer", "do_lower_case": True},
    )
    read_checkpoint(folder)
    write_json(folder / "vocab.json", words | {"cat</w>": 7})
    refused(
        folder,
        r"vocab\.json: token 'cat</w>' has id 7, expected 2368 of 49408",
    )
    (folder / "vocab.json").unlink()
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(map(" ".join, reversed(pairs))) + "\n"
    )
    refused(folder, r"merges\.txt: merge 1 is .*expected \('i', 'n'\)")
    (folder / "merges.txt").unlink()
    for model, message in (
        ({"type": "Unigram", "vocab": []}, "model.type is 'Unigram', expected 'BPE'"),
        (
            {"vocab": words, "merges": [" ".join(pair) for pair in pairs][:-1]},
            "merge 48894 is missing",
        ),
        ({"vocab": [], "merges": pairs}, "no vocabulary"),
    ):
        write_json(folder / "tokenizer.json", {"model": model})
        refused(folder, rf"tokenizer\.json: {message}")
    (folder / "tokenizer.json").unlink()
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizer"})
    refused(folder, "tokenizer_class is 'XLMRobertaTokenizer', expected CLIPTokenizer")
    # nor where flags stand for the config
    (folder / "config.json").unlink()
    refused(folder, "tokenizer_class is 'XLMRobertaTokenizer'", activation="gelu", head_width=32)
    (folder / "tokenizer_config.json").unlink()
    read_checkpoint(folder, activation="gelu", head_width=32)
    (folder / "spiece.model").touch()
    refused(
        folder,
        r"spiece\.model: is of another tokenizer than CLIP's",
        activation="gelu",
        head_width=32,
    )
