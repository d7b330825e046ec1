"""Checks of outputs: no input is replaced, and only records by records."""

import os
from collections.abc import Iterator
from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.output_checks import Output, begins, check_outputs
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.records import record_folder

# any of these marks a folder of records, whole or damaged
_RECORDS = ("dataset_info.json", "features.json", "metadata.json", "files.json", "*.array_record*")


def check_report(config: BuildConfig, report: Path) -> None:
    """Refuses a report that is one of the inputs, before anything is read."""
    check_outputs([Output("--report", report, ours=_is_report)], _inputs(config))


def check_records(config: BuildConfig, data_dir: Path) -> None:
    """Refuses to replace anything but records.

    Raises:
      UserError: the folder exists and holds no records.
    """
    check_outputs([Output("--data_dir", data_dir, folder=True, whole=True)], [])
    target = record_folder(data_dir, config.dataset, config.name)
    if not os.path.lexists(target):
        return
    if not target.is_dir() or (
        any(target.iterdir()) and not any(any(target.glob(name)) for name in _RECORDS)
    ):
        raise UserError(
            f"{target}: exists and holds no records, so records cannot replace it; give another "
            "--name or --data_dir"
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
