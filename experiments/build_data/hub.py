"""`--source=hf:ORG/DATASET`: a data set of the Hugging Face Hub as lists and files."""

import dataclasses
from collections.abc import Mapping

from vtd_jax.clip.hub import data_sets
from vtd_jax.clip.hub.names import OF_HUB, data_set_name
from vtd_jax.errors import UserError, setting
from vtd_jax.video.hub_sets.files import chosen
from vtd_jax.video.hub_sets.unpack import finished, unpacked
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.gather import matches


def is_hub(source: str) -> bool:
    """Whether a source is a data set of the hub."""
    return source.startswith(OF_HUB)


def short_name(source: str) -> str:
    """The data set's name without its organisation, for the folder of its records."""
    return data_set_name(source).repository.rpartition("/")[2]


def resolved(config: BuildConfig) -> BuildConfig:
    """A config whose source is on this machine; downloads and unpacks what is not.

    Raises:
      UserError: as `data_sets.fetched` and `unpacked` do.
    """
    if not is_hub(config.source):
        return config
    name = data_set_name(config.source)
    if config.video_dir:
        raise UserError(
            f"{setting('video_dir', config.video_dir)}: the videos are those of {config.source}; "
            "leave it out"
        )
    # lists of the user's take the place of the hub's, and choose videos by themselves
    given = bool(config.lists or config.splits)
    only = () if given else tuple(config.only)

    def choose(sizes: Mapping[str, int | None]) -> list[str]:
        return chosen(sizes, name.file, lambda split: not only or matches(split, only), what)

    what = data_sets.shown_name(name._replace(file=""))
    known = data_sets.noted(config.source, only)
    laid = known and finished(known.mark, known.files)
    if not laid:
        found = data_sets.fetched(config.source, choose, only)
        laid = unpacked(found.folder, found.files, found.classes, found.mark, found.what)
    folder, lists = str(laid.folder), config.lists if given else laid.lists
    return dataclasses.replace(config, source=folder, video_dir=folder, lists=lists)
