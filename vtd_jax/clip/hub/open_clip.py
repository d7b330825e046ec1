"""Weights by the names that open_clip gives them: model and tag."""

from typing import NamedTuple

GELU, QUICK = "gelu", "quick_gelu"


class Row(NamedTuple):
    """Where weights are, and what no tensor of them shows.

    Attributes:
      repository: on the Hugging Face Hub.
      activation: of both towers.
      head_width: of the image tower's attention.
    """

    repository: str
    activation: str
    head_width: int = 64


# pretrained.py and model_configs/ of open_clip_torch 3.3.0; what a repository's own
# open_clip_config.json says comes first
OPEN_CLIP = {
    "RN50/openai": Row("timm/resnet50_clip.openai", QUICK),
    "RN101/openai": Row("timm/resnet101_clip.openai", QUICK),
    "RN50x4/openai": Row("timm/resnet50x4_clip.openai", QUICK),
    "RN50x16/openai": Row("timm/resnet50x16_clip.openai", QUICK),
    "RN50x64/openai": Row("timm/resnet50x64_clip.openai", QUICK),
    "ViT-B-32/openai": Row("timm/vit_base_patch32_clip_224.openai", QUICK),
    "ViT-B-32/laion400m_e31": Row("timm/vit_base_patch32_clip_224.laion400m_e31", QUICK),
    "ViT-B-32/laion400m_e32": Row("timm/vit_base_patch32_clip_224.laion400m_e32", QUICK),
    "ViT-B-32/laion2b_e16": Row("timm/vit_base_patch32_clip_224.laion2b_e16", GELU),
    "ViT-B-32/laion2b_s34b_b79k": Row("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", GELU),
    "ViT-B-32/datacomp_xl_s13b_b90k": Row("laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K", GELU),
    "ViT-B-32/metaclip_400m": Row("timm/vit_base_patch32_clip_224.metaclip_400m", QUICK),
    "ViT-B-32/metaclip_fullcc": Row("timm/vit_base_patch32_clip_224.metaclip_2pt5b", QUICK),
    "ViT-B-32-256/datacomp_s34b_b86k": Row("laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K", GELU),
    "ViT-B-16/openai": Row("timm/vit_base_patch16_clip_224.openai", QUICK),
    "ViT-B-16/laion400m_e31": Row("timm/vit_base_patch16_clip_224.laion400m_e31", GELU),
    "ViT-B-16/laion400m_e32": Row("timm/vit_base_patch16_clip_224.laion400m_e32", GELU),
    "ViT-B-16/laion2b_s34b_b88k": Row("laion/CLIP-ViT-B-16-laion2B-s34B-b88K", GELU),
    "ViT-B-16/datacomp_xl_s13b_b90k": Row("laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K", GELU),
    "ViT-B-16/datacomp_l_s1b_b8k": Row("laion/CLIP-ViT-B-16-DataComp.L-s1B-b8K", GELU),
    "ViT-B-16/dfn2b": Row("apple/DFN2B-CLIP-ViT-B-16", QUICK),
    "ViT-B-16/metaclip_400m": Row("timm/vit_base_patch16_clip_224.metaclip_400m", QUICK),
    "ViT-B-16/metaclip_fullcc": Row("timm/vit_base_patch16_clip_224.metaclip_2pt5b", QUICK),
    "ViT-B-16-plus-240/laion400m_e31": Row(
        "timm/vit_base_patch16_plus_clip_240.laion400m_e31", GELU
    ),
    "ViT-L-14/openai": Row("timm/vit_large_patch14_clip_224.openai", QUICK),
    "ViT-L-14/laion400m_e31": Row("timm/vit_large_patch14_clip_224.laion400m_e31", GELU),
    "ViT-L-14/laion400m_e32": Row("timm/vit_large_patch14_clip_224.laion400m_e32", GELU),
    "ViT-L-14/laion2b_s32b_b82k": Row("laion/CLIP-ViT-L-14-laion2B-s32B-b82K", GELU),
    "ViT-L-14/datacomp_xl_s13b_b90k": Row("laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K", GELU),
    "ViT-L-14/metaclip_400m": Row("timm/vit_large_patch14_clip_224.metaclip_400m", QUICK),
    "ViT-L-14/metaclip_fullcc": Row("timm/vit_large_patch14_clip_224.metaclip_2pt5b", QUICK),
    "ViT-L-14/dfn2b": Row("apple/DFN2B-CLIP-ViT-L-14", QUICK),
    "ViT-L-14/dfn2b_s39b": Row("apple/DFN2B-CLIP-ViT-L-14-39B", GELU),
    "ViT-L-14-336/openai": Row("timm/vit_large_patch14_clip_336.openai", QUICK),
    "ViT-H-14/laion2b_s32b_b79k": Row("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", GELU, 80),
    "ViT-H-14/metaclip_fullcc": Row("timm/vit_huge_patch14_clip_224.metaclip_2pt5b", QUICK, 80),
    "ViT-H-14/metaclip_altogether": Row(
        "timm/vit_huge_patch14_clip_224.metaclip_altogether", GELU, 80
    ),
    "ViT-H-14/dfn5b": Row("apple/DFN5B-CLIP-ViT-H-14", QUICK, 80),
    "ViT-H-14-378/dfn5b": Row("apple/DFN5B-CLIP-ViT-H-14-378", QUICK, 80),
    "ViT-g-14/laion2b_s12b_b42k": Row("laion/CLIP-ViT-g-14-laion2B-s12B-b42K", GELU, 88),
    "ViT-g-14/laion2b_s34b_b88k": Row("laion/CLIP-ViT-g-14-laion2B-s34B-b88K", GELU, 88),
    "ViT-bigG-14/laion2b_s39b_b160k": Row("laion/CLIP-ViT-bigG-14-laion2B-39B-b160k", GELU, 104),
    "ViT-bigG-14/metaclip_fullcc": Row(
        "timm/vit_gigantic_patch14_clip_224.metaclip_2pt5b", QUICK, 104
    ),
}


def row_of(name: str) -> Row | None:
    """The row of `MODEL/TAG`; `MODEL-quickgelu/TAG` is the same where the weights are of that
    kind.
    """
    model, _, tag = name.partition("/")
    row = OPEN_CLIP.get(f"{model.removesuffix('-quickgelu')}/{tag}")
    if row is None or (model.endswith("-quickgelu") and row.activation != QUICK):
        return None
    return row
