"""Results as their methods show them: in a notebook's cell, as a page, as a figure."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

import vtd_jax
from vtd_jax.durations import clock
from vtd_jax.errors import UserError
from vtd_jax.fields import check_path, check_whole
from vtd_jax.installed.extras import need
from vtd_jax.outputs import check_suffix
from vtd_jax.predict.display.texts import leading, percent
from vtd_jax.predict.results import Explanation, Prediction, Timeline
from vtd_jax.printable import brief
from vtd_jax.report import pages, scores_page, timeline_page
from vtd_jax.report.html import Beside, counted, evenly, jpeg, remark, templates

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Result = Prediction | Timeline
# of a cell: frames, labels and segments shown, side of a frame in pixels
_FRAMES, _LABELS, _SEGMENTS, _SIDE = 16, 5, 12, 96
_PAGE = Beside(index=False)


def figure(result: Result, top: int | None, title: str) -> "Figure":
    """Draws a result, see `Shown.plot`."""
    need("matplotlib", "plot()")
    from vtd_jax.report.clip_figure import explanation_figure, scores_figure
    from vtd_jax.report.timeline_figure import timeline_figure

    if top is not None:
        top = check_whole("top", top, "1 or more labels")
    if not isinstance(title, str):
        raise UserError(f"title: {brief(title)}, expected a text")
    if isinstance(result, Timeline):
        return timeline_figure(None, result, top=top or 12, title=title)
    if _has_pictures(result):
        return explanation_figure(None, result, top=top or 5, title=title)
    return scores_figure(result, top=top or 5, title=title)


def save(result: Result, path: str | os.PathLike) -> Path:
    """Writes the page of a result, see `Shown.save_html`."""
    path = Path(check_path("path", path, "the name of a file that ends in .html"))
    check_suffix(path, ".html")
    if path.name == "index.html":
        raise UserError(f"{path}: is the name of the index of a report; give another name")
    if os.path.lexists(path) and not pages.is_ours(path):
        raise UserError(
            f"{path}: is there already, and no page of this package; give another name, or move "
            "it away"
        )
    about = {"Version": f"vtd_jax {vtd_jax.__version__}"}
    if isinstance(result, Timeline) or _has_pictures(result):
        pages.write_page(path.parent, result, path.stem, about, _PAGE)
    else:
        pages.write_scores(path, result, about, _PAGE)
    return path


def notebook_html(result: Result) -> str:
    """A result as a piece of HTML without scripts, which fetches nothing."""
    content = _timeline(result) if isinstance(result, Timeline) else _prediction(result)
    (label, score), *_ = leading(result, 1)
    common = {
        "label": label,
        "score": score,
        "name": Path(result.video).name or result.video,
        "note": remark(result.note),
        "side": _SIDE,
    }
    return templates().get_template("notebook.html").render(common | content)


def _prediction(result: Prediction) -> dict[str, Any]:
    more = len(result.labels) - _LABELS
    content = {
        "facts": scores_page.facts(result),
        "strip": [],
        "rows": [(label, score, percent(score), "") for label, score in result.top(_LABELS)],
        "more": f"and {counted(more, 'label')} with less" if more > 0 else "",
    }
    return content | _strip(result) if _has_pictures(result) else content


def _has_pictures(result: Result) -> TypeGuard[Explanation]:
    """Whether there are frames to show; an index of videos keeps none."""
    return isinstance(result, Explanation) and result.pictures.size > 0


def _strip(result: Explanation) -> dict[str, Any]:
    """Frames with their words and their confidence for the best label."""
    seconds = result.seconds
    kept, best = evenly(len(result.words), _FRAMES).tolist(), int(result.order(1)[0])
    all_shown = len(kept) == len(result.words)
    shown = "Frames" if all_shown else f"{len(kept)} of {len(result.words)} frames"
    return {
        "strip": [
            {
                "picture": jpeg(result.pictures[i], _SIDE),
                "described": f"frame {i + 1}, named {result.words[i][0]}",
                "word": result.words[i][0],
                "confidence": float(result.confidence[i, best]),
                "time": "" if seconds is None else clock(float(seconds[i]), tenths=True),
            }
            for i in kept
        ],
        "under": f"{shown} with their words and confidences for the best label; video token:",
        "named": ", ".join(result.video_token),
    }


def _timeline(result: Timeline) -> dict[str, Any]:
    more = len(result.segments) - _SEGMENTS
    return {
        "facts": timeline_page.facts(result),
        "strip": [_moment(result, i) for i in evenly(len(result.pictures), _FRAMES).tolist()],
        "under": "",
        "named": "",
        "rows": [
            (part.label, part.score, f"{part.score:.2f}", timeline_page.when(result, part))
            for part in result.segments[:_SEGMENTS]
        ],
        "more": f"and {counted(more, 'segment')} more" if more > 0 else "",
    }


def _moment(result: Timeline, i: int) -> dict[str, Any]:
    at = float(result.pictures_at[i])
    word, time = timeline_page.word_at(result, at), timeline_page.time(result, at)
    return {
        "picture": jpeg(np.ascontiguousarray(result.pictures[i]), _SIDE),
        "described": f"at {time}, named {word}",
        "word": word,
        "confidence": None,
        "time": time,
    }
