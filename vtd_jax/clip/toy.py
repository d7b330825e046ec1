"""The warning that goes with every answer of the small CLIP of this package."""

from vtd_jax.clip.config import CLIPConfig

_NOTE = (
    "the small CLIP of this package knows coloured, textured shapes only ('red striped circle'); "
    "on any other video its answers mean nothing"
)


def toy_note(config: CLIPConfig) -> str:
    """A warning for a CLIP of the size of the small one that ships; "" for all others."""
    return _NOTE if config.architecture == CLIPConfig.tiny().architecture else ""
