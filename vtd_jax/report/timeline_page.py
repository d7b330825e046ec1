"""The content of the page of a long video, `templates/timeline.html`."""

from functools import partial
from itertools import groupby
from typing import Any

import numpy as np

from vtd_jax.durations import clock
from vtd_jax.predict.results import Segment, Timeline
from vtd_jax.report.html import Beside, counted, evenly, jpeg, known, place, remark, tick_step

TEMPLATE, SCRIPT = "timeline.html", "timeline.js"
_LANES, _PICTURES, _LIKELY, _WORDS = 40, 120, 3, 8
_LEVELS = 5  # of zoom, each by a factor of two


def verdict(result: Timeline) -> tuple[str, float, np.ndarray]:
    """The best label on average, its mean score, and a picture of its peak."""
    best = int(result.mean_scores.argmax())
    mine = [segment for segment in result.segments if segment.label == result.labels[best]]
    moment = max(mine, key=lambda segment: segment.peak).peak_at if mine else result.duration / 2
    nearest = int(np.abs(result.pictures_at - moment).argmin())
    return result.labels[best], float(result.mean_scores[best]), result.pictures[nearest]


def lanes(result: Timeline) -> list[tuple[str, float, list[int]]]:
    """Labels with segments, longest first: label, its seconds, indices of its segments."""
    places: dict[str, list[int]] = {}
    for i, segment in enumerate(result.segments):
        places.setdefault(segment.label, []).append(i)
    times = {
        k: sum(result.segments[i].end - result.segments[i].start for i in mine)
        for k, mine in places.items()
    }
    return sorted(((k, times[k], mine) for k, mine in places.items()), key=lambda lane: -lane[1])


def runs(result: Timeline) -> list[tuple[str, float, float]]:
    """Runs of windows with the same word: word, start, end in seconds."""
    found, at = [], 0
    for word, run in groupby(result.words):
        count = len(list(run))
        found.append((word, float(result.starts[at]), float(result.ends[at + count - 1])))
        at += count
    return found


def content(result: Timeline, beside: Beside) -> dict[str, Any]:
    """The variables of `TEMPLATE`."""
    order, segments = lanes(result), [_shown(result, segment) for segment in result.segments]
    kept = evenly(len(result.pictures), _PICTURES)
    chosen = max(order[0][2], key=partial(_span, result)) if order else None
    moment = result.duration / 2 if chosen is None else result.segments[chosen].peak_at
    near, w = int(np.abs(result.pictures_at[kept] - moment).argmin()), _window(result, moment)
    label, score, _ = verdict(result)
    words = _words(result)
    return {
        "beside": beside,
        "label": label,
        "score": score,
        "known": known(beside, result.labels, result.mean_scores),
        "facts": facts(result),
        "path": place(result, beside),
        "remark": remark(result.note),
        "chosen": None if chosen is None else segments[chosen],
        "time": time(result, moment),
        "picture": jpeg(result.pictures[kept[near]]),
        "likely": [
            (result.labels[k], float(score))
            for k, score in zip(result.top[w, :_LIKELY], result.top_scores[w, :_LIKELY])
        ],
        "word": result.words[w],
        "words": words[:_WORDS],
        "more_words": max(0, len(words) - _WORDS),
        "threshold": result.threshold,
        "levels": [_ticks(result, level) for level in range(_LEVELS)],
        "lanes": [(text, _length(result, time), places) for text, time, places in order[:_LANES]],
        "more_lanes": max(0, len(order) - _LANES),
        "runs": _runs(result),
        "now": f"{100 * moment / _total(result):.3f}",
        "near": near,
        "pictures": [_picture(result, i) for i in kept.tolist()],
        "segments": segments,
        "data": _data(result, kept),
    }


def time(result: Timeline, seconds: float) -> str:
    """A moment of the video as text."""
    return clock(seconds, tenths=result.duration < 60, hours=result.duration >= 3600)


def _total(result: Timeline) -> float:
    """Length of the time axis, above 0."""
    return max(result.duration, 1e-3)


def _length(result: Timeline, seconds: float) -> str:
    return clock(seconds, tenths=result.duration < 60)


def _window(result: Timeline, seconds: float) -> int:
    """The window at a moment."""
    at = np.searchsorted(result.starts, seconds, side="right") - 1
    return int(np.clip(at, 0, len(result.starts) - 1))


