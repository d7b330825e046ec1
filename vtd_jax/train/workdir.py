"""The folder of a run: whether a run may start or resume there, and the config it keeps."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from vtd_jax.errors import UserError, setting
from vtd_jax.files import write_text
from vtd_jax.locks import locked
from vtd_jax.terminal import warn
from vtd_jax.train.checkpoints.checkpoint import Checkpoints
from vtd_jax.train.config import CONFIG_FILE, RunConfig
from vtd_jax.train.workdir_handle import WorkdirHandle
from vtd_jax.untrusted.json_text import read_json
from vtd_jax.untrusted.limits import SMALL_JSON_BYTES
from vtd_jax.video.stored_lists import StoredList

TRAINING_LIST = "training_list.json"
_REMOVE = "remove the file: tables will then not name the training list"
_BACK = "put it back, or give another folder"
_LOCK = ".train.lock"
# all files that a run writes
_FILES = (
    _LOCK, CONFIG_FILE, "metrics.csv", TRAINING_LIST, "nonfinite.jsonl", "results.md",
    "results.csv", "results.json", "results_per_class.csv", "results_confusions.csv",
    "results_scores.npz",
)  # fmt: skip


def prepare_workdir(workdir: Path, config: RunConfig, resume: bool, override: bool = False) -> None:
    """Prepares the folder for this run; a new one gets the config.

    With `override`, settings that differ from those of the checkpoints are warnings, not errors.

    Raises:
      UserError: it holds checkpoints and `resume` is off, they are of a run with other settings, or
        its config.json is not that of a run.
    """
    workdir = Path(workdir)
    _check_kind(workdir)
    steps = Checkpoints(workdir).steps
    if not steps:
        _check_foreign(workdir / CONFIG_FILE)
        workdir.mkdir(parents=True, exist_ok=True)
        save_config(workdir, config)
        return
    if not resume:
        raise UserError(
            f"{setting('workdir', workdir)}: holds checkpoints, the last of step {steps[-1]}; "
            f"leave {setting('resume', False)} out to resume from it, or give another folder"
        )
    saved = read_config(workdir)
    different = saved.differences(config)
    if saved.model.ties != config.model.ties and not override:
        release = setting("model.ties", "release")
        different.append(f"set {release} to resume a run of a version without this field")
    if different and not override:
        raise UserError(
            f"{setting('workdir', workdir)}: holds checkpoints of another run, these settings "
            f"differ: {'; '.join(different)}; give another folder, or {setting('override')} to "
            "resume with the new ones"
        )
    for line in different:
        warn(f"{setting('override')}: {line}")


class WorkdirLock:
    """Keeps other runs out of a run's folder. Only process 0 calls `take` and `check`."""

    def __init__(self, workdir: Path):
        self.workdir = Path(workdir)
        self._held = contextlib.ExitStack()
        self._handle: WorkdirHandle | None = None

    def __enter__(self) -> "WorkdirLock":
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    def take(self) -> None:
        """Makes the folder if it is missing, and locks it until the block ends.

        Raises:
          UserError: another run has it, it is a file, or one of the run's files is a folder.
        """
        _check_kind(self.workdir)
        self.workdir.mkdir(parents=True, exist_ok=True)
        self._held.enter_context(locked(self.workdir / _LOCK, setting("workdir", self.workdir)))
        self._handle = WorkdirHandle(self.workdir)

    def check(self) -> None:
        """See `WorkdirHandle.check`."""
        if self._handle is not None:
            self._handle.check()


def _check_kind(workdir: Path) -> None:
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"{setting('workdir', workdir)}: is a file, expected a folder")
    for name in _FILES:
        # before the training, not after it; a link will be replaced
        if (path := workdir / name).is_dir() and not path.is_symlink():
            raise UserError(f"{path}: is a folder, expected a file of the run; move it away")


def _check_foreign(path: Path) -> None:
    """Raises a `UserError` if config.json is not a run's, such as the one of CLIP weights."""
    if not os.path.lexists(path):
        return
    content = read_json(
        path, dict[str, Any], most=SMALL_JSON_BYTES, what="config of a run", remedy=_away()
    )
    if "optimizer" not in content:
        raise UserError(f"{path}: is not the config of a run, and would be overwritten; {_away()}")


def save_config(workdir: Path, config: RunConfig) -> None:
    """Writes the config, with absolute paths: later commands may start in another folder."""
    fields = config.anywhere().to_dict()
    write_text(Path(workdir) / CONFIG_FILE, json.dumps(fields, indent=2) + "\n")


def read_config(workdir: Path) -> RunConfig:
    """The config in a run's folder.

    Raises:
      UserError: it is missing or cannot be read.
    """
    path = Path(workdir) / CONFIG_FILE
    if not path.exists():
        raise UserError(f"{path}: no such file, expected the workdir of a training run; {_BACK}")
    return config_file(path)


def config_file(path: Path) -> RunConfig:
    """The config in a file.

    Raises:
      UserError: the file or one of its fields cannot be read.
    """
    fields = read_json(
        path, dict[str, Any], what="config of a run", most=SMALL_JSON_BYTES, remedy=_BACK
    )
    try:
        return RunConfig.from_saved(fields)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def save_training_list(workdir: Path, stored: StoredList) -> dict[str, str]:
    """Writes the training list of a run into its folder, for the tables of later evaluations."""
    noted, path = stored.noted, Path(workdir) / TRAINING_LIST
    try:
        before = read_training_list(workdir) or noted
    except UserError:
        before = None
    if before != noted:
        warn(f"{path}: was not the training list of this run; written again: {noted['told']}")
    write_text(path, json.dumps(noted) + "\n")
    return noted


def read_training_list(workdir: Path) -> dict[str, str]:
    """The training list of `save_training_list`; empty if nothing was learnt."""
    path = Path(workdir) / TRAINING_LIST
    return read_json(path, dict[str, str], remedy=_REMOVE) if os.path.lexists(path) else {}


def _away() -> str:
    return f"give another {setting('workdir')}, or move that file away"
