"""Meta's PE-Core, known by the names and sizes of its tensors: nothing beside its files says."""

from collections.abc import Mapping
from typing import Any

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.towers.published import PE_CORE

# only Meta's class gives OpenAI's towers such a head
_HEAD = "visual.attn_pool.probe"


def pe_core_settings(names: Mapping[str, Any], sizes: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fields of `CLIPConfig` that shapes do not show; None for anything but a PE-Core.

    Args:
      names: of the tensors, as the file has them.
      sizes: fields read off the shapes, all of which must be a published PE-Core's.
    """
    if _HEAD not in names:
        return None
    for name in PE_CORE:
        config = CLIPConfig.named(name)
        same = all(getattr(config, field) == x for field, x in sizes.items() if field != "seen")
        if same and all(getattr(config.design, field) == x for field, x in sizes["seen"].items()):
            return {
                "activation": config.activation,
                "vision_head_width": config.vision_head_width,
                "text_head_width": config.text_head_width,
                "design": config.design,
                "preprocessing": config.preprocessing,
            }
    return None
