"""SigLIP 2 against transformers' SiglipModel with random weights, through a Hugging Face folder."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel
from transformers.models.siglip2.tokenization_siglip2 import Siglip2Tokenizer

from support.weights.gemma_files import tokenizer_json
from vtd_jax.clip.compute import Compute
from vtd_jax.clip.tokenizing.gemma import read_gemma
from vtd_jax.clip.weights.checkpoints import load_clip, save_clip
from vtd_jax.clip.weights.params import state_from_clip

pytestmark = pytest.mark.filterwarnings("ignore")

# the vocabulary is a table only; cut, the models fit the memory of a small machine
BASE = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
SO400M = dict(
    hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16
)
SIZES = {
    "B/16-224": (BASE, dict(patch_size=16, image_size=224), 256_000),
    "SO400M/14-224": (SO400M, dict(patch_size=14, image_size=224), 1000),
    # whose last 6 pixels fill no patch; at full width, with three layers
    "SO400M/14-384": (
        SO400M | dict(num_hidden_layers=3),
        dict(patch_size=14, image_size=384),
        1000,
    ),
}


def siglip_of(both: dict, image: dict, tokens: int) -> SiglipModel:
    """A SiglipModel with biases and norms away from 0 and 1."""
    torch.manual_seed(0)
    text = both | dict(vocab_size=tokens, max_position_embeddings=64)
    config = SiglipConfig(text_config=text, vision_config=both | image)
    config._attn_implementation = "eager"
    model = SiglipModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        model.logit_scale.fill_(4.7)
        model.logit_bias.fill_(-16.5)
    return model


def relative(ours, theirs) -> float:
    ours, theirs = np.asarray(ours, np.float64), theirs.double().numpy()
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


@pytest.mark.parametrize("name", SIZES)
def test_features_and_logits_of_full_size_models(name, tmp_path):
    both, image, tokens = SIZES[name]
    model = siglip_of(both, image, tokens)
    model.save_pretrained(tmp_path)
    side = image["image_size"]
    SiglipImageProcessorPil(size={"height": side, "width": side}).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((2, side, side, 3), dtype=np.float32)
    ids = rng.integers(0, tokens, (3, 64))
    with torch.no_grad():
        out = model(
            input_ids=torch.from_numpy(ids),
            pixel_values=torch.from_numpy(pixels).permute(0, 3, 1, 2),
        )
        texts = model.get_text_features(torch.from_numpy(ids)).pooler_output
        images = model.get_image_features(
            torch.from_numpy(pixels).permute(0, 3, 1, 2)
        ).pooler_output
    logits_there = out.logits_per_image.numpy()
    # the two largest at once are most of a machine
    del model, out
    clip = load_clip(tmp_path)
    assert clip.config.image_resolution == side
    if tokens == 256_000:
        assert clip.config.architecture == f"SigLIP2-{name}"
    for compute in (Compute(), Compute(plain=True)):
        ours = clip.encode_images(jnp.asarray(pixels), compute=compute)
        words = clip.encode_text(jnp.asarray(ids, jnp.int32), compute=compute)
        errors = relative(ours, images), relative(words, texts)
        print(f"{name}: relative errors {errors[0]:.1e} and {errors[1]:.1e}")
        assert max(errors) < 1e-5
    unit = [x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (ours, words)]
    logits = unit[0] @ unit[1].T * jnp.exp(clip.logit_scale[...]) + clip.logit_bias[...]
    np.testing.assert_allclose(logits, logits_there, atol=2e-4)


def test_a_folder_that_transformers_writes_is_read_and_saved_again(tmp_path):
    small = dict(hidden_size=64, intermediate_size=100, num_hidden_layers=2, num_attention_heads=2)
    model = siglip_of(small, dict(patch_size=16, image_size=32), 400)
    folder = tmp_path / "siglip"
    model.save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
    clip = load_clip(folder)
    assert clip.config.preprocessing.squash
    assert clip.config.preprocessing.mean == (0.5, 0.5, 0.5)
    assert clip.config.vision_mlp_width == 100
    save_clip(
        tmp_path / "ours.safetensors", clip.config, state_from_clip(clip), tokenizer=clip.tokenizer
    )
    again = load_clip(tmp_path / "ours.safetensors")
    assert (again.config, again.tokenizer) == (clip.config, clip.tokenizer)
    pixels = jnp.asarray(np.random.default_rng(0).standard_normal((1, 32, 32, 3), dtype=np.float32))
    np.testing.assert_array_equal(again.encode_images(pixels), clip.encode_images(pixels))


def test_tokens_are_those_of_transformers(tmp_path):
    content = tokenizer_json()
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(
            dict(
                tokenizer_class="Siglip2Tokenizer",
                add_bos_token=False,
                add_eos_token=True,
                padding_side="right",
            )
        )
    )
    theirs = Siglip2Tokenizer.from_pretrained(tmp_path)
    ours = read_gemma(tmp_path / "tokenizer.json")
    texts = [
        "a photo of a cat", "A Photo of a CAT", "  two  blanks ", "naïve café ☕", "tab\tand\nline",
        "", "hugging", "a video of <eos> brushing hair.", "ÄÖÜ ß İ", "x" * 30, "<table>cat\n\ndog",
    ]  # fmt: skip
    expected = theirs(texts, padding="max_length", max_length=64, truncation=True)["input_ids"]
    np.testing.assert_array_equal(ours.tokenize(texts, context_length=64), expected)
    long = theirs("cat " * 100, padding="max_length", max_length=64, truncation=True)["input_ids"]
    assert ours.tokenize("cat " * 100, truncate=True)[0].tolist() == long
