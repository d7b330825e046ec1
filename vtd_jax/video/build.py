"""Videos to records: the TFDS builder, and builds that leave whole records or none.

Nothing looks complete before it is: shards are made in a hidden folder, gathered by TFDS beside their place, and moved
there at the end. What was finished before an interruption is used by the next build.
"""

import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import split_builder as tfds_split_builder

from vtd_jax.errors import UserError
from vtd_jax.files import write_text
from vtd_jax.video import encode, records
from vtd_jax.video.build_config import BENCHMARKS, BuildConfig
from vtd_jax.video.inputs import Inputs, summary
from vtd_jax.video.list_files import FOLDER, list_names, read_stored_list, write_list
from vtd_jax.video.measure import storage_lines
from vtd_jax.video.run_shards import cores, run_here, run_on_beam
from vtd_jax.video.shards import ShardReport, Staging, staging_folder

# record order, in the record folder: path and bytes of every video
FILES = "files.json"


def to_stderr(line: str) -> None:
    """Prints a line where it does not mix with results."""
    print(line, file=sys.stderr, flush=True)


class VideoRecordsBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """TFDS builder of the videos of some lists; the folders under `data/` make it known to `tfds build`.

    Attributes:
      inputs: what is to be built, where it was read already.
      staging: where shards are made; None makes a hidden folder in the data directory.
      announce: gets lines about what is going to be done, storages measured; None is silent and measures nothing.
    """

    VERSION = tfds.core.Version(records.VERSION)
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Put the official download, unpacked, or list.txt, labels.csv and the videos here."
    inputs: Inputs | None = None
    staging: Staging | None = None
    announce: Callable[[str], None] | None = staticmethod(to_stderr)

    def __init__(self, *, file_format: str | None = None, **kwargs):
        super().__init__(file_format=file_format or "array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Videos with their classes, as JPEG frames or original files, and lists of them.",
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
            staging = self.staging or stack.enter_context(staging_folder(hidden, f"{self.name}/{config.name}"))
            if self.announce:
                for line in (*summary(inputs).lines(), *storage_lines(inputs)):
                    self.announce(f"{self.name}: {line}")
            count = staging.prepare(inputs)
            self._make(staging, count, download_config or tfds.download.DownloadConfig())
            self._gather(staging, inputs, [staging.report(index) for index in range(count)])
            if self.staging is None:
                shutil.rmtree(staging.folder)

    def _make(self, staging: Staging, count: int, download_config: Any) -> None:
        """Makes the shards here, or with Beam where a runner or its options are given."""
        beam = {"beam_options": download_config.beam_options, "beam_runner": download_config.beam_runner}
        if not any(beam.values()):
            run_here(staging, count, cores(self.builder_config.workers), f"{self.name}/{self.builder_config.name}")
            return
        unused = dict.fromkeys(("ignore_duplicates", "max_examples_per_split", "shard_config"))
        run_on_beam(
            staging,
            count,
            tfds_split_builder.SplitBuilder(
                split_dict=self.info.splits,
                features=self.info.features,
                dataset_size=self.info.dataset_size,
                example_writer=self._example_writer(),
                **beam,
                **unused,
            ),
        )

    def _gather(self, staging: Staging, inputs: Inputs, reports: Sequence[ShardReport]) -> None:
        """Moves the shards into TFDS's folder, and writes the lists and what the records say about their making."""
        folder = Path(self.data_dir)
        template = self._get_filename_template(split_name=records.SPLIT)
        full = [(index, report) for index, report in enumerate(reports) if report.files]
        if not full:
            shutil.rmtree(staging.folder)
            raise UserError(f"{inputs.video_dir}: all {len(inputs.videos)} videos are bad; no records were written")
        for place, (index, _) in enumerate(full):
            os.replace(staging.shard(index), template.sharded_filepath(shard_index=place, num_shards=len(full)))
        lengths = [len(report.files) for _, report in full]
        size = sum(report.bytes for _, report in full)
        split = tfds.core.SplitInfo(
            name=records.SPLIT, shard_lengths=lengths, num_bytes=size, filename_template=template
        )
        self.info.set_splits(tfds.core.splits.SplitDict([split]))
        self.info.features["label"].names = inputs.class_names
        files = [(file, size) for _, report in full for file, size in report.files]
        skipped = [entry for report in reports for entry in report.skipped]
        missing = [p for p in inputs.problems if p.kind == "missing"]
        self.info.metadata.update(
            **inputs.config.stored(),
            fingerprint=inputs.fingerprint,
            on_error=inputs.config.on_error,
            videos=len(files),
            frames=sum(report.frames for _, report in full),
            source_bytes=sum(size for _, size in files),
            missing=len(missing),
            skipped=skipped,
            made_with={name: metadata.version(name) for name in ("av", "simplejpeg", "array-record")},
        )
        write_text(folder / FILES, json.dumps(files) + "\n")
        write_lists(folder, inputs, files, skipped)


def write_lists(folder: Path, inputs: Inputs, files: Sequence, skipped: Sequence) -> None:
    """Writes every list of a config beside records that hold its videos."""
    bad = {entry["file"]: entry["reason"] for entry in skipped}
    placed = {file: (position, size) for position, (file, size) in enumerate(files)}
    for each in inputs.placed:
        write_list(folder, each.list, each.files, placed, bad, inputs.config.stored())


def builder_class(dataset: str) -> type[VideoRecordsBuilder]:
    """The builder of a data set, without its folder under `data/`."""
    return type("Builder", (VideoRecordsBuilder,), {"name": dataset}, skip_registration=True)


def benchmark_configs(dataset: str) -> list[BuildConfig]:
    """What `tfds build data/DATASET` offers: everything in `--manual_dir`, in each storage."""
    kinds = {"jpeg": {}, "jpeg64": {"max_frames": 64}, "video": {"storage": "video"}}
    if dataset not in BENCHMARKS:
        kinds = {"manual": {}}
    return [BuildConfig(name=name, dataset=dataset, **fields) for name, fields in kinds.items()]


@dataclass(frozen=True)
class Built:
    """What a build left.

    Attributes:
      path: the record folder.
      reused: whether the records were there already.
      lists: what each list says of itself.
      added: names of the lists that this build wrote.
      videos, skipped, missing: how many have a record, were bad, were not there.
      classes, bytes: class names of all lists; size on disk.
    """

    path: Path
    reused: bool
    lists: tuple[str, ...]
    added: tuple[str, ...]
    videos: int
    skipped: int
    missing: int
    classes: int
    bytes: int


def build_records(
    config: BuildConfig,
    data_dir: str | Path,
    *,
    overwrite: bool = False,
    download_config: Any = None,
    announce: Callable[[str], None] | None = None,
) -> Built:
    """Builds the records of one config, or finds that they are there and adds the lists that are not.

    Videos are encoded in processes of their own where there is more than one shard to make: a script that calls this
    needs the usual `if __name__ == "__main__":`.

    Args:
      config: what to build.
      data_dir: records go to `DATA_DIR/DATASET/CONFIG/`.
      overwrite: replace records of that name once the new ones are whole.
      download_config: TFDS's, for a Beam runner (see `run_shards.beam_config`).
      announce: gets lines about what is going to be done; None is silent, and does not measure storages.

    Raises:
      UserError: for bad input, a bad video (`on_error="fail"`), too little disk space, or other records of that name.
    """
    inputs, data_dir = Inputs(config), Path(data_dir)
    target = records.record_folder(data_dir, config.dataset, config.name)
    if not overwrite and (target / "dataset_info.json").is_file():
        return _reuse(inputs, target)
    inputs.check()
    data_dir.mkdir(parents=True, exist_ok=True)
    _check_space(inputs, data_dir)
    told = f"{config.dataset}/{config.name}"
    with staging_folder(data_dir / f".building-{config.dataset}-{config.name}", told) as staging:
        root, old = staging.folder / "tfds", staging.folder / "old"
        shutil.rmtree(root, ignore_errors=True)
        if old.is_dir() and not target.exists():
            os.replace(old, target)  # a build was killed between the two renames below
        builder = builder_class(config.dataset)(data_dir=root, config=config)
        builder.inputs, builder.staging, builder.announce = inputs, staging, announce
        # TFDS announces the hidden folder on stdout
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_config=download_config)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            os.replace(target, old)
        os.replace(records.record_folder(root, config.dataset, config.name), target)
        shutil.rmtree(staging.folder)
    return _built(target, False, list_names(target))


