"""The input side: clips a second from records, and how long a training loop waits for them."""

import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np

from experiments.benchmark.data import rendered_records
from experiments.benchmark.tasks import Programs, Setting
from experiments.benchmark.timing import Job
from vtd_jax.parallel.prefetch import Prefetcher
from vtd_jax.video.augment import Augment
from vtd_jax.video.batches import BatchSource, BatchSpec
from vtd_jax.video.records import Records, open_records
from vtd_jax.video.scaling.fit import PREPROCESS, RELEASE, Fit

CLIPS = 8


def sources(folder: Path, data_dir: str | None, records: str | None) -> dict[str, Records]:
    """Records by storage: those that are named, else rendered ones, made in `folder`."""
    if data_dir is None:
        return rendered_records(folder)
    opened = open_records(Path(data_dir), records)
    return {opened.storage: opened}


def pipelines(found: Mapping[str, Records], setting: Setting) -> list[Job]:
    """Batches of 8 clips made by one thread: with every augmentation, and without; frames scaled as
    the release does it, and as CLIP's own images were.
    """
    cv2.setNumThreads(1)
    return [
        Job(
            f"{storage}, {kind}",
            preprocess,
            partial(next, _batches(records, setting, CLIPS, augment, Fit(preprocess))),
            clips=CLIPS,
        )
        for storage, records in found.items()
        for kind, augment in (("augmented", Augment()), ("centre crop", Augment(enabled=False)))
        for preprocess in PREPROCESS
    ]


def loop(
    found: Mapping[str, Records], setting: Setting, programs: Programs, steps: int
) -> list[dict[str, Any]]:
    """Training steps as in a run: the next batch is prepared while the device works on this one.

    The loop waits for every step, so any wait for a batch after that is time in which the device is
    idle.

    Returns:
      A row for each storage: `seconds` a step in the loop, and `waited`, the seconds of these in
        which the device was idle.
    """
    rows = []
    for storage, records in found.items():
        batches = _batches(records, setting, setting.batch, Augment())
        ahead = Prefetcher(batches, partial(_placed, classes=setting.classes))
        # no step runs while the first batch is made
        _, placed = next(ahead)
        start, before = time.perf_counter(), ahead.waited
        for _ in range(steps):
            sums = programs.train(placed)
            ahead.prepare(sums)
            jax.block_until_ready(sums)
            _, placed = next(ahead)
        seconds = (time.perf_counter() - start) / steps
        waited = (ahead.waited - before) / steps
        rows.append({"storage": storage, "seconds": seconds, "waited": waited, "steps": steps})
    return rows


def _batches(
    records: Records, setting: Setting, clips: int, augment: Augment, fit: Fit = RELEASE
) -> Iterator[dict[str, np.ndarray]]:
    size = setting.config.image_resolution
    spec = BatchSpec(
        *("train", setting.frames, size, clips),
        epochs=10**6,
        sample="segments",
        augment=augment,
        fit=fit,
    )
    return iter(BatchSource(records, spec))


def _placed(batch: Mapping[str, np.ndarray], *, classes: int) -> dict[str, jax.Array]:
    """The arguments of a step on the device; labels beyond `classes` wrap around."""
    label = (batch["label"] % classes).astype(np.int32)
    return jax.device_put(
        {
            "frames": batch["frames"],
            "label": label,
            "weight": batch["weight"],
            "index": batch["index"].astype(np.int32),
        }
    )
