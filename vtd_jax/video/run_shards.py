"""Making all shards of a build: in this process, in processes beside each other, or on a Beam cluster."""

import os
import signal
import traceback
from functools import partial
from pathlib import Path
from typing import Any

from vtd_jax.errors import UserError
from vtd_jax.files import write_text
from vtd_jax.video.progress import Progress
from vtd_jax.video.shards import Staging
from vtd_jax.video.workers import process_map


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
    finished = staging.finished(count)
    todo = [index for index in range(count) if index not in set(finished)]
    progress = Progress(sum(len(staging.todo(index)) for index in todo), label)
    processes = min(workers, len(todo))
    try:
        if processes == 1:
            for index in todo:
                staging.write(index, workers, progress.add)
            return
        write = partial(write_shard, staging.folder, -(-workers // max(processes, 1)))
        for outcome in process_map(write, todo, processes, progress.add, progress.show):
            if outcome.error:
                raise outcome.error
            if outcome.exit_code is not None:
                raise UserError(
                    f"{staging.interrupted(outcome.item)}: the process that encoded this video died "
                    f"({told_exit(outcome.exit_code)}); with fewer --workers a build needs less memory"
                )
    except UserError as error:
        raise UserError(f"{error}{kept(staging, count)}") from None


def write_shard(folder: Path, threads: int, index: int, tell: Any) -> None:
    """What a process does."""
    # one thread each for OpenCV: there are as many processes as wanted
    import cv2

    cv2.setNumThreads(1)
    Staging(folder).write(index, threads, tell)


def kept(staging: Staging, count: int) -> str:
    """What an error says about finished shards."""
    finished = len(staging.finished(count))
    return f"; {finished} of {count} shards are finished, the next build goes on from them" if finished else ""


def told_exit(code: int) -> str:
    """How a process ended, from its exit code."""
    if code == -signal.SIGKILL:
        return "killed, most likely for lack of memory"
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def beam_config(runner: str | None, options: str | None) -> Any:
    """TFDS's download config with a Beam runner and `name=value,…` options.

    Raises:
      UserError: Beam is not installed, or has no such runner.
    """
    import tensorflow_datasets as tfds

    try:
        import apache_beam as beam
    except ImportError:
        raise UserError(
            "--beam_runner: Apache Beam is not installed; in an environment of its own, pip install -e '.[beam]'"
        ) from None
    flags = [f"--{option}" for option in (options or "").split(",") if option]
    try:
        beam.runners.runner.create_runner(runner)
    except (ImportError, ValueError, AttributeError) as error:
        raise UserError(f"--beam_runner={runner}: {error}") from None
    config = tfds.download.DownloadConfig(beam_runner=runner)
    return config.replace(beam_options=beam.options.pipeline_options.PipelineOptions(flags=flags))


def run_on_beam(staging: Staging, count: int, split_builder: Any) -> None:
    """Makes the shards that are not finished yet on the runner of a TFDS split builder, one task a shard.

    Every worker must see the videos and the staging folder under the same paths.

    Raises:
      UserError: a bad video where the policy is to fail, or whatever the runner reports.
    """
    import apache_beam as beam

    finished = set(staging.finished(count))
    todo = [index for index in range(count) if index not in finished]
    for failed in staging.folder.glob("*.failed"):
        failed.unlink()
    try:
        with split_builder.maybe_beam_pipeline():
            indices = split_builder.beam_pipeline | "Shards" >> beam.Create(todo) | beam.Reshuffle()
            _ = indices | "WriteShard" >> beam.Map(partial(_beam_task, str(staging.folder)))
    except Exception as error:
        told = sorted(staging.folder.glob("*.failed"))
        text = told[0].read_text() if told else f"Beam: {type(error).__name__}: {str(error).splitlines()[0]}"
        raise UserError(f"{text}{kept(staging, count)}") from error


def _beam_task(folder: str, index: int) -> int:
    """What a Beam worker does; its mistake is left in a file, as runners wrap exceptions in text."""
    try:
        Staging(Path(folder)).write(index)
    except UserError as error:
        write_text(Path(folder) / f"{index:05d}.failed", str(error))
        raise
    except Exception:
        write_text(Path(folder) / f"{index:05d}.failed", traceback.format_exc().splitlines()[-1])
        raise
    return index


def cores(workers: int) -> int:
    """Workers wanted, or one for every core that this process may use."""
    return workers or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))
