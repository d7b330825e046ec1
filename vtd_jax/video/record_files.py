"""The files beside the shards of a record folder, checked against what we write.

TFDS imports the classes that `features.json` names, and formats paths with `dataset_info.json`. So
TFDS never reads an untrusted folder: ours differ in names and counts only, and all else is refused.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

import msgspec

from vtd_jax.errors import UserError, setting
from vtd_jax.untrusted.json_text import Count, Whole, convert, read_json
from vtd_jax.untrusted.limits import SMALL_JSON_BYTES
from vtd_jax.untrusted.regular_files import is_regular

SPLIT, FORMAT = "videos", "array_record"
INFO, FEATURES, METADATA = "dataset_info.json", "features.json", "metadata.json"
# path, bytes and SHA-256 of every video, in the order of the records
FILES = "files.json"
# when every source file was last modified and changed (mtime and ctime, in ns), as of its last
# comparison: of the records, then of the bad videos
SEEN = "seen.json"

_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_Digits = Annotated[str, msgspec.Meta(pattern="^[0-9]{1,15}$")]


class _Split(TypedDict):
    name: str
    shardLengths: Annotated[list[_Digits], msgspec.Meta(min_length=1)]
    filepathTemplate: NotRequired[str]


class _Info(TypedDict):
    name: Annotated[str, msgspec.Meta(pattern="^[a-z0-9_]{1,100}$")]
    fileFormat: Literal["array_record"]
    splits: Annotated[list[_Split], msgspec.Meta(min_length=1, max_length=1)]
    moduleName: NotRequired[str]


class Skipped(TypedDict):
    """A bad video that has no record; bytes and SHA-256 came later."""

    file: str
    reason: str
    where: NotRequired[str]
    bytes: NotRequired[Count]
    sha256: NotRequired[str]


class _Metadata(TypedDict):
    storage: Literal["jpeg", "video"]
    videos: Count
    bytes: Count
    skipped: list[Skipped]


class StoredFile(NamedTuple):
    """A recorded video: path, bytes, and SHA-256 ("" in older records)."""

    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Shard:
    """A shard, as `ArrayRecordDataSource` wants it: the file, and how many records it has."""

    filename: str
    take: int
    skip: int = 0

    @property
    def examples_in_shard(self) -> int:
        return self.take


@dataclass(frozen=True)
class Layout:
    """What a record folder holds.

    Attributes:
      shards: in order; regular files.
      metadata: settings and counts of the build.
    """

    shards: tuple[Shard, ...]
    metadata: dict[str, Any]

    @property
    def storage(self) -> str:
        return self.metadata["storage"]

    @property
    def dataset(self) -> str:
        """The data set that the records were built as."""
        return Path(self.shards[0].filename).name.partition(f"-{SPLIT}.")[0]

    @property
    def videos(self) -> int:
        """Records in all shards."""
        return sum(shard.take for shard in self.shards)


def read_layout(folder: Path) -> Layout:
    """Reads what lies beside the shards of a record folder; no shard is opened.

    Raises:
      UserError: a file is missing, damaged or other than ours are, or a shard is not there. Names
        the file and the key.
    """
    metadata = _read(folder / METADATA, dict[str, Any])
    convert(metadata, str(folder / METADATA), _Metadata, remedy=remedy())
    _check_features(folder / FEATURES, metadata["storage"])
    layout = Layout(_shards(folder), metadata)
    if metadata["videos"] != layout.videos:
        raise UserError(
            f"{folder / METADATA}: videos: {metadata['videos']:,}, but {INFO} counts "
            f"{layout.videos:,}; {remedy()}"
        )
    return layout


def read_files(folder: Path, videos: int) -> list[StoredFile]:
    """The names of all videos, in the order of the records.

    Args:
      folder: of the records.
      videos: how many records there are.

    Raises:
      UserError: the index is missing, damaged, or does not have one name a record.
    """
    path = folder / FILES
    kind = list[Annotated[list[str | Count], msgspec.Meta(min_length=2, max_length=3)]]
    rows = read_json(path, kind, what="list of the videos of the records", remedy=remedy())
    if len(rows) != videos:
        raise UserError(
            f"{path}: names of {len(rows):,} videos, but there are {videos:,} records; {remedy()}"
        )
    files = [StoredFile(row[0], row[1], row[2] if len(row) > 2 else "") for row in rows]
    for place, (file, size, digest) in enumerate(files):
        if not (isinstance(file, str) and isinstance(size, int) and isinstance(digest, str)):
            raise UserError(
                f"{path}: [{place}]: expected a path, a number of bytes and a SHA-256; {remedy()}"
            )
    return files


def read_seen(folder: Path, count: int) -> list[tuple[int, int]]:
    """Modification and change times of each source file in ns; -1 where unknown."""
    try:
        seen = read_json(
            folder / SEEN,
            list[Whole | Annotated[list[Whole], msgspec.Meta(min_length=2, max_length=2)]],
        )
    except UserError:
        # it only spares work
        seen = []
    if len(seen) != count:
        return [(-1, -1)] * count
    return [(each, -1) if isinstance(each, int) else (each[0], each[1]) for each in seen]


def _read(path: Path, kind: Any) -> Any:
    # a million shards fit into that
    return read_json(path, kind, most=SMALL_JSON_BYTES, what="file of records", remedy=remedy())


def _shards(folder: Path) -> tuple[Shard, ...]:
    """The shards that `dataset_info.json` names; all of them exist."""
    path = folder / INFO
    info = _read(path, _Info)
    split = info["splits"][0]
    for key, expected in (("name", SPLIT), ("filepathTemplate", _TEMPLATE)):
        found = split.get(key, expected)
        if found != expected:
            raise UserError(
                f"{path}: splits[0].{key}: {found!r:.100}, expected {expected!r}; {remedy()}"
            )
    lengths, prefix = split["shardLengths"], f"{info['name']}-{SPLIT}.{FORMAT}-"
    there = sum(name.startswith(prefix) for name in os.listdir(folder))
    if len(lengths) > there:
        raise UserError(
            f"{path}: splits[0].shardLengths: {len(lengths):,} shards, {there:,} are there; "
            f"{remedy()}"
        )
    shards = []
    for number, length in enumerate(lengths):
        file = folder / f"{prefix}{number:05d}-of-{len(lengths):05d}"
        if not is_regular(file):
            raise UserError(
                f"{file}: this shard of the records is missing, or is no file; {remedy()}"
            )
        shards.append(Shard(str(file), int(length)))
    return tuple(shards)


def _feature(kind: str, **fields: Any) -> dict[str, Any]:
    return {"pythonClassName": f"tensorflow_datasets.core.features.{kind}", **fields}


def _tensor(dtype: str) -> dict[str, Any]:
    return _feature(
        "tensor_feature.Tensor", tensor={"dtype": dtype, "encoding": "none", "shape": {}}
    )


_TEXT = _feature("text_feature.Text", text={})
_COMMON = (
    {
        key: _tensor("int64")
        for key in ("bytes", "damaged", "height", "num_frames", "source_frames", "width")
    }
    | {key: _tensor("float32") for key in ("duration", "fps")}
    | dict.fromkeys(("codec", "file", "sha256"), _TEXT)
    | {"label": _feature("class_label_feature.ClassLabel", classLabel={})}
)
_FRAMES = _feature(
    "sequence_feature.Sequence", sequence={"feature": _tensor("string"), "length": "-1"}
)
_PAYLOADS = {"jpeg": {"frames": _FRAMES}, "video": {"video": _tensor("string")}}


def _check_features(path: Path, storage: str) -> None:
    """Refuses features other than ours: TFDS would import the classes named here."""
    there = _read(path, dict[str, Any])
    features = _COMMON | _PAYLOADS[storage]
    held = there.get("featuresDict")
    # records of the first version have no such count
    named = held.get("features") if isinstance(held, dict) else None
    if isinstance(named, dict) and "damaged" not in named:
        del features["damaged"]
    expected = _feature("features_dict.FeaturesDict", featuresDict={"features": features})
    if difference := _difference(there, expected, ""):
        raise UserError(
            f"{path}: {difference}; these are not the features of our records; {remedy()}"
        )


def _difference(there: Any, expected: Any, place: str) -> str:
    """Where and how a JSON value differs, "" if it fits; extra flags and counts may be there."""
    if not isinstance(expected, dict) or not isinstance(there, dict):
        if there == expected:
            return ""
        return f"{place.lstrip('.')}: {there!r:.100}, expected {expected!r:.100}"
    for key, value in there.items():
        counts = isinstance(value, str) and value.isascii() and value.isdigit()
        if key not in expected and not isinstance(value, bool) and not counts:
            return f"{place}.{key:.100}: {value!r:.100} is not expected there".lstrip(".")
    for key, value in expected.items():
        if key not in there:
            return f"{place}.{key} is missing".lstrip(".")
        if difference := _difference(there[key], value, f"{place}.{key}"):
            return difference
    return ""


def remedy() -> str:
    """What to do about damaged records, for messages."""
    return f"build these records again with {setting('overwrite', of='build_records')}"
