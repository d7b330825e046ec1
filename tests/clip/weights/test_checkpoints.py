"""Every kind of CLIP checkpoint in, ours out, and one clear line for everything else."""

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from support.helpers import SMALL, assert_same_state, openai_order, random_state
from support.weights import torch_files as tf
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.weights.architecture import check_architecture, config_of, sizes_of
from vtd_jax.clip.weights.checkpoints import (
    CONFIG_KEY,
    TINY_CLIP,
    load_clip,
    read_checkpoint,
    save_clip,
)
from vtd_jax.clip.weights.params import state_from_clip
from vtd_jax.clip.weights.tensor_names import tensor_shapes
from vtd_jax.errors import UserError

CONFIG = dataclasses.replace(SMALL, vocab_size=96, context_length=8)
RESNET = CLIPConfig(
    32, 64, (1, 1, 1, 1), 8, None, 64, text_layers=1, vocab_size=96, context_length=8
)
OPENAI = [
    "ViT-B/32",
    "ViT-B/16",
    "ViT-L/14",
    "ViT-L/14@336px",
    "RN50",
    "RN101",
    "RN50x4",
    "RN50x16",
    "RN50x64",
]


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    return random_state(CONFIG)


@pytest.mark.parametrize("name", OPENAI)
def test_openai_architectures_by_shape(name):
    config = CLIPConfig.named(name)
    found = config_of(sizes_of(tensor_shapes(config), "x"), "x")
    assert (found, found.architecture) == (config, name)


@pytest.mark.parametrize("config", [CONFIG, RESNET], ids=["vit", "resnet"])
def test_script_archive_in_half_precision(tmp_path, config):
    state = {name: x.astype(np.float16) for name, x in random_state(config).items()}
    extra = {"visual.bn1.num_batches_tracked": np.float16(3)} if config.is_resnet else {}
    path = tf.save(tmp_path / "clip.pt", tf.script_module(state | extra), name="RN")
    # a config that lies about belongs to other weights: an archive of OpenAI's has none
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {"embed_dim": 7}}')
    found, arrays = read_checkpoint(path)
    assert found == config
    assert_same_state(arrays, {name: x.astype(np.float32) for name, x in state.items()})


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("kind", ["f4", "bf16"])
def test_state_dicts(tmp_path, state, prefix, kind):
    root = {"epoch": 1, "state_dict": tf.state_dict(openai_order(state), kind, prefix)}
    config, arrays = read_checkpoint(tf.save(tmp_path / "clip.bin", root))
    assert config == CONFIG
    if kind == "f4":
        assert_same_state(arrays, state)
    else:
        np.testing.assert_allclose(arrays["visual.proj"], state["visual.proj"], rtol=2**-7)


