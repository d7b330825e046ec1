"""Results of a video: plain data for tables, JSON, pages and figures.

Results hold arrays, so two are equal only if they are one object, also in a set or as keys.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, UInt8

from vtd_jax.fields import check_whole
from vtd_jax.predict.display import rows, texts
from vtd_jax.predict.display.shown import Shown
from vtd_jax.printable import utf8


@dataclass(frozen=True, repr=False, eq=False)
class Prediction(Shown):
    """Scores of one video.

    Example:
      >>> import numpy as np
      >>> import vtd_jax
      >>> model = vtd_jax.load("tiny")
      >>> video = np.full((8, 64, 64, 3), (200, 30, 30), np.uint8)
      >>> result = model.predict(video, ["red", "blue"], frames=4)
      >>> isinstance(result, vtd_jax.Prediction), result.label
      (True, 'red')
      >>> [(row["label"], round(row["score"])) for row in result.rows()]
      [('red', 1), ('blue', 0)]

    Attributes:
      video: its file, or "frames" for an array.
      labels: K texts, in the order given.
      scores: class probabilities, 0..1, softmax of the logits; they sum to 1 over the labels.
      logits: before the softmax.
      matches: of a zero-shot SigLIP, how probable it is that each label fits, whatever the others
        are, `sigmoid(logits + logit_bias)`; None for all other models.
      indices: of the T sampled frames.
      seconds: their times; None for an array without `fps`.
      total: frames of the video.
      duration: of the video, seconds; None for an array without `fps`.
      note: what is unusual about the file, in one line; "" for nothing.
    """

    video: str
    labels: tuple[str, ...]
    scores: Float32[np.ndarray, " k"]
    logits: Float32[np.ndarray, " k"]
    indices: Int64[np.ndarray, " t"]
    seconds: Float64[np.ndarray, " t"] | None
    total: int
    duration: float | None
    note: str = field(default="", kw_only=True)
    matches: Float32[np.ndarray, " k"] | None = field(default=None, kw_only=True)

    @property
    def label(self) -> str:
        """The best label."""
        return self.labels[int(self.scores.argmax())]

    @property
    def score(self) -> float:
        """Of the best label, 0..1."""
        return float(self.scores.max())

    def order(self, count: int | None = None) -> Int64[np.ndarray, " n"]:
        """Indices of the best `count` labels (None for all), best first; a stable order."""
        if count is not None:
            count = check_whole("count", count, "0 or more labels, or None for all", least=0)
        return np.argsort(-self.scores, kind="stable")[:count]

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The best labels and their scores, best first."""
        return [(self.labels[k], float(self.scores[k])) for k in self.order(count)]

    def _entry(self, k: int) -> dict[str, Any]:
        """A label and its numbers."""
        entry = {"label": self.labels[k], "score": float(self.scores[k])}
        return entry if self.matches is None else entry | {"match": float(self.matches[k])}

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """JSON-able; the best `top` labels only, all for None."""
        return {
            "video": utf8(self.video),
            "label": self.label,
            "score": self.score,
            "top": [self._entry(k) for k in self.order(top).tolist()],
            "frames": self.indices.tolist(),
            "seconds": rounded(self.seconds),
            "total_frames": self.total,
            "duration": None if self.duration is None else round(self.duration, 3),
            "note": self.note,
        }

    def _lines(self) -> list[str]:
        return texts.prediction_lines(self)

    def _rows(self, by: str) -> rows.Rows:
        return rows.prediction_rows(self, by)


