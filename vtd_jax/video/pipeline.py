"""Records to batches of uint8 frames with grain, prefetched and resumable at any batch.

A batch depends on its number only (`batches.py`), so the state of an iterator is the number of the
next batch.

Worker processes import the calling script, so its work must be below `if __name__ == "__main__":`.
They send batches through /dev/shm (`prefetch.py`), touch no accelerator, end with their reader, and
are restarted if one dies.
"""

import os
import re
import signal
import weakref
from dataclasses import asdict
from typing import Any, TypedDict

import grain

from vtd_jax.errors import UserError, setting
from vtd_jax.fingerprints import same
from vtd_jax.terminal import warn
from vtd_jax.untrusted.json_text import Count, convert
from vtd_jax.video import augment as aug
from vtd_jax.video.batches import Batch, BatchSource, BatchSpec
from vtd_jax.video.prefetch import WorkerBatches
from vtd_jax.video.records import Records
from vtd_jax.video.scaling.fit import RELEASE, Fit

# "without end": more epochs than any run has
ENDLESS_EPOCHS = 1_000_000
# restarts of workers by one iterator; more deaths need a person's attention
RESTARTS = 3
# grain's message about a dead worker, which it notices within a second
_DIED = re.compile(r"terminated unexpectedly with exit code (-?\d+)")
# what to do about the ways in which workers die
_REMEDIES: dict[int, str] = {
    signal.SIGKILL: "the machine was probably out of memory: lower data.workers or the batch size",
    signal.SIGBUS: (
        "/dev/shm is probably full: make it larger (docker run --shm-size=8g), or lower "
        "data.workers"
    ),
}


# what states have only where frames are not scaled the release's way
_OF_FIT = {"squash", "preprocess", "interpolation"}


class _State(TypedDict):
    batch: Count
    data: dict[str, Any]


class BatchIterator(grain.DatasetIterator):
    """Iterates over batches; a grain iterator whose state is the number of the next batch.

    Attributes:
      batches_per_epoch: how many batches an epoch has, on every host.
    """

    def __init__(self, records: Records, spec: BatchSpec, workers: int):
        super().__init__()
        self._position, self._iterator, self._end = 0, None, None
        if workers < 0:
            raise UserError(f"workers={workers}: expected 0 (threads) or a number of processes")
        self._records, self._spec, self._workers = records, spec, workers
        self._source, self._deaths = BatchSource(records, spec), 0
        self.batches_per_epoch = self._source.per_epoch

    @property
    def spec(self) -> BatchSpec:
        """What determines the batches."""
        return self._spec

    def __next__(self) -> Batch:
        """The next batch; StopIteration after the last epoch.

        Raises:
          UserError: a record cannot be read, or worker processes died more than `RESTARTS` times.
        """
        while True:
            try:
                if self._iterator is None:
                    self._iterator = self._start()
                    # closed also when this is collected, or left open at the program's end
                    self._end = weakref.finalize(self, self._iterator.close)
                batch = next(self._iterator)
                break
            except RuntimeError as error:
                died = _DIED.search(str(error))
                if died is None:
                    raise
                code = int(died[1])
            self._after_death(code)
        self._position += 1
        return batch

    def _after_death(self, code: int) -> None:
        """Warns that a worker died, or raises if a restart cannot help."""
        self._stop()
        self._deaths += 1
        # a negative code is a signal; with another one the worker ended itself, and would again
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        rows = ", ".join(map(str, self._source.indices(self._position))) or "none"
        # finished batches may be lost with the worker, so it may have been further on
        where = f"batch {self._position} (records {rows}) or soon after"
        death = f"a data worker died ({how}) at {where}"
        if code > 0:
            raise UserError(
                f"{death}: its own message is above; a script with data.workers above 0 must do "
                'its work below if __name__ == "__main__":, or use '
                f"{setting('data.workers', 0)}"
            )
        alone = setting("data.workers", 0)
        crash = f"one of these records may crash the decoder: look at them with {alone}"
        remedy = _REMEDIES.get(-code, crash)
        if self._deaths > RESTARTS:
            raise UserError(f"{death}; that was death {self._deaths} in this run; {remedy}")
        again = f"starting new workers at that batch, {self._deaths} of at most {RESTARTS} times"
        warn(f"{death}: {again}; {remedy}")

    def _start(self) -> grain.DatasetIterator | WorkerBatches:
        """Batches from here on, made a few ahead in threads or processes."""
        source = BatchSource(self._records, self._spec, self._position)
        if self._workers:
            return WorkerBatches(source, self._workers)
        threads = min(4, os.cpu_count() or 1)
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
        return iter(grain.MapDataset.source(source).to_iter_dataset(options))

    def get_state(self) -> dict:
        """The number of the next batch and its settings as JSON, independent of `workers`."""
        return {"batch": self._position, "data": _identity(self._records, self._spec)}

    def set_state(self, state: dict) -> None:
        """Resumes from a state; `workers`, hosts and epochs may differ.

        Raises:
          UserError: if the state is of other records or settings, or of another reader.
        """
        if not {"batch", "data"} <= state.keys():
            raise UserError(
                f"not a state of these batches: expected batch and data, it has {', '.join(state)}"
            )
        state = convert(state, "the state of the batches", _State)
        mine = _identity(self._records, self._spec)
        changed = []
        for key in mine | dict.fromkeys(_OF_FIT & state["data"].keys()):
            was, value = state["data"].get(key), mine.get(key)
            # fingerprints of earlier versions have more digits
            if not (same(was, str(value)) if key == "fingerprint" else was == value):
                changed.append(f"{key} (was {was}, is {value})")
        if changed:
            raise UserError(
                f"the data cannot resume where they stopped, settings differ: {'; '.join(changed)}"
            )
        self._stop()
        self._position = state["batch"]

    def _stop(self) -> None:
        """Ends threads and processes; the next batch starts new ones."""
        if self._iterator is not None:
            self._iterator.close()
            self._end.detach()
            self._iterator = None

    def close(self) -> None:
        """Ends threads and processes for good."""
        self._stop()
        super().close()


