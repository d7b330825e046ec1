"""Configs beside foreign weights: every key is honoured, checked, irrelevant or refused; nothing is
guessed.
"""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from support import torch_files as tf
from support.foreign_files import CONFIG, HF_CONFIG, OPEN_CLIP, hugging_face, write_json
from support.helpers import openai_order, random_state
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.preprocessing import OPENAI, Preprocessing
from vtd_jax.clip.tokenizer import merges, vocabulary
from vtd_jax.clip.weights.checkpoints import read_checkpoint, save_clip
from vtd_jax.errors import UserError

HALF = [0.5, 0.5, 0.5]
PROCESSOR = {
    "crop_size": {"height": 32, "width": 32},
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "image_mean": HALF,
    "image_std": HALF,
    "image_processor_type": "CLIPImageProcessor",
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 32},
}
PREPROCESS = {
    "size": [32, 32],
    "mode": "RGB",
    "mean": HALF,
    "std": HALF,
    "interpolation": "bicubic",
    "fill_color": 0,
}


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


def changed(file: Path, where: str, value: Any) -> None:
    """Sets the key at a dotted place of a JSON file."""
    content = copy.deepcopy(json.loads(file.read_text()))
    *groups, last = where.split(".")
    at = content
    for key in groups:
        at = at.setdefault(key, {})
    at[last] = value
    write_json(file, content)


def refused(path: Path, told: str, **asked) -> str:
    with pytest.raises(UserError, match=told) as error:
        read_checkpoint(path, **asked)
    return str(error.value)


@pytest.mark.parametrize(
    "file, where",
    [("config.json", f"{at}made_up") for at in ("", "text_config.", "vision_config.")]
    + [("preprocessor_config.json", "made_up")]
    + [
        ("open_clip_config.json", f"{at}made_up")
        for at in (
            "",
            "model_cfg.",
            "preprocess_cfg.",
            "model_cfg.vision_cfg.",
            "model_cfg.text_cfg.",
        )
        + (
            "model_cfg.text_cfg.act_kwargs.",
            "model_cfg.vision_cfg.norm_kwargs.",
            "model_cfg.text_cfg.tokenizer_kwargs.",
        )
    ],
)
def test_a_key_that_is_not_known_is_refused_wherever_it_is(tmp_path, state, file, where):
    kind = "open_clip_model" if "open" in file else "model"
    save_file(state if "open" in file else hugging_face(state), tmp_path / f"{kind}.safetensors")
    write_json(tmp_path / "config.json", HF_CONFIG)
    write_json(tmp_path / "preprocessor_config.json", PROCESSOR)
    write_json(tmp_path / "open_clip_config.json", OPEN_CLIP | {"preprocess_cfg": PREPROCESS})
    read_checkpoint(tmp_path / f"{kind}.safetensors")
    changed(tmp_path / file, where, 7)
    refused(
        tmp_path / f"{kind}.safetensors", rf"{file}: {where} is 7: a setting that is not known here"
    )


