"""Timelines of long videos, as `Predictor.timeline` makes them, from the scores of all windows."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int32

from vtd_jax.app.answers import Moments, Texts
from vtd_jax.app.host_model import HostModel, softmax
from vtd_jax.app.timelines.windows import NearestWords, places, scored
from vtd_jax.errors import UserError
from vtd_jax.predict.results import Segment, Timeline
from vtd_jax.predict.scoring import finite
from vtd_jax.predict.timeline import KEPT, Windows
from vtd_jax.untrusted.limits import APP_CONFIDENCES, APP_SEGMENTS

# confidences of frames in windows for labels, of which more take seconds and much memory
_LONG = 2**24


class _Runs(NamedTuple):
    """Windows one after another that show a label: of R runs label, first window, and one after
    the last.
    """

    labels: np.ndarray
    firsts: np.ndarray
    ends: np.ndarray


def is_long(moments: Moments, texts: Texts, plan: Windows) -> bool:
    """Whether a timeline takes seconds and much memory; arguments as of `timeline`."""
    return places(len(moments.features), plan).size * len(texts.labels) > _LONG


def timeline(
    model: HostModel, moments: Moments, texts: Texts, plan: Windows, nearest: NearestWords
) -> Timeline:
    """What `Predictor.timeline` gives of a long video.

    Args:
      model: the part behind the towers.
      moments: the frames, one every `plan.step` seconds.
      texts: labels and vocabulary.
      plan: how the video is cut.
      nearest: finds the word of every frame, and keeps it.

    Raises:
      UserError: scores are not finite, or there is too much of them for an answer.
    """
    where = places(len(moments.features), plan)
    if where.size * len(texts.labels) > APP_CONFIDENCES:
        raise UserError(
            f"{len(where):,} windows of {plan.frames} frames with {len(texts.labels):,} labels: "
            "more than an answer may have; take a longer stride, or fewer labels"
        )
    parts = list(scored(model, moments.features, texts, where, nearest))
    logits = finite(np.concatenate([part.logits for part in parts]), "a window")
    scores = softmax(logits, 1).astype(np.float32)
    # of a video shorter than a window the first frame is repeated
    firsts = where[:, 0] if len(moments.features) >= plan.frames else np.zeros(1)
    middles, duration = (firsts + plan.frames / 2) * plan.step, moments.info.duration
    bounds = np.concatenate([[0.0], (middles[:-1] + middles[1:]) / 2, [duration]])
    top = _top(scores)
    words = np.concatenate([part.words for part in parts]).tolist()
    pictures = moments.pictures
    return Timeline(
        video=moments.name,
        labels=texts.labels,
        duration=duration,
        window=plan.window,
        stride=plan.steps * plan.step,
        frames=plan.frames,
        threshold=plan.threshold,
        segments=_segments(texts.labels, scores, plan.threshold, bounds, middles),
        starts=bounds[:-1],
        ends=bounds[1:],
        top=top,
        top_scores=np.take_along_axis(scores, top, axis=1),
        words=tuple(texts.words[word] for word in words),
        mean_scores=scores.mean(axis=0, dtype=np.float64).astype(np.float32),
        pictures=np.stack(pictures.images),
        pictures_at=np.array(pictures.seconds),
        note=moments.info.note,
    )


def _top(scores: Float32[np.ndarray, "w k"]) -> np.ndarray:
    """The best labels of every window, best first, the first among equals."""
    left, rows, found = scores.copy(), np.arange(len(scores)), []
    for _ in range(min(KEPT, scores.shape[1])):
        found.append(left.argmax(axis=1))
        left[rows, found[-1]] = -1
    return np.stack(found, axis=1).astype(np.int64)


def _segments(
    labels: tuple[str, ...],
    scores: Float32[np.ndarray, "w k"],
    threshold: float,
    bounds: Float64[np.ndarray, " v"],
    middles: Float64[np.ndarray, " w"],
) -> tuple[Segment, ...]:
    """See `vtd_jax.predict.segments.Segments`; by start and label.

    Raises:
      UserError: too many for an answer.
    """
    best = scores.argmax(axis=1).astype(np.int32)
    runs = _runs(scores, best, threshold)
    if len(runs.labels) > APP_SEGMENTS:
        raise UserError(
            f"threshold={threshold:g}: {len(runs.labels):,} segments, more than an answer may "
            "have; give another one"
        )
    # the last window may reach beyond the video
    at, found = np.minimum(middles, bounds[-1]), []
    for label, first, end in zip(*(one.tolist() for one in runs), strict=True):
        own = scores[first:end, label].astype(np.float64)
        place = int(own.argmax())
        peak = float(own[place])
        found.append(
            Segment(
                label=labels[label],
                start=float(bounds[first]),
                end=float(bounds[end]),
                score=float(own.mean()),
                peak=peak,
                peak_at=float(at[first + place]) if peak > 0 else 0.0,
                best=bool((best[first:end] == label).any()),
            )
        )
    return tuple(sorted(found, key=lambda segment: (segment.start, segment.label)))


def _runs(
    scores: Float32[np.ndarray, "w k"], best: Int32[np.ndarray, " w"], threshold: float
) -> _Runs:
    shown = scores >= threshold
    shown[np.arange(len(best)), best] = True
    # labels in turn, each from window to window; a run begins and ends with a change
    edges = np.zeros((scores.shape[1], len(scores) + 1), np.int8)
    edges[:, :-1] = shown.T
    edges[:, 1:] -= shown.T
    labels, firsts = np.nonzero(edges == 1)
    _, ends = np.nonzero(edges == -1)
    return _Runs(labels, firsts, ends)
