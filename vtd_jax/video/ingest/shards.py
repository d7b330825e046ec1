"""Shards of records, each written atomically, from which an interrupted build can resume.

A hidden staging folder holds the planned content of every shard (`NNNNN.todo.json`). A finished
shard (`NNNNN.array_record`) has a manifest of its content (`NNNNN.done.json`), and is not made
again if that matches the plan.
"""

import functools
import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core import example_serializer

from vtd_jax.errors import UserError, setting
from vtd_jax.files import open_own, remove_tree, write_text
from vtd_jax.fingerprints import DIGITS, fingerprint
from vtd_jax.locks import locked
from vtd_jax.manifest import Manifest, read_manifest
from vtd_jax.printable import utf8
from vtd_jax.untrusted.json_text import convert, read_json
from vtd_jax.untrusted.regular_files import read_bytes
from vtd_jax.video.decode import VideoError
from vtd_jax.video.ingest import encode
from vtd_jax.video.ingest.inputs import Inputs, Video
from vtd_jax.video.ingest.sources import file_digest
from vtd_jax.video.lists.catalog import Entry
from vtd_jax.video.workers import ordered_map

# random access to single records, no compression: JPEGs and videos are compressed already
WRITER_OPTIONS = "group_size:1,uncompressed"
SETTINGS = "settings.json"
_SHARD = "shard of records"


@dataclass(frozen=True)
class ShardReport:
    """A finished shard: what it was made from, its file's size, and its videos in order.

    Attributes:
      key: of what was to be in it.
      files: path, bytes and SHA-256 of every video that has a record.
      skipped: file, place, reason, bytes and SHA-256 of every video that has none.
      frames: decoded frames, of all files.
      bytes: size of the shard.
    """

    key: str
    files: list[tuple[str, int, str]]
    skipped: list[dict[str, Any]]
    frames: int
    bytes: int


class NotWritten(UserError):
    """A shard that could not be written; a retry may succeed."""


class _Settings(TypedDict):
    video_dir: str
    class_names: list[str]
    on_error: str
    stored: dict[str, Any]


class _Todo(TypedDict):
    key: str
    videos: list[Video]


