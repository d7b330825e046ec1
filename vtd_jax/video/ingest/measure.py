"""Measures speed and size of the storages on a few of the videos."""

import time
from collections.abc import Iterator

import cv2

from vtd_jax.errors import UserError
from vtd_jax.terminal import counted
from vtd_jax.video import decode
from vtd_jax.video.augment import spatial_views
from vtd_jax.video.ingest import encode
from vtd_jax.video.ingest.inputs import Inputs, Video, readable
from vtd_jax.video.lists.catalog import Entry
from vtd_jax.video.records import Example
from vtd_jax.video.sampling import test_indices

FRAMES, SIZE = 32, 224
# limits of the measurement: videos, frames of one, and seconds after which none is added
VIDEOS, LONGEST, SECONDS = 3, 1500, 3.0
# (storage, most frames)
STORAGES = (("jpeg", 0), ("jpeg", 64), ("video", 0))


def storage_lines(inputs: Inputs) -> Iterator[str]:
    """Lines on size and reading speed of every storage, and on the one to be written."""
    config = inputs.config
    source = sum(video.size for video in inputs.videos)
    kinds = list(dict.fromkeys([*STORAGES, (config.storage, config.max_frames)]))
    videos, rates = _rates(inputs, kinds)
    sizes = []
    for storage, most in kinds:
        size = sum(inputs.estimate(storage, most))
        rate = f"{rates[storage, most]:.1f} clips/s a core, " if (storage, most) in rates else ""
        ratio = size / max(source, 1)
        about = f"{rate}about {readable(size)} ({ratio:.1f}× the source)"
        sizes.append(f"{_name(storage, most)} {about}")
    how = f"reading {FRAMES} frames, measured on {videos} of the videos"
    yield f"storages ({how if videos else 'not measured'}): {'; '.join(sizes)}"
    shards = counted(len(inputs.shards()), "shard")
    yield f"writing {_name(config.storage, config.max_frames)} in {shards}"


def _name(storage: str, most: int) -> str:
    return f"{storage} with at most {most} frames" if most else storage


def _rates(
    inputs: Inputs, kinds: list[tuple[str, int]]
) -> tuple[int, dict[tuple[str, int], float]]:
    """Clips a second of every storage, frames decoded and cropped by one thread."""
    threads, seconds, done = cv2.getNumThreads(), dict.fromkeys(kinds, 0.0), 0
    cv2.setNumThreads(1)
    start = time.perf_counter()
    try:
        for video in inputs.sampled(VIDEOS):
            if time.perf_counter() - start > SECONDS:
                break
            try:
                if decode.header(inputs.path(video))[0] > LONGEST:
                    continue
                found = [_seconds(inputs, video, *kind) for kind in kinds]
            except UserError:
                continue
            done += 1
            for kind, value in zip(kinds, found):
                seconds[kind] += value
    finally:
        cv2.setNumThreads(threads)
    return done, {kind: done / value for kind, value in seconds.items() if value}


def _seconds(inputs: Inputs, video: Video, storage: str, most: int) -> float:
    """Seconds from one record to a clip."""
    entry = Entry(video.file, 0, 0)
    record = encode.encode_video(
        entry, inputs.path(video), storage, inputs.config.short_side, most or None
    )
    example = Example(video.file, 0, record["num_frames"], record, video.file)
    start = time.perf_counter()
    spatial_views(example.frames(test_indices(example.num_frames, FRAMES)), SIZE, 1)
    return time.perf_counter() - start
