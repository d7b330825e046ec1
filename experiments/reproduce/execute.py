"""Makes the runs of a plan one by one: finished ones stay, interrupted ones resume."""

import contextlib
import dataclasses
import functools
import hashlib
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.common import runs as _runs
from experiments.reproduce.plan import Run
from experiments.reproduce.sources import list_fingerprint
from vtd_jax.console.status import Line, within
from vtd_jax.errors import UserError
from vtd_jax.evaluate.tables import headline
from vtd_jax.files import log_file
from vtd_jax.fingerprints import DIGITS
from vtd_jax.manifest import Manifest, read_manifest
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.parallel.preemption import Preemption
from vtd_jax.parallel.processes import alone, is_first, on_all, on_first
from vtd_jax.rivals.files import load_rival
from vtd_jax.terminal import counted, say
from vtd_jax.train import from_config
from vtd_jax.train.checkpoints.stored_checkpoints import StoredCheckpoints
from vtd_jax.train.learnt import learnt_on, load_file, load_learnt
from vtd_jax.train.workdir import read_training_list
from vtd_jax.untrusted.regular_files import open_regular

_IDENTITY, _LOG = "identity.json", "run.log"
_RUN = "run of a table"
_ALL_DIGITS = re.compile(r"[0-9a-f]{64}")


def run_folder(workdir: Path, name: str) -> Path:
    """The folder of a run of a table."""
    return workdir / "runs" / name


def is_finished(folder: Path) -> bool:
    """Whether the run in this folder is finished, with its scores."""
    noted = _noted(folder)
    return noted is not None and noted.whole


def _noted(folder: Path) -> Manifest | None:
    """The manifest of a run, whole once the run is finished; None if the folder has none.

    Raises:
      UserError: the manifest is damaged.
    """
    path, remedy = folder / _IDENTITY, f"remove {folder} to make the run again"
    legacy = functools.partial(_legacy_manifest, path, remedy)
    return read_manifest(path, _RUN, legacy=legacy, remedy=remedy)


def _legacy_manifest(path: Path, remedy: str, fields: dict[str, Any]) -> Manifest:
    """The manifest from the file of earlier versions: the identity and a `finished` field."""
    finished = fields.pop("finished", None)
    if not isinstance(finished, bool):
        raise UserError(f"{path}: finished: expected true or false; {remedy}")
    return Manifest(_RUN, _cut(fields), finished, version="")


def _cut(value: Any) -> Any:
    """Shortens fingerprints of lists, which earlier versions wrote with all of their digits."""
    if isinstance(value, dict):
        return {key: _cut(each) for key, each in value.items()}
    return value[:DIGITS] if isinstance(value, str) and _ALL_DIGITS.fullmatch(value) else value


def _legacy_identity(identity: Mapping[str, Any], legacy_weights: str) -> dict[str, Any]:
    """An identity with its fingerprints as earlier versions wrote them."""
    earlier = dict(identity)
    if "config" in earlier:
        earlier["config"] = earlier["config"][:12]
    if "CLIP weights" in earlier:
        earlier["CLIP weights"] = legacy_weights
    if isinstance(source := earlier.get("source"), dict):
        earlier["source"] = _legacy_identity(source, legacy_weights)
    return earlier


def execute(
    runs: Sequence[Run],
    workdir: Path,
    clip_weights: str,
    preemption: Preemption,
    legacy_weights: str,
) -> list[str]:
    """Makes every run that is not finished. A run that fails is reported; the others continue.

    Args:
      runs: in order.
      workdir: gets `runs/NAME/` with parameters, scores and output (`run.log`) of each.
      clip_weights: fingerprint of the CLIP.
      preemption: listens for signals.
      legacy_weights: fingerprint of the CLIP as earlier versions wrote it.

    Returns:
      A line for every run that failed.

    Raises:
      Preempted: a signal came; the same command resumes.
    """
    failed = []
    for number, run in enumerate(runs, 1):
        folder, start = run_folder(workdir, run.name), time.perf_counter()
        try:
            identity = _identity(run, runs, clip_weights)
            if on_first(_claim, folder, identity, legacy_weights):
                _report(f"[{number}/{len(runs)}] {run.name}: finished already")
                continue
            what = counted(run.config.optimizer.epochs, "epoch") if run.learns else "evaluation"
            _report(f"[{number}/{len(runs)}] {run.name}: {what}, output in {folder / _LOG}")
            with _output_to(folder / _LOG), within(f"[{number}/{len(runs)}]"):
                found = _make(run, workdir, preemption)
        except UserError as error:
            if alone(error):
                raise
            failed.append(f"{run.name}: {error}")
            _report(f"failed: {failed[-1]}", sys.stderr)
            continue
        # only now does the folder count as finished: its table and scores are written
        on_first(_finish, folder)
        _report(f"    {found} ({time.perf_counter() - start:.0f} s)")
        if preemption.interrupts and number < len(runs):
            raise preemption.stopped(
                f"{number} of {counted(len(runs), 'run')} are finished; the same command resumes"
            )
    return failed