def _span(result: Timeline, i: int) -> float:
    return result.segments[i].end - result.segments[i].start


def facts(result: Timeline) -> list[str]:
    """What is known of the video and its windows, each a few words."""
    windows, frames = counted(len(result.starts), "window"), counted(result.frames, "frame")
    return [
        "mean over the whole video",
        clock(result.duration, tenths=True),
        f"{windows} of {result.window:g} s with {frames} each, one every {result.stride:g} s",
        counted(len(result.segments), "segment"),
        counted(len(result.labels), "label"),
    ]


def described(result: Timeline, segment: Segment) -> str:
    """A segment as text."""
    start, end = time(result, segment.start), time(result, segment.end)
    return f"{segment.label}, from {start} to {end}, score {segment.score:.2f}"


def _shown(result: Timeline, segment: Segment) -> dict[str, str]:
    """Texts of a segment, and position of its bar."""
    when, lasts, mean, peak = _texts(result, segment)
    total = _total(result)
    return {
        "label": segment.label,
        "described": described(result, segment),
        "start": time(result, segment.start),
        "end": time(result, segment.end),
        "when": when,
        "lasts": lasts,
        "mean": mean,
        "peak": peak,
        "left": f"{100 * segment.start / total:.3f}",
        "width": f"{100 * (segment.end - segment.start) / total:.3f}",
        "strength": f"{100 * segment.score:.0f}",
    }


def when(result: Timeline, segment: Segment) -> str:
    """Start and end of a segment as text."""
    return f"{time(result, segment.start)} – {time(result, segment.end)}"


def word_at(result: Timeline, seconds: float) -> str:
    """The word of the window at a moment."""
    return result.words[_window(result, seconds)]


def _texts(result: Timeline, segment: Segment) -> list[str]:
    return [
        when(result, segment),
        _length(result, segment.end - segment.start),
        f"{segment.score:.2f}",
        f"{segment.peak:.2f} at {time(result, segment.peak_at)}",
    ]


def _words(result: Timeline) -> list[tuple[str, float, str]]:
    """Words by time, longest first: word, share of the video, time."""
    times: dict[str, float] = {}
    for word, start, end in runs(result):
        times[word] = times.get(word, 0.0) + end - start
    return [
        (word, times[word] / _total(result), _length(result, times[word]))
        for word in sorted(times, key=lambda word: -times[word])
    ]


def _runs(result: Timeline) -> list[tuple[str, str, str, bool]]:
    """Runs of words: word, left edge and width in percent, whether it is too narrow for text."""
    total = _total(result)
    return [
        (word, f"{100 * start / total:.3f}", f"{share:.3f}", share <= 4)
        for word, start, end in runs(result)
        for share in (100 * (end - start) / total,)
    ]


def _ticks(result: Timeline, level: int) -> list[tuple[str, str]]:
    """Ticks of a zoom level, left edge in percent and text: at most 11, doubled at each level."""
    step = tick_step(result.duration, 11 * 2**level)
    return [
        (f"{100 * second / _total(result):.3f}", clock(second, hours=result.duration >= 3600))
        for second in range(0, int(0.985 * result.duration) + 1, step)
    ]


def _picture(result: Timeline, i: int) -> tuple[str, str, str]:
    """Picture, word and time of a moment."""
    at = float(result.pictures_at[i])
    return jpeg(result.pictures[i], 160, 72), word_at(result, at), time(result, at)


def _data(result: Timeline, kept: np.ndarray) -> dict[str, Any]:
    used, words = sorted(set(result.top[:, :_LIKELY].ravel().tolist())), sorted(set(result.words))
    place, spot = {k: n for n, k in enumerate(used)}, {word: n for n, word in enumerate(words)}
    return {
        "duration": _total(result),
        "segments": [
            [s.label, *_texts(result, s), round(s.peak_at, 3), described(result, s)]
            for s in result.segments
        ],
        "labels": [result.labels[k] for k in used],
        "words": words,
        "starts": np.round(result.starts, 2).tolist(),
        "top": [[place[k] for k in row] for row in result.top[:, :_LIKELY].tolist()],
        "scores": [
            [float(f"{score:.3g}") for score in row]
            for row in result.top_scores[:, :_LIKELY].tolist()
        ],
        "word": [spot[word] for word in result.words],
        "at": np.round(result.pictures_at[kept], 2).tolist(),
        "times": [time(result, float(at)) for at in result.pictures_at[kept]],
    }
