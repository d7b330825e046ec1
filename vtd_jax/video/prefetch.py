"""Batches made ahead in worker processes, and the shared memory that they come through.

grain starts the workers, keeps the order and passes messages. The arrays of each batch are in one
segment of shared memory with a predictable name. grain's own segments leak if their batch is never
read, or still in use when Python ends. Here, a segment is unlinked once its batch is read, and
those of unread batches are removed with the workers.
"""

import multiprocessing
import os
import queue
import secrets
import threading
from concurrent.futures import Future, wait
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import cv2
import grain
import numpy as np
from absl import flags

from vtd_jax.errors import Names, names, use_names
from vtd_jax.video.batches import Batch, BatchSource
from vtd_jax.video.workers import begin_deaf, follow_parent

# batches that a worker may have made but not handed over: grain keeps 4 with these settings
_AHEAD = 16
# alignment of arrays in bytes: JAX on CPU uses aligned ones without a copy
_ALIGNED = 64


class WorkerBatches:
    """Iterates over the batches of a source, in order, made by worker processes."""

    def __init__(self, source: BatchSource, workers: int):
        if not flags.FLAGS.is_parsed():
            # grain's workers read absl flags, which a library's caller may never have parsed
            flags.FLAGS.mark_as_parsed()
        # names the reader's process for people who look into /dev/shm; macOS allows 30 letters
        self._names = f"vtd_{os.getpid()}_{secrets.token_hex(3)}"
        self._reader, self._workers, self._read = os.getpid(), workers, 0
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1)
        # no threads in workers: another buffer would only hold more batches in memory
        dataset = grain.MapDataset.source(_SharedSource(source, self._names)).to_iter_dataset(
            grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        )
        self._iterator = iter(
            dataset.mp_prefetch(options, worker_init_fn=partial(_start_worker, names()))
        )
        self._first: Future | None = None

    def __next__(self) -> Batch:
        """The next batch; StopIteration after the last one, RuntimeError where a worker died."""
        if self._first is None:
            # grain starts the workers here
            self._first = begin_deaf(self._iterator.__next__)
            batch = self._first.result().open()
        else:
            batch = next(self._iterator).open()
        self._read += 1
        return batch

    def close(self) -> None:
        """Ends the workers and removes unread batches; may be called again in any state."""
        # a fork of the reader has neither workers nor batches
        if self._iterator is None or os.getpid() != self._reader:
            return
        self._end_start()
        with ExitStack() as stack:
            stack.callback(self._remove_unread)
            stack.callback(self._iterator.close)
            # grain's close leaves workers running that it has not read from; get_state finds them
            self._iterator.get_state()
        # grain's iterators print errors if they are collected at the end of the program
        self._iterator = None

    def _end_start(self) -> None:
        """Ends workers that are still starting, as after Ctrl-C, and waits for that."""
        if self._first is None or self._first.done():
            return
        for process in multiprocessing.active_children():
            if process.name.startswith("grain-process-prefetch"):
                process.terminate()
        wait([self._first], timeout=60.0)

    def _remove_unread(self) -> None:
        for number in range(self._read, self._read + _AHEAD * self._workers):
            _remove(f"{self._names}_{number}")


class _SharedSource:
    """Puts the batches of a source into shared memory and returns their descriptions."""

    def __init__(self, source: BatchSource, names: str):
        self._source, self._names = source, names

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> "_Message":
        return _share(self._source[index], f"{self._names}_{int(index)}")


@dataclass(frozen=True)
class _Message:
    """Where a batch is: its segment, and the place, shape and type of its arrays in there."""

    name: str
    arrays: dict[str, tuple[int, tuple[int, ...], str]]

    def open(self) -> Batch:
        """The batch, once: unlinks the segment, which lives as long as the frames."""
        segment = SharedMemory(self.name)
        segment.unlink()
        batch = {}
        for key, (start, shape, dtype) in self.arrays.items():
            array = np.ndarray(shape, dtype, buffer=segment.buf, offset=start)
            # small arrays are copied: a label that is kept must not keep the frames
            batch[key] = np.asarray(_Held(segment, array)) if key == "frames" else array.copy()
        return batch


class _Held:
    """What numpy holds on to as long as an array of a segment, or a view of it, is in use."""

    def __init__(self, segment: SharedMemory, array: np.ndarray):
        self.__array_interface__ = array.__array_interface__
        # an attribute: when Python ends, the module's names go before the last batches
        self._segment, self._used = segment, _used_segments()

    def __del__(self):
        self._used.put(self._segment)


_USED: queue.SimpleQueue = queue.SimpleQueue()
_UNMAPPING = threading.Lock()


def _used_segments() -> queue.SimpleQueue:
    """The queue of unused segments; a thread unmaps them, which takes up to 10 ms."""
    if _UNMAPPING.acquire(blocking=False):  # never released: one thread in a process
        threading.Thread(target=_unmap, daemon=True, name="vtd-unmap").start()
    return _USED


def _unmap() -> None:
    while True:
        _USED.get().close()


def _share(batch: Batch, name: str) -> _Message:
    """Copies a batch into a new segment."""
    arrays, end = {}, 0
    for key, array in batch.items():
        arrays[key] = (end, array.shape, array.dtype.str)
        end += -(-array.nbytes // _ALIGNED) * _ALIGNED
    segment = SharedMemory(name, create=True, size=end)
    for key, (start, shape, dtype) in arrays.items():
        np.ndarray(shape, dtype, buffer=segment.buf, offset=start)[...] = batch[key]
    segment.close()
    return _Message(name, arrays)


def _remove(name: str) -> None:
    """Removes a segment where there is one."""
    try:
        segment = SharedMemory(name)
    except FileNotFoundError:
        return
    except ValueError:
        # its worker was killed before the segment had a size, and Python cannot open it
        Path("/dev/shm", name).unlink(missing_ok=True)
        return
    segment.close()
    segment.unlink()


def _start_worker(given: Names, index: int, count: int) -> None:
    """Initialises a worker process: one OpenCV thread, and an end with its reader.

    grain's workers would wait for a killed reader for ever. Python's resource tracker removes the
    shared memory once reader and workers are gone.
    """
    del index, count
    use_names(given)
    cv2.setNumThreads(1)
    follow_parent()
