"""Texts of all clients in one queue: new ones are encoded once, several clients' in one batch.

On a CPU a batch of ten texts takes as long as one text: the weights of the tower are read once.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor

import numpy as np
from jaxtyping import Float32

from vtd_jax.app.text.kept_texts import KeptTexts
from vtd_jax.errors import UserError

# texts that a worker takes at once, and that a client has in the queue at once
_TAKEN, _PORTION = 200, 400
# characters of texts that a client has read at once: long ones take seconds
_CHARACTERS = 2**14
# texts that take about as long as one
_FEW = 10
Gone = Callable[[], Awaitable[bool]]


class PageGone(UserError):
    """Nobody waits for the answer any more."""


class TextQueue:
    """Codes of lists of texts. To be used from one event loop at a time.

    Attributes:
      kept: the codes.
    """

    def __init__(self, kept: KeptTexts, pool: Executor):
        """
        Args:
          kept: encodes and keeps them.
          pool: where that is done, with `kept.workers` threads.
        """
        self.kept, self._pool = kept, pool
        # texts that are waited for; of the first dict no worker has taken them yet
        self._waiting: OrderedDict[str, None] = OrderedDict()
        self._futures: dict[str, asyncio.Future] = {}
        self._workers: set[asyncio.Task] = set()

    async def codes(self, texts: tuple[str, ...], gone: Gone) -> Float32[np.ndarray, "k d"]:
        """The codes of a list; only texts that are new are encoded.

        Args:
          texts: all different.
          gone: whether nobody waits for them any more.

        Raises:
          UserError: a text that is too long.
          PageGone: nobody waits for them any more.
        """
        if (table := self.kept.table(texts)) is not None:
            return table
        codes = self.kept.known(texts)
        new = [text for text in texts if text not in codes]
        if new:
            # a text that is too long is the fault of this list, not of those it would be with
            new = await self._arranged(new, gone)
        for start in range(0, len(new), _PORTION):
            await still_there(gone)
            codes |= await self._encoded(new[start : start + _PORTION])
        return self.kept.keep(texts, codes)

    async def _arranged(self, texts: list[str], gone: Gone) -> list[str]:
        """See `KeptTexts.arranged`; a long list is read in parts, which others get in between."""
        loop, rows = asyncio.get_running_loop(), []
        for some in _parts(texts):
            await still_there(gone)
            rows.append(await loop.run_in_executor(self._pool, self.kept.tokens, some))
        return await loop.run_in_executor(self._pool, self.kept.arranged, texts, rows)

    async def _encoded(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        loop = asyncio.get_running_loop()
        for text in texts:
            if text not in self._futures:
                self._futures[text] = loop.create_future()
                self._waiting[text] = None
        # by now: a worker takes them out when they are encoded
        futures = [self._futures[text] for text in texts]
        while self._waiting and len(self._workers) < self.kept.workers:
            worker = loop.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        # not `gather`: a client that leaves must not cancel what others wait for
        await asyncio.wait(futures)
        return {text: one.result() for text, one in zip(texts, futures, strict=True)}

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            # all workers get a share, but of few texts one takes all
            share = max(_FEW, -(-len(self._waiting) // self.kept.workers))
            count = min(_TAKEN, share, len(self._waiting))
            taken = [self._waiting.popitem(last=False)[0] for _ in range(count)]
            futures = [self._futures[text] for text in taken]
            try:
                found = await loop.run_in_executor(self._pool, self.kept.encode, taken)
                for text, one in zip(taken, futures, strict=True):
                    one.set_result(found[text])
            except Exception as error:
                for one in futures:
                    one.set_exception(error)
            finally:
                for text in taken:
                    del self._futures[text]


async def still_there(gone: Gone) -> None:
    """Goes on where somebody waits.

    Raises:
      PageGone: nobody does any more.
    """
    if await gone():
        raise PageGone("the page that asked is gone")


def _parts(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Texts in their order, of about `_CHARACTERS` each time."""
    first, size = 0, 0
    for place, text in enumerate(texts):
        if place > first and size + len(text) > _CHARACTERS:
            yield texts[first:place]
            first, size = place, 0
        size += len(text)
    yield texts[first:]
