"""An index on disk: shards of frame features, what is known of their clips, and a manifest.

    index.json           the manifest: the encoder, and all shards with their checksums
    00000.safetensors    raw frame features, float16 [clips, T, D]
    00000.json           the clips of that shard, see `Row`

Shards are never rewritten: those of an index that grows stay as they are. Names of files are made
of numbers; no text of a manifest is ever used as a path.
"""

import dataclasses
import json
import os
import stat
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import msgspec
import numpy as np
from jaxtyping import Float16

from vtd_jax.cache.shards import ENDING, map_shard, write_shard
from vtd_jax.errors import UserError, function, setting
from vtd_jax.files import write_bytes
from vtd_jax.manifest import Manifest, read_manifest
from vtd_jax.untrusted.json_text import Count, Whole, convert, parse_json
from vtd_jax.untrusted.limits import (
    MOST_FRAMES_OF_A_VIDEO,
    NAME_CHARACTERS,
    SMALL_JSON_BYTES,
    TEXT_CHARACTERS,
)
from vtd_jax.untrusted.regular_files import read_bytes

FILE = "index.json"
# kind of the manifest, and version of this format
_KIND, _FORMAT = "index of videos", 1
# clips of a shard, fewer where they would have more bytes
_CLIPS, _SHARD_BYTES = 256, 2**26
# numbers of a frame's features, the widest CLIPs have 1536; and shards, 25 million clips
_WIDTH, _SHARDS = 8192, 100_000

_Text = Annotated[str, msgspec.Meta(max_length=TEXT_CHARACTERS)]
_Path = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_CHARACTERS)]
_Crc = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{8}\Z")]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


@dataclasses.dataclass(frozen=True)
class Row:
    """What is known of an indexed clip.

    Attributes:
      root: index of its folder among those of the index.
      path: from that folder.
      size: of the file, bytes.
      mtime: when it was changed, ns since 1970.
      total: frames of the video.
      duration: of the video, seconds.
      indices: places of the T encoded frames in the video.
      seconds: their times.
      note: what is odd about the file; "" for nothing.
    """

    root: Count
    path: _Path
    size: Count
    mtime: Whole
    total: Count
    duration: _Seconds
    indices: list[Count]
    seconds: list[_Seconds]
    note: _Text = ""


