"""Makes all shards of a build: in this process, in several, or on a Beam cluster."""

import contextlib
import io
import os
import re
import signal
import time
import traceback
import uuid
from functools import partial
from pathlib import Path
from typing import Any

from absl import logging as absl_logging

from vtd_jax.console.progress import Progress
from vtd_jax.errors import Names, UserError, names, setting, use_names
from vtd_jax.files import write_text
from vtd_jax.installed.extras import install
from vtd_jax.terminal import counted
from vtd_jax.untrusted.regular_files import read_text
from vtd_jax.video.ingest.beam import WorkerLost, lost_workers, progress_of
from vtd_jax.video.ingest.shards import NotWritten, Staging
from vtd_jax.video.workers import describe_exit, process_map

# files beside the shards of a Beam build: its id, a video that stops it, and an error that a runner
# may retry. The processes of a build exchange them, and the next build removes them.
BUILD, BAD, TROUBLE = "beam-build", "bad", "trouble"
# seconds that a finished shard may stay unseen
LATE = 90.0


def run_here(staging: Staging, count: int, workers: int, label: str) -> None:
    """Makes the shards that are not finished yet on this machine.

    Args:
      staging: prepared.
      count: shards in all.
      workers: videos decoded at a time, over all processes.
      label: of the progress line.

    Raises:
      UserError: a bad video where the policy is to fail, or a process that died.
    """
    todo = staging.unfinished(count)
    progress = Progress(label, sum(len(staging.todo(index)) for index in todo), "video")

    def add(message: tuple) -> None:
        progress.add(*message)

    processes = min(workers, len(todo))
    try:
        if processes == 1:
            for index in todo:
                staging.write(index, workers, add)
            return
        write = partial(write_shard, staging.folder, -(-workers // max(processes, 1)))
        for outcome in process_map(write, todo, processes, add, progress.show):
            if outcome.error:
                raise outcome.error
            # one that died after its shard was whole has cost nothing
            if outcome.exit_code is not None and not staging.report(outcome.item):
                advice = f"; with fewer {setting('workers')} a build needs less memory" * (
                    outcome.exit_code == -signal.SIGKILL
                )
                raise UserError(
                    f"{staging.interrupted(outcome.item)}: the process that encoded this video "
                    f"died ({describe_exit(outcome.exit_code)}){advice}"
                )
    except UserError as error:
        raise UserError(f"{error}{kept(staging, count)}") from None


def write_shard(folder: Path, threads: int, index: int, log: Any) -> None:
    """Makes one shard in a process of its own."""
    # one thread each for OpenCV: there are as many processes as wanted
    import cv2

    cv2.setNumThreads(1)
    Staging(folder).write(index, threads, log)


def kept(staging: Staging, count: int) -> str:
    """The end of an error message, about finished shards."""
    finished = len(staging.finished(count))
    are = f"{counted(count, 'shard')} {'is' if count == 1 else 'are'} finished"
    return f"; {finished} of {are}, the next build resumes from them" if finished else ""


def beam_config(runner: str | None, options: str | None) -> Any:
    """TFDS's download config with a Beam runner and `name=value,…` options.

    Raises:
      UserError: Beam is not installed, has no such runner, or no such option.
    """
    import tensorflow_datasets as tfds

    try:
        import apache_beam as beam
    except ImportError:
        raise UserError(
            f"{setting('beam_runner')}: Apache Beam is not installed; in an environment of its "
            f"own, {install(['beam'])}"
        ) from None
    parsed = _beam_options(options or "")
    standard = parsed.view_as(beam.options.pipeline_options.StandardOptions)
    runner = runner or standard.runner or "DirectRunner"
    try:
        made = beam.runners.runner.create_runner(runner)
    except (ImportError, ValueError, AttributeError, TypeError) as error:
        raise UserError(
            f"{setting('beam_runner', runner)}: {' '.join(str(error).split())}"
        ) from None
    unknown = (
        parsed.get_all_options(retain_unknown_options=True).keys() - parsed.get_all_options().keys()
    )
    # the job servers of other runners have options that Beam itself does not know
    if unknown and isinstance(made, (beam.runners.DirectRunner, beam.runners.DataflowRunner)):
        raise UserError(
            f"{setting('beam_options')}: {runner} has no option {min(unknown)!r}; its options are "
            "those of Apache Beam"
        )
    return tfds.download.DownloadConfig(beam_runner=runner).replace(beam_options=parsed)


def _beam_options(text: str) -> Any:
    """Beam's pipeline options; Beam itself prints its whole usage about a mistake."""
    import apache_beam as beam

    given = [option for option in text.split(",") if option]
    for option in given:
        if not re.fullmatch(r"\w+(=.*)?", option):
            raise UserError(
                f"{setting('beam_options')}: {option!r} is not name=value; give "
                "name=value,name=value"
            )
    usage = io.StringIO()
    try:
        with contextlib.redirect_stderr(usage):
            options = beam.options.pipeline_options.PipelineOptions(
                flags=[f"--{option}" for option in given]
            )
            options.get_all_options()
    except SystemExit:
        mistake = usage.getvalue().strip().splitlines()[-1].partition("error: ")[2]
        raise UserError(f"{setting('beam_options', text)}: {mistake}") from None
    return options


def run_on_beam(staging: Staging, count: int, split_builder: Any) -> None:
    """Makes the unfinished shards on the runner of a TFDS split builder, one task a shard.

    Every worker must see the videos and the staging folder under the same paths.

    Raises:
      UserError: a bad video where the policy is to fail, or an error of the runner.
    """
    import apache_beam as beam

    todo = staging.unfinished(count)
    if not todo:
        return
    for kind in (BAD, TROUBLE, "current"):
        for leftover in staging.folder.glob(f"[0-9]*.{kind}"):
            leftover.unlink()
    # workers have other working directories
    task = partial(_beam_task, str(staging.folder.absolute()), _mark(staging), names())
    trouble = None
    with progress_of(staging, todo), lost_workers() as lost:
        try:
            with split_builder.maybe_beam_pipeline():
                pipeline = split_builder.beam_pipeline
                _settle(pipeline.options)
                _ = (
                    pipeline
                    | "Shards" >> beam.Create(todo)
                    | beam.Reshuffle()
                    | "WriteShard" >> beam.Map(task)
                )
        except (Exception, WorkerLost) as error:
            trouble = error
    if lost:
        begun = [index for index in staging.unfinished(count) if staging.begun(index)]
        at = ", ".join(map(staging.interrupted, begun)) or str(staging.folder)
        raise UserError(
            f"{at}: a Beam worker that encoded this died ({describe_exit(lost[0])}); with fewer "
            f"workers a build needs less memory{kept(staging, count)}"
        )
    _require_all(staging, count, trouble)


def _mark(staging: Staging) -> str:
    """Marks the staging folder as this build's; tasks of earlier builds then stop."""
    build = uuid.uuid4().hex
    write_text(staging.folder / BUILD, build)
    return build


def _settle(options: Any) -> None:
    """Settings that are ours unless the user gave them."""
    from apache_beam.options import pipeline_options

    # else DirectRunner looks for a Go program on GitHub first; this pipeline has no triggers
    options.view_as(pipeline_options.TypeOptions).allow_unsafe_triggers = True
    worker = options.view_as(pipeline_options.WorkerOptions)
    if (
        worker.default_sdk_harness_log_level is None
        and absl_logging.get_verbosity() < absl_logging.INFO
    ):
        worker.default_sdk_harness_log_level = "ERROR"


def _require_all(staging: Staging, count: int, trouble: BaseException | None) -> None:
    """Raises what stopped the build; a network file system may show finished shards late."""
    deadline = time.monotonic() + LATE
    while True:
        if bad := sorted(staging.folder.glob(f"[0-9]*.{BAD}")):
            raise UserError(f"{read_text(bad[0])}{kept(staging, count)}")
        if trouble:
            lines = [
                line.strip() for line in str(trouble).splitlines() if re.search(r"\w{2}", line)
            ]
            text = f"{type(trouble).__name__}: {''.join(lines[-1:])}"
            if notes := sorted(staging.folder.glob(f"[0-9]*.{TROUBLE}")):
                text = read_text(notes[0])
            raise UserError(f"Beam: {text}{kept(staging, count)}") from trouble
        lacking = len(staging.unfinished(count))
        if not lacking:
            return
        if time.monotonic() > deadline:
            raise UserError(
                f"{staging.folder}: Beam ended without an error, but {lacking} of {count} shards "
                "are not here; every worker must see this folder under this path"
            )
        time.sleep(0.5)


def _beam_task(folder: str, build: str, given: Names, index: int) -> int:
    """Makes one shard in a Beam worker; leaves its error in a file, as runners wrap exceptions.

    A bad video raises nothing, since Beam would retry it; all other tasks then end without work.
    """
    use_names(given)
    staging = Staging(Path(folder))
    try:
        if read_text(staging.folder / BUILD) != build or any(staging.folder.glob(f"[0-9]*.{BAD}")):
            return index
    except OSError:
        raise FileNotFoundError(
            f"{folder}: a worker cannot read this folder; all must see it under this path"
        ) from None
    try:
        staging.write(index)
    except UserError as error:
        # a file that cannot be read or written now may be later; a bad video stays bad
        may_pass = isinstance(error, NotWritten) or error.__cause__ is not None
        write_text(staging.folder / f"{index:05d}.{TROUBLE if may_pass else BAD}", str(error))
        if may_pass:
            raise
    except Exception:
        write_text(
            staging.folder / f"{index:05d}.{TROUBLE}", traceback.format_exc().splitlines()[-1]
        )
        raise
    return index


def cores(workers: int) -> int:
    """Workers wanted, or one for every core that this process may use."""
    return workers or len(
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
