"""Sizes of published CLIPs that are not OpenAI's, as fields of `CLIPConfig`."""

from typing import Any

from vtd_jax.clip.preprocessing import Preprocessing
from vtd_jax.clip.towers.design import pe_core, siglip

# images of SigLIP 2 and PE: mean and deviation of a half, scaled to a square, bilinearly
HALVES = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "squash", "bilinear")
# name -> layers, width and heads of the image tower, patch and image side, and width, layers and
# positions of the text tower, which embeds in as many channels
_PE_CORE = {
    "PE-Core-T/16-384": (12, 192, 3, 16, 384, 512, 12, 32),
    "PE-Core-S/16-384": (12, 384, 6, 16, 384, 512, 12, 32),
    "PE-Core-B/16-224": (12, 768, 12, 16, 224, 1024, 24, 32),
    "PE-Core-L/14-336": (24, 1024, 16, 14, 336, 1024, 24, 32),
    "PE-Core-G/14-448": (50, 1536, 16, 14, 448, 1280, 24, 72),
}
# name -> layers, width, heads and MLP width of the image tower, patch and image side, and width,
# layers and MLP width of the text tower
_BASE, _LARGE = (12, 768, 12, 3072), (24, 1024, 16, 4096)
_SO400M, _GIANT = (27, 1152, 16, 4304), (40, 1536, 16, 6144)
_BASE_TEXT, _LARGE_TEXT, _SO400M_TEXT = (768, 12, 3072), (1024, 24, 4096), (1152, 27, 4304)
_SIGLIP2 = {
    "SigLIP2-B/32-256": (*_BASE, 32, 256, *_BASE_TEXT),
    **{f"SigLIP2-B/16-{side}": (*_BASE, 16, side, *_BASE_TEXT) for side in (224, 256, 384, 512)},
    **{f"SigLIP2-L/16-{side}": (*_LARGE, 16, side, *_LARGE_TEXT) for side in (256, 384, 512)},
    **{f"SigLIP2-SO400M/14-{side}": (*_SO400M, 14, side, *_SO400M_TEXT) for side in (224, 384)},
    **{
        f"SigLIP2-SO400M/16-{side}": (*_SO400M, 16, side, *_SO400M_TEXT) for side in (256, 384, 512)
    },
    **{f"SigLIP2-g/16-{side}": (*_GIANT, 16, side, *_SO400M_TEXT) for side in (256, 384)},
}
# sizes of open_clip that OpenAI does not have, by open_clip's names: embedding, image side, layers,
# width, patch, heads' width and MLP width of the image tower, width and layers of the text tower
_OPEN_CLIP = {
    "ViT-B-32-256": (512, 256, 12, 768, 32, 64, None, 512, 12),
    "ViT-B-16-plus-240": (640, 240, 12, 896, 16, 64, None, 640, 12),
    "ViT-H-14": (1024, 224, 32, 1280, 14, 80, None, 1024, 24),
    "ViT-H-14-378": (1024, 378, 32, 1280, 14, 80, None, 1024, 24),
    "ViT-g-14": (1024, 224, 40, 1408, 14, 88, 6144, 1024, 24),
    "ViT-bigG-14": (1280, 224, 48, 1664, 14, 104, 8192, 1280, 32),
}
_TEXT_HEADS = {768: 12, 1024: 16, 1152: 16}


def _of_pe_core(
    layers: int, width: int, heads: int, patch: int, side: int, text: int, depth: int, length: int
) -> dict[str, Any]:
    giant = width == 1536
    return _fields((layers, width, heads, patch, side), (text, depth, length)) | {
        "embed_dim": text,
        "activation": "gelu",
        "vision_mlp_width": 8960 if giant else None,
        "design": pe_core(width, class_token=not giant),
    }


def _of_siglip2(
    layers: int, width: int, heads: int, mlp: int, patch: int, side: int, text: int, depth: int,
    text_mlp: int,
) -> dict[str, Any]:  # fmt: skip
    return _fields((layers, width, heads, patch, side), (text, depth, 64)) | {
        "embed_dim": width,
        "vocab_size": 256_000,
        "activation": "gelu_tanh",
        "text_head_width": text // _TEXT_HEADS[text],
        "vision_mlp_width": mlp,
        "text_mlp_width": text_mlp,
        "design": siglip(heads, mlp),
    }


def _of_open_clip(
    embed: int, side: int, layers: int, width: int, patch: int, head: int, mlp: int | None,
    text: int, text_layers: int,
) -> dict[str, Any]:  # fmt: skip
    return {
        "embed_dim": embed,
        "image_resolution": side,
        "vision_layers": layers,
        "vision_width": width,
        "vision_patch_size": patch,
        "text_width": text,
        "text_layers": text_layers,
        "vision_head_width": head,
        "vision_mlp_width": mlp,
    }


def _fields(image: tuple[int, int, int, int, int], text: tuple[int, int, int]) -> dict[str, Any]:
    """What both have: layers, width, heads, patch and side; width, layers and positions."""
    layers, width, heads, patch, side = image
    return {
        "image_resolution": side,
        "vision_layers": layers,
        "vision_width": width,
        "vision_patch_size": patch,
        "vision_head_width": width // heads,
        "text_width": text[0],
        "text_layers": text[1],
        "context_length": text[2],
        "preprocessing": HALVES,
    }


# name -> the fields of `CLIPConfig`
PE_CORE = {name: _of_pe_core(*sizes) for name, sizes in _PE_CORE.items()}
SIGLIP2 = {name: _of_siglip2(*sizes) for name, sizes in _SIGLIP2.items()}
OTHERS = PE_CORE | SIGLIP2
# the same of open_clip's, whose activation is that of the weights
OPEN_CLIP_SIZES = {name: _of_open_clip(*sizes) for name, sizes in _OPEN_CLIP.items()}
