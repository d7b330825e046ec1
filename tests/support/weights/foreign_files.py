"""A small CLIP as Hugging Face and open_clip write it, and checks that a changed one is refused."""

import copy
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.helpers import SMALL
from vtd_jax.clip.weights.checkpoints import read_checkpoint
from vtd_jax.errors import UserError

CONFIG = dataclasses.replace(SMALL, vocab_size=96, context_length=8)
HF_CONFIG = {
    "model_type": "clip",
    "text_config": {"hidden_size": 64, "num_attention_heads": 1, "hidden_act": "gelu"},
    "vision_config": {"hidden_size": 64, "num_attention_heads": 2, "hidden_act": "gelu"},
}
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
OPEN_CLIP = {
    "model_cfg": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 96, "width": 64, "heads": 4, "layers": 2},
    }
}


def hugging_face(state: dict) -> dict[str, np.ndarray]:
    """The state under the names and layouts of `transformers.CLIPModel`."""
    out = {
        "logit_scale": state["logit_scale"],
        "visual_projection.weight": state["visual.proj"].T,
        "text_projection.weight": state["text_projection"].T,
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "text_model.embeddings.position_ids": np.arange(8)[None],
        "vision_model.embeddings.position_ids": np.arange(5)[None],
    }
    for end in ("weight", "bias"):
        out[f"vision_model.pre_layrnorm.{end}"] = state[f"visual.ln_pre.{end}"]
        out[f"vision_model.post_layernorm.{end}"] = state[f"visual.ln_post.{end}"]
        out[f"text_model.final_layer_norm.{end}"] = state[f"ln_final.{end}"]
        for tower, prefix in (("vision", "visual."), ("text", "")):
            for i in range(2):
                ours, theirs = (
                    f"{prefix}transformer.resblocks.{i}",
                    f"{tower}_model.encoder.layers.{i}",
                )
                qkv = np.split(state[f"{ours}.attn.in_proj_{end}"], 3)
                out |= {f"{theirs}.self_attn.{part}_proj.{end}": x for part, x in zip("qkv", qkv)}
                out[f"{theirs}.self_attn.out_proj.{end}"] = state[f"{ours}.attn.out_proj.{end}"]
                for a, b in (("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj")):
                    out[f"{theirs}.{a}.{end}"] = state[f"{ours}.{b}.{end}"]
                for n in (1, 2):
                    out[f"{theirs}.layer_norm{n}.{end}"] = state[f"{ours}.ln_{n}.{end}"]
    return {
        name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in out.items()
    }


def write_json(path: Path, value) -> Path:
    path.write_text(json.dumps(value))
    return path


def changed(file: Path, where: str, value: Any) -> None:
    """Sets the key at a dotted place of a JSON file."""
    content = copy.deepcopy(json.loads(file.read_text()))
    *groups, last = where.split(".")
    at = content
    for key in groups:
        at = at.setdefault(key, {})
    at[last] = value
    write_json(file, content)


def refused(path: Path, message: str, **asked) -> str:
    """The message with which the checkpoint is refused, which `message` matches."""
    with pytest.raises(UserError, match=message) as error:
        read_checkpoint(path, **asked)
    return str(error.value)


def refused_at_once(path: Path, *texts: str, seconds: float = 5) -> None:
    """Checks that the checkpoint is refused within seconds, by name and with these texts."""
    # of this process: the machine may have other work
    started = time.process_time()
    with pytest.raises(UserError) as caught:
        read_checkpoint(path)
    assert time.process_time() - started < seconds
    for text in (str(path), *texts):
        assert text in str(caught.value)
