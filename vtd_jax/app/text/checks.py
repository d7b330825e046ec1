"""Labels and words of requests, checked beside the loop: what takes seconds, one at a time."""

import asyncio
import functools
from collections.abc import Sequence
from concurrent.futures import Executor

from vtd_jax.app.text.queue import Gone, still_there
from vtd_jax.predict.predictor import Predictor
from vtd_jax.predict.words import check_texts

# characters of a list that is checked beside others, and lists whose outcome is kept
_CHARACTERS, _KEPT = 2**18, 32


class Checks:
    """Checks lists of texts. To be used from one event loop at a time."""

    def __init__(self, predictors: Sequence[Predictor], pool: Executor):
        """
        Args:
          predictors: the models that texts are for.
          pool: where texts are checked.
        """
        self._predictors, self._pool, self._turn = predictors, pool, asyncio.Lock()
        self._checked = functools.lru_cache(maxsize=_KEPT)(self._check)

    async def __call__(
        self, place: int, texts: Sequence[str], what: str, gone: Gone
    ) -> tuple[str, ...]:
        """The texts, for the model at a place.

        Args:
          place: of the model.
          texts: to check.
          what: "labels", or "vocabulary".
          gone: whether nobody waits for them any more.

        Raises:
          UserError: texts that the model does not take.
          PageGone: nobody waits for them any more.
        """
        check = functools.partial(self._checked, place, tuple(texts), what)
        loop = asyncio.get_running_loop()
        if sum(map(len, texts)) <= _CHARACTERS:
            return await loop.run_in_executor(self._pool, check)
        # several would take all threads, and edits would wait
        async with self._turn:
            await still_there(gone)
            return await loop.run_in_executor(self._pool, check)

    def _check(self, place: int, texts: tuple[str, ...], what: str) -> tuple[str, ...]:
        predictor = self._predictors[place]
        if what == "labels":
            return predictor.check_labels(texts)
        underscores = predictor.model.config.text_prompts > 0
        return check_texts(texts, what, underscores=underscores)
