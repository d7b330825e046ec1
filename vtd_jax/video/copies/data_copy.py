"""Which copy of its data a list is of: counts, and digests that are the same on every machine.

Two people with "HMDB-51" may have other videos, cut or encoded again. A `DataCopy` is computed from
the records, whatever is written beside them: from the fields of every record of a list, and from
the frames of a fixed sample of its videos. Order and number of shards, folders and threads do not
change it. Digested is the brightness of decoded frames, before colours are converted: FFmpeg 6.1
and 8.1, with the processor's vector instructions and without, gave the same bits of it for H.264
and MPEG-4, and RGB values up to 13 levels apart.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import msgspec

from vtd_jax.errors import UserError
from vtd_jax.fingerprints import DIGITS, fingerprint, fingerprint_all
from vtd_jax.terminal import counted
from vtd_jax.untrusted.json_text import Count
from vtd_jax.untrusted.limits import NAME_CHARACTERS
from vtd_jax.video.copies.brightness import brightness
from vtd_jax.video.records import Example, Records

# videos of a list whose frames are digested, and the frames among which three are chosen
SAMPLE, FRAMES = 16, 64

_Digest = Annotated[str, msgspec.Meta(pattern=f"^[0-9a-f]{{{DIGITS}}}$")]
_Name = Annotated[str, msgspec.Meta(max_length=NAME_CHARACTERS)]


@dataclass(frozen=True)
class DataCopy:
    """What is known of the data of one list.

    Attributes:
      videos: how many videos of the list have a record.
      frames: of the files of all of them, also where records keep fewer.
      list_digest: of class names, and names and classes of the videos, folders left out.
      files_digest: of the names and SHA-256s of the files, as the records state them.
      storage: how the records keep frames.
      sample: name of each sampled video, and a digest of its frames; in the order of names.
    """

    videos: Count
    frames: Count
    list_digest: _Digest
    files_digest: _Digest
    storage: Annotated[str, msgspec.Meta(max_length=100)]
    sample: Annotated[tuple[tuple[_Name, _Digest], ...], msgspec.Meta(max_length=SAMPLE)]

    @property
    def fingerprint(self) -> str:
        """One digest of the copy: of both counts, the list and the files, however it is stored."""
        return fingerprint([self.videos, self.frames, self.list_digest, self.files_digest])

    def describe(self) -> str:
        """The fingerprint and its parts, for a line."""
        sampled = fingerprint([list(each) for each in self.sample])
        return (
            f"fingerprint {self.fingerprint}: {counted(self.videos, 'video')}, "
            f"{counted(self.frames, 'frame')} (list {self.list_digest}, files {self.files_digest}, "
            f"sampled frames {sampled}; {self.storage})"
        )


class _Head(NamedTuple):
    """What is used of a record's fields."""

    name: str
    sha256: bytes
    frames: int
    damaged: bool


def data_copies(lists: Iterable[Records]) -> list[DataCopy]:
    """Which copy each list is of.

    The fields of every record are read, about 0.1 ms each, and three frames of at most 16 videos of
    a list are decoded, from the first 64 of each. Lists of one folder share this work.

    Raises:
      UserError: a record is damaged, a sampled video does not decode, or its file has not the
        SHA-256 that the record states.
    """
    lists = list(lists)
    heads: dict[Any, dict[int, _Head]] = {}
    for path in dict.fromkeys(records.path for records in lists):
        alike = [records for records in lists if records.path == path]
        positions = sorted({int(at) for records in alike for at in records.stored.records})
        found = map(_head, alike[0].heads(positions))
        heads[path] = dict(zip(positions, found, strict=True))
    sampled: dict[tuple, str] = {}
    return [_data_copy(records, heads[records.path], sampled) for records in lists]


def _head(fields: Mapping[str, Any]) -> _Head:
    # macOS decomposes letters of names; copies may lie in other folders
    name = unicodedata.normalize("NFC", fields["file"].decode().rpartition("/")[2])
    return _Head(name, fields["sha256"], fields["source_frames"], fields.get("damaged", 0) > 0)


def _data_copy(records: Records, heads: Mapping[int, _Head], sampled: dict[tuple, str]) -> DataCopy:
    positions = records.stored.records.tolist()
    mine = [heads[position] for position in positions]
    entries = sorted(zip((head.name for head in mine), records.stored.labels.tolist()))
    for index in (chosen := _sample(mine)):
        if (place := (records.path, positions[index])) not in sampled:
            sampled[place] = _frames_digest(records[index])
    return DataCopy(
        videos=len(mine),
        frames=sum(head.frames for head in mine),
        list_digest=fingerprint([list(records.class_names), entries]),
        files_digest=fingerprint_all(
            sorted(head.name.encode() + b"\0" + head.sha256 + b"\n" for head in mine)
        ),
        storage=_storage(records.storage, records.info),
        sample=tuple(sorted((mine[i].name, sampled[records.path, positions[i]]) for i in chosen)),
    )


def _sample(heads: Sequence[_Head]) -> list[int]:
    """Indices of the videos with the smallest hashes of their names, those without damage first:
    what decoders make of damage changes from version to version.
    """

    def rank(index: int) -> tuple[Any, ...]:
        head = heads[index]
        return head.damaged, hashlib.sha256(head.name.encode()).digest(), head.sha256

    return sorted(range(len(heads)), key=rank)[:SAMPLE]


def _frames_digest(example: Example) -> str:
    """Of the first, the middle and the last of the first frames of a video."""
    record, last = example.record, min(example.num_frames, FRAMES) - 1
    if "video" in record:
        found, stated = (
            hashlib.sha256(record["video"]).hexdigest(),
            record["sha256"].decode("latin-1"),
        )
        if found != stated:
            raise UserError(
                f"{example.name}: its file has the SHA-256 {found[:DIGITS]}…, the record says "
                f"{stated[:DIGITS]}…; the record is damaged, build the records again"
            )
    return fingerprint_all(brightness(example, sorted({0, last // 2, last})))


def _storage(storage: str, info: Mapping[str, Any]) -> str:
    """How frames are stored; the settings lie in a file of anyone's."""
    if storage == "video":
        return "video files"
    side, most, quality = (
        value if isinstance(value := info.get(key), int) and 0 <= value < 2**31 else "?"
        for key in ("short_side", "max_frames", "quality")
    )
    cut = f", at most {most} of a video" if most else ""
    return f"JPEGs of quality {quality}, short side {side}{cut}"