@pytest.mark.parametrize(
    "where, value, told",
    [
        (
            "vision_cfg.act_kwargs",
            {"approximate": "tanh"},
            "act_kwargs make .*expected the same activation in both",
        ),
        (
            "vision_cfg.act_kwargs",
            {"approximate": "sometimes"},
            "act_kwargs.approximate is 'sometimes', expected none",
        ),
        (
            "vision_cfg.global_average_pool",
            True,
            "vision_cfg.global_average_pool is True: a variant",
        ),
        ("vision_cfg.attentional_pool", True, "attentional_pool is True"),
        ("vision_cfg.no_ln_pre", True, "no_ln_pre is True"),
        ("vision_cfg.pool_type", "avg", "pool_type is 'avg', expected 'tok'"),
        ("vision_cfg.ls_init_value", 1e-5, "ls_init_value is 1e-05"),
        (
            "vision_cfg.timm_model_name",
            "vit_base_patch16_224",
            "timm_model_name is 'vit_base_patch16_224'",
        ),
        ("vision_cfg.pos_embed_type", "sin_cos_2d", "pos_embed_type is 'sin_cos_2d'"),
        ("vision_cfg.mlp_ratio", 4.9231, "mlp_ratio is 4.9231, expected 4, as its weights have"),
        ("vision_cfg.image_size", 224, "image_size is 224, expected 32"),
        ("vision_cfg.patch_size", 8, "patch_size is 8, expected 16"),
        ("vision_cfg.layers", 3, "vision_cfg.layers is 3, expected 2"),
        ("vision_cfg.norm_kwargs", {"eps": 1e-6}, "norm_kwargs.eps is 1e-06, expected 1e-05"),
        ("text_cfg.hf_model_name", "xlm-roberta-base", "hf_model_name is 'xlm-roberta-base'"),
        ("text_cfg.hf_tokenizer_name", "timm/ViT-B-16-SigLIP", "hf_tokenizer_name"),
        ("text_cfg.embed_cls", True, "embed_cls is True"),
        ("text_cfg.proj_bias", True, "proj_bias is True"),
        ("text_cfg.pool_type", "last", "pool_type is 'last', expected 'argmax'"),
        (
            "text_cfg.tokenizer_kwargs",
            {"clean": "canonicalize"},
            "tokenizer_kwargs.clean is 'canonicalize'",
        ),
        ("text_cfg.heads", 7, "heads is 7, expected a divisor of the width 64"),
        ("text_cfg.qk_norm", True, "qk_norm is True"),
        ("quick_gelu", "yes", "quick_gelu is 'yes', expected true or false"),
        ("init_logit_bias", -10, "init_logit_bias is -10"),
        ("multimodal_cfg", {"layers": 12}, "multimodal_cfg"),
        ("vision_cfg", [1], "vision_cfg is list, expected an object"),
    ],
)
def test_open_clip_settings_that_are_not_ours(tmp_path, state, where, value, told):
    save_file(state, tmp_path / "open_clip_model.safetensors")
    file = write_json(tmp_path / "open_clip_config.json", OPEN_CLIP)
    changed(file, f"model_cfg.{where}", value)
    refused(tmp_path, told)


def test_open_clip_settings_that_are(tmp_path, state):
    save_file(state, tmp_path / "open_clip_model.safetensors")
    file = write_json(tmp_path / "open_clip_config.json", OPEN_CLIP)
    harmless = {
        "patch_dropout": 0.5,
        "final_ln_after_pool": True,
        "timm_model_name": None,
        "attentional_pool": False,
    }
    for key, value in (
        harmless | {"pool_type": "tok", "attn_pooler_queries": 256, "head_width": 32}
    ).items():
        changed(file, f"model_cfg.vision_cfg.{key}", value)
    found = dataclasses.replace(CONFIG, activation="gelu", text_head_width=16, vision_head_width=32)
    assert read_checkpoint(tmp_path)[0] == found
    for tower in ("vision_cfg", "text_cfg"):
        changed(file, f"model_cfg.{tower}.act_kwargs", {"approximate": "tanh"})
    assert read_checkpoint(tmp_path)[0].activation == "gelu_tanh"
    # one of open_clip's model_configs is the model_cfg alone
    write_json(file, OPEN_CLIP["model_cfg"] | {"quick_gelu": True})
    assert read_checkpoint(tmp_path)[0].activation == "quick_gelu"


@pytest.mark.parametrize(
    "where, value, told",
    [
        ("vision_config.image_size", 224, "vision_config.image_size is 224, expected 32"),
        ("vision_config.intermediate_size", 100, "intermediate_size is 100, expected 256"),
        ("text_config.eos_token_id", 102, "text_config.eos_token_id is 102, expected 49407 or 2"),
        ("text_config.vocab_size", 50000, "vocab_size is 50000, expected 96"),
        ("projection_dim", 512, "projection_dim is 512, expected 32"),
        ("vision_config.pruned_heads", {"0": [1]}, "pruned_heads"),
        (
            "tokenizer_class",
            "XLMRobertaTokenizer",
            "tokenizer_class is 'XLMRobertaTokenizer', expected 'CLIPTokenizer'",
        ),
        (
            "model_type",
            "metaclip_2",
            "config.json: model_type is 'metaclip_2', expected 'clip': another model, or",
        ),
        ("model_type", "siglip", "model_type is 'siglip'"),
    ],
)
def test_hugging_face_settings_that_are_not_ours(tmp_path, state, where, value, told):
    save_file(hugging_face(state), tmp_path / "model.safetensors")
    changed(write_json(tmp_path / "config.json", HF_CONFIG), where, value)
    refused(tmp_path, told)


