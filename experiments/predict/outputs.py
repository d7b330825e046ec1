"""Checks of outputs: no input, no foreign file, no file of another process is replaced."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vtd_jax.errors import UserError
from vtd_jax.locks import locked_outputs
from vtd_jax.output_checks import Output, begins, check_outputs
from vtd_jax.report.figure_files import is_figure
from vtd_jax.report.pages import check_report, is_index, read_entry
from vtd_jax.video.lists.addresses import named


def check(request: Any, videos: Sequence[Path]) -> None:
    """Refuses outputs that are inputs or would replace files of others.

    Args:
      request: the flags, a `request.Request`.
      videos: all of the run.

    Raises:
      UserError: names the flag and the file.
    """
    outputs = [
        Output(f"--{flag}", Path(value), folder, ours)
        for flag, value, folder, ours in (
            ("json", request.json, False, _is_json),
            ("csv", request.csv, False, _is_csv),
            ("report", request.report, True, None),
            ("figures", request.figures, True, None),
        )
        if value is not None and (value or _refuse_empty(flag, folder))
    ]
    # a new file is none of the videos; comparing with each of them may take long
    exists = any(not output.folder and os.path.lexists(output.path) for output in outputs)
    inputs = [(f"one of the videos, {named(video)}", video) for video in videos] if exists else []
    inputs += [
        (f"--{flag}={getattr(request, flag)}", getattr(request, flag))
        for flag in ("labels", "vocabulary")
    ]
    check_outputs(outputs, [*inputs, (f"--truth={request.truth}", request.truth), *request.inputs])
    if request.report is not None:
        check_report("--report", Path(request.report))


def _refuse_empty(flag: str, folder: bool) -> bool:
    # Path("") would be the current folder
    raise UserError(f"--{flag}=: empty, expected the name of a {'folder' if folder else 'file'}")


def locked(request: Any) -> contextlib.AbstractContextManager[None]:
    """Locks the outputs of a request, see `locks.locked_outputs`."""
    given = [(flag, getattr(request, flag)) for flag in ("json", "csv", "report", "figures")]
    return locked_outputs(
        (f"--{flag}", Path(value), flag in ("report", "figures"))
        for flag, value in given
        if value is not None
    )


def is_foreign(request: Any, name: str) -> bool:
    """Whether a page or figure of this name (without suffix) would replace a foreign file."""
    if request.report is not None:
        page = Path(request.report) / f"{name}.html"
        if os.path.lexists(page) and read_entry(page) is None and not is_index(page):
            return True
    if request.figures is None:
        return False
    figures = [Path(request.figures) / f"{name}.{kind}" for kind in ("png", "pdf")]
    return any(os.path.lexists(figure) and not is_figure(figure) for figure in figures)


def _is_json(path: Path) -> bool:
    return begins(path, b'{\n "about": {')


def _is_csv(path: Path) -> bool:
    return begins(
        path,
        b"video,label_1,",
        b"video,truth,label_1,",
        b"video,label,start,",
        b"video,truth,label,start,",
    )
