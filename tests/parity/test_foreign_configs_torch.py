"""Folders of `transformers` with other statistics, activations and MLPs: our features are
PyTorch's.
"""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from safetensors.torch import save_file
from transformers import CLIPConfig as HFConfig
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

from parity import openai
from vtd_jax.clip.tokenizer import merges, tokenize, vocabulary
from vtd_jax.clip.weights.checkpoints import load_clip, read_checkpoint
from vtd_jax.errors import UserError
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.predict.loading import ZERO_SHOT

HALF = [0.5, 0.5, 0.5]


def model_of(activation: str, ratio: float, heads: int = 2, tokens: int = 49410) -> CLIPModel:
    """A small `transformers` CLIP with MLPs of `int(ratio · width)`, as open_clip's g and bigG have
    them.
    """
    torch.manual_seed(0)
    both = dict(
        hidden_size=64,
        intermediate_size=int(64 * ratio),
        num_hidden_layers=2,
        hidden_act=activation,
    )
    text = both | dict(
        num_attention_heads=1, vocab_size=tokens, eos_token_id=49407, bos_token_id=49406
    )
    vision = both | dict(num_attention_heads=heads, image_size=64, patch_size=16)
    model = CLIPModel(HFConfig(text_config=text, vision_config=vision, projection_dim=32)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.logit_scale.fill_(4.6)
    return model


def cosines(ours: np.ndarray, theirs: torch.Tensor) -> np.ndarray:
    theirs = getattr(theirs, "pooler_output", theirs).numpy().astype(np.float64)
    ours = np.asarray(ours, np.float64)
    return (ours * theirs).sum(-1) / np.linalg.norm(ours, axis=-1) / np.linalg.norm(theirs, axis=-1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "activation, ratio",
    [("quick_gelu", 4.0), ("gelu", 4.9231), ("gelu", 3.0), ("gelu_pytorch_tanh", 4.3637)],
)
def test_features_with_statistics_of_a_half(tmp_path, activation, ratio):
    model = model_of(activation, ratio)
    model.save_pretrained(tmp_path)
    size = {"height": 64, "width": 64}
    processor = CLIPImageProcessor(
        image_mean=HALF, image_std=HALF, size={"shortest_edge": 64}, crop_size=size
    )
    processor.save_pretrained(tmp_path)
    clip = load_clip(tmp_path)
    assert clip.config.activation == ("gelu_tanh" if "tanh" in activation else activation)
    ours = VTDCLIP(clip, ZERO_SHOT, rngs=nnx.Rngs(0))
    frames = np.random.default_rng(0).integers(0, 256, (1, 4, 64, 64, 3), np.uint8)
    pixels = processor(list(frames[0]), return_tensors="pt").pixel_values
    tokens = tokenize(["a video of a person dancing", "hugging"])
    with torch.no_grad():
        image = model.get_image_features(pixels)
        text = model.get_text_features(torch.from_numpy(tokens.astype(np.int64)))
    for found in (
        cosines(ours.encode_frames(frames)[0], image),
        cosines(ours.encode_classes(jnp.asarray(tokens)), text),
    ):
        assert (found > 1 - 1e-6).all(), found
    # what was silently taken for granted before
    openais = dataclasses.replace(clip.config, preprocessing=type(clip.config.preprocessing)())
    clip.config = openais
    assert (cosines(ours.encode_frames(frames)[0], image) < 0.999).all()


@pytest.mark.filterwarnings("ignore")
def test_tokenizer_files_that_transformers_writes(tmp_path):
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "vocab.json").write_text(json.dumps(vocabulary()))
    lines = ["#version: 0.2", *map(" ".join, merges())]
    (tmp_path / "plain" / "merges.txt").write_text("\n".join(lines) + "\n")
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "plain")
    tokenizer.add_tokens(["<extra>", "<more>"])
    tokenizer.save_pretrained(tmp_path / "clip")
    model_of("quick_gelu", 4.0).save_pretrained(tmp_path / "clip")
    assert read_checkpoint(tmp_path / "clip")[0].vocab_size == 49410
    assert (
        tokenizer("a video of hugging")["input_ids"]
        == tokenize("a video of hugging")[0][:6].tolist()
    )
    file = tmp_path / "clip" / "tokenizer.json"
    other = json.loads(file.read_text())
    other["model"]["merges"][100] = ["x", "q"]
    file.write_text(json.dumps(other))
    with pytest.raises(UserError, match=r"tokenizer\.json: merge 101 is"):
        read_checkpoint(tmp_path / "clip")


def test_openais_class_is_known_by_the_order_of_its_tensors(tmp_path):
    torch.manual_seed(0)
    model = openai.load("model").CLIP(32, 64, 2, 64, 16, 12, 60, 64, 1, 2)
    for dtype in (torch.float16, torch.float32):
        torch.save(model.to(dtype).state_dict(), tmp_path / "clip.pt")
        config = read_checkpoint(tmp_path / "clip.pt")[0]
        assert (config.activation, config.vision_head_width) == ("quick_gelu", 64)
    # the same tensors in open_clip's order, or in a file without one: anybody's
    names = sorted(model.state_dict(), key=lambda name: (".mlp" in name, ".attn" in name))
    torch.save({name: model.state_dict()[name] for name in names}, tmp_path / "clip.pt")
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        tmp_path / "clip.safetensors",
    )
    for name in ("clip.pt", "clip.safetensors"):
        with pytest.raises(UserError, match=r"the activation and the width .* not in the weights"):
            read_checkpoint(tmp_path / name)
