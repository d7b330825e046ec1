"""Checkpoints of Hugging Face and open_clip: their names, layouts and configs."""

import dataclasses

import numpy as np
import pytest
from safetensors.numpy import save_file

from support.helpers import assert_same_state, random_state
from support.weights import torch_files as tf
from support.weights.foreign_files import CONFIG, HF_CONFIG, OPEN_CLIP, hugging_face, write_json
from vtd_jax.clip.weights.checkpoints import read_checkpoint
from vtd_jax.errors import UserError


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    return random_state(CONFIG)


def test_open_clip_names_and_activation(tmp_path, state):
    text = (
        "token_embedding",
        "positional_embedding",
        "transformer.",
        "ln_final",
        "text_projection",
    )
    custom = {f"text.{name}" if name.startswith(text) else name: x for name, x in state.items()}
    custom |= {
        "text.attn_mask": np.zeros((8, 8), np.float32),
        "logit_scale": state["logit_scale"].reshape(1),
    }
    save_file(custom, tmp_path / "open_clip_model.safetensors")
    with pytest.raises(
        UserError,
        match=r"not in the weights.*put the model's open_clip_config\.json there, or give `act",
    ):
        read_checkpoint(tmp_path)
    assert read_checkpoint(tmp_path, activation="gelu", head_width=32)[0].vision_head_width == 32
    config = write_json(tmp_path / "open_clip_config.json", OPEN_CLIP)
    found, arrays = read_checkpoint(tmp_path)
    assert_same_state(arrays, state)
    assert found == dataclasses.replace(CONFIG, activation="gelu", text_head_width=16)
    assert read_checkpoint(tmp_path, activation="gelu", head_width=64)[0] == found
    for wrong in ({"activation": "quick_gelu"}, {"head_width": 32}):
        with pytest.raises(
            UserError,
            match=r"contradicts .*open_clip_config\.json, which says (gelu|64): leave it out",
        ):
            read_checkpoint(tmp_path, **wrong)
    write_json(config, {"model_cfg": OPEN_CLIP["model_cfg"] | {"quick_gelu": True}})
    assert read_checkpoint(tmp_path / "open_clip_model.safetensors")[0].activation == "quick_gelu"


def test_hugging_face_folder(tmp_path, state):
    save_file(hugging_face(state), tmp_path / "model.safetensors")
    with pytest.raises(
        UserError,
        match=r"put the model's config\.json there, or give `activation=quick_gelu` .*`head_w",
    ):
        read_checkpoint(tmp_path / "model.safetensors")
    found, arrays = read_checkpoint(
        tmp_path / "model.safetensors", activation="quick_gelu", head_width=64
    )
    assert found == CONFIG
    assert_same_state(arrays, state)
    write_json(tmp_path / "config.json", HF_CONFIG)
    found, arrays = read_checkpoint(tmp_path)
    assert found == dataclasses.replace(CONFIG, activation="gelu", vision_head_width=32)
    assert_same_state(arrays, state)


def test_hugging_face_defaults_and_older_configs(tmp_path, state):
    tf.save(
        tmp_path / "pytorch_model.bin",
        tf.state_dict(hugging_face(state) | {"logit_scale": state["logit_scale"]}),
    )
    write_json(
        tmp_path / "config.json", {"text_config": {}, "vision_config": {"num_attention_heads": 4}}
    )
    found, _ = read_checkpoint(tmp_path)
    assert (found.text_head_width, found.vision_head_width, found.activation) == (
        8,
        16,
        "quick_gelu",
    )
    write_json(
        tmp_path / "config.json", HF_CONFIG | {"vision_config_dict": {"num_attention_heads": 8}}
    )
    assert read_checkpoint(tmp_path)[0].vision_head_width == 8


