"""Prefetching: puts the next batch onto the devices while they work on the one before."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

# seconds between two polls of the devices
_POLL = 0.005


class Prefetcher:
    """Iterates over `(batch, placed)`: each batch, and what `place` made of it.

    `next` fetches a batch, while the devices finish earlier work. `prepare` fetches the next batch
    in advance, so that waiting for results (metrics, a checkpoint) does not delay it. Order, state
    and errors are those of `batches`.

    Attributes:
      waited: seconds spent waiting for `batches`. Where `prepare` was given results of the devices,
        only the time after these were ready counts.
    """

    def __init__(self, batches: Any, place: Callable[[Any], Any]):
        """
        Args:
          batches: an iterable; `get_state` and `close` are passed on to it.
          place: puts a batch onto the devices without waiting for them.
        """
        self._source, self._batches, self._place = batches, iter(batches), place
        # the prepared batch, or the error that was raised instead, and the state before it
        self._prepared: tuple[Any, Any] | Exception | None = None
        self._state: Any = None
        self._watch: _Watch | None = None
        self.waited = 0.0

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self

    def __next__(self) -> tuple[Any, Any]:
        """The next batch; raises the error of preparing it, if there was one."""
        prepared = self._fetch(None) if self._prepared is None else self._prepared
        self._prepared = None
        if isinstance(prepared, Exception):
            raise prepared
        return prepared

    def prepare(self, running: Any = None) -> None:
        """Fetches and places the next batch; `next` raises an error of it.

        Args:
          running: results that the devices are working on; None if they are idle.
        """
        if self._prepared is not None:
            return
        self._state = self._source.get_state() if hasattr(self._source, "get_state") else None
        try:
            self._prepared = self._fetch(running)
        except Exception as error:
            self._prepared = error

    def get_state(self) -> Any:
        """The state of `batches` after the last batch that was returned, without a prepared one."""
        return self._source.get_state() if self._prepared is None else self._state

    def close(self) -> None:
        """Drops a prepared batch, stops watching the devices and closes `batches`."""
        self._prepared = None
        self._end_watch()
        self._source.close()

    def _fetch(self, running: Any) -> tuple[Any, Any]:
        """The next batch; counts the time that the devices waited for it."""
        self._end_watch()
        if running is not None:
            self._watch = _Watch(running)
        start = time.perf_counter()
        try:
            batch = next(self._batches)
        finally:
            self.waited += self._idle(start, time.perf_counter())
        return batch, self._place(batch)

    def _idle(self, start: float, end: float) -> float:
        """Seconds from `start` to `end` in which the devices had nothing to do."""
        if self._watch is None:
            return end - start
        done = self._watch.done
        return 0.0 if done is None else max(0.0, end - max(start, done))

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None


class _Watch:
    """Records when results of the devices are ready.

    Its thread polls instead of waiting inside JAX: a thread that waits there when Python exits
    aborts the process (status 134).

    Attributes:
      done: when the results were ready, by `time.perf_counter`; None until then.
    """

    def __init__(self, running: Any):
        self.done: float | None = None
        # results on the host are always ready
        self._left = [leaf for leaf in jax.tree.leaves(running) if hasattr(leaf, "is_ready")]
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True, name="vtd-watch")
        self._thread.start()

    def close(self) -> None:
        """Ends the thread and forgets the results."""
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        left = self._left
        while not self._end.is_set():
            # a donated array cannot be asked whether it is ready
            left = [leaf for leaf in left if not (leaf.is_deleted() or leaf.is_ready())]
            if not left:
                self.done = time.perf_counter()
                break
            self._end.wait(_POLL)
        self._left = []
