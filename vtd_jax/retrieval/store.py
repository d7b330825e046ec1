"""The manifest of an index on disk.

    index.json           the manifest: the encoder, and all shards with their checksums
    00000.safetensors    raw frame features, float16 [clips, T, D]
    00000.json           the clips of that shard, see `shard_files.Row`

Files are never rewritten. A shard that is merged with others gets a new number, and its old files
are removed once the manifest no longer names them. Names of files are made of numbers; no text of a
manifest is ever used as a path.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, NotRequired, TypedDict

import msgspec

from vtd_jax.cache.shards import ENDING
from vtd_jax.errors import UserError
from vtd_jax.files import write_text
from vtd_jax.manifest import Manifest, read_manifest
from vtd_jax.untrusted.json_text import Count, convert
from vtd_jax.untrusted.limits import (
    JSON_BYTES,
    MOST_FRAMES_OF_A_VIDEO,
    NAME_CHARACTERS,
    SMALL_JSON_BYTES,
    TEXT_CHARACTERS,
)

FILE = "index.json"
# kind of the manifest, and version of this format
_KIND, _FORMAT = "index of videos", 1
# clips of a shard, fewer where they would have more bytes
_CLIPS, _SHARD_BYTES = 256, 2**26
# bytes that a clip may take in the list of its shard: for each frame, and for its path and note,
# whose characters may each become six
_FRAME_BYTES, _NAME_BYTES = 64, 6 * (NAME_CHARACTERS + TEXT_CHARACTERS)
# numbers of a frame's features, the widest CLIPs have 1536; and shards, 25 million clips
_WIDTH, _SHARDS = 8192, 100_000

_Text = Annotated[str, msgspec.Meta(max_length=TEXT_CHARACTERS)]
_Path = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_CHARACTERS)]
_Crc = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{8}\Z")]


@dataclasses.dataclass(frozen=True)
class Shard:
    """An entry of the manifest.

    Attributes:
      number: in the names of its files.
      clips: in the shard.
      features, rows: CRC-32 of its two files.
      dropped: clips that no longer count, because they changed, moved or are gone.
    """

    number: Count
    clips: Annotated[int, msgspec.Meta(ge=1, le=_CLIPS)]
    features: _Crc
    rows: _Crc
    dropped: list[Count] = dataclasses.field(default_factory=list)

    @property
    def kept(self) -> list[int]:
        """The clips that count."""
        dropped = set(self.dropped)
        return [place for place in range(self.clips) if place not in dropped]


@dataclasses.dataclass(frozen=True)
class Contents:
    """The content of a manifest.

    Attributes:
      encoder: fingerprint of everything that frame features depend on.
      frames: T of every clip.
      width: D, numbers of a frame's features.
      model: name or path of the encoder, as it was given.
      weights: fingerprint of all its weights.
      preprocess: how frames were scaled, in words.
      settings: of `vtd_jax.load`, without which the encoder would be another.
      roots: folders that paths of clips begin at.
      shards: all of them.
      sizes: bytes of all files, by name.
    """

    encoder: str
    frames: int
    width: int
    model: str
    weights: str
    preprocess: str
    settings: dict[str, str | int | None]
    roots: tuple[str, ...] = ()
    shards: tuple[Shard, ...] = ()
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def clips_a_shard(self) -> int:
        """Clips of a full shard."""
        features = _SHARD_BYTES // (2 * self.frames * self.width)
        rows = SMALL_JSON_BYTES // (_FRAME_BYTES * self.frames + _NAME_BYTES)
        return max(1, min(_CLIPS, features, rows))

    def __len__(self) -> int:
        return sum(shard.clips - len(set(shard.dropped)) for shard in self.shards)


class _MadeFrom(TypedDict):
    format: int
    encoder: _Text
    frames: Annotated[int, msgspec.Meta(ge=1, le=MOST_FRAMES_OF_A_VIDEO)]
    width: Annotated[int, msgspec.Meta(ge=1, le=_WIDTH)]


class _Settings(TypedDict):
    preprocess: NotRequired[_Text | None]
    dtype: NotRequired[_Text | None]
    activation: NotRequired[_Text | None]
    head_width: NotRequired[Annotated[int, msgspec.Meta(ge=1, le=_WIDTH)] | None]


class _About(TypedDict):
    model: _Path
    weights: _Text
    preprocess: _Text
    settings: _Settings
    roots: list[_Path]
    shards: Annotated[list[Shard], msgspec.Meta(max_length=_SHARDS)]


def file_names(number: int) -> tuple[str, str]:
    """The names of the files of a shard with this number: features and rows."""
    return f"{number:05d}{ENDING}", f"{number:05d}.json"


def read_contents(folder: Path) -> Contents | None:
    """The manifest of an index; None if there is none.

    Raises:
      UserError: it is damaged, of another kind, or of a later version.
    """
    path = folder / FILE
    remedy = "copy the index again, or give another folder"
    found = read_manifest(path, _KIND, remedy=remedy)
    if found is None:
        return None
    made = convert(dict(found.made_from), f"{path}: made_from", _MadeFrom, remedy=remedy)
    if made["format"] != _FORMAT:
        raise UserError(
            f"{path}: format {made['format']}, of vtd_jax {found.version}; this one reads "
            f"{_FORMAT}: update it"
        )
    about = convert(dict(found.about), f"{path}: about", _About, remedy=remedy)
    numbers = set()
    for place, shard in enumerate(about["shards"]):
        where = f"{path}: about.shards[{place}]"
        if any(dropped >= shard.clips for dropped in shard.dropped):
            raise UserError(
                f"{where}.dropped: a clip that the shard of {shard.clips} does not have; {remedy}"
            )
        if shard.number in numbers:
            raise UserError(f"{where}.number: {shard.number}, as another shard; {remedy}")
        numbers.add(shard.number)
    return Contents(
        made["encoder"], made["frames"], made["width"], about["model"], about["weights"],
        about["preprocess"], dict(about["settings"]), tuple(about["roots"]),
        tuple(about["shards"]), dict(found.files),
    )  # fmt: skip


def write_contents(folder: Path, contents: Contents) -> None:
    """Writes the manifest, whole or not at all.

    Raises:
      UserError: `read_contents` would refuse it; nothing is written.
    """
    path = folder / FILE
    about = {
        name: getattr(contents, name)
        for name in ("model", "weights", "preprocess", "settings", "roots")
    }
    about["shards"] = [dataclasses.asdict(shard) for shard in contents.shards]
    made_from = dict(
        format=_FORMAT, encoder=contents.encoder, frames=contents.frames, width=contents.width
    )
    convert(made_from, f"{path}: made_from", _MadeFrom, remedy=_FULL)
    convert(about, f"{path}: about", _About, remedy=_FULL)
    text = Manifest(_KIND, made_from, True, contents.sizes, about).text()
    if len(text) > JSON_BYTES:
        raise UserError(f"{path}: {len(text):,} bytes, expected at most {JSON_BYTES:,}; {_FULL}")
    write_text(path, text)


def check_room(folder: Path, contents: Contents, clips: int) -> None:
    """Refuses more clips than an index holds, before they are encoded.

    Raises:
      UserError: says how many shards there would be, and what to do.
    """
    shards = len(contents.shards) - (-clips // contents.clips_a_shard)
    if shards > _SHARDS:
        raise UserError(
            f"{folder}: {clips:,} videos more would make {shards:,} shards, expected at most "
            f"{_SHARDS:,}; {_FULL}"
        )


# what to do about an index that takes no more
_FULL = "an index does not hold that: make a second one, in another folder"
