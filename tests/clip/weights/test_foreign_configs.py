"""Configs beside foreign weights: every key is honoured, checked, irrelevant or refused; nothing is
guessed.
"""

import dataclasses

import numpy as np
import pytest
from safetensors.numpy import save_file

from support.helpers import random_state
from support.weights.foreign_files import (
    CONFIG,
    HF_CONFIG,
    OPEN_CLIP,
    PREPROCESS,
    PROCESSOR,
    changed,
    hugging_face,
    refused,
    write_json,
)
from vtd_jax.clip.weights.checkpoints import read_checkpoint, save_clip


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    return random_state(CONFIG)


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
    "where, value, message",
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
def test_open_clip_settings_that_are_not_ours(tmp_path, state, where, value, message):
    save_file(state, tmp_path / "open_clip_model.safetensors")
    file = write_json(tmp_path / "open_clip_config.json", OPEN_CLIP)
    changed(file, f"model_cfg.{where}", value)
    refused(tmp_path, message)


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
    "where, value, message",
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
            "config.json: model_type is 'metaclip_2', expected 'clip' or 'siglip': another",
        ),
        ("model_type", "siglip", "model_type is 'siglip'"),
    ],
)
def test_hugging_face_settings_that_are_not_ours(tmp_path, state, where, value, message):
    save_file(hugging_face(state), tmp_path / "model.safetensors")
    changed(write_json(tmp_path / "config.json", HF_CONFIG), where, value)
    refused(tmp_path, message)


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