@dataclass(frozen=True, repr=False, eq=False)
class Explanation(Prediction):
    """Scores of one video and how they were computed (paper, sections 3.2 and 3.3).

    Example:
      >>> import numpy as np
      >>> import vtd_jax
      >>> model = vtd_jax.load("tiny")
      >>> video = np.full((8, 64, 64, 3), (200, 30, 30), np.uint8)
      >>> seen = model.explain(video, ["red", "blue"], frames=4)
      >>> [words[0] for words in seen.words]
      ['red', 'red', 'red', 'red']
      >>> seen.confidence.shape
      (4, 2)
      >>> seen.save_html("frames.html").name
      'frames.html'

    Attributes:
      pictures: the T frames as the model saw them, uint8 RGB.
      words: of every frame the nearest words, nearest first: its code, then the runner-ups.
      similarity: cosines of the frames with these words, -1..1. The order is that of the model's
        `assignment`; with "euclidean" it can differ from the order of the cosines.
      video_token: the words with the most votes, most first; their codes are fused into the frames.
      votes: of these words, in `vote_unit`.
      confidence: of every frame for every label; sums to 1 over the frames.
      frame_weight: weight of every fused frame in the score of every label; sums to 1 over the
        frames. It is the confidence for pooling "confidence" (the method), 1/T otherwise.
      contribution: of every frame to every label's logit; sums to the logits over the frames, or to
        the scores for pooling "softmax_mean", which averages probabilities.
      unit: of the contributions, "logit" or "score".
      attention: of every frame to every video token in fusion, mean over heads; sums to 1 over the
        tokens. None for a model without fusion.
      change: how far fusion moves every frame, |h - x| / |x|; None for a model without fusion.
      vocabulary_size: number of words in the vocabulary.
      vocabulary_is_labels: whether these words are the labels.
      vote_unit: a frame votes for its word with its "confidence", or, counting "frames", with one.
    """

    pictures: UInt8[np.ndarray, "t r r 3"]
    words: tuple[tuple[str, ...], ...]
    similarity: Float32[np.ndarray, "t w"]
    video_token: tuple[str, ...]
    votes: Float32[np.ndarray, " n"]
    confidence: Float32[np.ndarray, "t k"]
    frame_weight: Float32[np.ndarray, "t k"]
    contribution: Float32[np.ndarray, "t k"]
    attention: Float32[np.ndarray, "t n"] | None
    change: Float32[np.ndarray, " t"] | None
    vocabulary_size: int
    vocabulary_is_labels: bool
    unit: Literal["logit", "score"] = field(default="logit", kw_only=True)
    vote_unit: Literal["confidence", "frames"] = field(default="confidence", kw_only=True)

    def rival(self, label: int) -> int | None:
        """The best of the other labels; None if there is only one label."""
        last = len(self.labels) - 1
        label = check_whole("label", label, f"an index, 0 to {last}", least=0, most=last)
        return next((int(k) for k in self.order(2) if k != label), None)

    def lead(self, label: int) -> Float32[np.ndarray, " t"]:
        """Contribution of every frame to a label less that to its `rival`; of a single label, all.

        Sums to the difference of the logits over the frames (with pooling "softmax_mean", of the
        scores). What a frame adds to all labels, which is most of it, cancels.
        """
        rival = self.rival(label)
        return self.contribution[:, label] - (0 if rival is None else self.contribution[:, rival])

    def keyframes(self, label: int, count: int = 3) -> list[int]:
        """The frames with the largest `lead` for a label, largest first."""
        count = check_whole("count", count, "0 or more frames", least=0)
        return np.argsort(-self.lead(label), kind="stable")[:count].tolist()

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """JSON-able, without pictures; the best `top` labels and their columns, all for None."""
        best = self.order(top)
        return super().to_dict(top) | {
            "words": [
                [
                    {"word": word, "similarity": round(float(s), 6)}
                    for word, s in zip(words, similarity)
                ]
                for words, similarity in zip(self.words, self.similarity)
            ],
            "video_token": [
                {"word": word, "votes": round(float(votes), 6)}
                for word, votes in zip(self.video_token, self.votes)
            ],
            "labels": [self.labels[k] for k in best],
            "confidence": rounded(self.confidence[:, best]),
            "frame_weight": rounded(self.frame_weight[:, best]),
            "contribution": rounded(self.contribution[:, best]),
            "fusion_attention": rounded(self.attention),
            "fusion_change": rounded(self.change),
            "vocabulary_size": self.vocabulary_size,
        }

    def _lines(self) -> list[str]:
        return texts.explanation_lines(self)

    def _rows(self, by: str) -> rows.Rows:
        return rows.explanation_rows(self, by)


