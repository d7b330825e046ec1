"""Predicting many videos: decoder and devices alone, and both as `Predictor.stream` runs them."""

import itertools
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np

from experiments.benchmark.classes import class_names
from experiments.benchmark.readers import KINDS, sources, versions, write_clip
from experiments.benchmark.report import number, seconds_of, show, spread, table
from experiments.benchmark.setting import Options
from experiments.benchmark.tasks import random_model
from experiments.benchmark.timing import Job, Ratio, Timing, interleaved, machine, ratio
from vtd_jax.cache.text_features import TextCache
from vtd_jax.predict.batching.options import Encoding
from vtd_jax.predict.device_model import DeviceModel
from vtd_jax.predict.predictor import Predictor
from vtd_jax.terminal import log
from vtd_jax.video.clip import CHECKS, read_clip
from vtd_jax.video.lists.find import find_videos
from vtd_jax.video.read_ahead import read_ahead

DECODER, TOWER, BOTH, ALONE = "decoder alone", "tower alone", "stream", "stream, deterministic"
ONE, ONE_FULL = "one clip", "one clip, deterministic, fully decoded"
# different clips that are rendered
_RENDERED = 8


def compare(
    options: Options, dtype: str, folder: Path | None, count: int, *, one_by_one: bool = True
) -> dict[str, Any]:
    """Measures everything in one interleaved run, prints tables.

    Args:
      options: the model, T and the rounds.
      dtype: of the towers.
      folder: of video files; clips are rendered without.
      count: clips of a run; those that there are come again and again.
      one_by_one: whether to measure videos that are encoded alone, too.

    Returns:
      All numbers, JSON-able.
    """
    with tempfile.TemporaryDirectory() as made:
        files = find_videos([str(folder)], "--videos") if folder else _rendered(Path(made))
        videos = list(itertools.islice(itertools.cycle(files), count))
        log(f"building {options.architecture}, {dtype}")
        predictor = Predictor(
            random_model(options.setting(), dtype),
            frames=options.frames,
            class_names=class_names(options.classes),
            cache=TextCache(None),
        )
        checks = _checks(files, predictor, options.rounds)
        timings = _many(predictor, videos, options.rounds, one_by_one)
    found = {timing.task: timing for timing in timings}
    goals = _goals(found)
    _print(options, found, checks, goals, len(files))
    about = machine() | versions() | {"clips": count, "different": len(files)}
    about |= {"architecture": options.architecture, "dtype": dtype, "frames": options.frames}
    about |= {"rounds": options.rounds, "batch_frames": predictor.chunk}
    return about | {
        "timings": [timing.to_dict() for timing in timings],
        "checks": [timing.to_dict() for timing in checks],
        "goals": {name: list(share) for name, share in goals.items()},
    }


def _rendered(folder: Path) -> list[Path]:
    """Rendered clips of the size and length of Kinetics'."""
    kind = KINDS[0]
    return [
        write_clip(frames, rate, kind, folder / f"{place}.{kind.ending}")
        for place, (frames, rate) in enumerate(sources(None, _RENDERED))
    ]


def _many(
    predictor: Predictor, videos: Sequence[Path], rounds: int, one_by_one: bool
) -> list[Timing]:
    """Seconds of all clips, and of one, in every way."""
    read = partial(read_clip, frames=predictor.frames, size=predictor.size, fit=predictor.fit)
    workers = Encoding(predictor.frames).decoders
    clips = {video: read(video).frames for video in dict.fromkeys(videos)}
    frames = np.concatenate([clips[video] for video in videos])
    one = videos[len(videos) // 2]

    on_devices = DeviceModel(predictor.model)
    jobs = [
        Job(DECODER, "", lambda: list(read_ahead(videos, read, workers)), clips=len(videos)),
        Job(TOWER, "", partial(_tower, on_devices, frames), clips=len(videos)),
        Job(BOTH, "", lambda: list(predictor.stream(videos)), clips=len(videos)),
    ]
    alone = partial(predictor.predict, deterministic=True)
    if one_by_one:
        jobs.append(Job(ALONE, "", partial(alone, videos), clips=len(videos)))
    jobs += [
        Job(ONE_FULL, "", partial(alone, [one], check="full"), clips=1),
        Job(ONE, "", partial(predictor.predict, one), clips=1),
    ]
    log("compiling")
    few = videos[: -(-2 * predictor.chunk // predictor.frames)]
    for deterministic in (False, True):
        list(predictor.stream(few, deterministic=deterministic))
    predictor.predict(one)
    log(f"{len(jobs)} jobs, {rounds} rounds")
    return interleaved(jobs, rounds, at_least=0, known=[1.0] * len(jobs))


def _tower(on_devices: DeviceModel, frames: np.ndarray) -> None:
    """Encodes frames that are in memory; a batch is started before the last one is awaited."""
    running: list[jax.Array] = []
    size = on_devices.batch_frames(None)
    for start in range(0, len(frames), size):
        running.append(on_devices.start(frames[start : start + size], size))
        if len(running) > 1:
            np.asarray(running.pop(0))
    jax.block_until_ready(running)


def _checks(files: Sequence[Path], predictor: Predictor, rounds: int) -> list[Timing]:
    """Seconds to read each file by its index, and to decode all of it, by one thread."""
    cv2.setNumThreads(1)
    read = partial(read_clip, frames=predictor.frames, size=predictor.size, fit=predictor.fit)
    jobs = [
        Job(path.name, check, partial(read, path, check=check), clips=1)
        for path in files
        for check in CHECKS
    ]
    return interleaved(jobs, rounds, at_least=0, pause=0)


def _goals(found: dict[str, Timing]) -> dict[str, Ratio]:
    """Shares of the throughput that the parts have alone."""
    decoder, tower = found[DECODER].seconds, found[TOWER].seconds
    both = found[BOTH].seconds
    slower = [max(pair) for pair in zip(decoder, tower, strict=True)]
    # where decoder and tower share the processor, their work adds up
    added = [sum(pair) for pair in zip(decoder, tower, strict=True)]
    shares = {
        "of the slower of decoder and tower": ratio(slower, both),
        "of one after the other": ratio(added, both),
        "one clip, of one that is fully decoded": ratio(
            found[ONE_FULL].seconds, found[ONE].seconds
        ),
    }
    if ALONE in found:
        shares["of videos that are encoded by themselves"] = ratio(found[ALONE].seconds, both)
    return shares


def _print(
    options: Options,
    found: dict[str, Timing],
    checks: Sequence[Timing],
    goals: dict[str, Ratio],
    different: int,
) -> None:
    rows = [
        [timing.task, seconds_of(timing), number(timing.clips / timing.median)]
        for timing in found.values()
    ]
    title = f"{options.architecture}, {options.frames} frames a clip, {different} different clips"
    show(table(title, ["", "seconds, median (min–max)", "clips/s"], rows))
    shares = [[name, spread(share, "×")] for name, share in goals.items()]
    show(table("Throughput of a stream, shares of the same round", ["", "share"], shares))
    full = {timing.task: timing for timing in checks if timing.variant == "full"}
    rows = [
        [
            *(timing.task, seconds_of(timing), seconds_of(full[timing.task])),
            spread(ratio(full[timing.task].seconds, timing.seconds), "×"),
        ]
        for timing in checks
        if timing.variant == "index"
    ]
    head = ["file", "by its index", "decoded to its end", "times as fast"]
    show(table(f"Reading {options.frames} frames, one thread", head, rows))
