"""The next batch is fetched and put onto the devices while they work on the one before."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax

# seconds between two looks at whether the devices are done
_LOOK = 0.005


class Ahead:
    """Iterates over `(batch, placed)`: each batch, and what `place` made of it.

    As an iterator alone it fetches when it is asked: whoever gives work to the devices and does not
    wait for it gets the next batch meanwhile. `prepare` fetches one before it is asked for, so that
    waiting for results later on (for metrics, a checkpoint) costs nothing. Nobody notices but the
    clock: order, state and errors are those of `batches`.

    Attributes:
      waited: seconds, so far, that were spent waiting for `batches`; where `prepare` was told what
        the devices were doing, only those after they were done with it.
    """

    def __init__(self, batches: Iterable[Any], place: Callable[[Any], Any]):
        """
        Args:
          batches: made one after another.
          place: puts a batch onto the devices without waiting for them.
        """
        self._source, self._batches, self._place = batches, iter(batches), place
        # of the batch that is ahead, if one is: (batch, placed) or what was raised instead, and the
        # state before it
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
        """Fetches the next batch and places it; what that raises is raised when the batch is asked
        for.

        Args:
          running: results that the devices are working on; None where they have nothing to do.
        """
        if self._found is not None:
            return
        self._state = self._source.get_state() if hasattr(self._source, "get_state") else None
        try:
            self._found = self._fetch(running)
        except Exception as error:
            self._found = error

    def get_state(self) -> Any:
        """The state of `batches` after the last batch that was handed out, whatever is ahead."""
        return self._source.get_state() if self._found is None else self._state

    def close(self) -> None:
        """Drops what is ahead, stops looking at the devices and closes `batches`."""
        self._found = None
        self._end_watch()
        self._source.close()

    def _fetch(self, running: Any) -> tuple[Any, Any]:
        self._end_watch()
        if running is not None:
            self._watch = _Watch(running)
        start = time.perf_counter()
        try:
            batch = next(self._batches)
        finally:
            end = time.perf_counter()
            if running is None:
                self.waited += end - start
            elif self._watch.done is not None:
                self.waited += max(0.0, end - max(start, self._watch.done))
        return batch, self._place(batch)

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None


class _Watch:
    """Notes when results of the devices are there.

    Its thread looks now and then and never waits inside JAX: when Python ends, a thread in there
    would take the whole process with it (abort, status 134).

    Attributes:
      done: the time at which they were there; None until then.
    """

    def __init__(self, running: Any):
        self.done: float | None = None
        # results on hosts, or that stand for some in tests, are there
        self._left = [leaf for leaf in jax.tree.leaves(running) if hasattr(leaf, "is_ready")]
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True, name="vtd-watch")
        self._thread.start()

    def close(self) -> None:
        """Ends the thread; the results are let go."""
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
    # one that was given away has nothing to be asked any more
    return result.is_deleted() or result.is_ready()
