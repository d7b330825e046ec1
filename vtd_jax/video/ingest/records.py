"""Builds that leave whole records or none.

Shards are made in a hidden folder, gathered by TFDS there, and moved to their place at the end.
After an interruption, the next build uses the finished shards.
"""

import contextlib
import io
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtd_jax.errors import UserError, setting
from vtd_jax.files import remove_tree
from vtd_jax.fingerprints import same
from vtd_jax.terminal import counted
from vtd_jax.video import records
from vtd_jax.video.ingest.builder import builder_class, contents
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.gather import matches, protocols_of
from vtd_jax.video.ingest.inputs import Inputs, readable
from vtd_jax.video.ingest.shards import staging_folder
from vtd_jax.video.ingest.sources import changed_videos
from vtd_jax.video.lists.catalog import ORIGINS, spoken
from vtd_jax.video.record_files import INFO, read_files, read_layout
from vtd_jax.video.stored_lists import FOLDER, list_names, read_stored_list, write_list


@dataclass(frozen=True)
class Built:
    """What a build left.

    Attributes:
      path: the record folder.
      reused: whether the records were there already.
      lists: a summary of each list.
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
    """Builds the records of one config; reuses existing ones and adds missing lists.

    Several shards are made in several processes, so a script that calls this needs the usual
    `if __name__ == "__main__":`.

    Args:
      config: what to build.
      data_dir: records go to `DATA_DIR/DATASET/CONFIG/`.
      overwrite: replace records of that name once the new ones are whole.
      download_config: TFDS's, for a Beam runner (see `run.beam_config`).
      announce: gets lines about what is going to be done; None is silent, and does not measure
        storages.

    Raises:
      UserError: for bad input, a bad video (`on_error="fail"`), too little disk space, or other
        records of that name.
    """
    inputs, data_dir = Inputs(config), Path(data_dir)
    target = records.record_folder(data_dir, config.dataset, config.name)
    if not overwrite and (target / INFO).is_file():
        return _reuse(inputs, target, announce)
    inputs.check()
    data_dir.mkdir(parents=True, exist_ok=True)
    staging_dir = data_dir / f".building-{config.dataset}-{config.name}"
    with staging_folder(staging_dir, f"{config.dataset}/{config.name}") as staging:
        _check_space(inputs, staging.folder)
        root, old = staging.folder / "tfds", staging.folder / "old"
        # TFDS would resume from the files there
        remove_tree(root)
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
        remove_tree(staging.folder)
    return _built(target, False, list_names(target))


def _reuse(inputs: Inputs, folder: Path, announce: Callable[[str], None] | None) -> Built:
    """Reuses records of the same videos and settings, and adds lists; refuses others."""
    layout = read_layout(folder)
    files = read_files(folder, layout.videos)
    size = sum(Path(shard.filename).stat().st_size for shard in layout.shards)
    if layout.metadata["bytes"] != size:
        raise UserError(
            f"{folder}: files of these records are missing or cut short; replace them with "
            f"{setting('overwrite')}"
        )
    there, wanted = layout.metadata, inputs.config.stored()
    skipped = {entry["file"]: entry for entry in there["skipped"]}
    other = [key for key, value in wanted.items() if there.get(key) != value]
    changed = [f"{key} is {there.get(key)}, not {wanted[key]}" for key in other]
    if lacking := changed_videos(inputs, folder, layout, files, announce):
        of = counted(len(inputs.videos), "video")
        changed.append(f"{len(lacking)} of {of} not in them or changed since ({lacking[0].file})")
    if changed:
        raise UserError(
            f"{folder}: other records have this name: {'; '.join(changed)}; choose another "
            f"{setting('name')}, or replace them with {setting('overwrite')}"
        )
    inputs.check()
    mine = [video for video in inputs.videos if video.file in skipped]
    if mine and inputs.config.on_error == "fail":
        raise UserError(
            f"{mine[0].where}: {mine[0].file} is bad and was left out of {folder}, and "
            f"{len(mine) - 1} more ({skipped[mine[0].file]['reason']}); accept that with "
            f"{setting('on_error', 'skip')}, or build again with {setting('overwrite')}"
        )
    return _built(folder, True, _add_lists(folder, contents(inputs, files, there["skipped"])))


def _add_lists(folder: Path, lists: Sequence[dict[str, Any]]) -> list[str]:
    """Writes the lists that are not there yet; returns their names.

    Of two lists of one name the given one counts, then the official one, then the own split. A
    given list also ends the own splits of its protocol: halves of different origin could overlap.

    Raises:
      UserError: another list of that name and that origin is there.
    """
    there = {name: read_stored_list(folder, name) for name in list_names(folder)}
    given = [name for name, old in there.items() if old.origin == "given"]
    given += [content["name"] for content in lists if content["origin"] == "given"]
    ended = protocols_of(given)

    def superseded(name: str, origin: str) -> bool:
        return origin == "own split" and matches(name, ended)

    new = []
    for content in lists:
        name, origin, old = content["name"], content["origin"], there.get(content["name"])
        if superseded(name, origin) or (old and ORIGINS.index(old.origin) > ORIGINS.index(origin)):
            continue
        if old and old.origin == origin:
            if same(old.fingerprint, content["fingerprint"]):
                continue
            path = folder / FOLDER / f"{name}.json"
            raise UserError(
                f"{path}: another list has this name; rename the new one, or remove this file first"
            )
        new.append(content)
    for content in new:
        write_list(folder, content)
    added = [content["name"] for content in new]
    for name, old in there.items():
        if superseded(name, old.origin) and name not in added:
            (folder / FOLDER / f"{name}.json").unlink()
    return added


def _built(folder: Path, reused: bool, added: Sequence[str]) -> Built:
    """Reads back what is there now."""
    lists = [read_stored_list(folder, name) for name in list_names(folder)]
    about = read_layout(folder).metadata
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    classes = {spoken(name) for each in lists for name in each.class_names}
    missing = {
        entry["file"] for each in lists for entry in each.left_out if entry.get("kind") == "missing"
    }
    summaries = tuple(each.summary for each in lists)
    counts = (about["videos"], len(about["skipped"]), len(missing), len(classes), size)
    return Built(folder, reused, summaries, tuple(added), *counts)


def _check_space(inputs: Inputs, staging: Path) -> None:
    """Refuses to start a build that cannot fit beside what is finished already."""
    finished = sum(path.stat().st_size for path in staging.glob("*.array_record"))
    needed, free = sum(inputs.estimate()) - finished, shutil.disk_usage(staging).free
    if needed > free:
        raise UserError(
            f"{staging.parent}: the records need about {readable(needed)} more and "
            f"{readable(free)} are free; choose another {setting('data_dir')}, "
            f"{setting('storage', 'video')} or {setting('max_frames')}"
        )


def closing(built: Built, config: BuildConfig) -> str:
    """One line on what a build left."""
    counts = {"bad": built.skipped, "missing": built.missing}
    lacking = [f"{count} {kind}" for kind, count in counts.items() if count]
    one = built.skipped + built.missing == 1
    bad = f", {' and '.join(lacking)} {'one' if one else 'ones'} left out" if lacking else ""
    holds = f"{counted(built.videos, 'video')}{bad}, {counted(built.classes, 'class', 'classes')}"
    holds += f", {readable(built.bytes)}, {config.storage} storage"
    if not built.reused:
        return f"wrote {built.path}: {holds}"
    if built.added:
        return f"added lists {', '.join(built.added)} to {built.path}: {holds}"
    return f"nothing to do: {built.path} was built from the same inputs: {holds}"
