"""Codes of texts, kept one by one: an edit of a list encodes only what is new in it."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float32, Int32

from vtd_jax.model.vtd_clip import VTDCLIP

# bytes of single codes, and tables of codes of whole lists
_KEPT_BYTES, _TABLES = 2**27, 8
# texts of a program, and its positions: few programs, so that no edit waits for a compiler
SIZES = (1, 8, 64)
_STEPS = (5, 6, 8, 12, 16, 24, 32, 48)
# compiled before the first edit: most labels have one to three words
_WARM = ((1, 5), (8, 5), (64, 5), (1, 8), (8, 8), (64, 8), (64, 6), (64, 12))
# fewer texts than this take less time in programs of the next smaller size
_FILLED = {64: 40, 8: 3}


class Batch(NamedTuple):
    """Texts of a program.

    Attributes:
      texts: that are encoded.
      tokens: of these texts and of repeated ones, which fill the program.
    """

    texts: tuple[str, ...]
    tokens: Int32[np.ndarray, "n l"] | Int32[np.ndarray, "n m l"]


class KeptTexts:
    """The codebook of a model, text by text. Methods may be called from any thread."""

    def __init__(self, model: VTDCLIP):
        """
        Args:
          model: read only.
        """
        self._model = model
        graphdef, self._state = nnx.split(model.rounded())
        self._encode = jax.jit(
            lambda tokens, state: nnx.merge(graphdef, state).encode_classes(tokens)
        )
        config, clip = model.config, model.clip.config
        self._causal, self._longest = clip.design.causal, clip.context_length
        # learnt prompts are positions of every text
        self._before = config.text_prompts
        self._rows: OrderedDict[str, np.ndarray] = OrderedDict()
        self._tables: OrderedDict[tuple[str, ...], np.ndarray] = OrderedDict()
        self._most = _KEPT_BYTES // (4 * clip.embed_dim)
        self._lock, self._ready = threading.Lock(), set()

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

    def batches(self, texts: Sequence[str]) -> list[Batch]:
        """What has to be encoded for these texts: those of one length together, to pad little.

        Args:
          texts: all different.

        Raises:
          UserError: a text that is too long.
        """
        tokens = self._model.class_tokens(texts)
        lengths = np.full(len(texts), tokens.shape[-1])
        if self._causal:
            lengths = tokens.argmax(axis=-1).reshape(len(texts), -1).max(axis=1) + 1
        padded, found = np.array([self._padded(length) for length in lengths.tolist()]), []
        for length in np.unique(padded).tolist():
            places = np.flatnonzero(padded == length)
            while len(places):
                size, positions = self._program(len(places), length)
                chosen, places = places[:size], places[size:]
                rows = _fitted(tokens[np.resize(chosen, size)], positions)
                found.append(Batch(tuple(texts[i] for i in chosen), rows))
        return found

    def encode(self, batch: Batch) -> dict[str, Float32[np.ndarray, " d"]]:
        """Encodes texts, and keeps their codes."""
        rows = np.asarray(self._encode(batch.tokens, self._state))[: len(batch.texts)]
        self._ready.add((len(batch.tokens), batch.tokens.shape[-1]))
        # rows of their own, so that those that go free their memory
        found = {text: row.copy() for text, row in zip(batch.texts, rows)}
        with self._lock:
            self._rows.update(found)
            while len(self._rows) > self._most:
                self._rows.popitem(last=False)
        return found

    def warm_up(self) -> None:
        """Compiles the programs of everyday labels."""
        for size, own in _WARM if self._causal else ((size, 0) for size in SIZES):
            positions = self._padded(own + self._before)
            tokens = self._model.class_tokens(["a"])
            rows = _fitted(np.repeat(tokens, size, axis=0), positions)
            np.asarray(self._encode(rows, self._state))
            self._ready.add((size, positions))

    def _padded(self, length: int) -> int:
        """The positions of the program for texts of this length."""
        if not self._causal:
            return self._longest
        own = length - self._before
        steps = (step for step in _STEPS if step >= own)
        return min(next(steps, self._longest) + self._before, self._longest)

    def _program(self, count: int, positions: int) -> tuple[int, int]:
        """A program for so many texts, or the first of them: a larger one that is compiled rather
        than a new one.
        """
        own = next(size for size in reversed(SIZES) if count >= _FILLED.get(size, 1))
        fitting = [
            (length * size, size, length)
            for size, length in self._ready
            if size >= min(count, own) and length >= positions
        ]
        if (own, positions) in self._ready or not fitting:
            return own, positions
        _, size, length = min(fitting)
        return size, length


def _fitted(tokens: Any, positions: int) -> np.ndarray:
    """Tokens `[…, L]` with so many positions; what is cut is behind every end."""
    missing = max(positions - tokens.shape[-1], 0)
    around = [(0, 0)] * (tokens.ndim - 1) + [(0, missing)]
    return np.pad(tokens[..., :positions], around)
