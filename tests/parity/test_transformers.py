"""Full-size towers against `transformers`' PyTorch CLIPModel with random weights, through a Hugging
Face folder.
"""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import CLIPConfig as HFConfig
from transformers import CLIPModel

from parity.large import large
from vtd_jax.clip.weights.checkpoints import load_clip

SIZES = {
    "ViT-B/16": dict(width=768, layers=12, heads=12, patch=16, text=512, text_heads=8, embed=512),
    "ViT-L/14": dict(width=1024, layers=24, heads=16, patch=14, text=768, text_heads=12, embed=768),
}


def _random_clip(width, layers, heads, patch, text, text_heads, embed):
    config = HFConfig(
        projection_dim=embed,
        vision_config=dict(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            patch_size=patch,
            image_size=224,
        ),
        text_config=dict(
            hidden_size=text,
            intermediate_size=4 * text,
            num_hidden_layers=12,
            num_attention_heads=text_heads,
            eos_token_id=49407,
            bos_token_id=49406,
            pad_token_id=0,
        ),
    )
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = CLIPModel(config).eval()
    with torch.no_grad():
        # biases and norms away from 0 and 1, where a mistake in them would not show
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def _features(output):
    return (
        (output if isinstance(output, torch.Tensor) else output.pooler_output)
        .numpy()
        .astype(np.float64)
    )


@pytest.mark.parametrize("name", [large(name) if "L/14" in name else name for name in SIZES])
def test_features_of_full_size_models(name, tmp_path):
    reference = _random_clip(**SIZES[name])
    reference.save_pretrained(tmp_path)
    clip = load_clip(tmp_path)
    assert clip.config.architecture == name
    rng = np.random.default_rng(0)
    images = rng.standard_normal((2, 224, 224, 3), dtype=np.float32)
    tokens = np.zeros((3, 77), np.int64)
    for row, length in zip(tokens, (4, 20, 75), strict=True):
        row[: length + 2] = [49406, *rng.integers(1, 49406, length), 49407]
    with torch.no_grad():
        image = _features(
            reference.get_image_features(pixel_values=torch.from_numpy(images).permute(0, 3, 1, 2))
        )
        text = _features(reference.get_text_features(input_ids=torch.from_numpy(tokens)))
    for ours, expected in (
        (clip.encode_images(jnp.asarray(images)), image),
        (clip.encode_text(jnp.asarray(tokens, jnp.int32)), text),
    ):
        error = np.linalg.norm(np.asarray(ours, np.float64) - expected) / np.linalg.norm(expected)
        print(f"{name}: relative error {error:.1e}")
        assert error < 1e-5
