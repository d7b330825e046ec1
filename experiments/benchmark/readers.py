"""Clips a second on one core: this project's records against other readers of the same files.

Clips are re-encoded at the sizes of the field's data sets. Every reader returns T frames at test
indices, scaled to a short side of 256 and cropped to 224, uint8. Other readers are optional.
"""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from jaxtyping import UInt8

from experiments.benchmark.report import show
from experiments.benchmark.timing import Job, interleaved, machine
from vtd_jax.errors import UserError
from vtd_jax.evaluate.tables import Table
from vtd_jax.scenes.render import class_names, render_clip
from vtd_jax.video import decode
from vtd_jax.video.augment import centre_crop, resize, resize_short_side
from vtd_jax.video.codec import opening
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.records import build_records
from vtd_jax.video.records import Records, open_records
from vtd_jax.video.sampling import test_indices
from vtd_jax.video.suffixes import SUFFIXES, is_video

SHORT_SIDE, CROP, FEW_JPEGS = 256, 224, 64
BASE = "PyAV, seek to each frame"
OTHERS = (BASE, "PyAV, decode all", "OpenCV, grab in order", "decord")
OURS = ("records, video", "records, jpeg", f"records, jpeg, at most {FEW_JPEGS}")
Read = Callable[[], UInt8[np.ndarray, "t r r 3"]]


@dataclass(frozen=True)
class Kind:
    """A data set's usual clip: suffix, encoder and options, size, frames a second, seconds."""

    name: str
    ending: str
    codec: str
    options: Mapping[str, str]
    width: int
    height: int
    fps: int
    seconds: int


