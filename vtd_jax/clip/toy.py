"""What must be said wherever the small CLIP of this package answers."""

from vtd_jax.clip.config import CLIPConfig

_NOTE = (
    "the small CLIP of this package knows coloured, textured shapes only ('red striped circle'); "
    "on any other video its answers mean nothing"
)


def toy_note(config: CLIPConfig) -> str:
    """A warning where a CLIP is of the size of the small one that ships, whoever trained it; "" for
    all others.
    """
    return _NOTE if config.architecture == CLIPConfig.tiny().architecture else ""
