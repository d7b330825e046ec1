"""Making the runs of a plan, one after another: what is finished stays, what was interrupted goes
on.
"""

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.common import runs as _runs
from experiments.reproduce.plan import Run
from experiments.reproduce.sources import list_fingerprint
from vtd_jax.errors import UserError
from vtd_jax.evaluate.tables import headline
from vtd_jax.files import log_file, write_text
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.parallel.preemption import Preemption
from vtd_jax.parallel.processes import alone, is_first, on_first, together
from vtd_jax.status import Line, within
from vtd_jax.terminal import counted, say
from vtd_jax.train import from_config
from vtd_jax.train.checkpoints.checkpoint import Checkpoints
from vtd_jax.train.learnt import learnt_on, load_file, load_learnt
from vtd_jax.train.workdir import read_training_list
from vtd_jax.untrusted.json_text import read_json
from vtd_jax.untrusted.regular_files import open_regular

_IDENTITY, _LOG = "identity.json", "run.log"


def run_folder(workdir: Path, name: str) -> Path:
    """Where a run of a table lies."""
    return workdir / "runs" / name


def is_finished(folder: Path) -> bool:
    """Whether a run of a table is, with its scores."""
    noted = _noted(folder)
    return noted is not None and noted["finished"]


def _noted(folder: Path) -> dict[str, Any] | None:
    """What a folder says of its run; None where it says nothing.

    Raises:
      UserError: it is damaged.
    """
    path, remedy = folder / _IDENTITY, f"remove {folder} to make the run again"
    if not os.path.lexists(path):
        return None
    noted = read_json(path, dict[str, Any], what="description of a run", remedy=remedy)
    if not isinstance(noted.get("finished"), bool):
        raise UserError(f"{path}: finished: expected true or false; {remedy}")
    return noted


def execute(
    runs: Sequence[Run], workdir: Path, clip_weights: str, preemption: Preemption
) -> list[str]:
    """Makes every run that is not finished; a run that fails is told, and the others are made.

    Args:
      runs: in order.
      workdir: gets `runs/NAME/` with what each learnt, its scores and its output (`run.log`).
      clip_weights: fingerprint of the CLIP.
      preemption: listens for notices.

    Returns:
      A line for every run that failed.

    Raises:
      Preempted: a notice came; the same command resumes.
    """
    failed = []
    for number, run in enumerate(runs, 1):
        folder, start = run_folder(workdir, run.name), time.perf_counter()
        try:
            if on_first(_claim, folder, _identity(run, runs, clip_weights)):
                _tell(f"[{number}/{len(runs)}] {run.name}: finished already")
                continue
            what = counted(run.config.optimizer.epochs, "epoch") if run.learns else "evaluation"
            _tell(f"[{number}/{len(runs)}] {run.name}: {what}, output in {folder / _LOG}")
            with _output_to(folder / _LOG), within(f"[{number}/{len(runs)}]"):
                found = _make(run, workdir, preemption)
        except UserError as error:
            if alone(error):
                raise
            failed.append(f"{run.name}: {error}")
            _tell(f"failed: {failed[-1]}", sys.stderr)
            continue
        on_first(_finish, folder)
        _tell(f"    {found} ({time.perf_counter() - start:.0f} s)")
        if preemption.breaks_off and number < len(runs):
            raise preemption.stopped(
                f"{number} of {counted(len(runs), 'run')} are finished; the same command resumes"
            )
    return failed


def _make(run: Run, workdir: Path, preemption: Preemption) -> str:
    folder = run_folder(workdir, run.name)
    training, splits, model = (
        together(_runs.prepare, run.config) if run.learns else (None, *together(_opened, run))
    )
    if training is not None:
        step, table = _runs.train_run(folder, run.config, training, splits, model, preemption)
        return f"trained to step {step}" + (f": {headline(table)}" if table else "")
    learnt, noted = _runs.untrained(run.config), {}
    if run.source:
        learnt, noted = together(_lend, model, workdir, run.source)

    def check() -> None:
        if preemption.breaks_off:
            raise preemption.stopped(
                f"{run.name} was being evaluated; the same command resumes with it"
            )

    preemption.saves()
    return headline(_runs.score_run(folder, run.config, splits, model, learnt, noted, check=check))


def _opened(run: Run) -> tuple[dict, Any]:
    with Line("reading records and loading the model"):
        splits = from_config.open_splits(run.config)
        from_config.check_splits(run.config, None, splits)
        return splits, from_config.build_model(run.config)


def _lend(model: VTDCLIP, workdir: Path, source: str) -> tuple[str, dict[str, str]]:
    """Puts what another run of the plan, or one elsewhere, or a file learnt into the model."""
    planned = run_folder(workdir, source)
    folder = planned if planned.is_dir() else Path(source)
    if folder.is_file():
        found = load_file(model, folder)
        return found.told, dict(found.learnt_on)
    if (noted := _noted(folder)) is not None and not noted["finished"]:
        # its last checkpoint is of a run that failed on its way
        raise UserError(f"{folder}: this run, whose parameters are evaluated, is not finished")
    step = load_learnt(model, folder, "last")
    return f"{folder.name}, step {step}", learnt_on(folder, step, read_training_list(folder))


def _identity(run: Run, runs: Sequence[Run], clip_weights: str) -> dict[str, Any]:
    """All that a finished run's numbers depend on; compared before it is taken for this one."""
    data, config = run.config.data, run.config
    source = next((other for other in runs if other.name == run.source), None)
    lists = {split: list_fingerprint(data.data_dir, name) for split, name in data.evaluate.items()}
    return {
        "config": config.fingerprint,
        "views": f"{config.evaluate.temporal_views} x {config.evaluate.spatial_views}",
        "CLIP weights": clip_weights,
        "training list": list_fingerprint(data.data_dir, data.train) if run.learns else None,
        "lists": lists,
        "source": _identity(source, runs, clip_weights) if source else _elsewhere(run.source),
    }


def _elsewhere(source: str) -> str:
    """What a trained run's workdir or a file holds now; "" for no source."""
    if not source:
        return ""
    path = Path(source)
    if path.is_dir():
        return f"{path}, steps {Checkpoints(path).steps}"
    with open_regular(path, "checkpoint") as file:
        return f"{path}, sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"


def _claim(folder: Path, identity: dict[str, Any]) -> bool:
    """Makes the folder this run's; whether it is finished.

    Raises:
      UserError: it holds a run of other settings, videos or CLIP.
    """
    noted = _noted(folder)
    if noted is None:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / _IDENTITY, json.dumps({"finished": False} | identity, indent=2) + "\n")
        return False
    finished = noted.pop("finished")
    if noted != identity:
        parts = ", ".join(key for key in identity if noted.get(key) != identity[key])
        raise UserError(
            f"{folder}: holds a run with other {parts}; give another --workdir, or remove it"
        )
    return finished


def _finish(folder: Path) -> None:
    write_text(
        folder / _IDENTITY, json.dumps((_noted(folder) or {}) | {"finished": True}, indent=2) + "\n"
    )


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Sends what is printed to a file, on the first process."""
    if not is_first():
        yield
        return
    with log_file(path) as log, contextlib.redirect_stdout(log):
        yield


def _tell(line: str, stream=None) -> None:
    if is_first():
        say(line, stream)