def _identity(records: Records, spec: BatchSpec) -> dict:
    """What fixes the sequence of batches, as JSON has it."""
    fields = asdict(spec)
    for name in ("host_index", "host_count", "epochs"):
        del fields[name]
    del fields["fit"]
    # only what differs from the release's way: states of earlier versions have no more
    fields |= {"squash": True} if spec.fit.squash else {}
    if not spec.fit.is_release:
        fields |= {name: getattr(spec.fit, name) for name in ("preprocess", "interpolation")}
    fields["augment"]["scales"] = list(fields["augment"]["scales"])
    about = {"records": records.name, "videos": len(records)}
    return fields | about | {"fingerprint": records.info["fingerprint"]}


def train_batches(
    records: Records,
    *,
    frames: int,
    size: int,
    batch_size: int,
    seed: int,
    augment: aug.Augment,
    workers: int = 0,
    num_epochs: int | None = None,
    shuffle: bool = True,
    drop_remainder: bool = False,
    host_index: int = 0,
    host_count: int = 1,
    sample: str = "segments",
    fit: Fit = RELEASE,
) -> BatchIterator:
    """Batches for training (docs/method.md, section 5).

    Args:
      records: the videos.
      frames, size: T and R: frames a clip, side of a frame in pixels.
      batch_size: videos in a batch over all hosts; a multiple of `host_count`.
      seed: fixes the order of every epoch and every draw.
      augment: strengths; `enabled=False` takes centre crops.
      workers: processes that decode; 0 decodes in threads of this process. Batches do not depend on
        it. Beside the batch that was returned, memory holds at most 5 batches with 0 workers (one
        more than threads: one a core, at most 4), and with n workers 4 n batches in /dev/shm.
      num_epochs: None repeats without end.
      shuffle: a new order each epoch, or the order of the records.
      drop_remainder: leave out the last partial batch of an epoch; else it is filled up with weight
        0, so that an epoch has `ceil(videos / batch_size)` batches.
      host_index, host_count: which equal part of every batch is made here.
      sample: "segments" draws a frame in each segment, "centre" takes the middle one.
      fit: as in `BatchSpec`.

    Returns:
      Iterator of dicts, B = batch_size / host_count: `frames` uint8 [B, T, R, R, 3] RGB, `label`
      int32 [B], `weight` float32 [B] (1, or 0 for padding: black frames, label 0), `index` int64
      [B] (position in the records, -1 for padding). A batch of a host may be padding only.

    Raises:
      UserError: for settings out of range; while iterating, for records that cannot be read.
    """
    spec = BatchSpec(
        *("train", frames, size, batch_size, host_index, host_count),
        seed=seed,
        epochs=ENDLESS_EPOCHS if num_epochs is None else num_epochs,
        shuffle=shuffle,
        drop_remainder=drop_remainder,
        sample=sample,
        augment=augment,
        fit=fit,
    )
    return BatchIterator(records, spec, workers)


def eval_batches(
    records: Records,
    *,
    frames: int,
    size: int,
    batch_size: int,
    temporal_views: int = 1,
    spatial_views: int = 1,
    workers: int = 0,
    host_index: int = 0,
    host_count: int = 1,
    fit: Fit = RELEASE,
) -> BatchIterator:
    """Every video once, in order; padding has weight 0 (docs/method.md, section 6).

    Args:
      records, frames, size, batch_size, workers, host_index, host_count: as for `train_batches`.
      temporal_views: clips a video; the first takes segment centres, others are train-style draws,
        fixed by the name of the video's file.
      spatial_views: 1 = the middle; 3 = left, right, middle, see `Fit.views`.
      fit: as in `BatchSpec`.

    Returns:
      Iterator of dicts as for `train_batches`; with V = temporal_views * spatial_views above 1,
      `frames` is [B, V, T, R, R, 3].
    """
    spec = BatchSpec(
        *("eval", frames, size, batch_size, host_index, host_count),
        temporal_views=temporal_views,
        spatial_views=spatial_views,
        fit=fit,
    )
    return BatchIterator(records, spec, workers)
