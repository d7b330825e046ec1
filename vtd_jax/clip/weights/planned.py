"""The configuration of a CLIP whose weights need not be there, for plans: from its name."""

import dataclasses
import os

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.hub.names import (
    OF_HUB,
    OF_OPEN_CLIP,
    TINY,
    check_open_clip,
    hub_name,
    is_address,
    is_name,
    meant,
    openai_name,
)
from vtd_jax.clip.hub.open_clip import OPEN_CLIP, row_of
from vtd_jax.clip.hub.resolve import held
from vtd_jax.clip.towers.published import OPEN_CLIP_SIZES, PE_CORE, SIGLIP2
from vtd_jax.clip.weights.checkpoints import read_config
from vtd_jax.console.consent import answer
from vtd_jax.errors import UserError, function

_SIGLIP2_SIZES = {"B": "base", "L": "large", "SO400M": "so400m", "g": "giant-opt"}


def planned_config(
    source: str | os.PathLike,
    *,
    activation: str | None = None,
    head_width: int | None = None,
    download: bool | None = None,
) -> tuple[CLIPConfig, bool]:
    """The configuration of a CLIP, without its tensors.

    No request is made, but for a name that does not say its sizes where downloads are allowed
    beforehand, as by `--download`: those weights are downloaded.

    Args:
      source, activation, head_width: as for `read_checkpoint`.
      download: False makes no request in any case.

    Returns:
      The configuration, and whether the weights are on this machine. Where they are it is that of
      the file, elsewhere that of the published sizes which go with the name.

    Raises:
      UserError: as for `read_checkpoint`; or weights are not on this machine, their name does not
        say their sizes, and nobody allowed a download.
    """
    asked = {"activation": activation, "head_width": head_width}
    if not is_name(source) or held(source) is not None:
        # what is not there and no name is an error here
        return read_config(source, **asked, download=False), True
    config = config_of_name(os.fspath(source))
    if config is None:
        if download is not False and answer():
            return read_config(source, **asked), True
        raise UserError(
            f"{source}: not on this machine, and its name does not say its sizes; get it with "
            f"{function('refreshed')} {source}, or give a name of the same sizes, as ViT-B/16"
        )
    return dataclasses.replace(
        config,
        activation=activation or config.activation,
        vision_head_width=head_width or config.vision_head_width,
    ), False


def config_of_name(name: str) -> CLIPConfig | None:
    """The published sizes of weights by their name; None for a name that does not say them.

    Raises:
      UserError: it has the form of a name, and is none.
    """
    if name == TINY:
        return CLIPConfig.named(TINY)
    if is_address(name):
        return None
    if name.startswith(OF_OPEN_CLIP):
        check_open_clip(name)
        return _of_open_clip(name.removeprefix(OF_OPEN_CLIP))
    if name.startswith(OF_HUB):
        one = hub_name(name)
        return None if one.file else _of_repository(one.repository)
    return CLIPConfig.named(openai_name(name))


def _of_open_clip(name: str) -> CLIPConfig:
    """Of `MODEL/TAG`, a name of the table."""
    row = row_of(name)
    assert row is not None
    model = name.partition("/")[0].removesuffix("-quickgelu")
    if model in OPEN_CLIP_SIZES:
        return CLIPConfig(**OPEN_CLIP_SIZES[model], activation=row.activation)
    return dataclasses.replace(CLIPConfig.named(meant(model)), activation=row.activation)


def _of_repository(repository: str) -> CLIPConfig | None:
    for name, row in OPEN_CLIP.items():
        if row.repository == repository:
            return _of_open_clip(name)
    known = _repositories()
    return CLIPConfig.named(known[repository]) if repository in known else None


def _repositories() -> dict[str, str]:
    """Repository of the hub -> architecture, of what is published in Hugging Face's format."""
    found = {
        "openai/clip-vit-base-patch32": "ViT-B/32",
        "openai/clip-vit-base-patch16": "ViT-B/16",
        "openai/clip-vit-large-patch14": "ViT-L/14",
        "openai/clip-vit-large-patch14-336": "ViT-L/14@336px",
    }
    for name in PE_CORE:
        # the base one has no side in its name, and G is called bigG there
        plain = name.replace("/", "-").replace("-B-16-224", "-B-16").replace("-G-", "-bigG-")
        found[f"timm/{plain}"] = name
    for name in SIGLIP2:
        size, _, rest = name.removeprefix("SigLIP2-").partition("/")
        found[f"google/siglip2-{_SIGLIP2_SIZES[size]}-patch{rest}"] = name
    return found