KINDS = (
    Kind("Kinetics-like: H.264 mp4", "mp4", "libx264", {"crf": "23"}, 340, 256, 30, 10),
    # as XviD writes: B-frames, and key frames far apart
    Kind(
        "UCF- and HMDB-like: MPEG-4 avi", "avi", "mpeg4", {"b": "600k", "g": "300", "bf": "2"},
        320, 240, 25, 7,
    ),
    Kind(
        "SSv2-like: VP9 webm", "webm", "libvpx-vp9",
        {"crf": "33", "b": "0", "cpu-used": "4", "row-mt": "0"}, 427, 240, 12, 4,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """One row; `clips_per_second` is None if the reader is not installed."""

    kind: str
    frames: int
    reader: str
    clips_per_second: float | None
    size: float | None


def sources(folder: Path | None, count: int) -> list[tuple[list[np.ndarray], float]]:
    """Up to `count` clips of a folder, or rendered ones, as lists of frames with their rate."""
    if folder is None:
        clips = [
            render_clip(class_names()[i], np.random.default_rng(i), frames=60, size=340)[0]
            for i in range(count)
        ]
        return [(list(clip[:, :256]), 30.0) for clip in clips]
    files = sorted(path for path in folder.glob("*") if is_video(path))[:count]
    if not files:
        raise UserError(
            f"{folder}: no videos here; expected files that end in {', '.join(sorted(SUFFIXES))}"
        )
    return [
        ([image for _, image in decode.scan(path)], decode.probe(path).fps or 25.0)
        for path in files
    ]


def write_clip(frames: Sequence[np.ndarray], rate: float, kind: Kind, path: Path) -> Path:
    """Writes a clip of this kind; a source that is shorter is looped, a longer one cut."""
    with av.open(opening.target(path), "w") as container:
        stream = container.add_stream(kind.codec, rate=kind.fps, options=dict(kind.options))
        stream.width, stream.height, stream.pix_fmt = kind.width, kind.height, "yuv420p"
        for i in range(kind.fps * kind.seconds):
            image = resize(frames[int(i * rate / kind.fps) % len(frames)], kind.height, kind.width)
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24"))
            )
        container.mux(stream.encode(None))
    return path


def read_seeking(path: Path, count: int) -> UInt8[np.ndarray, "t h w 3"]:
    """PyAV as in much training code: seek to the key frame before each frame, decode from there.

    In AVIs with B-frames it may return neighbours of the wanted frames: AVI stores no times.
    """
    frames = []
    with opening.container(path) as container:
        stream = _one_thread(container)
        first, step = stream.start_time or 0, 1 / (stream.average_rate * stream.time_base)
        length = stream.frames or round(container.duration / av.time_base * stream.average_rate)
        for index in test_indices(length, count):
            time_wanted = first + int(index * step)
            container.seek(time_wanted, stream=stream)
            # half a frame early: times are rounded
            late = (
                frame
                for frame in container.decode(stream)
                if frame.pts is None or frame.pts >= time_wanted - step / 2
            )
            frame = next(late, None)
            if frame is not None:
                frames.append(frame.to_ndarray(format="rgb24"))
    return np.stack(frames)


def read_all(path: Path, count: int) -> UInt8[np.ndarray, "t h w 3"]:
    """PyAV: decode every frame, convert the wanted ones."""
    with opening.container(path) as container:
        frames = list(container.decode(_one_thread(container)))
    return np.stack(
        [frames[i].to_ndarray(format="rgb24") for i in test_indices(len(frames), count)]
    )


def _one_thread(container) -> av.VideoStream:
    stream = opening.shown_stream(container.streams)
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    return stream


def read_opencv(path: Path, count: int) -> UInt8[np.ndarray, "t h w 3"]:
    """OpenCV's VideoCapture: grab in order, retrieve the wanted frames."""
    capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    wanted = test_indices(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), count).tolist()
    frames = []
    for index in range(wanted[-1] + 1):
        if not capture.grab():
            break
        if index in wanted:
            frames.append(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
    capture.release()
    return np.stack(frames)


def read_decord(path: Path, count: int) -> UInt8[np.ndarray, "t h w 3"]:
    """decord as commonly used: `get_batch` of the wanted frames."""
    reader = import_module("decord").VideoReader(str(path.absolute()), num_threads=1)
    return reader.get_batch(test_indices(len(reader), count).tolist()).asnumpy()


READERS = dict(zip(OTHERS, (read_seeking, read_all, read_opencv, read_decord)))


def missing(reader: str) -> bool:
    """Whether an optional reader is not installed."""
    try:
        return reader == "decord" and import_module("decord") is None
    except (ImportError, OSError):
        return True


def make_records(files: Sequence[Path], folder: Path) -> dict[str, Records]:
    """The files as records of every storage, on disk."""
    listed, labels = folder / "list.txt", folder / "labels.csv"
    listed.write_text("".join(f"{path.name} 0\n" for path in files))
    labels.write_text("id,name\n0,clip\n")
    made = {}
    for name, storage, most in zip(OURS, ("video", "jpeg", "jpeg"), (0, 0, FEW_JPEGS)):
        config = BuildConfig(
            f"{storage}{most}",
            lists=((str(listed), str(labels)),),
            video_dir=str(files[0].parent),
            storage=storage,
            max_frames=most,
            workers=1,
        )
        made[name] = open_records(build_records(config, folder).path, listed.stem)
    return made


def read_record(records: Records, index: int, count: int) -> UInt8[np.ndarray, "t h w 3"]:
    """The wanted frames of a record, including the read from its file."""
    example = records[index]
    return example.frames(test_indices(example.num_frames, count))


def stored_bytes(records: Records) -> int:
    """Bytes of the files of records."""
    return sum(path.stat().st_size for path in records.path.glob("*.array_record*"))


def _cropped(read: Callable[[], np.ndarray]) -> np.ndarray:
    return centre_crop(resize_short_side(read(), SHORT_SIDE), CROP)


def measure(kind: Kind, files: Sequence[Path], frames: Sequence[int], rounds: int) -> list[Result]:
    """Times every reader on every file in turn; the rate comes from the median of each file."""
    with tempfile.TemporaryDirectory() as folder:
        return _measure(kind, files, frames, rounds, make_records(files, Path(folder)))


def _measure(
    kind: Kind, files: Sequence[Path], frames: Sequence[int], rounds: int, stored: dict
) -> list[Result]:
    results = []
    for count in frames:
        jobs: dict[str, list[Read]] = {
            reader: [partial(_cropped, partial(read, path, count)) for path in files]
            for reader, read in READERS.items()
            if not missing(reader)
        }
        for name in OURS:
            reads = (partial(read_record, stored[name], i, count) for i in range(len(files)))
            jobs[name] = [partial(_cropped, read) for read in reads]
        rates = clips_per_second(jobs, rounds)
        for reader in (*OTHERS, *OURS):
            size = None
            if reader in OURS:
                size = stored_bytes(stored[reader]) / sum(path.stat().st_size for path in files)
            results.append(Result(kind.name, count, reader, rates.get(reader), size))
    return results


def clips_per_second(jobs: Mapping[str, Sequence[Read]], rounds: int) -> dict[str, float]:
    """Rates by reader, from the median of each clip; see `timing.interleaved`."""
    flat = [Job(reader, "", read) for reader, reads in jobs.items() for read in reads]
    seconds = dict.fromkeys(jobs, 0.0)
    # a read takes long enough: no repeats within a round, and no threads to wait for
    for timing in interleaved(flat, rounds, at_least=0, pause=0):
        seconds[timing.task] += timing.median
    return {reader: len(reads) / seconds[reader] for reader, reads in jobs.items()}


def one_core() -> None:
    """Keeps this process on one core where the system allows it, and OpenCV to one thread."""
    cv2.setNumThreads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def table(results: Sequence[Result]) -> Table:
    """Clips/s, the ratio to seeking and to the best other reader, and the stored size."""
    head = ("clips", "T", "reader", "clips/s")
    head += ("to seeking", "to the best other", "size, of the source")
    rows = []
    for row in results:
        rates = {
            r.reader: r.clips_per_second
            for r in results
            if (r.kind, r.frames) == (row.kind, row.frames)
        }
        cells = ["not installed", "–", "–"]
        if row.clips_per_second is not None:
            best = max(rates[reader] or 0 for reader in OTHERS if reader in rates)
            cells = [f"{row.clips_per_second:.1f}"]
            cells += [f"{row.clips_per_second / base:.2f}×" for base in (rates[BASE], best)]
        size = "–" if row.size is None else f"{row.size:.2f}×"
        rows.append(dict(zip(head, (row.kind, row.frames, row.reader, *cells, size))))
    return Table("Readers of the same files, one core", head, tuple(rows))


def compare(
    folder: Path | None, count: int, frames: Sequence[int], seconds: int | None, rounds: int
) -> dict[str, Any]:
    """Encodes, measures, prints the table.

    Args:
      folder: of video files; clips are rendered without.
      count: clips at most.
      frames: of a clip, each measured.
      seconds: clips are cut to this length; None for that of their kind.
      rounds: measured ones.

    Returns:
      All numbers, JSON-able.
    """
    clips, results = sources(folder, count), []
    about = machine() | versions() | {"clips": len(clips), "rounds": rounds, "cores used": 1}
    one_core()
    with tempfile.TemporaryDirectory() as folder_of_clips:
        for kind in KINDS:
            if seconds is not None:
                kind = replace(kind, seconds=min(kind.seconds, seconds))
            files = [Path(folder_of_clips) / f"{i}.{kind.ending}" for i in range(len(clips))]
            for path, (pictures, rate) in zip(files, clips):
                write_clip(pictures, rate, kind, path)
            results += measure(kind, files, frames, rounds)
    show(table(results))
    return about | {"results": [asdict(result) for result in results]}


def versions() -> dict[str, str]:
    """Versions of what was measured."""
    found = {}
    for name in ("av", "opencv-python-headless", "simplejpeg", "numpy", "decord", "decord2"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found | {"FFmpeg of av": av.ffmpeg_version_info}
