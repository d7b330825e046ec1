"""Reading the next videos while one is worked on: a few threads, a few results ahead, in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from vtd_jax.errors import UserError

X = TypeVar("X")
Y = TypeVar("Y")


def read_ahead(
    items: Iterable[X], read: Callable[[X], Y], workers: int
) -> Generator[Y, None, None]:
    """`map(read, items)` in threads; decoders and OpenCV let other threads run meanwhile.

    Args:
      items: drawn as results are taken, at most `2 workers` ahead; what they raise is raised after
        the results of all before.
      read: called in a thread; what it raises is raised when its turn comes.
      workers: threads; 0 reads in this one.

    Raises:
      UserError: fewer than 0 workers.
    """
    if workers < 0:
        raise UserError(f"workers={workers}: expected 0 or more")
    if not workers:
        yield from map(read, items)
        return
    drawn = _Drawn(items)
    with ThreadPoolExecutor(workers, "vtd_jax_read") as pool:
        waiting: deque[Future[Y]] = deque()
        try:
            while True:
                ahead = islice(drawn, 2 * workers - len(waiting))
                waiting.extend(pool.submit(read, item) for item in ahead)
                if not waiting:
                    break
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
    if drawn.error is not None:
        raise drawn.error


class _Drawn(Iterator[X]):
    """Items, up to where drawing them fails.

    Attributes:
      error: what the items raised; None before that.
    """

    def __init__(self, items: Iterable[X]):
        self._items, self.error = iter(items), None

    def __next__(self) -> X:
        if self.error is not None:
            raise StopIteration
        try:
            return next(self._items)
        except StopIteration:
            raise
        except Exception as error:
            self.error = error
            raise StopIteration from None
