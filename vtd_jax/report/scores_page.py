"""The content of the page of a prediction, `templates/scores.html`."""

from typing import Any

from vtd_jax.durations import clock
from vtd_jax.predict.results import Prediction
from vtd_jax.report.html import Beside, counted, known, place, remark

TEMPLATE = "scores.html"
_MOST = 1000  # labels in the table


def facts(result: Prediction) -> list[str]:
    """What is known of the video and its labels, each a few words."""
    count, total = len(result.indices), result.total
    if count <= total:
        found = [f"{counted(count, 'frame')} of {total:,}".replace(",", "\u202f")]
    else:
        # a video of few frames gives some of them several times
        found = [f"{counted(total, 'frame')}, repeated to {count}"]
    if result.duration is not None:
        found.append(clock(result.duration, tenths=True))
    return [*found, f"best of {counted(len(result.labels), 'label')}"]


def head(result: Prediction, beside: Beside) -> dict[str, Any]:
    """The variables of the head of a page."""
    return {
        "beside": beside,
        "label": result.label,
        "score": result.score,
        "known": known(beside, result.labels, result.scores),
        "facts": facts(result),
        "path": place(result, beside),
        "remark": remark(result.note),
    }


def content(result: Prediction, beside: Beside) -> dict[str, Any]:
    """The variables of `TEMPLATE`."""
    return head(result, beside) | {
        "choices": result.top(_MOST),
        "more": max(0, len(result.labels) - _MOST),
    }
