"""Files written by PyTorch and `transformers` themselves, read without them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPConfig as HFConfig
from transformers import CLIPModel

from parity import openai
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.weights.checkpoints import read_checkpoint
from vtd_jax.clip.weights.tensor_names import tensor_shapes
from vtd_jax.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
VIT = CLIPConfig(32, 64, 2, 64, 16, 64, text_layers=2, context_length=12, vocab_size=60)
RESNET = CLIPConfig(
    32, 64, (1, 2, 1, 1), 16, None, 64, text_layers=1, context_length=12, vocab_size=60
)
THREE = ("input_resolution", "context_length", "vocab_size")


def openai_model(config: CLIPConfig) -> torch.nn.Module:
    """OpenAI's own model class with random weights."""
    torch.manual_seed(0)
    model = openai.load("model").CLIP(
        config.embed_dim, config.image_resolution, config.vision_layers, config.vision_width,
        config.vision_patch_size, config.context_length, config.vocab_size, config.text_width,
        config.text_width // 64, config.text_layers,
    )  # fmt: skip
    return model.eval()


def weights(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """What PyTorch says the tensors are, as float32."""
    drop = (*THREE, "num_batches_tracked")
    return {n: t.float().numpy() for n, t in model.state_dict().items() if not n.endswith(drop)}


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("config", [VIT, RESNET], ids=["vit", "resnet"])
@pytest.mark.filterwarnings("ignore")  # torch.jit is deprecated; OpenAI's files stay what they are
def test_traced_archives_in_half_precision(tmp_path, config):
    model = openai_model(config)
    for name in THREE:
        if hasattr(model, name):
            delattr(model, name)
        model.register_buffer(name, torch.tensor(224))
    size = config.image_resolution
    inputs = torch.zeros(1, 3, size, size), torch.zeros(1, config.context_length, dtype=torch.long)
    traced = torch.jit.trace(model, inputs, check_trace=False)
    traced.half()
    torch.jit.save(traced, str(tmp_path / "clip.pt"))
    found, state = read_checkpoint(tmp_path / "clip.pt")
    assert found == config
    same(state, weights(traced))


@pytest.mark.parametrize("config", [VIT, RESNET], ids=["vit", "resnet"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: {"epoch": 1, "state_dict": x, "optimizer": {}}]
)
def test_saved_state_dicts(tmp_path, config, dtype, wrap):
    model = openai_model(config).to(dtype)
    torch.save(wrap(model.state_dict()), tmp_path / "clip.pt")
    found, state = read_checkpoint(tmp_path / "clip.pt")
    assert found == config
    same(state, weights(model))


def test_parameters_views_and_parallel_names(tmp_path):
    model = openai_model(VIT)
    expected = weights(model)
    flat = torch.cat([t.reshape(-1) for t in model.state_dict().values()])
    views, at = {}, 0
    for name, value in model.state_dict().items():
        views[f"module.{name}"] = flat[at : at + value.numel()].view(value.shape)
        at += value.numel()
    views["module.visual.proj"] = torch.nn.Parameter(model.visual.proj.detach().T.contiguous().T)
    for protocol in (2, 4):
        torch.save({"model": views}, tmp_path / "clip.pth", pickle_protocol=protocol)
        same(read_checkpoint(tmp_path / "clip.pth")[1], expected)


def test_what_pytorch_writes_and_we_refuse(tmp_path):
    model, path = openai_model(VIT), tmp_path / "clip.pt"
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match=r"before 1\.6"):
        read_checkpoint(path)
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(UserError, match=r"carries code \(torch\.nn\.modules\.linear\.Linear\)"):
        read_checkpoint(path)
    torch.save({"visual.proj": torch.zeros(3).to_sparse()}, path)
    with pytest.raises(UserError, match=r"carries code \(torch\._utils\._rebuild_sparse_tensor\)"):
        read_checkpoint(path)


def hugging_face_model(activation: str) -> CLIPModel:
    """A `transformers` model of VIT's sizes, but two heads in the image tower."""
    torch.manual_seed(0)
    both = dict(hidden_size=64, intermediate_size=256, num_hidden_layers=2, hidden_act=activation)
    text = both | dict(num_attention_heads=1, vocab_size=60, max_position_embeddings=12)
    vision = both | dict(num_attention_heads=2, image_size=64, patch_size=16)
    return CLIPModel(HFConfig(text_config=text, vision_config=vision, projection_dim=32)).eval()


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("shard", ["10GB", "100KB"])
def test_hugging_face_folders(tmp_path, activation, shard):
    model = hugging_face_model(activation)
    model.save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard == "100KB")
    config, state = read_checkpoint(tmp_path)
    assert (config.activation, config.vision_head_width, config.text_head_width) == (
        activation,
        32,
        64,
    )
    theirs = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    np.testing.assert_array_equal(state["visual.proj"], theirs["visual_projection.weight"].T)
    np.testing.assert_array_equal(state["text_projection"], theirs["text_projection.weight"].T)
    attention = "text_model.encoder.layers.1.self_attn"
    joined = np.concatenate([theirs[f"{attention}.{part}_proj.weight"] for part in "qkv"])
    np.testing.assert_array_equal(state["transformer.resblocks.1.attn.in_proj_weight"], joined)
    np.testing.assert_array_equal(
        state["visual.ln_pre.bias"] + state["visual.transformer.resblocks.0.mlp.c_fc.bias"][:64],
        theirs["vision_model.pre_layrnorm.bias"]
        + theirs["vision_model.encoder.layers.0.mlp.fc1.bias"][:64],
    )


def test_hugging_face_weights_in_openais_model(tmp_path):
    """The tensors we give out make OpenAI's own model compute what `transformers` computes."""
    theirs = hugging_face_model("quick_gelu")
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps(theirs.config.to_dict()))
    config, state = read_checkpoint(tmp_path)
    model = openai_model(VIT)
    for block in model.visual.transformer.resblocks:
        block.attn.num_heads, block.attn.head_dim = 2, config.vision_head_width
    model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        ours, expected = model.encode_image(images), theirs.get_image_features(images)
    expected = getattr(expected, "pooler_output", expected)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["ViT-B/16", "RN50"])
def test_full_size_archive_is_read_in_seconds(tmp_path, name):
    """In a process of its own, so that its peak memory is that of reading."""
    config = CLIPConfig.named(name)
    shapes = tensor_shapes(config)
    torch.save({n: torch.rand(shape).half() for n, shape in shapes.items()}, tmp_path / "clip.pt")
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom vtd_jax.clip.weights.checkpoints "
        "import read_checkpoint\npeak = lambda: "
        "int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) / "
        "1024\nbefore, started = peak(), time.process_time()\nconfig, state = "
        "read_checkpoint(sys.argv[1], activation='quick_gelu')\nsize = sum(x.nbytes for x in "
        "state.values()) / 2**20\nprint(config.architecture, time.process_time() - started, "
        "peak() - before, size, sep=';')\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "clip.pt")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found, seconds, peak, size = done.stdout.strip().split(";")
    print(
        f"{name}: read in {float(seconds):.2f} s, {float(peak):.0f} MiB at most for "
        f"{float(size):.0f} MiB of float32"
    )
    assert found == name
    assert float(seconds) < 30
    assert 0.9 < float(peak) / float(size) < 1.4, (
        "the weights once, and no more than one storage beside them"
    )
