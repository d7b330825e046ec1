"""Turns a list of videos into records that training and evaluation read.

Examples:
  python -m experiments.build_data --list=train.txt --labels=labels.csv --video_dir=clips --data_dir=records
  python -m experiments.build_data --list=val.txt --labels=labels.csv --video_dir=clips --data_dir=records --name=val
  python -m experiments.build_data --list=val.txt --labels=labels.csv --video_dir=clips --check_only

The list has one `file class_id` line a video, the labels are a CSV of `id,name`. Records go to
DATA_DIR/video_folder/NAME/. --storage=jpeg keeps frames as JPEGs (large, fast to read), --storage=video the original
files. Every video is decoded to its end: a missing, empty, truncated or otherwise bad one stops the build with the
line it is listed on, or is left out and reported with --on_error=skip.
"""

import json
from dataclasses import asdict
from pathlib import Path

from absl import flags

from experiments import _cli
from vtd_jax.errors import UserError
from vtd_jax.files import write_text
from vtd_jax.video import build
from vtd_jax.video.inputs import VideoFolderConfig

_DATASET = flags.DEFINE_enum("dataset", "video_folder", ["video_folder"], "kind of data set")
_LIST = flags.DEFINE_string("list", None, "list of videos: `file class_id` lines", required=True)
_LABELS = flags.DEFINE_string("labels", None, "label CSV: `id,name` rows", required=True)
_VIDEO_DIR = flags.DEFINE_string("video_dir", None, "folder that the files of the list are in", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "folder for records, made if need be")
_NAME = flags.DEFINE_string("name", None, "name of the records; the list's file name without its ending if not given")
_STORAGE = flags.DEFINE_enum("storage", "jpeg", ["jpeg", "video"], "what records hold")
_SHORT_SIDE = flags.DEFINE_integer("short_side", 256, "largest short side of stored JPEGs, pixels", lower_bound=1)
_MAX_FRAMES = flags.DEFINE_integer("max_frames", 0, "most JPEGs a video, evenly spaced; 0 keeps all", lower_bound=0)
_ON_ERROR = flags.DEFINE_enum("on_error", "fail", ["fail", "skip"], "what to do about a bad video")
_CHECK_ONLY = flags.DEFINE_bool("check_only", False, "decode every video, print what is wrong, write no records")
_REPORT = flags.DEFINE_string("report", None, "with --check_only: write the problems to this JSON file too")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "replace records of the same name once the new ones are whole")
_WORKERS = flags.DEFINE_integer("workers", 0, "videos decoded at a time; 0 means one a core", lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 0, "fixes the order of the records", lower_bound=0)


def main() -> str:
    """Builds or checks; returns the closing line."""
    config = VideoFolderConfig(
        name=_NAME.value or Path(_LIST.value).stem,
        list_file=_LIST.value,
        labels_file=_LABELS.value,
        video_dir=_VIDEO_DIR.value,
        storage=_STORAGE.value,
        short_side=_SHORT_SIDE.value,
        max_frames=_MAX_FRAMES.value,
        on_error=_ON_ERROR.value,
        workers=_WORKERS.value,
        seed=_SEED.value,
    )
    if _CHECK_ONLY.value:
        return _check(config)
    if _REPORT.value:
        raise UserError("--report belongs to --check_only; skipped videos of a build are listed in its metadata.json")
    if not _DATA_DIR.value:
        raise UserError("--data_dir is missing: name the folder for the records, or give --check_only")
    built = build.build_records(config, _DATA_DIR.value, overwrite=_OVERWRITE.value)
    skipped = f", {built.skipped} bad videos left out" if built.skipped else ""
    holds = (
        f"{built.videos} videos{skipped}, {built.classes} classes, {built.bytes / 1e6:.1f} MB, {config.storage} storage"
    )
    if built.reused:
        return f"nothing to do: {built.path} was built from the same inputs: {holds}"
    return f"wrote {built.path}: {holds}"


def _check(config: VideoFolderConfig) -> str:
    """Prints a table of the problems; raises UserError if there are any."""
    inputs, problems = build.check_videos(config)
    if problems:
        rows = [("line", "file", "problem"), *((str(p.line), p.file, p.reason) for p in problems)]
        wide = [max(len(row[i]) for row in rows) for i in range(2)]
        print("\n".join(f"{line:>{wide[0]}}  {file:<{wide[1]}}  {reason}" for line, file, reason in rows), flush=True)
    if _REPORT.value:
        content = {"list": _LIST.value, "videos": len(inputs.entries), "problems": [asdict(p) for p in problems]}
        path = Path(_REPORT.value)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(content, indent=1) + "\n")
    summary = f"{len(inputs.entries)} videos of {len(inputs.labels.names)} classes checked"
    if problems:
        raise UserError(f"{_LIST.value}: {summary}, {len(problems)} are bad; no records were written")
    return f"{_LIST.value}: {summary}, all whole; no records were written"


if __name__ == "__main__":
    _cli.run(main, __doc__)
