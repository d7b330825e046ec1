"""What `experiments.build_data` may write: nothing that it reads, and no records over what is none."""

import os
from collections.abc import Iterator
from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.output_checks import Output, begins, check_outputs
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.records import record_folder

# any of these makes a folder one of records, whole or damaged
_RECORDS = ("dataset_info.json", "features.json", "metadata.json", "files.json", "*.array_record*")


def check_report(config: BuildConfig, report: Path) -> None:
    """Refuses a report that is one of the lists, label files or annotations that are read, before
    anything is.
    """
    check_outputs([Output("--report", report, ours=_is_report)], _inputs(config))


def check_records(config: BuildConfig, data_dir: Path) -> None:
    """Refuses a folder of records where something else is: it would be replaced.

    Raises:
      UserError: the folder is there and holds no records.
    """
    check_outputs([Output("--data_dir", data_dir, folder=True, whole=True)], [])
    target = record_folder(data_dir, config.dataset, config.name)
    if not os.path.lexists(target):
        return
    if not target.is_dir() or (
        any(target.iterdir()) and not any(any(target.glob(name)) for name in _RECORDS)
    ):
        raise UserError(
            f"{target}: is there, and holds no records, which would be written in its place; give "
            "another --name or --data_dir"
        )


def _inputs(config: BuildConfig) -> Iterator[tuple[str, str]]:
    for listed, labels in config.lists:
        yield f"--list={listed}", listed
        yield f"--labels={labels}", labels
    for flag, folder in (
        ("source", config.source),
        ("video_dir", config.video_dir),
        ("splits", config.splits),
    ):
        if folder:
            yield f"--{flag}={folder}", folder


def _is_report(path: Path) -> bool:
    return begins(path, b"level,kind,where,file,reason", b'{\n "videos": ')
