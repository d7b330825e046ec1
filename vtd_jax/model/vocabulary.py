"""Nearest words, votes and video tokens of a vocabulary of up to millions of words.

Gives the results of `discretize` on the whole vocabulary (paper section 3.2; docs/method.md,
sections 3 and 7) without an array `[B, T, V]`. Words go in chunks, and only the at most T words
that a frame was assigned to take part in a video's vote.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Int32

from vtd_jax.errors import UserError
from vtd_jax.model import discretize, ties
from vtd_jax.model.config import CHOICES

Rows = Float[Array, "v d"] | Float[np.ndarray, "v d"]

_EXACT = jax.lax.Precision.HIGHEST
# words of a block: only blocks whose maximum is good enough are searched
_BLOCK = 64
# words of a chunk inside a program: on a CPU it stays in a cache, other devices need large products
_CHUNKS = {"cpu": 2048}
_CHUNK = 65536
# words of a host array per transfer, and fewer where a CPU has to copy them
_STREAMED, _COPIED = 65536, 4096
# products of one transfer, 32 MB
_PRODUCTS = 1 << 23
# sorts after every real word
_NO_WORD = np.iinfo(np.int32).max


class Nearest(NamedTuple):
    """The nearest words of every frame, nearest first, the lowest id first among equals.

    Attributes:
      ids: `[N, top]` int32, places in the vocabulary.
      similarity: `[N, top]` float32, the cosine of frame and word, -1..1, whichever metric chose
        them.
    """

    ids: Int32[Array, "n top"]
    similarity: Float[Array, "n top"]


class WordVotes(NamedTuple):
    """The words that frames of a video were assigned to, most votes first; see `word_votes` for
    ties.

    Attributes:
      ids: `[B, T]` int32, each word once; -1 after the last one.
      votes: `[B, T]` float32, 0..T; 0 after the last word.
    """

    ids: Int32[Array, "b t"]
    votes: Float[Array, "b t"]


def squared_norms(vocabulary: Rows) -> Float[Array, " v"]:
    """`||c||²` of every word, float32: what `nearest` needs of a constant vocabulary."""
    if isinstance(vocabulary, np.ndarray):
        parts = [
            _squared_norms(vocabulary[i : i + _STREAMED])
            for i in range(0, len(vocabulary), _STREAMED)
        ]
        return jnp.concatenate(parts)
    return _squared_norms(vocabulary)


@jax.jit
def _squared_norms(rows: Array) -> Array:
    return jnp.square(rows.astype(jnp.float32)).sum(-1)


def nearest(
    features: Float[Array, "n d"],
    vocabulary: Rows,
    top: int = 1,
    metric: str = "euclidean",
    *,
    squares: Float[Array, " v"] | None = None,
    chunk: int | None = None,
) -> Nearest:
    """The `top` nearest words of every frame: the ids of `discretize.assign`, and the runner-ups.

    Args:
      features: raw frame features.
      vocabulary: raw text features of V words, V below 2³¹. A JAX array is read where it is. A
        NumPy array (it may be an `np.memmap` larger than memory; not inside `jit`) streams through
        the device, in parts of at most 65536 words of which it holds two. On a CPU parts are read
        in place if the array starts at a multiple of 64 bytes, as that of
        `vtd_jax.untrusted.arrays.map_array`; else they are copied, which takes longer than the
        search.
      top: words a frame; of a smaller vocabulary all.
      metric: "euclidean": least `||x - c||²` of raw features, as `||c||² - 2 x·c`; or "cosine": the
        largest cosine.
      squares: `squared_norms(vocabulary)`, for callers that come again; both metrics use them.
      chunk: words whose products exist at once, `[chunk, N]` float32; None for what is fastest, at
        most 65536.

    Raises:
      UserError: an empty vocabulary, another metric, `top` or `chunk` below 1.
    """
    words = len(vocabulary)
    _check(words, top, metric, chunk)
    top = min(top, words)
    if isinstance(vocabulary, np.ndarray):
        ids = _streamed(features, vocabulary, top, metric, squares, chunk)
        return Nearest(ids, _cosines(features, jnp.asarray(vocabulary[np.asarray(ids)])))
    squares = squared_norms(vocabulary) if squares is None else squares
    if _on_this_cpu(features, vocabulary):
        ids = _streamed(features, np.asarray(vocabulary), top, metric, squares, chunk)
    else:
        chunk = _CHUNKS.get(jax.default_backend(), _CHUNK) if chunk is None else chunk
        best = _nothing(len(features), top)
        _, ids = _search(best, features, vocabulary, squares, 0, 0, metric=metric, chunk=chunk)
    return Nearest(ids, _cosines(features, vocabulary[ids]))


def _on_this_cpu(*arrays: Array) -> bool:
    """Whether the host can read parts of the arrays in place, where programs would copy."""
    if any(isinstance(array, Tracer) for array in arrays):
        return False
    return all(
        len(array.devices()) == 1 and next(iter(array.devices())).platform == "cpu"
        for array in arrays
    )


def _part(vocabulary: np.ndarray, frames: int) -> int:
    """Words of a part: parts are of one length, nearly without overlap, and whole blocks."""
    words, in_place = (
        len(vocabulary),
        jax.default_backend() != "cpu" or vocabulary.ctypes.data % 64 == 0,
    )
    most = min(_STREAMED if in_place else _COPIED, max(_PRODUCTS // max(frames, 1), _BLOCK))
    even = -(-words // -(-words // most))
    return min(even + -even % _BLOCK, words)


def _check(words: int, top: int, metric: str, chunk: int | None) -> None:
    """Refuses what has no nearest word."""
    if metric not in CHOICES["assignment"]:
        raise UserError(f"metric {metric!r}: expected one of {', '.join(CHOICES['assignment'])}")
    if words < 1:
        raise UserError(
            "the vocabulary is empty: no word can name a frame; give it one word or more"
        )
    if top < 1 or (chunk is not None and chunk < 1):
        raise UserError(f"top={top}, chunk={chunk}: expected 1 or more of both")


def _streamed(
    features: Array,
    vocabulary: np.ndarray,
    top: int,
    metric: str,
    squares: Array | None,
    chunk: int | None,
) -> Array:
    """`nearest` of a host array, part by part; the last part overlaps, to be as long."""
    words, part = len(vocabulary), _part(vocabulary, len(features))
    chunk = part if chunk is None else chunk
    best = before = _nothing(len(features), top)
    for seen in range(0, words, part):
        # without waiting the host would run ahead and put every part on the device
        jax.block_until_ready(before)
        first = min(seen, words - part)
        rows = jax.device_put(vocabulary[first : first + part], may_alias=True)
        norms = _squared_norms(rows) if squares is None else squares[first : first + part]
        before, best = (
            best,
            _search(best, features, rows, norms, first, seen - first, metric=metric, chunk=chunk),
        )
    return best[1]


def _nothing(frames: int, top: int) -> tuple[Array, Array]:
    """Scores and ids before any word was seen."""
    return jnp.full((frames, top), -jnp.inf), jnp.zeros((frames, top), jnp.int32)


@functools.partial(jax.jit, static_argnames=("metric", "chunk"))
def _search(best, features, rows, squares, first, seen, *, metric, chunk):
    """Updates the best words with `rows`, from id `first` on, but for the `seen` ones."""
    euclidean = metric == "euclidean"
    features = (features.astype(jnp.float32) if euclidean else discretize.normalize(features)).T
    words, width = rows.shape
    chunk = min(chunk, words)

    def step(i, best):
        # the last chunk reaches back to be as long as the others
        start = jnp.minimum(i * chunk, words - chunk)
        codes = jax.lax.dynamic_slice(rows, (start, 0), (chunk, width)).astype(jnp.float32)
        norms = jax.lax.dynamic_slice(squares, (start,), (chunk,))
        # products are scaled, not codes: normalised rows would be written to memory first
        times, less = jnp.full(chunk, 2.0), norms
        if not euclidean:
            times, less = jax.lax.rsqrt(jnp.maximum(norms, 1e-24)), jnp.zeros(chunk)
        less = jnp.where(start + jnp.arange(chunk) < jnp.maximum(i * chunk, seen), jnp.inf, less)
        # words × frames: XLA's fastest order on a CPU, and maxima over words vectorise
        products = jnp.matmul(codes, features, precision=_EXACT)
        return _merge(best, products, times, less, first + start)

    return jax.lax.fori_loop(0, -(-words // chunk), step, best)


def _merge(
    best: tuple[Array, Array], products: Array, times: Array, less: Array, first: Array
) -> tuple[Array, Array]:
    """Updates the best words with those of id `first` on: `times * products - less`."""
    frames, top = best[0].shape
    rest = -len(less) % _BLOCK
    products = jnp.pad(products, ((0, rest), (0, 0))).reshape(-1, _BLOCK, frames)
    times = jnp.pad(times, (0, rest)).reshape(-1, _BLOCK)
    less = jnp.pad(less, (0, rest), constant_values=jnp.inf).reshape(-1, _BLOCK)
    # XLA fuses the scores into their maximum, so they are never written to memory
    maxima = (times[..., None] * products - less[..., None]).max(axis=1)

    def look(best):
        # `top` blocks with greater maxima hold `top` words that beat every word of another block
        _, blocks = jax.lax.top_k(maxima.T, min(top, len(maxima)))
        # in ascending order, so that of equal words the lowest comes first
        blocks = jnp.sort(blocks, axis=1)[..., None]
        inside = jnp.arange(_BLOCK)
        own = products[blocks, inside, jnp.arange(frames)[:, None, None]]
        found = times[blocks, inside] * own - less[blocks, inside]
        ids = (first + blocks * _BLOCK + inside).reshape(frames, -1)
        values = jnp.concatenate([best[0], found.reshape(frames, -1)], axis=1)
        values, places = jax.lax.top_k(values, top)
        ids = jnp.take_along_axis(jnp.concatenate([best[1], ids], axis=1), places, axis=1)
        return values, ids.astype(jnp.int32)

    # a later word must be better, not as good; few chunks have one
    return jax.lax.cond((maxima > best[0][:, -1]).any(), look, lambda best: best, best)


@jax.jit
def _cosines(features: Array, codes: Array) -> Array:
    """Cosine of every frame with each of its own codes `[N, top, D]`."""
    return jnp.einsum(
        "nd,nkd->nk", discretize.normalize(features), discretize.normalize(codes), precision=_EXACT
    )


@functools.partial(jax.jit, static_argnames=("temperature", "kind", "rule", "worth"))
def word_votes(
    features: Float[Array, "b t d"],
    ids: Int[Array, "b t"],
    codes: Float[Array, "b t d"],
    temperature: float,
    kind: str = "softmax",
    rule: str = "frames",
    worth: str = "confidence",
) -> WordVotes:
    """Every frame votes for its word (`discretize.count_votes`).

    Args:
      features: raw frame features.
      ids: the nearest word of every frame.
      codes: `vocabulary[ids]`, raw.
      temperature, kind: as for `discretize.confidence`.
      rule: `ModelConfig.ties`. "frames": words are in the order of `ties.rank`, in which those of
        more frames come first among those of as many votes to rounding. "release": in that of their
        votes as they are, then of ids.
      worth: `ModelConfig.votes`: what the vote of a frame is worth, its "confidence" or, counting
        "frames", one.
    """
    cosines = jnp.einsum(
        "btd,bjd->btj",
        discretize.normalize(features),
        discretize.normalize(codes),
        precision=_EXACT,
    )
    weights = discretize.confidence(cosines, temperature, kind)
    same = ids[:, :, None] == ids[:, None, :]
    each = jnp.ones_like(weights) if worth == "frames" else weights
    votes = jax.lax.stop_gradient(jnp.where(same, each, 0.0).sum(axis=1))
    # a word of several frames counts where it is first
    repeated = jnp.tril(same, k=-1).any(axis=2)
    ids = ids.astype(jnp.int32)
    if rule == "frames":
        return _ranked(ids, votes, ties.tally(same, weights), repeated, worth)
    ids = jnp.where(repeated, _NO_WORD, ids)
    losses, ids = jax.lax.sort((-jnp.where(repeated, -1.0, votes), ids), num_keys=2)
    return WordVotes(jnp.where(ids == _NO_WORD, -1, ids), jnp.where(ids == _NO_WORD, 0.0, -losses))


def _ranked(ids: Array, votes: Array, tally: ties.Tally, repeated: Array, worth: str) -> WordVotes:
    """The words of T frames in the order of `ties.rank`, without `repeated` ones."""
    tally = tally._replace(lacking=jnp.where(repeated, jnp.inf, tally.lacking))
    found = ties.rank(tally, ids, ids.shape[1], votes=worth)
    theirs = jnp.where(found[:, :, None] == ids[:, None, :], votes[:, None, :], -jnp.inf).max(
        axis=2
    )
    # `rank` returns T words; those after the last different one are fill-ins
    there = jnp.arange(ids.shape[1]) < (~repeated).sum(axis=1, keepdims=True)
    return WordVotes(jnp.where(there, found, -1), jnp.where(there, theirs, 0.0))


@functools.partial(jax.jit, static_argnames=("words", "top_n", "rule"))
def video_words(votes: WordVotes, words: int, top_n: int, rule: str = "frames") -> WordVotes:
    """The `top_n` words of a video, of all V: what `discretize.video_tokens` gathers.

    Args:
      votes: of the words that were assigned.
      words: V.
      top_n: n; of a smaller vocabulary all words.
      rule: as given to `word_votes`.

    Returns:
      `[B, n]` ids and votes. Words without votes follow in the order of their ids, behind all that
      named a frame; with "release" among those whose votes are 0.
    """
    frames = votes.ids.shape[1]
    # of the first T + n words at most T were assigned
    others = jnp.arange(min(words, frames + top_n), dtype=jnp.int32)
    taken = (others[None, :, None] == votes.ids[:, None, :]).any(axis=-1)
    ids = jnp.concatenate([votes.ids, jnp.where(taken, -1, others)], axis=1)
    found = jnp.concatenate([votes.votes, jnp.zeros_like(taken, jnp.float32)], axis=1)
    count = min(top_n, words)
    if rule == "frames":
        # the order stays, without the gaps
        _, ids, found = jax.lax.sort(
            ((ids < 0).astype(jnp.int32), ids, found), num_keys=1, is_stable=True
        )
        return WordVotes(ids[:, :count], found[:, :count])
    losses, ids = jax.lax.sort(
        (jnp.where(ids < 0, 1.0, -found), jnp.where(ids < 0, _NO_WORD, ids)), num_keys=2
    )
    return WordVotes(ids[:, :count], -losses[:, :count])
