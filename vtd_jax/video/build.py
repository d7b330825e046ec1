"""Video files to records: the TFDS builder, parallel encoding, and what happens to bad videos."""

import contextlib
import io
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import tensorflow_datasets as tfds

from vtd_jax.errors import UserError
from vtd_jax.video import decode, records
from vtd_jax.video.catalog import Entry
from vtd_jax.video.inputs import Inputs, Problem, VideoFolderConfig


def ordered_map(
    function: Callable, items: list, workers: int, ahead: int = 2
) -> Iterator[tuple[object, object | None, UserError | None]]:
    """Runs `function` on threads and yields `(item, result, error)` in order, never more than a few ahead.

    Threads suffice: PyAV, OpenCV and simplejpeg let go of the interpreter lock. Only `VideoError` is caught.
    """
    workers = workers or os.cpu_count() or 1
    pending: deque = deque()
    rest = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in rest:
                pending.append((item, pool.submit(function, item)))
                if len(pending) >= workers * ahead:
                    yield _outcome(*pending.popleft())
            while pending:
                yield _outcome(*pending.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def _outcome(item, future):
    try:
        return item, future.result(), None
    except decode.VideoError as error:
        return item, None, error


class Progress:
    """A line on stderr: how many videos, how fast, how long still; rewritten on a terminal, every 10 s elsewhere."""

    def __init__(self, total: int, label: str):
        self.total, self.label, self.done, self.failed = total, label, 0, 0
        self.start = self.shown = time.monotonic()
        self.every = 0.5 if sys.stderr.isatty() else 10.0

    def step(self, failed: bool = False) -> None:
        """Counts one video."""
        self.done, self.failed = self.done + 1, self.failed + failed
        now = time.monotonic()
        if now - self.shown >= self.every or (self.done == self.total and self.shown > self.start):
            self.shown = now
            rate = self.done / (now - self.start)
            end = "\r" if sys.stderr.isatty() and self.done < self.total else "\n"
            left = f"{(self.total - self.done) / rate:.0f} s left"
            text = f"{self.label}: {self.done}/{self.total} videos, {rate:.1f} videos/s, {left}, {self.failed} bad"
            print(text, end=end, file=sys.stderr, flush=True)


class VideoRecordsBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """TFDS builder of one list of videos; `data/video_folder` makes it known to `tfds build`."""

    name = records.DATASET
    VERSION = tfds.core.Version(records.VERSION)
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Put list.txt (file class_id lines), labels.csv (id,name) and the videos here."

    def __init__(self, *, file_format: str | None = None, **kwargs):
        super().__init__(file_format=file_format or "array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Videos of a list with their classes, as JPEG frames or original files.",
            features=records.features(self.builder_config.storage),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _shard_iterators_per_split(self, dl_manager):
        config = self.builder_config
        config.check()
        manual = None if config.list_file and config.labels_file and config.video_dir else Path(dl_manager.manual_dir)
        inputs = Inputs(config, manual)
        self.info.features["label"].names = list(inputs.labels.names)
        self.info.metadata.update(inputs.metadata(), skipped=[])
        progress = Progress(len(inputs.entries), config.name)
        return {records.SPLIT: [partial(self._shard, inputs, part, progress) for part in inputs.shards()]}

    def _shard(self, inputs: Inputs, entries: list[Entry], progress: Progress):
        config = inputs.config
        encode = lambda entry: records.encode_video(  # noqa: E731
            entry, inputs.path(entry), config.storage, config.short_side, config.max_frames or None
        )
        for entry, example, error in ordered_map(encode, entries, config.workers):
            progress.step(failed=error is not None)
            if error is None:
                yield entry.file, example
            elif config.on_error == "fail":
                where = f"{inputs.list_file}:{entry.line}"
                raise UserError(f"{where}: {error}; mend the list, or leave bad videos out with --on_error=skip")
            else:
                problem = Problem(entry.file, entry.line, str(error))
                self.info.metadata["skipped"].append(asdict(problem))
                print(f"skipped {inputs.list_file}:{entry.line}: {error}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Built:
    """What a build left: the folder, whether it was there already, and what it holds."""

    path: Path
    reused: bool
    videos: int
    skipped: int
    classes: int
    bytes: int


def check_videos(config: VideoFolderConfig) -> tuple[Inputs, list[Problem]]:
    """Decodes every video of a list without writing anything; returns the inputs and what is wrong, in list order."""
    config.check()
    inputs = Inputs(config)
    progress, problems = Progress(len(inputs.entries), "check"), []
    for entry, _, error in ordered_map(lambda e: decode.probe(inputs.path(e)), inputs.entries, config.workers):
        progress.step(failed=error is not None)
        if error is not None:
            problems.append(Problem(entry.file, entry.line, str(error)))
    return inputs, problems


def build_records(config: VideoFolderConfig, data_dir: str | Path, *, overwrite: bool = False) -> Built:
    """Builds the records of one config, or finds that they are there.

    Records are written to a hidden folder beside their place and moved there when they are whole, so a build that
    fails or is killed leaves nothing that looks complete, and never harms records that exist.

    Raises:
      UserError: for bad input, a bad video (`on_error="fail"`), too little disk space, or other records of that name.
    """
    config.check()
    inputs, data_dir = Inputs(config), Path(data_dir)
    if not overwrite and config.name in records.record_names(data_dir):
        return _reuse(inputs, data_dir)
    data_dir.mkdir(parents=True, exist_ok=True)
    _sweep(data_dir)
    _check_space(inputs, data_dir)
    staging = data_dir / f".building-{os.getpid()}-{config.name}"
    target = records.record_path(data_dir, config.name)
    try:
        builder = VideoRecordsBuilder(data_dir=staging, config=config)
        # TFDS announces the hidden folder on stdout
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()
        if not builder.info.splits[records.SPLIT].num_examples:
            raise UserError(f"{inputs.list_file}: all {len(inputs.entries)} videos are bad; no records were written")
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            os.replace(target, staging / "old")
        os.replace(records.record_path(staging, config.name), target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return _summary(data_dir, config.name, reused=False)


def _reuse(inputs: Inputs, data_dir: Path) -> Built:
    """Accepts records that the same inputs made; refuses others."""
    name = inputs.config.name
    there, wanted = records.open_records(data_dir, name).info, inputs.metadata()
    if there.get("fingerprint") != wanted["fingerprint"]:
        changed = [key for key in wanted if key != "fingerprint" and there.get(key) != wanted[key]]
        what = ", ".join(changed) or "the videos or their sizes"
        raise UserError(
            f"{records.record_path(data_dir, name)}: other records have this name (different: {what}); "
            "choose another --name, or replace them with --overwrite"
        )
    return _summary(data_dir, name, reused=True)


def _summary(data_dir: Path, name: str, reused: bool) -> Built:
    opened = records.open_records(data_dir, name)
    size = sum(file.stat().st_size for file in opened.path.iterdir())
    return Built(opened.path, reused, len(opened), len(opened.info["skipped"]), len(opened.class_names), size)


def _sweep(data_dir: Path) -> None:
    """Removes what killed builds left behind; folders of builds that still run are kept."""
    for folder in data_dir.glob(".building-*-*"):
        pid = folder.name.split("-")[1]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _check_space(inputs: Inputs, data_dir: Path) -> None:
    """Refuses to start a build that cannot fit."""
    needed, free = sum(inputs.estimate()), shutil.disk_usage(data_dir).free
    if needed > free:
        raise UserError(
            f"{data_dir}: the records need about {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; "
            "choose another --data_dir, --storage=video or --max_frames"
        )
