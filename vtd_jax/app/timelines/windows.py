"""Scores of all windows of a long video at once: an edit of labels does them again in one go.

The same sums as `HostModel.token` and `parts`, over an axis of windows. What frames have in common
between windows, their products with texts, is computed once.
"""

import weakref
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, Int64

from vtd_jax.app.answers import Texts
from vtd_jax.app.host_model import HostModel, log_sum, softmax, unit
from vtd_jax.model.ties import TIE
from vtd_jax.predict.timeline import Windows
from vtd_jax.video.sampling import test_indices

# numbers of an array at once: they fit into the caches of a core
_NUMBERS = 2**19
# lists of words whose nearest ones are kept
_LISTS = 4


class Scored(NamedTuple):
    """Some of the windows, in order.

    Attributes:
      logits: of all labels.
      words: place of the video token's first word in the vocabulary.
    """

    logits: Float32[np.ndarray, "w k"]
    words: Int32[np.ndarray, " w"]


class NearestWords:
    """The nearest word of every frame, kept for the last videos and lists of words."""

    def __init__(self):
        self._kept: OrderedDict[tuple[int, int], tuple[Any, Any, np.ndarray]] = OrderedDict()

    def __call__(
        self,
        model: HostModel,
        features: Float32[np.ndarray, "n d"],
        codes: Float32[np.ndarray, "v d"],
    ) -> Int32[np.ndarray, " n"]:
        """Places in the vocabulary.

        Args:
          model: says what near is.
          features: of the frames, raw.
          codes: of the words, raw.
        """
        key = id(features), id(codes)
        own, others, found = self._kept.get(key, (_nothing, _nothing, None))
        # other arrays may have come to their places in memory
        if found is None or own() is not features or others() is not codes:
            found = _nearest(model, features, codes)
            self._kept[key] = weakref.ref(features), weakref.ref(codes), found
            while len(self._kept) > _LISTS:
                self._kept.popitem(last=False)
        return found


def places(frames: int, plan: Windows) -> Int64[np.ndarray, "w t"]:
    """The frames of every window, as `vtd_jax.predict.timeline.WindowCutter` cuts them.

    Args:
      frames: of the video, one every `plan.step` seconds.
      plan: how the video is cut.
    """
    if frames < plan.frames:
        return np.asarray(test_indices(frames, plan.frames), np.int64)[None]
    starts = np.arange(0, frames - plan.frames + 1, plan.steps)
    if starts[-1] + plan.frames < frames:
        # the end has a window of its own
        starts = np.append(starts, frames - plan.frames)
    return starts[:, None] + np.arange(plan.frames)


