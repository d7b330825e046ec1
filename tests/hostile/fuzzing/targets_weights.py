"""Weights of others: PyTorch archives, safetensors, folders of Hugging Face, exported models."""

import functools
from pathlib import Path

from flax import nnx
from safetensors.numpy import save

from hostile.fuzzing.target import Target
from support import small_run
from support.helpers import random_state
from support.weights import encoders, torch_files
from support.weights.foreign_files import CONFIG, HF_CONFIG, hugging_face, write_json
from support.weights.gemma_files import tokenizer_json
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.tokenizing.gemma import read_gemma
from vtd_jax.clip.weights.checkpoints import load_clip, read_checkpoint, save_clip
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.saved.release_files import load_release, save_release
from vtd_jax.model.saved.tuned import load_tuned, save_tuned
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.train.learnt import describe

# a small vocabulary: files of a few hundred KB
STATE = random_state(CONFIG)


@functools.cache
def tuned_model(config: CLIPConfig = CONFIG) -> VTDCLIP:
    """A small one with prompts and fusion."""
    settings = ModelConfig(text_prompts=2, text_depth=1, visual_prompts=1, visual_depth=1)
    return VTDCLIP(clip_from_state(config, random_state(config)), settings, rngs=nnx.Rngs(0))


def write_clip(folder: Path, config: CLIPConfig = CONFIG) -> Path:
    """`clip.safetensors`, the CLIP of `tuned_model`."""
    save_clip(folder / "clip.safetensors", config, random_state(config))
    return folder / "clip.safetensors"


def write_archive(folder: Path) -> Path:
    """`clip.pt`, the same as PyTorch saves a state dict."""
    return torch_files.save(folder / "clip.pt", torch_files.state_dict(STATE))


def write_script(folder: Path) -> Path:
    """`clip.pt` with the same as nested modules of TorchScript."""
    return torch_files.save(folder / "clip.pt", torch_files.script_module(STATE))


def write_hugging_face(folder: Path) -> Path:
    """`hf/` with the same under Hugging Face's names."""
    (folder / "hf").mkdir()
    (folder / "hf" / "model.safetensors").write_bytes(save(hugging_face(STATE)))
    write_json(folder / "hf" / "config.json", HF_CONFIG)
    return folder / "hf"


def write_siglip(folder: Path) -> Path:
    """`siglip/` of another design, with its tokenizer."""
    (folder / "siglip").mkdir()
    return encoders.write_siglip(folder / "siglip", random_state(encoders.SIGLIP))


def write_tokenizer(folder: Path) -> Path:
    """`tokenizer.json` of Gemma's kind."""
    return write_json(folder / "tokenizer.json", tokenizer_json())


def write_tuned(folder: Path, config: CLIPConfig = CONFIG) -> Path:
    """`tuned.safetensors` as experiments.export writes it, and its CLIP."""
    write_clip(folder, config)
    run, model = small_run.run_config(Path("small")), tuned_model(config)
    info = describe(
        model, run, step=3, class_names=("red", "blue"), learnt_on={"origin": "given", "told": "x"}
    )
    save_tuned(folder / "tuned.safetensors", model, info)
    return folder / "tuned.safetensors"


def write_release(folder: Path) -> Path:
    """`learnt.pth` as the authors' code writes it."""
    save_release(folder / "learnt.pth", tuned_model())
    return folder / "learnt.pth"


def _reading(name: str, **asked):
    return lambda folder: read_checkpoint(folder / name, **asked)


def _load_tuned(folder: Path) -> None:
    load_tuned(folder / "tuned.safetensors", folder / "clip.safetensors")


def _tokenize(folder: Path) -> None:
    read_gemma(folder / "tokenizer.json").tokenize(["a photo of a CAT", "ünknown <eos>"])


def _load_release(folder: Path) -> None:
    load_release(tuned_model(), folder / "learnt.pth")


TARGETS = {
    "archive": Target(write_archive, _reading("clip.pt", activation="quick_gelu", head_width=32)),
    "script": Target(write_script, _reading("clip.pt")),
    "safetensors": Target(write_clip, _reading("clip.safetensors")),
    "hugging_face": Target(write_hugging_face, _reading("hf")),
    "siglip": Target(write_siglip, lambda folder: load_clip(folder / "siglip")),
    "tokenizer": Target(write_tokenizer, _tokenize),
    "tuned": Target(write_tuned, _load_tuned, ("tuned.*",)),
    "release": Target(write_release, _load_release),
}