def test_preprocessing_is_read_kept_and_shown(folder, tmp_path):
    config, arrays = read_checkpoint(folder)
    assert config.preprocessing == Preprocessing((0.5,) * 3, (0.5,) * 3)
    assert str(config.preprocessing) == "mean 0.5 0.5 0.5, deviation 0.5 0.5 0.5"
    save_clip(tmp_path / "ours.safetensors", config, arrays)
    assert read_checkpoint(tmp_path / "ours.safetensors")[0] == config
    assert CLIPConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_squashed_images(tmp_path, state, capsys):
    save_file(hugging_face(state), tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", HF_CONFIG)
    assert read_checkpoint(tmp_path)[0].preprocessing == OPENAI
    assert "note: " in (told := capsys.readouterr().err)
    assert "nothing beside the weights says how images were normalised" in told
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
    "key, value, told",
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
def test_images_that_frames_cannot_follow(tmp_path, state, key, value, told):
    save_file(hugging_face(state), tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", HF_CONFIG)
    write_json(tmp_path / "preprocessor_config.json", PROCESSOR | {key: value})
    refused(tmp_path, rf"preprocessor_config\.json: {told}")


@pytest.mark.parametrize(
    "key, value, told",
    [
        ("resize_mode", "longest", "resize_mode is 'longest', expected one of shortest, squash"),
        ("mean", "half", "mean is 'half', expected three finite numbers"),
        ("std", [1, 1, -1], "std is .*above 0"),
        ("mode", "L", "mode is 'L', expected 'RGB'"),
        ("size", [32, 64], "size is .*expected 32"),
        ("interpolation", "nearest", "interpolation is 'nearest'"),
    ],
)
def test_open_clip_images_that_frames_cannot_follow(tmp_path, state, key, value, told):
    save_file(state, tmp_path / "open_clip_model.safetensors")
    write_json(
        tmp_path / "open_clip_config.json",
        OPEN_CLIP | {"preprocess_cfg": PREPROCESS | {key: value}},
    )
    refused(tmp_path, rf"open_clip_config\.json: preprocess_cfg\.{told}")


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
        r"vocab\.json: token 'cat</w>' has id 7, expected 2368 of 49408: texts would be cut otherwise",
    )
    (folder / "vocab.json").unlink()
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(map(" ".join, reversed(pairs))) + "\n"
    )
    refused(folder, r"merges\.txt: merge 1 is .*expected \('i', 'n'\)")
    (folder / "merges.txt").unlink()
    for model, told in (
        ({"type": "Unigram", "vocab": []}, "model.type is 'Unigram', expected 'BPE'"),
        (
            {"vocab": words, "merges": [" ".join(pair) for pair in pairs][:-1]},
            "merge 48894 is missing",
        ),
        ({"vocab": [], "merges": pairs}, "no vocabulary"),
    ):
        write_json(folder / "tokenizer.json", {"model": model})
        refused(folder, rf"tokenizer\.json: {told}")
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


@pytest.mark.parametrize("ratio", [3, 4.9231])
def test_mlps_of_another_width(tmp_path, ratio):
    config = dataclasses.replace(
        CONFIG, activation="gelu", vision_mlp_width=int(64 * ratio), text_head_width=16
    )
    state = random_state(config)
    save_file(state, tmp_path / "open_clip_model.safetensors")
    file = write_json(tmp_path / "open_clip_config.json", OPEN_CLIP)
    refused(tmp_path, "vision_cfg.mlp_ratio is None, expected")
    changed(file, "model_cfg.vision_cfg.mlp_ratio", ratio)
    assert read_checkpoint(tmp_path)[0] == config
    save_clip(tmp_path / "ours.safetensors", config, state)
    assert read_checkpoint(tmp_path / "ours.safetensors")[0] == config
