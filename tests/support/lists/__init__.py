"""Lists of made-up videos, and official downloads that are damaged."""

from pathlib import Path

import pytest

from vtd_jax.errors import UserError
from vtd_jax.video.lists.catalog import Entry, VideoList
from vtd_jax.video.lists.official import official_lists
from vtd_jax.video.lists.protocols import own_splits


def listed(name: str, counts: list[int]) -> VideoList:
    """A list with so many videos a class; classes are mixed, as official lists of SSv2 are."""
    videos = sorted((i, label) for label, count in enumerate(counts) for i in range(count))
    entries = tuple(
        Entry(f"{name}_{label}_{i}.avi", label, at) for at, (i, label) in enumerate(videos, start=1)
    )
    return VideoList(
        name,
        entries,
        tuple(f"class {label}" for label in range(len(counts))),
        "official",
        f"{name}.txt",
    )


def made(dataset: str, train: VideoList, val: VideoList, seed: int = 0) -> dict[str, VideoList]:
    """The lists that the rule makes, by name."""
    return {found.name: found for found in own_splits(dataset, [val, train], seed)}


def write(path: Path, text: str) -> Path:
    """Writes a file, in a new folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def fails(dataset: str, source: Path) -> str:
    """The one line with which reading an official download fails."""
    with pytest.raises(UserError) as error:
        official_lists(dataset, source)
    assert "\n" not in str(error.value)
    return str(error.value)
