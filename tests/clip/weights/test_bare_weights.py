"""Weights without a config, behind wrappers, in parts, or with numbers that cannot be right."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from support.helpers import openai_order, random_state
from support.weights import torch_files as tf
from support.weights.foreign_files import CONFIG, HF_CONFIG, hugging_face, write_json
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.weights.checkpoints import holds_clip, read_checkpoint, save_clip
from vtd_jax.clip.weights.tensor_names import tensor_shapes
from vtd_jax.errors import UserError


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    return random_state(CONFIG)


def refused(path: Path, message: str) -> str:
    with pytest.raises(UserError, match=message) as error:
        read_checkpoint(path)
    return str(error.value)


def bare(config: CLIPConfig, path: Path, order=lambda state: state) -> Path:
    """A state dict of small arrays; only their shapes are looked at before anything is refused."""
    return tf.save(
        path,
        tf.state_dict(
            order({n: np.zeros(s, np.float32) for n, s in tensor_shapes(config).items()})
        ),
    )


@pytest.mark.slow
def test_bare_weights(tmp_path, state):
    narrow = {"text_layers": 1, "vocab_size": 96, "context_length": 8}
    wide = CLIPConfig(32, 32, 1, 1280, 16, 64, **narrow, vision_head_width=80)
    path = bare(wide, tmp_path / "h.pt")
    message = refused(
        path,
        "the activation and the width of the image tower's attention heads: not in the weights",
    )
    assert "`activation=gelu` (LAION" in message
    assert "`head_width=N` (80 in published towers of width 1280)" in message
    with pytest.raises(
        UserError, match="`head_width=64`: image towers of width 1280 have heads of 80, never 64"
    ):
        read_checkpoint(path, activation="gelu", head_width=64)
    found = read_checkpoint(path, activation="gelu", head_width=80)[0]
    assert found == dataclasses.replace(wide, activation="gelu")
    # OpenAI's class has heads of 64 always, and none of this width was ever trained with it
    refused(bare(wide, tmp_path / "h.pt", openai_order), "the activation and the width")
    # sizes that OpenAI and LAION share: heads of 64 are known, the activation is not
    same = random_state(CLIPConfig.tiny())
    save_file(same, tmp_path / "a.safetensors")
    assert "heads" not in refused(
        tmp_path / "a.safetensors", r"a\.safetensors: the activation: not in the weights"
    )
    assert read_checkpoint(tmp_path / "a.safetensors", activation="gelu")[0].vision_head_width == 64
    # the order of a state dict, or three numbers of its archive, say that OpenAI's code wrote it
    path = bare(CONFIG, tmp_path / "o.pt", openai_order)
    assert read_checkpoint(path)[0] == CONFIG
    assert read_checkpoint(path, activation="gelu")[0].activation == "gelu"
    numbers = {name: np.array(value, np.int64) for name, value in tf.SCRIPT_NUMBERS.items()}
    save_file(state | numbers, tmp_path / "n.safetensors")
    assert read_checkpoint(tmp_path / "n.safetensors")[0] == CONFIG
    with pytest.raises(
        UserError, match="`activation=gelu` contradicts OpenAI's own archive, which says quick_gelu"
    ):
        read_checkpoint(tmp_path / "n.safetensors", activation="gelu")
    with pytest.raises(UserError, match="head_width=0`: expected 1 or more channels"):
        read_checkpoint(path, head_width=0)


def test_what_a_file_of_ours_says_is_not_contradicted(tmp_path, state):
    save_clip(tmp_path / "a.safetensors", CONFIG, state)
    assert (
        read_checkpoint(tmp_path / "a.safetensors", activation="quick_gelu", head_width=64)[0]
        == CONFIG
    )
    with pytest.raises(
        UserError, match="`activation=gelu` contradicts what the file says of itself"
    ):
        read_checkpoint(tmp_path / "a.safetensors", activation="gelu")


@pytest.mark.slow
def test_prefixes_of_wrappers(tmp_path, state):
    state = openai_order(state)
    for prefix in ("_orig_mod.", "model.", "module._orig_mod.", "model.module.", "clip_model."):
        path = tf.save(tmp_path / "x.pt", tf.state_dict(state, prefix=prefix))
        assert read_checkpoint(path)[0] == CONFIG, prefix
        assert holds_clip(path)
    inside = {name.replace("visual.", "visual._orig_mod."): x for name, x in state.items()}
    assert read_checkpoint(tf.save(tmp_path / "x.pt", tf.state_dict(inside)))[0] == CONFIG
    theirs = {f"model.{name}": x for name, x in hugging_face(state).items()}
    save_file(theirs, tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", HF_CONFIG)
    assert read_checkpoint(tmp_path)[0].vision_head_width == 32
    some = {f"model.{name}": x for name, x in state.items()} | {"loss.weight": np.zeros(2)}
    tf.save(tmp_path / "x.pt", tf.state_dict(some))
    refused(
        tmp_path / "x.pt", r"tensors begin with 'model\.', 1 others do not \(first: loss\.weight\)"
    )
    tf.save(
        tmp_path / "x.pt", tf.state_dict(state | {f"module.{name}": x for name, x in state.items()})
    )
    refused(tmp_path / "x.pt", "holds a model twice")


def test_one_tower(tmp_path, state):
    whole = hugging_face(state)
    for start, message in (
        ("vision", "image tower only, as transformers' CLIPVisionModel"),
        ("text", "text tower only"),
    ):
        projection = "visual_" if start == "vision" else "text_"
        half = {
            name: x for name, x in whole.items() if name.startswith((f"{start}_model", projection))
        }
        save_file(half, tmp_path / "model.safetensors")
        refused(
            tmp_path / "model.safetensors",
            rf"holds CLIP's {message}.*both towers are needed: take the weights of the",
        )
        # as save_pretrained writes it
        (tmp_path / start).mkdir()
        (tmp_path / "model.safetensors").rename(tmp_path / start / "model.safetensors")
        write_json(tmp_path / start / "config.json", {"model_type": f"clip_{start}_model"})
        tower = f"{message.split()[0]} tower only; both towers are needed: take the folder"
        refused(tmp_path / start, rf"config\.json: model_type .*{tower}")


@pytest.mark.parametrize("value", [100.0, 14.3, 7.1])
def test_a_scale_in_the_place_of_its_logarithm(tmp_path, state, value):
    save_clip(tmp_path / "a.safetensors", CONFIG, state | {"logit_scale": np.float32(value)})
    refused(
        tmp_path / "a.safetensors",
        rf"tensor logit_scale is {value:g}, expected the logarithm of the scale",
    )