def _make(run: Run, workdir: Path, preemption: Preemption) -> str:
    folder = run_folder(workdir, run.name)
    training, splits, model = (
        on_all(_runs.prepare, run.config) if run.learns else (None, *on_all(_opened, run))
    )
    if training is not None:
        step, table = _runs.train_run(folder, run.config, training, splits, model, preemption)
        return f"trained to step {step}" + (f": {headline(table)}" if table else "")
    learnt, noted = _runs.untrained(run.config), {}
    if run.source:
        learnt, noted = on_all(_lend, model, workdir, run)

    def check() -> None:
        if preemption.interrupts:
            raise preemption.stopped(
                f"{run.name} was being evaluated; the same command resumes with it"
            )

    preemption.catch_ctrl_c()
    return headline(_runs.score_run(folder, run.config, splits, model, learnt, noted, check=check))


def _opened(run: Run) -> tuple[dict, Any]:
    with Line("reading records and loading the model"):
        splits = from_config.open_splits(run.config)
        from_config.check_splits(run.config, None, splits)
        return splits, from_config.build_model(run.config)


def _lend(model: VTDCLIP, workdir: Path, run: Run) -> tuple[str, Mapping[str, str]]:
    """Loads the parameters of another run, of the plan or elsewhere, or of a file."""
    if run.rival:
        return load_rival(model, run.source, run.rival), {}
    source = run.source
    planned = run_folder(workdir, source)
    folder = planned if planned.is_dir() else Path(source)
    if folder.is_file():
        found = load_file(model, folder)
        return found.description, dict(found.learnt_on)
    if (noted := _noted(folder)) is not None and not noted.whole:
        # its last checkpoint comes from the middle of a failed run
        raise UserError(f"{folder}: this run, whose parameters are evaluated, is not finished")
    step = load_learnt(model, folder, "last")
    return f"{folder.name}, step {step}", learnt_on(folder, step, read_training_list(folder))


def _identity(run: Run, runs: Sequence[Run], clip_weights: str) -> dict[str, Any]:
    """All that a run's numbers depend on; a finished run counts only if this is equal."""
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
        **({"rival": run.rival} if run.rival else {}),
    }


def _elsewhere(source: str) -> str:
    """Identity of a source outside the plan, a workdir or a file; "" for no source."""
    if not source:
        return ""
    path = Path(source)
    if path.is_dir():
        return f"{path}, steps {StoredCheckpoints(path).steps}"
    with open_regular(path, "checkpoint") as file:
        return f"{path}, sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"


def _claim(folder: Path, identity: dict[str, Any], legacy_weights: str = "") -> bool:
    """Claims the folder for this run; returns whether the run is finished.

    Raises:
      UserError: the folder holds a run with other settings, videos or CLIP.
    """
    noted = _noted(folder)
    if noted is not None:
        here = identity if noted.version else _legacy_identity(identity, legacy_weights)
        if differ := noted.differences(here):
            raise UserError(
                f"{folder}: holds a run with other {', '.join(differ)}; give another --workdir, or "
                "remove it"
            )
        if noted.version:
            return noted.whole
    folder.mkdir(parents=True, exist_ok=True)
    claimed = Manifest(_RUN, identity, noted is not None and noted.whole)
    claimed.write(folder / _IDENTITY)
    return claimed.whole


def _finish(folder: Path) -> None:
    noted = _noted(folder) or Manifest(_RUN, {})
    dataclasses.replace(noted, whole=True).write(folder / _IDENTITY)


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Redirects stdout of process 0 to a file."""
    if not is_first():
        yield
        return
    with log_file(path) as log, contextlib.redirect_stdout(log):
        yield


def _report(line: str, stream=None) -> None:
    if is_first():
        say(line, stream)
