"""Results as a few lines of text: video, best labels with scores, words. Never pixels."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vtd_jax.durations import clock
from vtd_jax.printable import printable

if TYPE_CHECKING:
    from vtd_jax.predict.results import Explanation, Prediction, Timeline

# labels, words and segments that a text shows; characters of a name
_LABELS, _WORDS, _SEGMENTS, _LONGEST = 5, 4, 6, 40


def percent(score: float) -> str:
    """A probability as `83.4 %`; never rounded to 100 % or 0 %."""
    if 0 < score < 0.001:
        return "< 0.1 %"
    if 0.999 < score < 1:
        return "> 99.9 %"
    return f"{100 * score:.1f} %"


def brief_name(text: str) -> str:
    """A label or word in one safe line of at most 40 characters."""
    text = printable(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def one_line(result: "Prediction | Timeline") -> str:
    """`<Prediction clip.mp4: arm wrestling 83.4 %, hugging 16.6 %>`."""
    best = ", ".join(f"{brief_name(label)} {percent(score)}" for label, score in leading(result, 2))
    return f"<{type(result).__name__} {_file(result.video)}: {best}>"


def frames_taken(count: int, total: int) -> str:
    """How many frames of a video were looked at; a short one gives some several times."""
    frames = f"{total:,} {'frame' if total == 1 else 'frames'}"
    return f"{count} of {frames}" if count <= total else f"{frames}, repeated to {count}"


def prediction_lines(result: "Prediction") -> list[str]:
    """The video and its best labels."""
    about = frames_taken(len(result.indices), result.total)
    if result.duration is not None:
        about += f", {clock(result.duration, tenths=True)}"
    return [f"{_file(result.video)}: {about}", *_best(result), *_noted(result.note)]


def explanation_lines(result: "Explanation") -> list[str]:
    """As `prediction_lines`, with the words of the frames and of the video."""
    counts = Counter(words[0] for words in result.words).most_common()
    named = [f"{brief_name(word)} × {count}" for word, count in counts]
    votes = [
        f"{brief_name(word)} ({votes:.2f} votes)"
        for word, votes in zip(result.video_token, result.votes)
    ]
    return [
        *prediction_lines(result),
        f"words of the frames: {_first(named, _WORDS)}",
        f"video token: {_first(votes, 2)}",
    ]


def timeline_lines(result: "Timeline") -> list[str]:
    """The video, its best labels on average, and its segments."""
    hours = result.duration >= 3600
    windows = f"{len(result.starts):,} {'window' if len(result.starts) == 1 else 'windows'}"
    about = f"{clock(result.duration, tenths=True)}, {windows}"
    shown = [
        f"  {clock(part.start, hours=hours)} – {clock(part.end, hours=hours)}  "
        f"{brief_name(part.label)}, score {part.score:.2f}"
        for part in result.segments[:_SEGMENTS]
    ]
    if (more := len(result.segments) - len(shown)) > 0:
        shown.append(f"  and {more:,} more")
    lines = [f"{_file(result.video)}: {about} of {result.window:g} s; on average"]
    return [*lines, *_best(result), "segments:", *shown, *_noted(result.note)]


def leading(result: "Prediction | Timeline", count: int) -> list[tuple[str, float]]:
    """The best labels and their scores, of a timeline on average, best first."""
    scores = getattr(result, "scores", getattr(result, "mean_scores", None))
    assert scores is not None
    best = np.argsort(-scores, kind="stable")[:count]
    return [(result.labels[k], float(scores[k])) for k in best.tolist()]


def _best(result: "Prediction | Timeline") -> list[str]:
    found = leading(result, _LABELS)
    lines = [f"  {percent(score):>8}  {brief_name(label)}" for label, score in found]
    more = len(result.labels) - len(lines)
    return [*lines, f"  and {more:,} more"] if more > 0 else lines


def _file(video: str) -> str:
    return brief_name(Path(video).name or video)


def _noted(note: str) -> Iterable[str]:
    return [f"note: {printable(note)[:120]}"] if note else []


def _first(texts: Sequence[str], most: int) -> str:
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
