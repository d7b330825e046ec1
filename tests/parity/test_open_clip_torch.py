"""open_clip's ViTs and PE-Cores with random weights at full width, through the files that open_clip
and Meta publish.
"""

import json
import re
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from parity import bare_open_clip
from vtd_jax.clip.compute import Compute
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.tokenizer import tokenize
from vtd_jax.clip.weights.architecture import config_of, sizes_of
from vtd_jax.clip.weights.checkpoints import load_clip, save_clip
from vtd_jax.clip.weights.foreign import to_openai_names
from vtd_jax.clip.weights.lazy import LazyTensor
from vtd_jax.clip.weights.open_clip_config import open_clip_settings
from vtd_jax.clip.weights.params import check_shapes, state_from_clip
from vtd_jax.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore")
open_clip = bare_open_clip.load()

# open_clip's name -> layers that are kept, None for all: DFN's H has QuickGELU, and MLPs of g and
# bigG are no multiple of their width
VITS = {
    "ViT-B-32": None,
    "ViT-B-16-quickgelu": None,
    "ViT-L-14": 3,
    "ViT-H-14": None,
    "ViT-H-14-378-quickgelu": 2,
    "ViT-g-14": 2,
    "ViT-bigG-14": 2,
}
PE_CORES = {"PE-Core-B-16": "PE-Core-B/16-224", "PE-Core-L-14-336": "PE-Core-L/14-336"}
HALVES = dict(
    mean=[0.5] * 3, std=[0.5] * 3, interpolation="bilinear", resize_mode="squash", mode="RGB"
)


def model_of(config: dict) -> torch.nn.Module:
    """open_clip's model of a `model_cfg`, biases and norms away from 0 and 1."""
    torch.manual_seed(0)
    name = "compared"
    open_clip.factory._MODEL_CONFIGS[name] = config
    model = open_clip.create_model(name).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def written(folder, model: torch.nn.Module, config: dict, preprocess: dict | None = None):
    """The files that `push_to_hf_hub` of open_clip writes."""
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    whole = {"model_cfg": config, "preprocess_cfg": preprocess or {}}
    (folder / "open_clip_config.json").write_text(json.dumps(whole))
    return folder


def relative(ours, theirs) -> float:
    ours, theirs = np.asarray(ours, np.float64), theirs.double().numpy()
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


class Expected(NamedTuple):
    """Two pictures and two texts, and what PyTorch makes of them.

    It is computed before our CLIP is loaded, as the largest two at once are most of a machine.
    """

    pixels: np.ndarray
    tokens: np.ndarray
    images: torch.Tensor
    texts: torch.Tensor