def _reuse(inputs: Inputs, folder: Path) -> Built:
    """Accepts records that hold the videos as asked for, and adds lists; refuses others."""
    try:
        there = json.loads((folder / "metadata.json").read_text())
        files = json.loads((folder / FILES).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: these records cannot be read ({error}); replace them with --overwrite") from None
    wanted = inputs.config.stored()
    changed = [f"{key} is {there.get(key)}, not {value}" for key, value in wanted.items() if there.get(key) != value]
    held = dict(files) | {entry["file"]: None for entry in there["skipped"]}
    lacking = [v.file for v in inputs.videos if v.file not in held or held[v.file] not in (None, v.size)]
    if lacking:
        changed.append(f"{len(lacking)} of {len(inputs.videos)} videos are not in them or have changed ({lacking[0]})")
    if changed:
        raise UserError(
            f"{folder}: other records have this name: {'; '.join(changed)}; choose another --name, or replace them "
            "with --overwrite"
        )
    inputs.check()
    bad = {entry["file"]: entry["reason"] for entry in there["skipped"]}
    if inputs.config.on_error == "fail" and (mine := [v for v in inputs.videos if v.file in bad]):
        raise UserError(
            f"{mine[0].where}: {mine[0].file} is bad and was left out of {folder}, and {len(mine) - 1} more "
            f"({bad[mine[0].file]}); accept that with --on_error=skip, or build again with --overwrite"
        )
    return _built(folder, True, _add_lists(folder, inputs, files, there["skipped"]))


def _add_lists(folder: Path, inputs: Inputs, files: Sequence, skipped: Sequence) -> list[str]:
    """Writes the lists that are not there yet; refuses to change one that is."""
    there = {name: read_stored_list(folder, name).fingerprint for name in list_names(folder)}
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".lists-") as beside:
        write_lists(Path(beside), inputs, files, skipped)
        made = {name: read_stored_list(Path(beside), name).fingerprint for name in list_names(Path(beside))}
        for name in made:
            path = folder / FOLDER / f"{name}.json"
            if there.get(name, made[name]) != made[name]:
                raise UserError(f"{path}: another list has this name; rename the new one, or remove this file first")
        new = [name for name in made if name not in there]
        for name in new:
            os.replace(Path(beside) / FOLDER / f"{name}.json", folder / FOLDER / f"{name}.json")
    return new