@dataclasses.dataclass(frozen=True)
class Shard:
    """An entry of the manifest.

    Attributes:
      clips: in the shard.
      features, rows: CRC-32 of its two files.
      dropped: clips that no longer count, because they changed or are gone.
    """

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
        return max(1, min(_CLIPS, _SHARD_BYTES // (2 * self.frames * self.width)))

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
    """The names of a shard's files: features and rows."""
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
    for number, shard in enumerate(about["shards"]):
        if any(place >= shard.clips for place in shard.dropped):
            raise UserError(
                f"{path}: about.shards[{number}].dropped: a clip that the shard of {shard.clips} "
                f"does not have; {remedy}"
            )
    return Contents(
        made["encoder"], made["frames"], made["width"], about["model"], about["weights"],
        about["preprocess"], dict(about["settings"]), tuple(about["roots"]),
        tuple(about["shards"]), dict(found.files),
    )  # fmt: skip


def write_contents(folder: Path, contents: Contents) -> None:
    """Writes the manifest, whole or not at all."""
    about = {
        name: getattr(contents, name)
        for name in ("model", "weights", "preprocess", "settings", "roots")
    }
    about["shards"] = [dataclasses.asdict(shard) for shard in contents.shards]
    made_from = dict(
        format=_FORMAT, encoder=contents.encoder, frames=contents.frames, width=contents.width
    )
    Manifest(_KIND, made_from, True, contents.sizes, about).write(folder / FILE)


def with_shard(
    folder: Path, contents: Contents, features: Float16[np.ndarray, "n t d"], rows: Sequence[Row]
) -> Contents:
    """Writes the files of one shard more, and returns what the manifest has to say then.

    Args:
      folder: of the index.
      contents: before.
      features: raw, finite.
      rows: of the N clips.
    """
    names = file_names(len(contents.shards))
    crc = write_shard(folder / names[0], features)
    text = json.dumps([dataclasses.asdict(row) for row in rows], ensure_ascii=False).encode()
    write_bytes(folder / names[1], text)
    shard = Shard(len(rows), crc, f"{zlib.crc32(text):08x}")
    sizes = {name: (folder / name).stat().st_size for name in names}
    return dataclasses.replace(
        contents, shards=(*contents.shards, shard), sizes=contents.sizes | sizes
    )


def check_files(folder: Path, contents: Contents, number: int) -> None:
    """Checks, without reading them, that the files of a shard are there.

    Raises:
      UserError: one is missing, a link or no regular file, or has another size.
    """
    for name in file_names(number):
        path = folder / name
        try:
            found = os.lstat(path)
        except OSError as error:
            raise damaged(path, error.strerror or "cannot be read") from None
        if not stat.S_ISREG(found.st_mode):
            raise damaged(path, "a link, a pipe or a folder, expected a file of the index")
        if found.st_size != contents.sizes.get(name):
            size = contents.sizes.get(name)
            expected = "none" if size is None else f"{size:,}"
            raise damaged(path, f"{found.st_size:,} bytes, expected {expected}")


def features_of(
    folder: Path, contents: Contents, number: int, *, check: bool
) -> Float16[np.ndarray, "n t d"]:
    """The features of a shard, mapped into memory.

    Args:
      folder: of the index.
      contents: its manifest.
      number: of the shard.
      check: whether to compare their CRC-32, and to refuse NaN and infinite numbers.

    Raises:
      UserError: the file is damaged; says what to do.
    """
    check_files(folder, contents, number)
    path, shard = folder / file_names(number)[0], contents.shards[number]
    shape = (shard.clips, contents.frames, contents.width)
    try:
        found = map_shard(path, shape, np.float16, crc=shard.features, check=check)
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from None
    except UserError as error:
        raise damaged(path, str(error).removeprefix(f"{path}: ")) from None
    # the exponent of NaN and infinity; `np.isfinite` takes ten times as long for float16
    if check and ((found.view(np.uint16) & 0x7C00) == 0x7C00).any():
        raise damaged(path, "features that are NaN or infinite")
    return found


def rows_of(folder: Path, contents: Contents, number: int) -> list[Row]:
    """The clips of a shard, those that are dropped too.

    Raises:
      UserError: the file is damaged; says what to do.
    """
    check_files(folder, contents, number)
    path, shard = folder / file_names(number)[1], contents.shards[number]
    try:
        content = read_bytes(path, "list of clips", SMALL_JSON_BYTES)
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from None
    if f"{zlib.crc32(content):08x}" != shard.rows:
        raise damaged(path, "other bytes than were written")
    rows: list[Row] = parse_json(content, str(path), list[Row], remedy=_remedy())
    if len(rows) != shard.clips:
        raise damaged(path, f"{len(rows)} clips, expected {shard.clips}")
    for row in rows:
        if not len(row.indices) == len(row.seconds) == contents.frames:
            raise damaged(path, f"{row.path}: not {contents.frames} frames")
        if row.root >= len(contents.roots):
            raise damaged(path, f"{row.path}: a folder that the index does not have")
    return rows


def damaged(path: Path, why: str) -> UserError:
    """The error of a file of an index, with what to do."""
    return UserError(f"{path}: {why}; {_remedy()}")


def _remedy() -> str:
    again = setting("restart", of="Index.build")
    return (
        f"copy the index again, or give the folders of the videos to {function('Index.build')}, "
        f"which encodes damaged parts again (all: {again})"
    )


def as_float16(features: Any, video: str) -> Float16[np.ndarray, "t d"]:
    """Frame features as an index keeps them.

    Args:
      features: raw, float32 `[T, D]`.
      video: for the message.

    Raises:
      UserError: a number that float16 does not hold.
    """
    with np.errstate(over="ignore"):
        rounded = np.asarray(features).astype(np.float16)
    if not np.isfinite(rounded).all():
        raise UserError(
            f"{video}: frame features up to {np.abs(features).max():.3g} cannot be kept as "
            "float16, whose largest number is 65504; this model has no index"
        )
    return rounded