def scored(
    model: HostModel,
    features: Float32[np.ndarray, "n d"],
    texts: Texts,
    where: Int64[np.ndarray, "w t"],
    nearest: NearestWords,
) -> Iterator[Scored]:
    """The scores of all windows, some at once.

    Args:
      model: the part behind the towers.
      features: of all frames, raw.
      texts: labels and vocabulary.
      where: the frames of every window.
      nearest: finds the word of every frame.
    """
    ids = nearest(model, features, texts.word_codes)
    norms, code_units = _norms(features), unit(texts.codes)
    width = max(len(texts.labels), features.shape[1] if model.fusion is not None else 1)
    size = max(1, _NUMBERS // (where.shape[1] * width))
    for start in range(0, len(where), size):
        some = where[start : start + size]
        low, high = int(some.min()), int(some.max()) + 1
        part, local = features[low:high], some - low
        lengths = norms[low:high]
        tokens = _tokens(model, part, lengths, ids[low:high], local, texts.word_codes)
        cosines = (part @ code_units.T) / lengths[:, None]
        logits = _logits(model, part, cosines, local, texts, code_units, tokens)
        yield Scored(logits, tokens[:, 0])


def _nothing() -> None:
    """A reference to what is gone."""


def _nearest(model: HostModel, features: np.ndarray, codes: np.ndarray) -> np.ndarray:
    is_cosine = model.config.assignment == "cosine"
    texts = unit(codes) if is_cosine else 2 * codes
    # of its own length a frame has no say in which word is nearest
    less = 0 if is_cosine else np.square(codes).sum(axis=1)
    size, found = max(1, 8 * _NUMBERS // len(codes)), []
    for start in range(0, len(features), size):
        found.append((features[start : start + size] @ texts.T - less).argmax(axis=1))
    return np.concatenate(found).astype(np.int32)


def _norms(x: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(np.einsum("nd,nd->n", x, x), np.float32(1e-24)))


def _tokens(
    model: HostModel,
    features: Float32[np.ndarray, "n d"],
    lengths: Float32[np.ndarray, " n"],
    ids: Int32[np.ndarray, " n"],
    local: Int64[np.ndarray, "w t"],
    codes: Float32[np.ndarray, "v d"],
) -> Int32[np.ndarray, "w m"]:
    """The words of every window's video token, those with the most votes first."""
    used, columns = np.unique(ids, return_inverse=True)
    # ascending words of every window, [w, j]; one that names several frames counts at its first
    mine = np.sort(columns[local], axis=1)
    is_first = np.diff(mine, axis=1, prepend=-1) != 0
    if model.config.confidence == "uniform":
        weights = np.full((*local.shape, local.shape[1]), 1 / local.shape[1], np.float32)
    else:
        cosines = (features @ unit(codes[used]).T) / lengths[:, None]
        chosen = cosines[local[:, :, None], mine[:, None]]
        weights = softmax(chosen / np.float32(model.config.temperature), 1)
    named = columns[local][:, :, None] == mine[:, None]
    votes = np.where(named, weights, 0).sum(axis=1)
    count = min(model.config.top_n, len(codes))
    if model.config.ties == "frames":
        lacking = np.where(named, 0, weights).sum(axis=1)
        ranked = _ranked(
            lacking, named.sum(axis=1), is_first, min(count, mine.shape[1]), model.config.votes
        )
        found = used[np.take_along_axis(mine, ranked, axis=1)]
        return _filled(found, is_first.sum(axis=1), used[mine], count, len(codes))
    # words without a vote in the order of their ids, too
    others = _others(used[mine], count, len(codes))
    words = np.concatenate([used[mine], np.maximum(others, 0)], axis=1)
    least = np.where(np.concatenate([is_first, others >= 0], axis=1), 0.0, np.inf)
    least[:, : mine.shape[1]] -= votes
    order = np.lexsort((words, least), axis=1)[:, :count]
    return np.take_along_axis(words, order, axis=1).astype(np.int32)


def _ranked(
    lacking: Float32[np.ndarray, "w j"],
    frames: Int[np.ndarray, "w j"],
    is_first: Bool[np.ndarray, "w j"],
    count: int,
    votes: str,
) -> Int64[np.ndarray, "w {count}"]:
    """See `vtd_jax.model.ties.rank`; the places of words, which ascend."""
    lacking, rows, found = np.where(is_first, lacking, np.inf), np.arange(len(lacking)), []
    frames = np.where(is_first, frames, -1)
    for _ in range(count):
        part = lacking
        if votes == "frames":
            part = np.where(frames == frames.max(axis=1, keepdims=True), lacking, np.inf)
        near = part <= part.min(axis=1, keepdims=True) + np.float32(TIE)
        # the first of the most frames has the lowest id
        found.append(np.where(near & is_first, frames, -1).argmax(axis=1))
        lacking[rows, found[-1]], frames[rows, found[-1]] = np.inf, -1
    return np.stack(found, axis=1)


def _filled(
    found: Int32[np.ndarray, "w j"],
    counts: Int[np.ndarray, " w"],
    taken: Int32[np.ndarray, "w t"],
    count: int,
    words: int,
) -> Int32[np.ndarray, "w {count}"]:
    """Ranked words, of which the first `counts` are right, and then the first others."""
    if count <= int(counts.min()):
        return found[:, :count].astype(np.int32)
    others, filled = _others(taken, count, words), []
    for row, many, fill in zip(found, counts, others, strict=True):
        filled.append(np.concatenate([row[:many], fill])[:count])
    return np.stack(filled).astype(np.int32)


def _others(taken: Int32[np.ndarray, "w t"], count: int, words: int) -> np.ndarray:
    """The first `count` ids of a vocabulary that are not taken, -1 where there are no more."""
    first = np.arange(min(words, taken.shape[1] + count))
    # [w, ids]
    is_taken = (taken[:, :, None] == first).any(axis=1)
    order = np.argsort(is_taken, axis=1, kind="stable")[:, :count]
    free = np.where(np.take_along_axis(is_taken, order, axis=1), -1, order)
    return np.pad(free, ((0, 0), (0, count - free.shape[1])), constant_values=-1)


def _logits(
    model: HostModel,
    features: Float32[np.ndarray, "n d"],
    cosines: Float32[np.ndarray, "n k"],
    local: Int64[np.ndarray, "w t"],
    texts: Texts,
    code_units: Float32[np.ndarray, "k d"],
    tokens: Int32[np.ndarray, "w m"],
) -> Float32[np.ndarray, "w k"]:
    """Of every window; see `HostModel.parts`."""
    pooling, config = model.config.pooling, model.config
    fused = None
    if model.fusion is not None:
        used, columns = np.unique(tokens, return_inverse=True)
        columns = columns.reshape(tokens.shape)
        fused = model.fused(features, texts.word_codes[used], local, columns)
    if pooling == "mean":
        mean = (features[local] if fused is None else fused).mean(axis=1)
        return model.scale * (unit(mean) @ code_units.T)
    own = cosines[local] if fused is None else _cosines(fused, code_units)
    if pooling == "confidence":
        if config.confidence == "uniform":
            return model.scale * own.mean(axis=1)
        near = cosines[local] if fused is not None else own.copy()
        near -= near.max(axis=1, keepdims=True)
        near *= np.float32(1 / config.temperature)
        np.exp(near, out=near)
        total = near.sum(axis=1)
        near *= own
        return model.scale * near.sum(axis=1) / total
    scaled = model.scale * own
    logs = scaled - log_sum(scaled, 2)[..., None]
    return log_sum(logs, 1) - np.log(np.float32(local.shape[1]))


def _cosines(
    fused: Float32[np.ndarray, "w t d"], code_units: Float32[np.ndarray, "k d"]
) -> Float32[np.ndarray, "w t k"]:
    flat = fused.reshape(-1, fused.shape[-1])
    found = (flat @ code_units.T) / _norms(flat)[:, None]
    return found.reshape(*fused.shape[:2], -1)