@pytest.mark.parametrize("config", [CONFIG, RESNET], ids=["vit", "resnet"])
def test_ours_and_back(tmp_path, config):
    config = dataclasses.replace(config, activation="gelu", text_head_width=16)
    state, path = random_state(config), tmp_path / "ours.safetensors"
    save_clip(path, config, state)
    found, arrays = read_checkpoint(path)
    assert found == config
    assert_same_state(arrays, state)
    save_clip(path, config, state, dtype="float16")
    assert {x.dtype for x in load_file(path).values()} == {np.dtype(np.float16)}
    clip = load_clip(path, expected=config.architecture)
    assert clip.config == config
    assert_same_state(
        state_from_clip(clip),
        {name: x.astype(np.float16).astype(np.float32) for name, x in state.items()},
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["ours.safetensors"]


def test_save_refuses_and_leaves_nothing(tmp_path, state, monkeypatch):
    path = tmp_path / "a.safetensors"
    for call, expected_text in (
        (lambda: save_clip(tmp_path / "a.npz", CONFIG, state), "must end in .safetensors"),
        (lambda: save_clip(path, CONFIG, state, dtype="bfloat16"), "expected float32 or float16"),
        (lambda: save_clip(path, CONFIG, {"visual.proj": state["visual.proj"]}), "missing"),
        (
            lambda: save_clip(path, CONFIG, state | {"logit_scale": np.float32(1e6)}, "float16"),
            "logit_scale has",
        ),
        (
            lambda: save_clip(tmp_path / "none" / "a.safetensors", CONFIG, state),
            "cannot be written",
        ),
    ):
        with pytest.raises(UserError, match=expected_text):
            call()

    def half(arrays, file, metadata):
        Path(file).write_bytes(b"half")
        raise OSError("no space left on device")

    path.write_bytes(b"earlier")
    monkeypatch.setattr("vtd_jax.clip.weights.checkpoints.save_file", half)
    with pytest.raises(UserError, match="no space left"):
        save_clip(path, CONFIG, state)
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_tensors_are_reported_by_name(tmp_path, state):
    def expected_text(changed) -> str:
        tf.save(tmp_path / "x.pt", tf.state_dict(openai_order(changed)))
        with pytest.raises(UserError) as error:
            read_checkpoint(tmp_path / "x.pt")
        return str(error.value)

    without = {name: x for name, x in state.items() if "resblocks.1.ln_1" not in name}
    message = expected_text(without | {"extra.weight": np.zeros(2), "ln_final.bias": np.zeros(3)})
    assert "missing: visual.transformer.resblocks.1.ln_1.weight, visual.transformer" in message
    assert "surplus: extra.weight" in message
    assert "ln_final.bias is (3,), expected (64,)" in message
    many = expected_text(state | {f"decoder.{i}": np.zeros(1) for i in range(20)})
    assert "decoder.7 and 12 more" in many
    for name, value in (("visual.proj", np.nan), ("logit_scale", np.inf)):
        bad = np.array(state[name])
        bad.reshape(-1)[0] = value
        at = [0] * bad.ndim
        told_of = (
            f"tensor {name} has 1 values that are NaN or infinite, the first is {value} at {at}: "
            "damaged"
        )
        assert told_of in expected_text(state | {name: bad})
    assert "missing: visual.conv1.weight" in expected_text(
        {n: x for n, x in state.items() if n != "visual.conv1.weight"}
    )
    assert "misshapen: visual.conv1.weight" in expected_text(
        state | {"visual.conv1.weight": np.zeros((64, 3))}
    )
    assert "one row more than a square" in expected_text(
        state | {"visual.positional_embedding": np.zeros((7, 64))}
    )
    assert "a tower without layers" in expected_text(
        {n: x for n, x in state.items() if not n.startswith("transformer.")}
    )
    odd = expected_text(state | {"text_projection": np.zeros((65, 32))})
    assert "text_width 65 is not a multiple" in odd
    assert "x.pt: " in odd


@pytest.mark.parametrize(
    "content, expected_text",
    [
        (b"", "empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer"),
        (b"\n <!DOCTYPE html><html><body>404</body></html>", "a web page"),
        (pickle.dumps(0x1950A86A20F9469CFC6C, 2) + b"\x80\x02M\xe9\x03.", r"before 1\.6"),
        (pickle.dumps({"a": 1}), "a Python pickle, which could run code"),
        (b"\x1f\x8b\x08\x00", "compressed"),
        (b"PK", "not a checkpoint that is known here"),
        (b"PK\x03\x04", "truncated or damaged: 4 bytes"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 20, "not a checkpoint that is known here.*OpenAI's .pt"),
        (b"\x80\xff\xff" + b"\0" * 5 + b"{}", "truncated or damaged safetensors"),
    ],
)
@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
def test_other_files(tmp_path, content, expected_text, name):
    path = tmp_path / name
    path.write_bytes(content)
    expected_text = (
        "truncated or damaged safetensors"
        if name.endswith("s") and expected_text.startswith("not a checkpoint")
        else expected_text
    )
    with pytest.raises(UserError, match=expected_text) as error:
        read_checkpoint(path)
    assert str(path) in str(error.value)


def test_nothing_there(tmp_path):
    with pytest.raises(
        UserError, match=r"no such file.*ViT-B/16, hf:openai/clip-vit-base-patch16.*\.pt files"
    ):
        read_checkpoint(tmp_path / "ViT-B-16.pt")
    with pytest.raises(
        UserError, match="folder without weights, it holds nothing; expected one of model"
    ):
        read_checkpoint(tmp_path)
    (tmp_path / "README.md").touch()
    with pytest.raises(UserError, match=r"it holds README\.md"):
        read_checkpoint(tmp_path)
    (tmp_path / "program.jaxexport").touch()
    with pytest.raises(
        UserError, match=r"a folder of `write_served`, .*: run python .*predict\.py VIDEO"
    ):
        read_checkpoint(tmp_path)
    assert TINY_CLIP.parts[-3:] == ("clip", "tiny", "tiny_clip.safetensors")


def test_truncated_safetensors(tmp_path, state):
    save_clip(tmp_path / "a.safetensors", CONFIG, state)
    data = (tmp_path / "a.safetensors").read_bytes()
    for end in (1, 7, 9, 100, 5000, len(data) // 2, len(data) - 1):
        (tmp_path / "a.safetensors").write_bytes(data[:end])
        with pytest.raises(
            UserError, match=rf"truncated or damaged safetensors file of {end} bytes"
        ):
            read_checkpoint(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"embed_dim": "x"}',
        json.dumps(CONFIG.to_dict() | {"vision_patch_size": 0}),
        "7",
    ]
    + [
        json.dumps(CONFIG.to_dict() | wrong)
        for wrong in ({"vision_layers": 10**9}, {"text_head_width": 64.0})
    ],
)
def test_bad_config_in_the_metadata(tmp_path, state, text):
    save_file(state, tmp_path / "a.safetensors", {CONFIG_KEY: text})
    with pytest.raises(UserError, match=r"damaged: its vtd_jax\.clip_config"):
        read_checkpoint(tmp_path / "a.safetensors")


def test_expected_architecture(tmp_path, state):
    save_clip(tmp_path / "a.safetensors", CONFIG, state)
    check_architecture(CONFIG, "", "x")
    check_architecture(CLIPConfig.vit_b16(), "ViT-B/16", "x")
    with pytest.raises(
        UserError, match=r"a\.safetensors: a CLIP ViT/16 2 layers.*clip\.architecture is 'ViT-B/16'"
    ):
        read_checkpoint(tmp_path / "a.safetensors", expected="ViT-B/16")
    with pytest.raises(UserError, match="activation 'relu', expected one of quick_gelu, gelu"):
        read_checkpoint(tmp_path / "a.safetensors", activation="relu")