class Staging:
    """The staging folder of one build: `prepare` lists the work, `write` makes one shard."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def prepare(self, inputs: Inputs) -> int:
        """Writes the work of every shard, keeps finished ones that fit; returns their number."""
        config, shards = inputs.config, inputs.shards()
        settings = {
            # JSON has no place for bytes that are not UTF-8, which folders may have in their names
            "video_dir": os.fsencode(inputs.video_dir.resolve()).decode("latin-1"),
            "class_names": inputs.class_names,
            "on_error": config.on_error,
            "stored": config.stored(),
        }
        write_text(self.folder / SETTINGS, json.dumps(settings))
        for path in self.folder.iterdir():
            if path.name.split(".")[0].isdigit() and int(path.name.split(".")[0]) >= len(shards):
                path.unlink()
        for index, shard in enumerate(shards):
            todo = {"key": _key(settings, shard), "videos": [asdict(video) for video in shard]}
            path = self._path(index, "todo.json")
            fits = (done := self.report(index)) and done.key == todo["key"]
            if done and not (fits and self._unchanged(path, index, shard)):
                self._path(index, "done.json").unlink()
            write_text(path, json.dumps(todo))
        return len(shards)

    def _unchanged(self, path: Path, index: int, shard: Sequence[Video]) -> bool:
        """Whether no video has another ctime than noted; mtimes, in the key, can be faked."""
        try:
            noted, until = self._todo(index)["videos"], path.stat().st_mtime_ns
        except (OSError, UserError):
            return False
        # earlier versions did not note it (-1): there the note's own time says when they looked
        return len(noted) == len(shard) and all(
            now.changed == then.changed or (then.changed == -1 and now.changed <= until)
            for now, then in zip(shard, noted)
        )

    def report(self, index: int) -> ShardReport | None:
        """The report of a finished shard; None where it is not finished."""
        path, shard = self._path(index, "done.json"), self.shard(index).name
        try:
            noted = read_manifest(path, _SHARD, legacy=functools.partial(_legacy_manifest, shard))
            if noted is None or not noted.is_whole(self.folder):
                return None
            fields = {"key": noted.made_from.get("key"), "bytes": noted.files.get(shard)}
            return convert({**noted.about, **fields}, str(path), ShardReport)
        except UserError:
            # damaged: the shard is made again
            return None

    def shard(self, index: int) -> Path:
        """The file of a shard."""
        return self._path(index, "array_record")

    def todo(self, index: int) -> list[Video]:
        """The videos that are to be in a shard."""
        return self._todo(index)["videos"]

    def write(
        self, index: int, threads: int = 1, log: Callable[[tuple], None] = lambda message: None
    ) -> ShardReport:
        """Makes one shard, unless it is finished.

        Args:
          index: of the shard.
          threads: videos decoded at a time.
          log: gets `(videos done, bad videos)` after every video, and the line of a skipped one in
            third place.

        Raises:
          UserError: a bad video where the policy is to fail.
        """
        if done := self.report(index):
            return done
        self._path(index, "current").unlink(missing_ok=True)
        settings, todo = read_json(self.folder / SETTINGS, _Settings), self._todo(index)
        videos = todo["videos"]
        features = encode.features(settings["stored"]["storage"])
        features["label"].names = settings["class_names"]
        serializer = example_serializer.ExampleSerializer(features.get_serialized_info())
        files, skipped, frames = [], [], 0
        # host and process: two Beam workers may make the same shard
        part = self.folder / f".{index:05d}.{platform.node()}.{os.getpid()}.part"
        writer = ArrayRecordWriter(str(part), WRITER_OPTIONS)
        try:
            for outcome in ordered_map(self._encoder(index, settings), videos, threads):
                video, example = outcome.item, outcome.result
                if outcome.error is None:
                    # fields in a fixed order: the same inputs give the same bytes
                    proto = serializer.get_tf_example(features.encode_example(example))
                    writer.write(proto.SerializeToString(deterministic=True))
                    files.append((video.file, example["bytes"], example["sha256"]))
                    frames += example["source_frames"]
                    log((1, 0, ""))
                elif settings["on_error"] == "skip":
                    skipped.append(_skipped(video, _folder(settings), str(outcome.error)))
                    log((1, 1, f"{video.where}: {outcome.error}"))
                else:
                    raise UserError(
                        f"{video.where}: {outcome.error}; fix the list, or leave bad videos out "
                        f"with {setting('on_error', 'skip')}"
                    )
            writer.close()
            report = ShardReport(todo["key"], files, skipped, frames, part.stat().st_size)
            return self._finish(index, part, report)
        except (OSError, RuntimeError) as error:
            raise NotWritten(f"{part}: cannot be written ({error}); is the disk full?") from error
        finally:
            with suppress(RuntimeError):
                if writer.is_open():
                    writer.close()
            part.unlink(missing_ok=True)
            self._path(index, "current").unlink(missing_ok=True)

    def _encoder(self, index: int, settings: _Settings) -> Callable[[Video], dict]:
        """A function that makes a record, and notes the video in case the process dies."""
        stored, folder = settings["stored"], _folder(settings)
        current = self._path(index, "current")

        def run(video: Video) -> dict:
            # a whole line at a time: a process killed here leaves the line before
            with open_own(current, "ab") as file:
                file.write(os.fsencode(f"{video.file}\n"))
            path, entry = folder / video.file, Entry(video.file, video.label, 0)
            try:
                short_side, most = stored.get("short_side", 0), stored.get("max_frames") or None
                return encode.encode_video(entry, path, stored["storage"], short_side, most)
            except OSError as error:
                raise VideoError(f"{path}: cannot be read ({error.strerror})") from None

        return run

    def _finish(self, index: int, part: Path, report: ShardReport) -> ShardReport:
        """Puts a written shard in its place; the report comes last."""
        with part.open("rb") as file:
            os.fsync(file.fileno())
        # the manifest comes last: it marks the shard as finished
        os.replace(part, self.shard(index))
        _manifest(self.shard(index).name, report).write(self._path(index, "done.json"))
        return report

    def begun(self, index: int) -> bool:
        """Whether a process is at a video of this shard, or died there."""
        return self._path(index, "current").exists()

    def interrupted(self, index: int) -> str:
        """The video at which a shard's process died, or the first if it died before."""
        try:
            lines = os.fsdecode(read_bytes(self._path(index, "current")))
            begun = lines.removesuffix("\n").rpartition("\n")[2]
        except (OSError, UserError):
            begun = ""
        return begun or self.todo(index)[0].file

    def finished(self, count: int) -> list[int]:
        """Indices of the finished shards."""
        return [index for index in range(count) if self.report(index)]

    def unfinished(self, count: int) -> list[int]:
        """Indices of the shards that are still to be made."""
        return [index for index in range(count) if not self.report(index)]

    def _path(self, index: int, kind: str) -> Path:
        return self.folder / f"{index:05d}.{kind}"

    def _todo(self, index: int) -> "_Todo":
        return read_json(self._path(index, "todo.json"), _Todo)


def _key(settings: dict, videos: Sequence[Video]) -> str:
    """What a shard is made from, as a hash: settings, and files with class, size and age."""
    used = [settings["stored"], settings["class_names"], settings["on_error"]]
    whole = [used, [[v.file, v.label, v.size, v.modified] for v in videos]]
    # its JSON as it is, keys unsorted: builds of earlier versions have more of the same digits
    return fingerprint(json.dumps(whole))


def _manifest(shard: str, report: ShardReport) -> Manifest:
    """What is noted of a finished shard; `shard` is its file's name."""
    about = {"files": report.files, "skipped": report.skipped, "frames": report.frames}
    return Manifest(_SHARD, {"key": report.key}, True, {shard: report.bytes}, about)


def _legacy_manifest(shard: str, fields: dict[str, Any]) -> Manifest:
    """The same of what earlier versions noted: the report alone, its key in all 64 digits."""
    report = convert(fields, shard, ShardReport)
    return _manifest(shard, replace(report, key=report.key[:DIGITS]))


def _folder(settings: _Settings) -> Path:
    """The folder of the videos."""
    return Path(os.fsdecode(settings["video_dir"].encode("latin-1")))


def _skipped(video: Video, folder: Path, reason: str) -> dict[str, Any]:
    """What is noted of a bad video."""
    try:
        digest = file_digest(folder / video.file)
    except UserError:
        digest = ""
    fields = {"file": video.file, "where": utf8(video.where), "reason": utf8(reason)}
    return fields | {"bytes": video.size, "sha256": digest}


@contextmanager
def staging_folder(folder: Path, name: str) -> Iterator[Staging]:
    """Locks a staging folder; keeps it on exit unless no shard was finished.

    Raises:
      UserError: another process builds there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock", f"{folder}: another build of {name}"):
        for leftover in folder.glob(".*.part"):
            leftover.unlink()
        try:
            yield Staging(folder)
        finally:
            if not any(folder.glob("*.done.json")):
                remove_tree(folder, must=False)
