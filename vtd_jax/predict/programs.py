"""Compiled programs of a predictor, and its vocabulary."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32, Int32, UInt8

from vtd_jax.model import discretize
from vtd_jax.model.attribution import attribute
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.vocabulary import (
    Nearest,
    WordVotes,
    nearest,
    squared_norms,
    video_words,
    word_votes,
)

# called with how much is done and how much there is in all
OnProgress = Callable[[float, float], None]

# bytes; codes of larger vocabularies stay on the host and are streamed through the device
_ON_DEVICE = 2**30


class Parts(NamedTuple):
    """What logits are made of, see `Explanation`.

    Attributes:
      logits: `[B, K]`.
      confidence, weight, contribution: `[B, T, K]`.
      attention: `[B, T, n]`; zeros without a fusion block.
      change: `[B, T]`; zeros without a fusion block.
    """

    logits: Float[Array, "*b k"]
    confidence: Float[Array, "*b t k"]
    weight: Float[Array, "*b t k"]
    contribution: Float[Array, "*b t k"]
    attention: Float[Array, "*b t n"]
    change: Float[Array, "*b t"]


class Programs(NamedTuple):
    """Compiled functions of a model's state.

    Attributes:
      encode: `(state, frames [N, R, R, 3] uint8) -> features [N, D]`, raw.
      classify: `(state, features [B, T, D], codebook [K, D]) -> logits [B, K]`, frames named by
        labels.
      score: `(state, features, codebook, video tokens [B, n, D]) -> logits`, named by other words.
      explain: `(state, features, codebook, video tokens) -> Parts`.
    """

    encode: Callable[..., Array]
    classify: Callable[..., Array]
    score: Callable[..., Array]
    explain: Callable[..., Parts]


@functools.lru_cache(maxsize=16)
def compiled(graphdef: Any) -> Programs:
    """The programs of a model; models of the same graph share them."""

    def encode(state: nnx.State, frames: UInt8[Array, "n h w 3"]) -> Float[Array, "n d"]:
        return nnx.merge(graphdef, state).encode_frames(frames[None])[0]

    def classify(state, features, codebook):
        return nnx.merge(graphdef, state).classify(features, codebook).logits

    def score(state, features, codebook, tokens):
        model = nnx.merge(graphdef, state)
        return model.score(features, codebook, _confidence(model, features, codebook), tokens)[0]

    def explain(state, features, codebook, tokens):
        return explained(nnx.merge(graphdef, state), features, codebook, tokens)

    return Programs(*(jax.jit(function) for function in (encode, classify, score, explain)))


def explained(
    model: Any,
    features: Float[Array, "b t d"],
    codebook: Float[Array, "k d"],
    tokens: Float[Array, "b n d"],
) -> Parts:
    """Logits and what they are made of, given the video tokens."""
    confidence = _confidence(model, features, codebook)
    logits, fused = model.score(features, codebook, confidence, tokens)
    scale = jnp.exp(model.logit_scale[...])
    weight, contribution = attribute(fused, codebook, confidence, scale, model.config.pooling)
    attention = jnp.zeros((*features.shape[:2], tokens.shape[1]))
    change = jnp.zeros(features.shape[:2])
    if model.fusion is not None:
        attention = model.fusion.attention(features, tokens).mean(axis=1)
        change = jnp.linalg.norm(fused - features, axis=-1) / jnp.linalg.norm(features, axis=-1)
    return Parts(logits, confidence, weight, contribution, attention, change)


def _confidence(model: Any, features: Array, codebook: Array) -> Array:
    similarity = discretize.cosine(features, codebook)
    return discretize.confidence(similarity, model.config.temperature, model.config.confidence)


class VideoWords(NamedTuple):
    """Video tokens of B videos.

    Attributes:
      ids: `[B, n]`, indices into the vocabulary, most votes first, see `ModelConfig.votes`.
      votes: `[B, n]`.
      codes: `[B, n, D]`, raw.
    """

    ids: Int32[np.ndarray, "b n"]
    votes: Float32[np.ndarray, "b n"]
    codes: Float32[np.ndarray, "b n d"]


# compiled: eagerly these are many small programs
_nearest = jax.jit(nearest, static_argnames=("top", "metric"))


@functools.partial(
    jax.jit, static_argnames=("words", "temperature", "kind", "top_n", "rule", "worth")
)
def _vote(
    features, ids, codes, *, words: int, temperature: float, kind: str, top_n: int, rule: str,
    worth: str,
) -> WordVotes:  # fmt: skip
    votes = word_votes(features, ids, codes, temperature, kind, rule, worth)
    return video_words(votes, words, top_n, rule)


class Vocabulary:
    """Words that name frames: 1 to millions of them.

    Attributes:
      words: V texts.
      is_labels: whether they are the labels.
    """

    def __init__(
        self,
        words: Sequence[str],
        codes: Float32[np.ndarray, "v d"] | Float32[Array, "v d"],
        is_labels: bool = False,
    ):
        self.words, self.is_labels, self._given = words, is_labels, codes

    @functools.cached_property
    def codes(self) -> Float32[np.ndarray, "v d"]:
        """Raw text features."""
        return np.asarray(self._given)

    @functools.cached_property
    def _rows(self) -> Float32[np.ndarray, "v d"] | Float32[Array, "v d"]:
        # NumPy rows are searched in parts, see `vocabulary.nearest`
        return jnp.asarray(self._given) if self._given.nbytes < _ON_DEVICE else self.codes

    @functools.cached_property
    def _squares(self) -> Float32[Array, " v"] | Float32[np.ndarray, " v"]:
        return squared_norms(self._rows)

    def nearest(self, features: Float32[np.ndarray, "n d"], top: int, metric: str) -> Nearest:
        """The nearest words of N frames."""
        search = nearest if isinstance(self._rows, np.ndarray) else _nearest
        found = search(
            jnp.asarray(features), self._rows, top=top, metric=metric, squares=self._squares
        )
        return Nearest(*map(np.asarray, found))

    def video_tokens(
        self,
        features: Float32[np.ndarray, "b t d"],
        ids: Int32[np.ndarray, "b t"],
        config: ModelConfig,
    ) -> VideoWords:
        """The words with the most votes of the frames named `ids`."""
        # at most T words have votes; ties without votes go to the first words
        words = min(len(self.words), ids.shape[1] + config.top_n)
        best = _vote(
            features, ids, self.codes[ids], words=words, temperature=config.temperature,
            kind=config.confidence, top_n=config.top_n, rule=config.ties, worth=config.votes,
        )  # fmt: skip
        ids = np.asarray(best.ids)
        return VideoWords(ids, np.asarray(best.votes), self.codes[ids])
