"""Small CLIPs of other designs than OpenAI's, with seeded weights."""

import copy
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from support.helpers import random_state
from support.weights.foreign_files import write_json
from support.weights.gemma_files import tokenizer_json
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.model import CLIP
from vtd_jax.clip.preprocessing import Preprocessing
from vtd_jax.clip.tokenizing.gemma import GemmaTokenizer
from vtd_jax.clip.towers.design import pe_core, siglip
from vtd_jax.clip.weights.params import clip_from_state

HALVES = Preprocessing((0.5,) * 3, (0.5,) * 3, "squash", "bilinear")
SIGLIP = CLIPConfig(
    128, 48, 3, 128, 16, 64, text_layers=3, context_length=24, vocab_size=400,
    activation="gelu_tanh", vision_head_width=32, text_head_width=32, vision_mlp_width=200,
    preprocessing=HALVES, design=siglip(4, 200),
)  # fmt: skip
PE = CLIPConfig(
    64, 48, 3, 128, 16, 64, text_layers=3, context_length=32, activation="gelu",
    vision_head_width=32, preprocessing=HALVES, design=pe_core(128),
)  # fmt: skip
CONFIGS = {"siglip": SIGLIP, "pe": PE}


def tokenizer() -> GemmaTokenizer:
    """The one of `tokenizer_json`."""
    return GemmaTokenizer(json.dumps(tokenizer_json()).encode(), "tokenizer.json")


def small_clip(config: CLIPConfig, **options) -> CLIP:
    """A CLIP of one of these configurations, with its tokenizer."""
    clip = clip_from_state(config, random_state(config, 3), **options)
    clip.tokenizer = tokenizer() if config.design.tokenizer == "gemma" else None
    return clip


# as `google/siglip2-base-patch16-224` has it, small
SIGLIP_JSON = {
    "model_type": "siglip",
    "text_config": {
        "model_type": "siglip_text_model",
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_attention_heads": 2,
        "max_position_embeddings": 24,
        "projection_size": 128,
        "vocab_size": 400,
        "bos_token_id": 49406,
    },
    "vision_config": {
        "hidden_size": 128,
        "intermediate_size": 200,
        "num_attention_heads": 4,
        "patch_size": 16,
        "image_size": 48,
        "num_hidden_layers": 3,
    },
}
PROCESSOR = {
    "image_processor_type": "SiglipImageProcessor",
    "processor_class": "SiglipProcessor",
    "do_convert_rgb": None,
    "do_resize": True,
    "size": {"height": 48, "width": 48},
    "resample": 2,
}
# what the published ones were made with: convert_siglip_to_hf.py of transformers 4.49
TOKENIZER_CONFIG = {
    "add_bos_token": False,
    "add_eos_token": True,
    "added_tokens_decoder": {"0": {"content": "<pad>", "special": True}},
    "do_lower_case": True,
    "model_input_names": ["input_ids"],
    "model_max_length": 1000000000000000019884624838656,
    "padding_side": "right",
    "processor_class": "SiglipProcessor",
    "tokenizer_class": "GemmaTokenizer",
}


def hugging_face(state: dict) -> dict[str, np.ndarray]:
    """The state under the names and layouts of `transformers.SiglipModel`."""
    out = {
        "text_model.head.weight": state["text_projection"].T,
        "text_model.head.bias": state["text_projection_bias"],
        "logit_scale": state["logit_scale"].reshape(1),
        "logit_bias": state["logit_bias"].reshape(1),
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
        "vision_model.head.probe": state["visual.attn_pool.probe"],
    }
    renamed = (
        ("visual.conv1", "vision_model.embeddings.patch_embedding"),
        ("visual.ln_post", "vision_model.post_layernorm"),
        ("visual.attn_pool.attn.in_proj_", "vision_model.head.attention.in_proj_"),
        ("visual.attn_pool.attn", "vision_model.head.attention"),
        ("visual.attn_pool.mlp.c_fc", "vision_model.head.mlp.fc1"),
        ("visual.attn_pool.mlp.c_proj", "vision_model.head.mlp.fc2"),
        ("visual.attn_pool", "vision_model.head"),
        ("visual.transformer.resblocks", "vision_model.encoder.layers"),
        ("transformer.resblocks", "text_model.encoder.layers"),
        ("ln_final", "text_model.final_layer_norm"),
    )
    for name, array in state.items():
        start = next((pair for pair in renamed if name.startswith(pair[0])), None)
        if start is None or name.endswith("probe"):
            continue
        name = name.replace(*start, 1)
        for ours, theirs in (("ln_", "layer_norm"), ("attn.out_proj", "self_attn.out_proj")):
            name = name.replace(f".{ours}", f".{theirs}")
        name = name.replace("mlp.c_fc", "mlp.fc1").replace("mlp.c_proj", "mlp.fc2")
        if ".attn.in_proj_" in name:
            for part, x in zip("qkv", np.split(array, 3)):
                out[name.replace("attn.in_proj_", f"self_attn.{part}_proj.")] = x
        else:
            out[name] = array
    return {name: np.ascontiguousarray(x).reshape(np.shape(x)) for name, x in out.items()}


def write_siglip(folder: Path, state: dict) -> Path:
    """A small SigLIP as Hugging Face has it: weights, configs, tokenizer."""
    save_file(hugging_face(state), folder / "model.safetensors")
    config = copy.deepcopy(SIGLIP_JSON)
    config["text_config"]["num_hidden_layers"] = 3
    write_json(folder / "config.json", config)
    write_json(folder / "preprocessor_config.json", PROCESSOR)
    write_json(folder / "tokenizer.json", tokenizer_json())
    write_json(folder / "tokenizer_config.json", TOKENIZER_CONFIG)
    return folder
