"""Results as rows of a table: plain numbers and texts, for pandas and everything like it."""

from typing import TYPE_CHECKING, Any

from vtd_jax.fields import check_choice
from vtd_jax.printable import utf8

if TYPE_CHECKING:
    from vtd_jax.predict.results import Explanation, Prediction, Timeline

Rows = list[dict[str, Any]]


def prediction_rows(result: "Prediction", by: str) -> Rows:
    """A row a label, best first."""
    check_choice("by", by, ("label",))
    video, rows = utf8(result.video), []
    for k in result.order().tolist():
        row = {"video": video, "label": result.labels[k]}
        row |= {"score": float(result.scores[k]), "logit": float(result.logits[k])}
        if result.matches is not None:
            row["match"] = float(result.matches[k])
        rows.append(row)
    return rows


def explanation_rows(result: "Explanation", by: str) -> Rows:
    """A row a label, or a row a frame with its numbers for the best label."""
    check_choice("by", by, ("label", "frame"))
    if by == "label":
        return prediction_rows(result, by)
    best = int(result.order(1)[0])
    lead, seconds = result.lead(best), result.seconds
    return [
        {
            "video": utf8(result.video),
            "frame": int(result.indices[i]),
            "seconds": None if seconds is None else float(seconds[i]),
            "word": words[0],
            "similarity": float(result.similarity[i, 0]),
            "label": result.labels[best],
            "confidence": float(result.confidence[i, best]),
            "contribution": float(result.contribution[i, best]),
            "lead": float(lead[i]),
        }
        for i, words in enumerate(result.words)
    ]


def timeline_rows(result: "Timeline", by: str) -> Rows:
    """A row a segment, or a row a window with its best label."""
    check_choice("by", by, ("segment", "window"))
    video = utf8(result.video)
    if by == "segment":
        return [{"video": video} | segment.to_dict() for segment in result.segments]
    parts = zip(result.starts, result.ends, result.words, result.top, result.top_scores)
    return [
        {
            "video": video,
            "start": float(start),
            "end": float(end),
            "word": word,
            "label": result.labels[top[0]],
            "score": float(scores[0]),
        }
        for start, end, word, top, scores in parts
    ]