def test_hugging_face_shards(tmp_path, state):
    arrays = hugging_face(state)
    names = sorted(arrays)
    where = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(where.values()):
        save_file({name: arrays[name] for name in names if where[name] == file}, tmp_path / file)
    index = write_json(tmp_path / "model.safetensors.index.json", {"weight_map": where})
    write_json(tmp_path / "config.json", HF_CONFIG)
    assert_same_state(read_checkpoint(tmp_path)[1], state)
    for wrong, message in (
        ({}, "without a weight_map"),
        (
            {"weight_map": where | {"visual_projection.weight": "../x.safetensors"}},
            "not a file of the same folder",
        ),
        (
            {"weight_map": where | {"visual_projection.weight": "y.safetensors"}},
            "shard y.safetensors is missing",
        ),
        (
            {"weight_map": where | {"made_up": "model-00001-of-00002.safetensors"}},
            "does not hold made_up",
        ),
    ):
        write_json(index, wrong)
        with pytest.raises(UserError, match=message):
            read_checkpoint(tmp_path)


def test_unsupported_variants_name_their_first_foreign_tensor(tmp_path, state):
    text = {
        f"text.{name}": x for name, x in state.items() if not name.startswith(("visual", "logit"))
    }
    stem = "visual.trunk.patch_embed.backbone.conv.weight"
    timm = text | {stem: np.zeros((1, 1, 64)), "logit_scale": np.zeros(())}
    tf.save(tmp_path / "x.pt", tf.state_dict(timm))
    with pytest.raises(
        UserError, match=r"timm's names.*first foreign tensor is visual\.patch_embed\.backbone"
    ):
        read_checkpoint(tmp_path / "x.pt")
    tf.save(
        tmp_path / "x.pt",
        tf.state_dict({"layer1.0.conv1.weight": np.zeros((2, 2)), "fc.bias": np.zeros(2)}),
    )
    with pytest.raises(UserError, match=r"first foreign tensor is layer1\.0\.conv1\.weight"):
        read_checkpoint(tmp_path / "x.pt")
    half = hugging_face(state)
    del half["text_model.encoder.layers.1.self_attn.k_proj.bias"]
    tf.save(tmp_path / "x.pt", tf.state_dict(half))
    with pytest.raises(
        UserError, match=r"missing: k_proj of transformer\.resblocks\.1\.attn\.in_proj_bias"
    ):
        read_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"vision_config": {"hidden_size": 768}},
            "vision_config.hidden_size is 768, expected 64: either a config of",
        ),
        ({"text_config": {"layer_norm_eps": 1e-6}}, "layer_norm_eps is 1e-06"),
        (
            {"text_config": {"hidden_act": "silu"}},
            "text_config.hidden_act is 'silu', expected one of quick_gelu",
        ),
        (
            {"text_config": {"num_attention_heads": 7}},
            "num_attention_heads is 7, expected a divisor of the width 64",
        ),
        (
            {"text_config": {"hidden_act": "quick_gelu"}},
            "hidden_act is .*expected the same in both towers",
        ),
        ({"text_config": {"num_attention_heads": "8"}}, "expected a positive whole number"),
        ({"text_config": [1]}, "text_config is list, expected an object"),
    ],
)
def test_wrong_hugging_face_config(tmp_path, state, change, message):
    save_file(hugging_face(state), tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", HF_CONFIG | change)
    with pytest.raises(UserError, match=message):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"embed_dim": 512}, "model_cfg.embed_dim is 512, expected 32"),
        ({"vision_cfg": {"width": 768}}, "vision_cfg.width is 768"),
        ({"vision_cfg": {"pool_type": "avg"}}, "pool_type is 'avg', expected 'tok'.*not supported"),
        ({"text_cfg": {"no_causal_mask": True}}, "no_causal_mask is True"),
        ({"vision_cfg": {"norm_kwargs": {"eps": 1e-6}}}, "norm_kwargs.eps is 1e-06"),
        ({"vision_cfg": {"head_width": 0}}, "head_width is 0"),
    ],
)
def test_wrong_open_clip_config(tmp_path, state, change, message):
    save_file(state, tmp_path / "open_clip_model.safetensors")
    write_json(tmp_path / "open_clip_config.json", {"model_cfg": OPEN_CLIP["model_cfg"] | change})
    with pytest.raises(UserError, match=message):
        read_checkpoint(tmp_path)
    (tmp_path / "open_clip_config.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        read_checkpoint(tmp_path)