def expected(model: torch.nn.Module) -> Expected:
    """Features of open_clip's model."""
    side, length = model.visual.image_size[0], model.context_length
    pixels = np.random.default_rng(0).standard_normal((2, side, side, 3), dtype=np.float32)
    tokens = tokenize(["a video of a person dancing", "hugging"], context_length=length)
    with torch.no_grad():
        images = model.encode_image(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        texts = model.encode_text(torch.from_numpy(tokens.astype(np.int64)))
    return Expected(pixels, tokens, images, texts)


def compared(clip, theirs: Expected) -> None:
    """Features agree to 1e-5, of the plain path too."""
    assert clip.config.image_resolution == theirs.pixels.shape[1]
    assert clip.config.context_length == theirs.tokens.shape[1]
    for compute in (Compute(), Compute(plain=True)):
        errors = (
            relative(
                clip.encode_images(jnp.asarray(theirs.pixels), compute=compute), theirs.images
            ),
            relative(clip.encode_text(jnp.asarray(theirs.tokens), compute=compute), theirs.texts),
        )
        print(f"{clip.config.architecture}: {errors[0]:.1e} and {errors[1]:.1e}")
        assert max(errors) < 1e-5


@pytest.mark.parametrize("name", VITS)
def test_vits(name, tmp_path):
    config = open_clip.get_model_config(name)
    if (layers := VITS[name]) is not None:
        config["vision_cfg"]["layers"] = config["text_cfg"]["layers"] = layers
    model = model_of(config)
    folder, theirs = written(tmp_path, model, config), expected(model)
    del model
    clip = load_clip(folder)
    assert clip.config.activation == ("quick_gelu" if "quickgelu" in name else "gelu")
    compared(clip, theirs)


@pytest.mark.parametrize("name", PE_CORES)
def test_pe_cores(name, tmp_path):
    config = open_clip.get_model_config(name)
    model = model_of(config)
    folder, theirs = written(tmp_path, model, config, HALVES), expected(model)
    (tmp_path / "meta").mkdir()
    with torch.no_grad():
        # what is behind Meta's projection is zero
        assert model.visual.trunk.head.bias.abs().sum() > 0
        model.visual.trunk.head.bias.zero_()
    of_metas = expected(model)
    # apart from open_clip's config
    torch.save(of_meta(model.state_dict()), tmp_path / "meta" / "pe.pt")
    del model
    compared(load_clip(folder), theirs)
    clip = load_clip(tmp_path / "meta" / "pe.pt")
    assert clip.config == CLIPConfig.named(PE_CORES[name])
    compared(clip, of_metas)


def test_a_pe_core_is_saved_and_read_again(tmp_path):
    config = open_clip.get_model_config("PE-Core-T-16-384")
    config["vision_cfg"]["timm_model_name"] = "vit_pe_core_tiny_patch16_384"
    model = model_of(config)
    clip = load_clip(written(tmp_path, model, config, HALVES))
    save_clip(tmp_path / "ours.safetensors", clip.config, state_from_clip(clip))
    again = load_clip(tmp_path / "ours.safetensors")
    assert again.config == clip.config
    compared(again, expected(model))


def _read(name: str, folder) -> str:
    """What becomes of open_clip's model by that name, from its config and the shapes of its
    tensors: "read", or the message.
    """
    config = open_clip.get_model_config(name)
    # no numbers are made
    with torch.device("meta"):
        state = open_clip.create_model(name, device="meta").state_dict()
    file = folder / "open_clip_config.json"
    file.write_text(json.dumps({"model_cfg": config}))
    try:
        lazy = {key: LazyTensor(tuple(x.shape), lambda: np.zeros(0)) for key, x in state.items()}
        shapes = {key: x.shape for key, x in to_openai_names(lazy, name).items()}
        sizes = sizes_of(shapes, name)
        check_shapes(config_of(sizes | open_clip_settings(file, sizes), name), shapes, name)
    except UserError as error:
        return str(error)
    return "read"


def test_every_vit_of_open_clip_is_read_or_refused(tmp_path):
    names = [name for name in open_clip.list_models() if name.startswith(("ViT-", "PE-Core-"))]
    refused = {
        "SigLIP": "a SigLIP as open_clip saves it|not a whole CLIP: missing: text_projection",
        "CLIPA": "others .pre_norm.",
        "worldwide": "hf_tokenizer_name is",
        "M-16-alt": "ls_init_value is 0.0001",
    }
    assert len(names) > 60
    for name in names:
        found = _read(name, tmp_path)
        expected = next((text for part, text in refused.items() if part in name), "^read$")
        assert re.search(expected, found), f"{name}: {found}"


# timm's names -> Meta's
_META = (
    ("patch_embed.proj", "conv1"),
    ("norm_pre.", "ln_pre."),
    ("pos_embed", "positional_embedding"),
    ("cls_token", "class_embedding"),
    ("blocks.", "transformer.resblocks."),
    (".attn.qkv.", ".attn.in_proj_"),
    (".attn.proj.", ".attn.out_proj."),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("attn_pool.proj.", "attn_pool.attn.out_proj."),
    ("attn_pool.norm.", "attn_pool.layernorm."),
    ("attn_pool.latent", "attn_pool.probe"),
)


def of_meta(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state of open_clip's PE-Core as Meta's own class has it."""
    out = {}
    for name, tensor in state.items():
        if not name.startswith("visual.trunk."):
            out[name.removeprefix("text.")] = tensor
            continue
        name = name.removeprefix("visual.trunk.")
        for theirs, metas in _META:
            name = name.replace(theirs, metas)
        name = re.sub(r"(resblocks\.\d+)\.norm", r"\1.ln_", re.sub(r"^norm\.", "ln_post.", name))
        if name in ("class_embedding", "positional_embedding"):
            tensor = tensor.reshape(tensor.shape[-1] if name[0] == "c" else tensor.shape[1:])
        out[f"visual.{name}"] = tensor
    for end in ("weight", "bias"):
        parts = [out.pop(f"visual.attn_pool.{part}.{end}") for part in ("q", "kv")]
        out[f"visual.attn_pool.attn.in_proj_{end}"] = torch.cat(parts)
    assert not out.pop("visual.head.bias").any()
    out["visual.proj"] = out.pop("visual.head.weight").T.contiguous()
    return out
