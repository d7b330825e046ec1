"""Hostile record folders: what a good one, as `targets_videos.write_records` makes it, is changed
into.

Every function changes the folder of one list's records, `records/video_folder/NAME/1.0.0`, in
place.
"""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile.corpus import videos
from hostile.corpus.texts import JSON
from hostile.corpus.weights import ACTING
from hostile.fuzzing.targets_videos import hostile_record, rewrite_shard

# what runs if anybody imports it: it leaves a file in the working folder
_EVIL = "import pathlib\npathlib.Path('evil_ran').touch()\nclass X:\n    pass\n"


def folder_of(records: Path) -> Path:
    """The only record folder below a folder."""
    (found,) = (path.parent for path in records.rglob("dataset_info.json"))
    return found


def change_json(path: Path, change: Callable[[Any], Any]) -> None:
    """Changes the value of a JSON file in place; what `change` returns takes its place, if it
    returns something.
    """
    value = json.loads(path.read_text())
    changed = change(value)
    path.write_text(json.dumps(value if changed is None else changed))


def imports(folder: Path) -> None:
    """A feature class that lies beside the records."""
    change_json(folder / "features.json", lambda value: {"pythonClassName": "evil.X", "text": {}})
    # where the command runs, which is the first place that Python looks at
    (folder.parents[3] / "evil.py").write_text(_EVIL)


def imports_nested(folder: Path) -> None:
    """The same, in the place of one feature among ours."""

    def change(value: dict) -> None:
        features = value["featuresDict"]["features"]
        features["file"] = {"pythonClassName": "evil.X", "text": {}}

    change_json(folder / "features.json", change)
    (folder.parents[3] / "evil.py").write_text(_EVIL)


def _info(**fields: Any) -> Callable[[Path], None]:
    def change(value: dict) -> None:
        value["splits"][0].update(fields)

    return lambda folder: change_json(folder / "dataset_info.json", change)


def _list(**fields: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (path,) = (folder / "lists").glob("*.json")
        change_json(path, lambda value: value.update(fields))

    return change


def _written(name: str, content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (path,) = folder.glob(name)
        path.write_bytes(content)

    return change


def _record(**fields: Any) -> Callable[[Path], None]:
    return lambda folder: _each(folder, lambda: hostile_record(**fields))


def _each(folder: Path, make: Callable[[], bytes]) -> None:
    (shard,) = folder.glob("*array_record*")
    record = make()
    rewrite_shard(shard, lambda number, old: record)


def _bytes_of(write: Callable[[Path], Path]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write(Path(folder)).read_bytes()


def _frames(write: Callable[[Path], Path]) -> Callable[[Path], None]:
    return lambda folder: _each(folder, lambda: hostile_record(frames=[_bytes_of(write)] * 2))


CODE: dict[str, Callable[[Path], None]] = {
    "imports": imports,
    "imports_nested": imports_nested,
    "template_attribute": _info(
        filepathTemplate="{DATASET.__class__.__init__.__globals__}-{SHARD_X_OF_Y}"
    ),
    "template_outside": _info(filepathTemplate="../../../../secret-{SHARD_X_OF_Y}"),
}
# files beside the shards, and lists
TABLES: dict[str, Callable[[Path], None]] = {
    "info_brackets": _written("dataset_info.json", JSON["brackets"]),
    "features_brackets": _written("features.json", JSON["brackets"]),
    "features_number": _written("features.json", b"3"),
    "files_number": _written("files.json", b"3"),
    "metadata_list": _written("metadata.json", b"[]"),
    "list_integer": _written("lists/*.json", JSON["integer_5000"]),
    "many_shards": _info(shardLengths=["1"] * 10**6),
    "shard_length_huge": _info(shardLengths=["9" * 400]),
    "shard_length_wrong": _info(shardLengths=["5"]),
    "list_label_99": _list(labels=[0, 1, 99, 0]),
    "list_label_minus": _list(labels=[0, 1, -1, 0]),
    "list_position_huge": _list(records=[0, 1, 2, 10**30]),
    "list_position_outside": _list(records=[0, 1, 2, 4]),
    "list_names_numbers": _list(class_names=[1, 2]),
    "list_names_acting": _list(class_names=[ACTING, 3]),
    "list_unequal": _list(labels=[0]),
}
SHARDS: dict[str, Callable[[Path], None]] = {
    "empty_frames": _record(frames=[]),
    "no_picture": _record(frames=[b"", b"x"]),
    "huge_count": _record(num_frames=10**18),
    "negative_count": _record(num_frames=-1),
    "empty_proto": lambda folder: _each(folder, lambda: b""),
    "no_proto": lambda folder: _each(folder, lambda: b"\xff" * 100),
    "acting_file": _record(file=ACTING.encode(), num_frames=-1),
}


def _video(write: Callable[[Path], Path]) -> Callable[[Path], None]:
    return lambda folder: _each(folder, lambda: hostile_record("video", video=_bytes_of(write)))


# in records that hold the files themselves
VIDEOS: dict[str, Callable[[Path], None]] = {
    "video_png": _video(videos.png_claim),
    "video_samples": _video(videos.mp4_many_samples),
    "video_session": _video(videos.session),
    "video_playlist": _video(lambda folder: videos.playlist(folder, "/etc/passwd")),
}


def shard_pipe(folder: Path) -> None:
    """A pipe in the place of the shard."""
    (shard,) = folder.glob("*array_record*")
    shard.unlink()
    os.mkfifo(shard)


# what may take memory or wait where it is not refused
HEAVY: dict[str, Callable[[Path], None]] = {
    "shard_pipe": shard_pipe,
    "jpeg_claim": _frames(videos.jpeg_claim),
}
ALL = CODE | TABLES | SHARDS | VIDEOS | HEAVY
