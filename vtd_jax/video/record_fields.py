"""One record's bytes to its fields, each of the kind and in the range that it must have."""

import math
from collections.abc import Mapping
from typing import Any

from vtd_jax.errors import UserError
from vtd_jax.untrusted.limits import RECORD_FRAMES

# field -> what it is, and the list of the proto that holds it
_KINDS = {
    **dict.fromkeys(
        ("bytes", "damaged", "height", "label", "num_frames", "source_frames", "width"),
        ("a whole number", "int64_list"),
    ),
    **dict.fromkeys(("duration", "fps"), ("a number", "float_list")),
    **dict.fromkeys(("codec", "file", "sha256"), ("a text", "bytes_list")),
}
_REMEDY = "the record is damaged, build the records again"
_LARGEST = 2**31 - 1


def parse_record(content: bytes, storage: str, name: str) -> dict[str, Any]:
    """The fields of a record, as TFDS's reader gives them.

    Args:
      content: a serialized `tf.train.Example`.
      storage: "jpeg" or "video"; decides whether `frames`, a list of JPEGs, or `video`, the bytes
        of a file, is there.
      name: what messages call the record.

    Returns:
      Whole numbers, floats and bytes by field, in alphabetical order. `damaged` is left out where
      the record has none.

    Raises:
      UserError: no such record, or a field that is missing, of another kind or out of range; names
        the field.
    """
    features = _features(content, name)
    record = _small_fields(features, name)
    payload = "frames" if storage == "jpeg" else "video"
    values = list(features[payload].bytes_list.value) if payload in features else []
    if not values or not all(values) or (payload == "video" and len(values) != 1):
        raise UserError(f"{name}: it has no {payload}; {_REMEDY}")
    record[payload] = values if storage == "jpeg" else values[0]
    _check(record, storage, name)
    return dict(sorted(record.items()))


def parse_head(content: bytes, storage: str, name: str) -> dict[str, Any]:
    """The fields of a record without its frames or its video, see `parse_record`; how many frames
    are there is not compared with `num_frames`.
    """
    record = _small_fields(_features(content, name), name)
    _check(record, storage, name)
    return record


def _features(content: bytes, name: str) -> Mapping[str, Any]:
    # of an extra: reading a run's settings imports this module, and needs no record
    from google.protobuf.message import DecodeError
    from tensorflow_datasets.proto import tf_example_pb2

    try:
        features = tf_example_pb2.Example.FromString(content).features.feature
    except DecodeError as error:
        raise UserError(f"{name}: is no record ({error}); {_REMEDY}") from None
    return features


def _small_fields(features: Mapping[str, Any], name: str) -> dict[str, Any]:
    """All fields but frames and video."""
    record: dict[str, Any] = {}
    for key, (kind, list_name) in _KINDS.items():
        if key not in features:
            if key == "damaged":
                continue
            raise UserError(f"{name}: it has no {key}; {_REMEDY}")
        values = getattr(features[key], list_name).value
        if len(values) != 1:
            raise UserError(f"{name}: {key} is not {kind}; {_REMEDY}")
        record[key] = values[0]
    return record


def _check(record: dict[str, Any], storage: str, name: str) -> None:
    """Refuses what would become memory, or nan, later."""
    # a video's frames are counted when it is decoded; JPEGs can be counted here
    counted = len(record["frames"]) if "frames" in record else None
    most = RECORD_FRAMES if counted is None else counted
    ranges = {
        "num_frames": (1 if counted is None else most, most),
        "source_frames": (
            record["num_frames"],
            RECORD_FRAMES if storage == "jpeg" else record["num_frames"],
        ),
        "damaged": (0, RECORD_FRAMES),
        "bytes": (0, 2**53),
        "width": (1, _LARGEST),
        "height": (1, _LARGEST),
    }
    for key, (low, high) in ranges.items():
        if not low <= record.get(key, low) <= high:
            expected = (
                f"{high:,}, the frames that are there" if low == high else f"{low:,} to {high:,}"
            )
            raise UserError(f"{name}: {key} is {record[key]:,}, expected {expected}; {_REMEDY}")
    for key in ("duration", "fps"):
        if not (math.isfinite(record[key]) and record[key] >= 0):
            raise UserError(
                f"{name}: {key} is {record[key]}, expected a number of 0 or more; {_REMEDY}"
            )
    try:
        record["file"].decode()
    except UnicodeDecodeError:
        raise UserError(
            f"{name}: file is {record['file']!r:.100}, which is not UTF-8; {_REMEDY}"
        ) from None
