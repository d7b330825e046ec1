"""Fetches the next batch and puts it onto the devices while they work on the one before."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax

# seconds from one look at the devices to the next
_LOOK = 0.005


class Ahead:
    """Iterates over `(batch, placed)`: each batch, and what `place` made of it.

    As a plain iterator it fetches a batch when it is asked for one, which overlaps with work that
    was given to the devices before. `prepare` fetches the next batch before it is asked for, so
    that waiting for results (metrics, a checkpoint) does not delay it. Order, state and errors are
    those of `batches`.

    Attributes:
      waited: seconds spent so far waiting for `batches`. Where `prepare` was given results of the
        devices, only the time after these were there counts.
    """

    def __init__(self, batches: Iterable[Any], place: Callable[[Any], Any]):
        """
        Args:
          batches: made one after another.
          place: puts a batch onto the devices without waiting for them.
        """
        self._source, self._batches, self._place = batches, iter(batches), place
        # the batch that was prepared, or what was raised instead, and the state before it
        self._found: tuple[Any, Any] | Exception | None = None
        self._state: Any = None
        self._watch: _Watch | None = None
        self.waited = 0.0

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self

    def __next__(self) -> tuple[Any, Any]:
        """The next batch; raises what making it raised."""
        found = self._fetch(None) if self._found is None else self._found
        self._found = None
        if isinstance(found, Exception):
            raise found
        return found

    def prepare(self, running: Any = None) -> None:
        """Fetches and places the next batch. An error is raised when the batch is asked for.

        Args:
          running: results that the devices are working on; None where they are idle.
        """
        if self._found is not None:
            return
        self._state = self._source.get_state() if hasattr(self._source, "get_state") else None
        try:
            self._found = self._fetch(running)
        except Exception as error:
            self._found = error

    def get_state(self) -> Any:
        """The state of `batches` after the last batch that was returned, prepared ones left out."""
        return self._source.get_state() if self._found is None else self._state

    def close(self) -> None:
        """Drops a prepared batch, stops watching the devices and closes `batches`."""
        self._found = None
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
    """Notes when results of the devices are there.

    Its thread looks again and again and never waits inside JAX: a thread that is there when Python
    ends would abort the process (status 134).

    Attributes:
      done: when the results were there, by `time.perf_counter`; None until then.
    """

    def __init__(self, running: Any):
        self.done: float | None = None
        # results on the host are there already
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
            left = [leaf for leaf in left if not _is_there(leaf)]
            if not left:
                self.done = time.perf_counter()
                break
            self._end.wait(_LOOK)
        self._left = []


def _is_there(result: Any) -> bool:
    # a donated array can no longer be asked
    return result.is_deleted() or result.is_ready()
