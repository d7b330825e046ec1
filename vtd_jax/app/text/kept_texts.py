"""Codes of texts, kept one by one: an edit of a list encodes only what is new in it."""

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int

from vtd_jax.app.text.host_text import HostTexts
from vtd_jax.app.text.programs import TextPrograms
from vtd_jax.model.vtd_clip import VTDCLIP

# bytes of single codes and their texts, and tables of codes of whole lists
_KEPT_BYTES, _TABLES = 2**27, 8
# batches at once on a CPU: more find the memory busy
_MOST_WORKERS = 8


class KeptTexts:
    """The codebook of a model, text by text. Methods may be called from any thread.

    Attributes:
      workers: batches that may be encoded at once.
    """

    def __init__(self, model: VTDCLIP):
        """
        Args:
          model: read only.
        """
        self._model, on_host = model, HostTexts.takes(model)
        self._way = HostTexts(model) if on_host else TextPrograms(model)
        self.workers = min(_MOST_WORKERS, os.cpu_count() or 1) if on_host else 1
        self._bytes = 0
        self._rows: OrderedDict[str, np.ndarray] = OrderedDict()
        self._tables: OrderedDict[tuple[str, ...], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Compiles the programs of everyday labels, where there are programs."""
        self._way.warm_up()

    def known(self, texts: Sequence[str]) -> dict[str, Float32[np.ndarray, " d"]]:
        """The codes of those of the texts that are kept."""
        with self._lock:
            found = {text: self._rows[text] for text in texts if text in self._rows}
            for text in found:
                self._rows.move_to_end(text)
        return found

    def table(self, texts: tuple[str, ...]) -> Float32[np.ndarray, "k d"] | None:
        """The codes of a whole list, if it is one of the last."""
        with self._lock:
            found = self._tables.get(texts)
            if found is not None:
                self._tables.move_to_end(texts)
        return found

    def keep(
        self, texts: tuple[str, ...], codes: dict[str, Float32[np.ndarray, " d"]]
    ) -> Float32[np.ndarray, "k d"]:
        """The codes of a list as one array, which is kept.

        Args:
          texts: the list.
          codes: of all its texts.
        """
        made = np.stack([codes[text] for text in texts])
        with self._lock:
            self._tables[texts] = made
            while len(self._tables) > _TABLES:
                self._tables.popitem(last=False)
        return made

    def tokens(self, texts: Sequence[str]) -> Int[np.ndarray, "n ..."]:
        """Tokens of texts, of all templates, for `arranged`.

        Raises:
          UserError: a text that is too long; names it.
        """
        return self._model.class_tokens(texts)

    def arranged(self, texts: Sequence[str], parts: Sequence[np.ndarray]) -> list[str]:
        """The texts in an order in which neighbours take the least time in one batch.

        Args:
          texts: in any order.
          parts: their tokens, of some texts after others; they are as wide as these need.
        """
        width, rows = max(part.shape[-1] for part in parts), []
        for part in parts:
            sides = [(0, 0)] * (part.ndim - 1) + [(0, width - part.shape[-1])]
            rows.append(np.pad(part, sides).reshape(len(part), -1))
        return [texts[i] for i in map(int, self._way.arranged(np.concatenate(rows)))]

    def encode(self, texts: Sequence[str]) -> dict[str, Float32[np.ndarray, " d"]]:
        """Encodes texts, and keeps their codes.

        Args:
          texts: all different.

        Raises:
          UserError: a text that is too long.
        """
        found: dict[str, np.ndarray] = {}
        for batch in self._way.batches(texts):
            rows = self._way.encode(batch)
            # rows of their own, so that those that go free their memory
            found |= {text: row.copy() for text, row in zip(batch.texts, rows, strict=True)}
        with self._lock:
            self._bytes += sum(_bytes(one) for one in found.items() if one[0] not in self._rows)
            self._rows.update(found)
            while self._bytes > _KEPT_BYTES:
                self._bytes -= _bytes(self._rows.popitem(last=False))
        return found


def _bytes(kept: tuple[str, np.ndarray]) -> int:
    """Of a text, which may be longer than its code, and its code."""
    return sys.getsizeof(kept[0]) + kept[1].nbytes
