"""A pass over all features of an index: in blocks of one size, with the best clips kept.

However many clips there are, a pass takes the memory of two blocks and of one mapped shard.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float16, Int, Int64

from vtd_jax.model import discretize

# clips of a block, fewer where their numbers would be more
_CLIPS, _NUMBERS = 256, 2**22
# cosines of a block with all queries
_SCORES = 2**24


class Block(NamedTuple):
    """Some clips of an index.

    Attributes:
      features: raw `[B, T, D]`; B is the same for all blocks, the last clip is repeated.
      places: shard and place in it of each clip, without the repeated ones.
    """

    features: Float16[np.ndarray, "b t d"]
    places: Int64[np.ndarray, "n 2"]


class Found(NamedTuple):
    """The best clips of every query, best first, the earlier one first among equals.

    Attributes:
      scores: `[Q, n]`.
      frames: the best frame of each clip, 0..T-1.
      places: shard and place in it.
    """

    scores: Float[np.ndarray, "q n"]
    frames: Int64[np.ndarray, "q n"]
    places: Int64[np.ndarray, "q n 2"]


# (scores [B, Q], best frames [B, Q]) of the features of a block
Score = Callable[[Float16[np.ndarray, "b t d"]], tuple[Any, Any]]


def block_size(frames: int, width: int, queries: int, clips: int) -> int:
    """Clips of a block.

    Args:
      frames: T.
      width: D.
      queries: Q, or labels.
      clips: of the index.
    """
    most = min(_CLIPS, _NUMBERS // (frames * width), _SCORES // (frames * max(queries, 1)))
    # a power of two: an index that grows compiles few programs
    return max(1, min(1 << (max(most, 1).bit_length() - 1), 1 << max(clips - 1, 0).bit_length()))


def blocks(
    shards: Iterator[tuple[int, list[int], Float16[np.ndarray, "n t d"]]], size: int
) -> Iterator[Block]:
    """Cuts shards of any sizes into blocks of one size.

    Args:
      shards: (number, the clips that count, features) of each.
      size: B.
    """
    buffer, places = None, np.zeros((size, 2), np.int64)
    filled = 0
    for number, kept, features in shards:
        done = 0
        while done < len(kept):
            if buffer is None:
                # a new one for every block: the device may still read the last one
                buffer = np.empty((size, *features.shape[1:]), np.float16)
            part = kept[done : done + size - filled]
            end = filled + len(part)
            whole = len(part) == part[-1] - part[0] + 1
            # slices copy without a list of rows
            buffer[filled:end] = features[part[0] : part[-1] + 1] if whole else features[part]
            places[filled:end, 0], places[filled:end, 1] = number, part
            done, filled = done + len(part), end
            if filled == size:
                yield Block(buffer, places.copy())
                buffer, filled = None, 0
    if buffer is not None and filled:
        buffer[filled:] = buffer[filled - 1]
        yield Block(buffer, places[:filled].copy())


def best(found: Iterator[Block], score: Score, queries: int, top: int) -> Found:
    """The best clips of all blocks.

    Args:
      found: the blocks.
      score: scores one; what it returns may still be computed.
      queries: Q.
      top: n, at most; fewer where there are fewer clips.
    """
    kept = Found(
        np.zeros((queries, 0), np.float32),
        np.zeros((queries, 0), np.int64),
        np.zeros((queries, 0, 2), np.int64),
    )
    before = None
    for block in found:
        # one block behind: the next one is read while the device computes
        if before is not None:
            kept = _merged(kept, *before, top)
        before = block.places, *score(block.features)
    return kept if before is None else _merged(kept, *before, top)


def _merged(kept: Found, places: np.ndarray, scores: Any, frames: Any, top: int) -> Found:
    """The best of those before and of a block."""
    count, queries = len(places), len(kept.scores)
    new = np.asarray(scores)[:count].T
    if kept.scores.shape[1] == top and not (new > kept.scores[:, -1:]).any():
        return kept
    all_scores = np.concatenate([kept.scores, new], axis=1)
    all_frames = np.concatenate([kept.frames, np.asarray(frames)[:count].T], axis=1)
    spread = np.broadcast_to(places, (queries, count, 2))
    all_places = np.concatenate([kept.places, spread], axis=1)
    order = np.argsort(-all_scores, axis=1, kind="stable")[:, :top]
    return Found(
        np.take_along_axis(all_scores, order, axis=1),
        np.take_along_axis(all_frames, order, axis=1),
        np.take_along_axis(all_places, order[..., None], axis=1),
    )


@functools.partial(jax.jit, static_argnames=("temperature", "confidence", "pooling"))
def text_scores(
    features: Float[Array, "b t d"],
    codes: Float[Array, "q d"],
    *,
    temperature: float,
    confidence: str,
    pooling: str,
) -> tuple[Float[Array, "b q"], Int[Array, "b q"]]:
    """How well clips fit texts: the method's logits without their scale (docs/method.md, 4).

    Args:
      features: raw frame features.
      codes: raw text features.
      temperature, confidence: of `ModelConfig`.
      pooling: "confidence": `Σ_t w cos(x_t, c) / Σ_t w` with the confidence w, a softmax over the
        frames; "mean": the cosine of the mean frame.

    Returns:
      Scores, -1..1, and the frame with the largest cosine.
    """
    similarity = discretize.cosine(features, codes)
    frames = similarity.argmax(axis=1)
    if pooling == "mean":
        # in float32: the mean of float16 numbers is one
        mean = features.astype(jnp.float32).mean(axis=1, keepdims=True)
        return discretize.cosine(mean, codes)[:, 0], frames
    weights = discretize.confidence(similarity, temperature, confidence)
    return (weights * similarity).sum(axis=1) / weights.sum(axis=1), frames


@jax.jit
def example_scores(
    features: Float[Array, "b t d"], example: Float[Array, "t d"]
) -> tuple[Float[Array, "b 1"], Int[Array, "b 1"]]:
    """How similar clips are to an example: the cosine of the means of their unit frame features.

    Args:
      features: raw frame features.
      example: raw frame features of the example.

    Returns:
      Scores, -1..1, and the frame that is nearest to the mean of the example.
    """
    mean = discretize.normalize(discretize.normalize(example).mean(axis=0))
    units = discretize.normalize(features)
    clips = discretize.normalize(units.mean(axis=1))
    nearest = discretize.cosine(features, mean[None])[..., 0].argmax(axis=1)
    scores = discretize.cosine(clips[:, None], mean[None])[:, :, 0]
    return scores, nearest[:, None]
