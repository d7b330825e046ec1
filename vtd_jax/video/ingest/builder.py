"""The TFDS builder of video records: makes shards in a staging folder, then gathers them."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import split_builder as tfds_split_builder

from vtd_jax.errors import UserError
from vtd_jax.files import remove_tree, write_text
from vtd_jax.terminal import log
from vtd_jax.video import records
from vtd_jax.video.ingest import encode
from vtd_jax.video.ingest.config import BENCHMARKS, BuildConfig, default_storage
from vtd_jax.video.ingest.inputs import Inputs, summary_lines
from vtd_jax.video.ingest.measure import storage_lines
from vtd_jax.video.ingest.run import cores, run_here, run_on_beam
from vtd_jax.video.ingest.shards import ShardReport, Staging, staging_folder
from vtd_jax.video.ingest.sources import write_seen
from vtd_jax.video.record_files import FILES, SPLIT, StoredFile
from vtd_jax.video.stored_lists import list_content, write_list

# packages whose versions may change the bytes of records
MADE_WITH = ("av", "simplejpeg", "array-record")


class _Info(tfds.core.DatasetInfo):
    """DatasetInfo that skips TFDS's bucket, which would leave an empty folder in /tmp."""

    def initialize_from_bucket(self) -> None:
        """Nothing: these records are made here."""


class VideoRecordsBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """TFDS builder of the videos of some lists; `data/` registers it for `tfds build`.

    Attributes:
      inputs: what is to be built, where it was read already.
      staging: where shards are made; None makes a hidden folder in the data directory.
      announce: gets lines about what is going to be done, storages measured; None is silent and
        measures nothing.
    """

    VERSION = tfds.core.Version(records.VERSION)
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put the official download, unpacked, or list.txt, labels.csv and the videos here."
    )
    inputs: Inputs | None = None
    staging: Staging | None = None
    announce: Callable[[str], None] | None = staticmethod(log)

    def __init__(self, *, file_format: str | None = None, **kwargs):
        super().__init__(file_format=file_format or "array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return _Info(
            builder=self,
            description="Videos with their classes, as JPEG frames or original files, and lists of "
            "them.",
            features=encode.features(self.builder_config.storage),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _shard_iterators_per_split(self, dl_manager):
        raise AssertionError("shards are written by _download_and_prepare")  # pragma: no cover

    def _download_and_prepare(self, dl_manager, download_config=None):
        config = self.builder_config
        config.check()
        manual = None if config.source or config.video_dir else Path(dl_manager.manual_dir)
        inputs = self.inputs or Inputs(config, manual)
        inputs.check()
        with contextlib.ExitStack() as stack:
            hidden = Path(self._data_dir_root) / f".shards-{self.name}-{config.name}"
            staging = self.staging or stack.enter_context(
                staging_folder(hidden, f"{self.name}/{config.name}")
            )
            if self.announce:
                for line in (*summary_lines(inputs), *storage_lines(inputs)):
                    self.announce(f"{self.name}: {line}")
            count = staging.prepare(inputs)
            self._make(staging, count, download_config or tfds.download.DownloadConfig())
            self._gather(staging, inputs, [staging.report(index) for index in range(count)])
            if self.staging is None:
                remove_tree(staging.folder)

    def _make(self, staging: Staging, count: int, download_config: Any) -> None:
        """Makes the shards here, or with Beam where a runner or its options are given."""
        options, runner = download_config.beam_options, download_config.beam_runner
        if not (options or runner):
            label = f"{self.name}/{self.builder_config.name}"
            run_here(staging, count, cores(self.builder_config.workers), label)
            return
        unused = dict.fromkeys(("ignore_duplicates", "max_examples_per_split", "shard_config"))
        split_builder = tfds_split_builder.SplitBuilder(
            split_dict=self.info.splits,
            features=self.info.features,
            dataset_size=self.info.dataset_size,
            example_writer=self._example_writer(),
            beam_options=options,
            beam_runner=runner,
            **unused,
        )
        run_on_beam(staging, count, split_builder)

    def _gather(self, staging: Staging, inputs: Inputs, reports: Sequence[ShardReport]) -> None:
        """Moves the shards into TFDS's folder; writes lists and metadata."""
        folder = Path(self.data_dir)
        template = self._get_filename_template(split_name=SPLIT)
        full = [(index, report) for index, report in enumerate(reports) if report.files]
        if not full:
            remove_tree(staging.folder)
            count = len(inputs.videos)
            videos = "the only video is" if count == 1 else f"all {count} videos are"
            raise UserError(f"{inputs.video_dir}: {videos} bad; no records were written")
        for place, (index, _) in enumerate(full):
            target = template.sharded_filepath(shard_index=place, num_shards=len(full))
            _put(staging.shard(index), Path(target))
        lengths = [len(report.files) for _, report in full]
        size = sum(report.bytes for _, report in full)
        split = tfds.core.SplitInfo(
            name=SPLIT, shard_lengths=lengths, num_bytes=size, filename_template=template
        )
        self.info.set_splits(tfds.core.splits.SplitDict([split]))
        self.info.features["label"].names = inputs.class_names
        files = [StoredFile(*each) for _, report in full for each in report.files]
        skipped = [entry for report in reports for entry in report.skipped]
        self.info.metadata.update(
            **inputs.config.stored(),
            fingerprint=inputs.fingerprint,
            on_error=inputs.config.on_error,
            videos=len(files),
            frames=sum(report.frames for _, report in full),
            source_bytes=sum(each.bytes for each in files),
            bytes=size,
            missing=len({p.file for p in inputs.problems if p.kind == "missing"}),
            skipped=skipped,
            made_with={name: metadata.version(name) for name in MADE_WITH},
        )
        write_text(folder / FILES, json.dumps(files) + "\n")
        times = {video.file: (video.modified, video.changed) for video in inputs.videos}
        names = [each.file for each in files] + [bad["file"] for bad in skipped]
        write_seen(folder, [times[name] for name in names])
        for content in contents(inputs, files, skipped):
            write_list(folder, content)


def _put(shard: Path, target: Path) -> None:
    """Hard-links a finished shard, to keep it if the build still fails; else moves it."""
    try:
        os.link(shard, target)
    except OSError:
        shutil.move(shard, target)


def contents(
    inputs: Inputs, files: Sequence[StoredFile], skipped: Sequence
) -> list[dict[str, Any]]:
    """The contents of a config's stored lists; warns about lists without any record."""
    bad = {entry["file"]: entry["reason"] for entry in skipped}
    placed = {each.file: (position, each.bytes, each.sha256) for position, each in enumerate(files)}
    stored = inputs.config.stored()
    found = [list_content(each.list, each.files, placed, bad, stored) for each in inputs.placed]
    if empty := [content["name"] for content in found if not content["records"]]:
        log(f"no list {', '.join(empty)}: none of its videos is there")
    return [content for content in found if content["records"]]


def builder_class(dataset: str) -> type[VideoRecordsBuilder]:
    """The builder of a data set, without its folder under `data/`."""
    return type("Builder", (VideoRecordsBuilder,), {"name": dataset}, skip_registration=True)


def benchmark_configs(dataset: str) -> list[BuildConfig]:
    """What `tfds build data/DATASET` offers: everything in `--manual_dir`, in each storage."""
    if dataset not in BENCHMARKS:
        return [BuildConfig(name="manual", dataset=dataset)]
    made = [
        BuildConfig(name="jpeg", dataset=dataset, storage="jpeg"),
        BuildConfig(name="jpeg64", dataset=dataset, max_frames=64),
        BuildConfig(name="video", dataset=dataset, storage="video"),
    ]
    # TFDS takes the first unless a config is named
    return sorted(made, key=lambda config: config.name != default_storage(dataset))
