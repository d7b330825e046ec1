"""The content of the page of an explained clip, `templates/clip.html`."""

from itertools import groupby
from typing import Any

import numpy as np

from vtd_jax.durations import clock
from vtd_jax.predict.results import Explanation
from vtd_jax.report.html import Beside, counted, jpeg
from vtd_jax.report.scores_page import head

TEMPLATE, SCRIPT = "clip.html", "clip.js"
_ALL, _KEYFRAMES = 12, 3  # labels to choose from, marked frames of each


def verdict(result: Explanation) -> tuple[str, float, np.ndarray]:
    """The best label, its score, and its first keyframe."""
    best = int(result.order(1)[0])
    return result.label, result.score, result.pictures[result.keyframes(best, 1)[0]]


def keyframes(result: Explanation, label: int) -> list[int]:
    """1 to 3 frames with the largest lead for a label, each at least 1 % of the first."""
    first, *others = result.keyframes(label, _KEYFRAMES)
    lead = result.lead(label)
    least = 0.01 * abs(float(lead[first]))
    return [first, *(i for i in others if lead[i] >= least)]


def content(result: Explanation, beside: Beside) -> dict[str, Any]:
    """The variables of `TEMPLATE`."""
    shown, best = result.order(_ALL), int(result.order(1)[0])
    keys, lead = keyframes(result, best), result.lead(best)
    frames, low = _frames(result, keys, lead), min(0.0, float(lead.min()))
    # another label may have more keyframes: hidden cards for them
    cards = [*keys, *keys[:1] * (min(_KEYFRAMES, len(frames)) - len(keys))]
    return head(result, beside) | {
        "frames": frames,
        "here": frames[keys[0]],
        "near": [
            (word, float(cosine) / _largest(result), float(cosine))
            for word, cosine in zip(result.words[keys[0]], result.similarity[keys[0]])
        ],
        "named_from": _named_from(result),
        "confidence": float(result.confidence[keys[0], best]),
        "contribution": float(result.contribution[keys[0], best]),
        "unit": result.unit,
        "rival": _against(result, best),
        "choices": [(result.labels[k], float(result.scores[k])) for k in shown],
        "more": len(result.labels) - len(shown),
        "cards": [
            (frames[i], jpeg(result.pictures[i], 112), n >= len(keys)) for n, i in enumerate(cards)
        ],
        "lead_sum": float(lead.sum()),
        "base": -100 * low / _span(lead),
        "words": _runs(result),
        "heat": [(result.labels[k], result.confidence[:, k]) for k in shown],
        "highest": result.confidence[:, shown].max(),
        "strongest": float(result.confidence[:, shown].max()) or 1.0,
        "moved": result.change,
        "token": _token(result),
        "vote_unit": result.vote_unit,
        "own": result.vocabulary_is_labels,
        "data": _data(result, shown),
    }


def _named_from(result: Explanation) -> str:
    """The words that frames are named with."""
    if result.vocabulary_is_labels:
        return "the labels"
    return f"a vocabulary of {counted(result.vocabulary_size, 'word')}"


def _frames(result: Explanation, keys: list[int], lead: np.ndarray) -> list[dict[str, Any]]:
    """Every frame with its picture, word and lead; `rank` among keyframes from 1, 0 for none."""
    span, times = _span(lead), _times(result)
    return [
        {
            "number": i + 1,
            "picture": jpeg(picture),
            "described": _described(result, i),
            "time": times[i],
            "word": result.words[i][0],
            "lead": float(lead[i]),
            "height": 100 * abs(float(lead[i])) / span,
            "rank": keys.index(i) + 1 if i in keys else 0,
        }
        for i, picture in enumerate(result.pictures)
    ]


def _span(lead: np.ndarray) -> float:
    """The range of the leads and 0."""
    return max(0.0, float(lead.max())) - min(0.0, float(lead.min())) or 1.0


def _runs(result: Explanation) -> list[tuple[str, int, bool]]:
    """Runs of frames with the same word: word, length, and whether it is the best label."""
    return [
        (word, len(list(run)), result.vocabulary_is_labels and word == result.label)
        for word, run in groupby(words[0] for words in result.words)
    ]


def _token(result: Explanation) -> list[tuple[str, float, float]]:
    """The words of the video token: word, share of the votes, votes."""
    total = float(result.votes.sum()) or 1.0
    return [
        (word, float(votes) / total, float(votes))
        for word, votes in zip(result.video_token, result.votes)
    ]


def _times(result: Explanation) -> list[str]:
    if result.seconds is None:
        return [""] * len(result.words)
    return [clock(s, tenths=True) for s in result.seconds]


def _described(result: Explanation, i: int) -> str:
    time, count = _times(result)[i], len(result.words)
    return f"frame {i + 1} of {count}{f' at {time}' if time else ''}, named {result.words[i][0]}"


def _against(result: Explanation, label: int) -> str:
    """The rival of a label; "" of a single label."""
    rival = result.rival(label)
    return "" if rival is None else result.labels[rival]


def _largest(result: Explanation) -> float:
    return float(result.similarity.max()) if result.similarity.max() > 0 else 1.0


def _data(result: Explanation, shown: np.ndarray) -> dict[str, Any]:
    def numbers(values: np.ndarray) -> list:
        return np.round(values.astype(np.float64), 4).tolist()

    return {
        "labels": [result.labels[k] for k in shown],
        "own": result.vocabulary_is_labels,
        "times": _times(result),
        "words": [list(words) for words in result.words],
        "similarity": numbers(result.similarity),
        "largest": _largest(result),
        "confidence": numbers(result.confidence[:, shown]),
        "contribution": numbers(result.contribution[:, shown]),
        "lead": numbers(np.stack([result.lead(int(k)) for k in shown], axis=1)),
        "rivals": [_against(result, int(k)) for k in shown],
        "keys": [keyframes(result, int(k)) for k in shown],
        "unit": result.unit,
    }