def _built(folder: Path, reused: bool, added: Sequence[str]) -> Built:
    """Reads back what is there now."""
    lists = [read_stored_list(folder, name) for name in list_names(folder)]
    about = json.loads((folder / "metadata.json").read_text())
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    classes = {name for each in lists for name in each.class_names}
    told = tuple(each.told for each in lists)
    counts = (about["videos"], len(about["skipped"]), about["missing"], len(classes), size)
    return Built(folder, reused, told, tuple(added), *counts)


def _check_space(inputs: Inputs, data_dir: Path) -> None:
    """Refuses to start a build that cannot fit."""
    needed, free = sum(inputs.estimate()), shutil.disk_usage(data_dir).free
    if needed > free:
        raise UserError(
            f"{data_dir}: the records need about {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; "
            "choose another --data_dir, --storage=video or --max_frames"
        )


def closing(built: Built, config: BuildConfig) -> str:
    """One line on what a build left."""
    bad = f", {built.skipped} bad and {built.missing} missing ones left out" if built.skipped or built.missing else ""
    holds = f"{built.videos} videos{bad}, {built.classes} classes, {built.bytes / 1e6:.1f} MB, {config.storage} storage"
    if not built.reused:
        return f"wrote {built.path}: {holds}"
    if built.added:
        return f"added lists {', '.join(built.added)} to {built.path}: {holds}"
    return f"nothing to do: {built.path} was built from the same inputs: {holds}"
