"""Orbax's manager, which writes and deletes checkpoints but never reads one."""

import datetime
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from vtd_jax.train.checkpoints import integrity

# the error of the system in TensorStore's message
_SYSTEM = re.compile(r"os_error_code='(\d+)'")


def quiet() -> None:
    """Silences orbax's reports of a failed write, which is raised in one line."""
    # not restored: orbax's threads end after the manager is closed
    logging.getLogger("absl").addFilter(_raised_elsewhere)
    logging.getLogger("asyncio").addFilter(_retrieved_elsewhere)
    if not isinstance(sys.unraisablehook, _Hook):
        sys.unraisablehook = _Hook(sys.unraisablehook)


def reason(error: Exception) -> str:
    """Why a write failed, in short."""
    code = _SYSTEM.search(str(error))
    return os.strerror(int(code[1])) if code else f"{type(error).__name__}: {str(error)[:200]}"


def _raised_elsewhere(record: logging.LogRecord) -> bool:
    return not (record.exc_info and "orbax" in record.pathname)


def _retrieved_elsewhere(record: logging.LogRecord) -> bool:
    # of several arrays that fail, orbax awaits the first only
    message = record.getMessage()
    return not ("never retrieved" in message and "orbax" in message)


class _Hook:
    """An `unraisablehook` that ignores TensorStore's, whose event loop ends with a failed write."""

    def __init__(self, before: Callable[..., object]):
        self._before = before

    def __call__(self, unraisable: "sys.UnraisableHookArgs") -> None:
        error = unraisable.exc_value
        if not isinstance(error, RuntimeError) or str(error) != "Event loop is closed":
            self._before(unraisable)


class _Step(ocp.path.step.Metadata):
    """A checkpoint's folder, ordered by its step."""

    @property
    def commit_timestamp(self) -> datetime.datetime:
        # a constant, so that orbax does not read the folder
        return datetime.datetime.min.replace(tzinfo=datetime.UTC)


class StepNames(ocp.path.step.NameFormat):
    """Lets orbax see the folders that `Checkpoints` counts as checkpoints, and no others."""

    def build_name(self, step: int) -> str:
        return str(step)

    def find_all(self, base_path: Any) -> Iterator[_Step]:
        return (self.find_step(base_path, step) for step in integrity.steps_in(Path(base_path)))

    def find_step(self, base_path: Any, step: int) -> _Step:
        return _Step(step, base_path / str(step))


class Manager(ocp.CheckpointManager):
    """Orbax's manager; `Checkpoints` reads and checks the existing checkpoints for it."""

    def __init__(self, folder: Path, read: Callable[[int], float | None], **settings: Any):
        self._read = read
        super().__init__(folder, **settings)

    def metrics(self, step: int) -> dict[str, float] | None:
        """The metric as `Checkpoints` reads it: orbax would accept a text or NaN and fail later."""
        metric = self._read(step)
        return None if metric is None else {"metric": metric}

    def reached_preemption(self, step: int) -> bool:
        """Never: JAX reports a notice once, and the training loop needs it on all processes."""
        del step
        return False
