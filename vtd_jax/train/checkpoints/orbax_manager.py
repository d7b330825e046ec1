"""Orbax's manager, which writes and deletes checkpoints; it reads nothing of those that are there."""

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

# as TensorStore passes on what the system said
_SYSTEM = re.compile(r"os_error_code='(\d+)'")


def quiet() -> None:
    """Keeps off the screen, from here on, what orbax says of a write that failed: the error is
    raised, in one line.
    """
    # threads of its own end after the manager is closed: this stays
    logging.getLogger("absl").addFilter(_raised_elsewhere)
    if not isinstance(sys.unraisablehook, _Hook):
        sys.unraisablehook = _Hook(sys.unraisablehook)


def reason(error: Exception) -> str:
    """Why a write failed, in short."""
    said = _SYSTEM.search(str(error))
    return os.strerror(int(said[1])) if said else f"{type(error).__name__}: {str(error)[:200]}"


def _raised_elsewhere(record: logging.LogRecord) -> bool:
    return not (record.exc_info and "orbax" in record.pathname)


class _Hook:
    """For what callbacks raise; passes over TensorStore's, whose event loop ended with the first
    write that failed.
    """

    def __init__(self, before: Callable[..., object]):
        self._before = before

    def __call__(self, unraisable: "sys.UnraisableHookArgs") -> None:
        if (
            unraisable.exc_type is not RuntimeError
            or str(unraisable.exc_value) != "Event loop is closed"
        ):
            self._before(unraisable)


class _Step(ocp.path.step.Metadata):
    """A checkpoint's folder, of which orbax need not read anything; they are ordered by their
    steps.
    """

    @property
    def commit_timestamp(self) -> datetime.datetime:
        return datetime.datetime.min.replace(tzinfo=datetime.UTC)


class StepNames(ocp.path.step.NameFormat):
    """Which folders are checkpoints: those that `Checkpoints` takes for some, whatever else lies
    there.
    """

    def build_name(self, step: int) -> str:
        return str(step)

    def find_all(self, base_path: Any) -> Iterator[_Step]:
        return iter(
            [_Step(step, base_path / str(step)) for step in integrity.steps_in(Path(base_path))]
        )

    def find_step(self, base_path: Any, step: int) -> _Step:
        return _Step(step, base_path / str(step))


class Manager(ocp.CheckpointManager):
    """Orbax's, which writes and deletes; what is there already is read, and checked, by
    `Checkpoints`.
    """

    def __init__(self, folder: Path, read: Callable[[int], float | None], **settings: Any):
        self._read = read
        super().__init__(folder, **settings)

    def metrics(self, step: int) -> dict[str, float] | None:
        """As `Checkpoints` has read it: orbax would take a text, or NaN, and fail later."""
        metric = self._read(step)
        return None if metric is None else {"metric": metric}

    def reached_preemption(self, step: int) -> bool:
        """Never: JAX tells a process of a notice once, and of several only the first saves; the
        loop asks for all.
        """
        del step
        return False
