"""Whether the videos are still those of the records: by size and time, else by content.

A copied folder has other times but the same content, so another time leads to a comparison of
content. Its result is noted beside the records (`seen.json`) until the times change again. Both
mtime, which anybody can set, and ctime count.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from vtd_jax.errors import UserError, setting
from vtd_jax.files import write_text
from vtd_jax.terminal import counted
from vtd_jax.video.ingest.inputs import Inputs, Video
from vtd_jax.video.record_fields import parse_record
from vtd_jax.video.record_files import METADATA, SEEN, Layout, StoredFile, read_seen
from vtd_jax.video.shard_source import ShardSource

_READERS = 4


def changed_videos(
    inputs: Inputs,
    folder: Path,
    layout: Layout,
    files: Sequence[StoredFile],
    announce: Callable[[str], None] | None = None,
) -> list[Video]:
    """The videos that have no record, or were changed since theirs was made.

    A video of the same size and times counts as unchanged; if a time differs, its SHA-256 decides.
    A time that older records lack counts as the same if it is before they were made.

    Args:
      inputs: what is to be built.
      folder, layout, files: the records that are there.
      announce: gets a line where videos have to be read.

    Raises:
      UserError: a video cannot be read.
    """
    skipped = layout.metadata["skipped"]
    seen = read_seen(folder, layout.videos + len(skipped))
    # bad videos come behind the records, as in the note of times
    sizes = [each.bytes for each in files] + [entry.get("bytes") for entry in skipped]
    names = [each.file for each in files] + [entry["file"] for entry in skipped]
    places = {file: place for place, file in enumerate(names)}
    built = (folder / METADATA).stat().st_mtime_ns
    changed, unsure = [], []
    for video in inputs.videos:
        place = places.get(video.file)
        if place is None or sizes[place] != video.size:
            changed.append(video)
        elif any(
            now != then and not (then == -1 and now <= built)
            for now, then in zip(_times(video), seen[place])
        ):
            unsure.append(video)
    if unsure and announce:
        videos = counted(len(unsure), "video")
        announce(f"{videos} of another time than when built: comparing the content")
    digests = [each.sha256 for each in files] + [entry.get("sha256", "") for entry in skipped]
    source = ShardSource(layout.shards)

    def compare(video: Video) -> tuple[str, str]:
        place = places[video.file]
        recorded = digests[place]
        if not recorded and place < len(files):
            recorded = _recorded_digest(folder, layout, source, place)
        return file_digest(inputs.path(video)), recorded

    with ThreadPoolExecutor(_READERS) as threads:
        for video, (here, there) in zip(unsure, threads.map(compare, unsure)):
            # bad videos of older records have no digest, and count as the same
            if here == there or not there:
                seen[places[video.file]] = _times(video)
            else:
                changed.append(video)
    if unsure:
        # read-only records are compared again each time
        with suppress(OSError):
            write_seen(folder, seen)
    return changed


def write_seen(folder: Path, times: Sequence[tuple[int, int]]) -> None:
    """Notes the times (ns) of each source file: recorded ones in order, then bad ones."""
    write_text(folder / SEEN, json.dumps(list(times)) + "\n")


def _times(video: Video) -> tuple[int, int]:
    return video.modified, video.changed


def file_digest(path: Path) -> str:
    """The SHA-256 of a file; raises UserError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _recorded_digest(folder: Path, layout: Layout, source: ShardSource, place: int) -> str:
    """The SHA-256 in a record; older records have it in no index."""
    name = f"{folder}: record {place}"
    try:
        content = source[place]
    except Exception as error:
        # array_record reports damage as RuntimeError, ValueError or IndexError
        raise UserError(
            f"{name} cannot be read ({error}); replace the records with {setting('overwrite')}"
        ) from None
    return parse_record(content, layout.storage, name)["sha256"].decode(errors="replace")