@dataclass(frozen=True)
class Segment:
    """A part of a video that shows a label.

    Attributes:
      label: text.
      start, end: seconds.
      score: mean of the label's scores in the windows of the segment, 0..1.
      peak: the largest of these scores.
      peak_at: middle of its window, seconds.
      best: whether the label is the best one of any of these windows.
    """

    label: str
    start: float
    end: float
    score: float
    peak: float
    peak_at: float
    best: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        fields = asdict(self).items()
        return {name: round(x, 6) if isinstance(x, float) else x for name, x in fields}


@dataclass(frozen=True, repr=False, eq=False)
class Timeline(Shown):
    """What a long video shows when.

    Example:
      >>> import vtd_jax
      >>> model = vtd_jax.load("tiny")
      >>> timeline = model.timeline("clip.mp4", ["red", "blue"], window=1.0, frames=4)
      >>> isinstance(timeline, vtd_jax.Timeline), timeline.labels
      (True, ('red', 'blue'))
      >>> sorted(timeline.rows(by="window")[0])
      ['end', 'label', 'score', 'start', 'video', 'word']

    Attributes:
      video: its file.
      labels: K texts.
      duration: seconds.
      window: seconds of a window, each classified by T frames.
      stride: seconds from one window to the next. A window stands for the `stride` seconds around
        its middle; the first and the last window reach to the ends of the video.
      frames: T.
      threshold: score from which a window shows a label that is not its best.
      segments: by start, then label.
      starts, ends: seconds that each of the W windows stands for; one ends where the next starts.
      top: indices of every window's best labels, best first.
      top_scores: scores of these labels.
      words: of every window, the word with the most votes.
      mean_scores: of every label, mean over the windows.
      pictures: about 100 small frames at most, evenly spaced in time, uint8 RGB.
      pictures_at: times of these frames, seconds.
      note: what is unusual about the file, in one line; "" for nothing.
    """

    video: str
    labels: tuple[str, ...]
    duration: float
    window: float
    stride: float
    frames: int
    threshold: float
    segments: tuple[Segment, ...]
    starts: Float64[np.ndarray, " w"]
    ends: Float64[np.ndarray, " w"]
    top: Int64[np.ndarray, "w n"]
    top_scores: Float32[np.ndarray, "w n"]
    words: tuple[str, ...]
    mean_scores: Float32[np.ndarray, " k"]
    pictures: UInt8[np.ndarray, "m r r 3"]
    pictures_at: Float64[np.ndarray, " m"]
    note: str = ""
    _BY: ClassVar[str] = "segment"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, without pictures."""
        best = np.argsort(-self.mean_scores, kind="stable")[: self.top.shape[1]]
        return {
            "video": utf8(self.video),
            "duration": round(self.duration, 3),
            "note": self.note,
            "window": self.window,
            "stride": self.stride,
            "frames_a_window": self.frames,
            "threshold": self.threshold,
            "label": self.labels[best[0]],
            "score": float(self.mean_scores[best[0]]),
            "top": [{"label": self.labels[k], "score": float(self.mean_scores[k])} for k in best],
            "segments": [segment.to_dict() for segment in self.segments],
            "windows": [
                {
                    "start": round(float(start), 3),
                    "end": round(float(end), 3),
                    "word": word,
                    "top": [
                        {"label": self.labels[k], "score": round(float(s), 6)}
                        for k, s in zip(top, scores)
                    ],
                }
                for start, end, word, top, scores in zip(
                    self.starts, self.ends, self.words, self.top, self.top_scores
                )
            ],
        }

    def _lines(self) -> list[str]:
        return texts.timeline_lines(self)

    def _rows(self, by: str) -> rows.Rows:
        return rows.timeline_rows(self, by)


def rounded(values: Float[np.ndarray, "..."] | None, digits: int = 6) -> Any:
    """Rounded numbers as nested lists, or None."""
    return None if values is None else np.round(values.astype(np.float64), digits).tolist()
