"""Texts through compiled programs, for accelerators and towers that `host_text` does not take."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float32, Int

from vtd_jax.app.text.host_text import Batch
from vtd_jax.model.vtd_clip import VTDCLIP

# texts of a program, and its positions: few programs, so that no edit waits for a compiler
SIZES = (1, 8, 64)
_STEPS = (5, 6, 8, 12, 16, 24, 32, 48)
# compiled before the first edit: most labels have one to three words
WARM = ((1, 5), (8, 5), (64, 5), (1, 8), (8, 8), (64, 8), (64, 6), (64, 12))
# fewer texts than this take less time in programs of the next smaller size
_FILLED = {64: 40, 8: 3}


class TextPrograms:
    """Encodes texts as `VTDCLIP.encode_classes`."""

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
        self._causal = model.clip.config.design.causal
        self._longest = model.clip.config.context_length
        # learnt prompts are positions of every text
        self._before = model.config.text_prompts
        self._ready: set[tuple[int, int]] = set()

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
                found.append(Batch(tuple(texts[i] for i in map(int, chosen)), rows))
        return found

    @staticmethod
    def arranged(tokens: Int[np.ndarray, "n l"]) -> Int[np.ndarray, " n"]:
        """An order of texts in which those of few tokens come first, which saves padding."""
        return np.argsort((tokens != 0).sum(axis=1), kind="stable")

    def encode(self, batch: Batch) -> Float32[np.ndarray, "n d"]:
        """The codes of a batch, raw."""
        rows = np.asarray(self._encode(batch.tokens, self._state))[: len(batch.texts)]
        self._ready.add((len(batch.tokens), batch.tokens.shape[-1]))
        return rows

    def warm_up(self) -> None:
        """Compiles the programs of everyday labels."""
        for size, own in WARM if self._causal else ((size, 0) for size in SIZES):
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
