"""The page of a long video. It is whole without scripts; scripts choose segments and moments, and
zoom.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np

from vtd_jax.predict.results import Segment, Timeline
from vtd_jax.report.html import (  # fmt: skip
    Beside,
    bar,
    bdi,
    clock,
    counted,
    data_block,
    esc,
    jpeg,
    odd,
    percent,
    place,
    tick_step,
    truth,
)

SCRIPT = "timeline.js"
_LANES, _PICTURES, _LIKELY, _WORDS = 40, 120, 3, 8
_LEVELS = 5  # of zoom, each twice the one before


def verdict(result: Timeline) -> tuple[str, float, np.ndarray]:
    """The label that is best on average, its mean score, and a picture of where it peaks."""
    best = int(result.mean_scores.argmax())
    mine = [segment for segment in result.segments if segment.label == result.labels[best]]
    moment = max(mine, key=lambda segment: segment.peak).peak_at if mine else result.duration / 2
    nearest = int(np.abs(result.pictures_at - moment).argmin())
    return result.labels[best], float(result.mean_scores[best]), result.pictures[nearest]


def lanes(result: Timeline) -> list[tuple[str, float, list[int]]]:
    """Labels that have segments, most time first: label, its seconds, places of its segments by
    start.
    """
    places: dict[str, list[int]] = {}
    for i, segment in enumerate(result.segments):
        places.setdefault(segment.label, []).append(i)
    times = {
        k: sum(result.segments[i].end - result.segments[i].start for i in mine)
        for k, mine in places.items()
    }
    return sorted(((k, times[k], mine) for k, mine in places.items()), key=lambda lane: -lane[1])


def runs(result: Timeline) -> list[tuple[str, float, float]]:
    """Stretches of windows with the same word: word, start, end in seconds."""
    found, at = [], 0
    for word, run in groupby(result.words):
        count = len(list(run))
        found.append((word, float(result.starts[at]), float(result.ends[at + count - 1])))
        at += count
    return found


def body(result: Timeline, beside: Beside) -> Iterator[str]:
    """What the page's `main` holds, HTML."""
    order = lanes(result)
    kept = _evenly(len(result.pictures), _PICTURES)
    chosen = (
        max(order[0][2], key=lambda i: result.segments[i].end - result.segments[i].start)
        if order
        else None
    )
    moment = result.duration / 2 if chosen is None else result.segments[chosen].peak_at
    near = int(np.abs(result.pictures_at[kept] - moment).argmin())
    yield _answer(result, beside)
    yield "<div class=split>\n"
    yield _stage(result, chosen, moment, result.pictures[kept[near]])
    yield _words(result)
    yield "</div>\n"
    yield from _chart(result, order, chosen, moment)
    yield from _pictures(result, kept, near)
    yield from _table(result, chosen)
    yield '<p class=hidden role=status id="said"></p>\n'
    yield data_block("data", _data(result, kept))


def _evenly(count: int, most: int) -> np.ndarray:
    return (
        np.arange(count) if count <= most else np.linspace(0, count - 1, most).round().astype(int)
    )


def _time(result: Timeline, seconds: float) -> str:
    return clock(seconds, tenths=result.duration < 60, hours=result.duration >= 3600)


def _total(result: Timeline) -> float:
    """Length of the time axis: a video of no length still has one."""
    return max(result.duration, 1e-3)


def _length(result: Timeline, seconds: float) -> str:
    return clock(seconds, tenths=result.duration < 60)


def _window(result: Timeline, seconds: float) -> int:
    """The window that stands for a moment."""
    return int(
        np.clip(
            np.searchsorted(result.starts, seconds, side="right") - 1, 0, len(result.starts) - 1
        )
    )


def _answer(result: Timeline, beside: Beside) -> str:
    label, score, _ = verdict(result)
    facts = (
        f"{clock(result.duration, tenths=True)} · {counted(len(result.starts), 'window')} of "
        f"{result.window:g} s with {counted(result.frames, 'frame')} each, one every "
        f"{result.stride:g} s · {counted(len(result.segments), 'segment')} · "
        f"{counted(len(result.labels), 'label')}"
    )
    own = (
        None
        if beside.truth not in result.labels
        else float(result.mean_scores[result.labels.index(beside.truth)])
    )
    return (
        "<section class=answer aria-labelledby=h-answer><h2 id=h-answer "
        f"class=hidden>Answer</h2><p class=verdict><strong>{bdi(label)}</strong> "
        f"<span>{percent(score)}</span></p>{truth(label, own, beside)}<p class=note>mean over the "
        f"whole video · {facts}{place(result, beside)}{odd(result.note)}</p></section>\n"
    )


def described(result: Timeline, segment: Segment) -> str:
    """A segment in words."""
    start, end = _time(result, segment.start), _time(result, segment.end)
    return f"{segment.label}, from {start} to {end}, score {segment.score:.2f}"


def _stage(result: Timeline, chosen: int | None, moment: float, picture: np.ndarray) -> str:
    """A moment large: its picture, its window's labels, and the segment that was chosen."""
    w, time = _window(result, moment), _time(result, moment)
    likely = "".join(
        f"<li>{bdi(result.labels[k], f'likely{n}')}{bar(float(score), f'share{n}')}"
        f"<span class=number data-slot=score{n}>{percent(float(score))}</span></li>"
        for n, (k, score) in enumerate(zip(result.top[w, :_LIKELY], result.top_scores[w, :_LIKELY]))
    )
    facts = _facts(result, None if chosen is None else result.segments[chosen])
    rows = "".join(
        f"<div><dt>{name}</dt><dd data-slot={slot}>{value}</dd></div>"
        for name, slot, value in facts
    )
    title = "" if chosen is None else bdi(result.segments[chosen].label)
    hidden = " hidden" if chosen is None else ""
    return (
        "<section class=stage aria-labelledby=h-moment>"
        f"<figure><img id=picture src='{jpeg(picture)}' alt='picture near {time}'>"
        '<div class="js player" role=group aria-label="Segments">'
        "<button type=button id=previous>‹ Earlier</button><button type=button id=next>Later ›</button></div></figure>"
        f"<div><div id=segment{hidden}><h2>Segment</h2><p class=word data-slot=segment>{title}</p>"
        f"<dl class=facts>{rows}</dl></div>\n"
        f"<h2 id=h-moment class=second>At <span data-slot=moment>{time}</span></h2><ol class=rows>{likely}</ol>"
        f"<p class=note>Word of this window: {bdi(result.words[w], 'word')}</p></div></section>\n"
    )


def _facts(result: Timeline, segment: Segment | None) -> list[tuple[str, str, str]]:
    values = [""] * 4 if segment is None else _texts(result, segment)
    return list(
        zip(("Time", "Lasts", "Mean score", "Peak"), ("when", "lasts", "mean", "peak"), values)
    )


def _texts(result: Timeline, segment: Segment) -> list[str]:
    return [
        f"{_time(result, segment.start)} – {_time(result, segment.end)}",
        _length(result, segment.end - segment.start),
        f"{segment.score:.2f}",
        f"{segment.peak:.2f} at {_time(result, segment.peak_at)}",
    ]


def _words(result: Timeline) -> str:
    """Words by the time that they name, most first."""
    times: dict[str, float] = {}
    for word, start, end in runs(result):
        times[word] = times.get(word, 0.0) + end - start
    order = sorted(times, key=lambda word: -times[word])
    rows = "".join(
        f"<li>{bdi(word)}{bar(times[word] / _total(result))}"
        f"<span class=number>{_length(result, times[word])}</span></li>"
        for word in order[:_WORDS]
    )
    more = len(order) - _WORDS
    note = f"<p class=note>and {counted(more, 'word')} with less</p>" if more > 0 else ""
    return (
        "<section aria-labelledby=h-words><h2 id=h-words>Words of the video</h2><ol "
        f"class=rows>{rows}</ol>{note}<p class=note>Every window is named by the word with the "
        f"most votes of its frames.{_other_word(result, order[0])}</p></section>\n"
    )


def _other_word(result: Timeline, word: str) -> str:
    """Why the word with the most time is not the answer, where it is not."""
    label = verdict(result)[0]
    if word == label:
        return ""
    return (
        f" That {bdi(word)} has the most time and {bdi(label)} is the answer is no contradiction: "
        "words are of frames alone, while the answer is the label with the highest mean score "
        "over all windows."
    )


def _chart(result: Timeline, order: list, chosen: int | None, moment: float) -> Iterator[str]:
    """Lanes over time: a bar a segment, darker for a higher score, and the words of the windows."""
    total = _total(result)
    yield (
        "<section aria-labelledby=h-chart><h2 id=h-chart>What is shown when</h2>"
        f"<p class=note>A label's segments: windows where it is the best, or scores {result.threshold:g} or more; "
        "a stronger colour is a higher score."
        "<span class=js> Arrow keys move from segment to segment, Enter selects.</span></p>"
        '<div class="js zoom" role=group aria-label="Zoom"><button type=button id=out aria-label="Zoom out">−</button>'
        "<output id=factor aria-label='Zoom factor'>1×</output>"
        "<button type=button id=in aria-label='Zoom in'>+</button></div>"
        "<div class=scroll id=scroll><div class=chart id=chart data-level=0>\n"
        f"<div class='lane axis' aria-hidden=true><span></span><div class=track>{_ticks(result)}"
        f"</div></div>\n<ul>"
    )
    for label, seconds, places in order[:_LANES]:
        yield (
            "<li "
            f"class=lane><span>{bdi(label)}<small>{_length(result, seconds)}</small></span><div "
            "class=track>"
        )
        for i in places:
            yield _bar(result, i, total, i == chosen)
        yield "</div></li>\n"
    track = runs(result)
    told = (
        f"{counted(len(track), 'stretch').replace('stretchs', 'stretches')} of windows with the "
        "same word"
    )
    yield (
        "</ul>\n<div class=lane><span>Words</span><div class=track id=words role=img "
        f"aria-label='{told}'>"
    )
    for word, start, end in track:
        share = 100 * (end - start) / total
        thin = "" if share > 4 else " thin"
        yield (
            f"<span class='run{thin}' title='{esc(word)}' "
            f"style='left:{100 * start / total:.3f}%;width:{share:.3f}%'>{esc(word)}</span>"
        )
    yield (
        "<i class=now id=now "
        f"style='left:{100 * moment / total:.3f}%'></i></div></div>\n</div></div>"
    )
    more = len(order) - _LANES
    yield (
        f"<p class=note>and {counted(more, 'label')} with less time, in the table below</p>"
        if more > 0
        else ""
    )
    yield (
        ""
        if order
        else "<p class=note>No label reaches the threshold, and no window has a best label.</p>"
    )
    yield "</section>\n"


def _bar(result: Timeline, i: int, total: float, chosen: bool) -> str:
    segment = result.segments[i]
    text, here = esc(described(result, segment)), " aria-current=true" if chosen else ""
    left, width = 100 * segment.start / total, 100 * (segment.end - segment.start) / total
    return (
        f"<button type=button class=segment data-segment={i}{here} aria-label='{text}' "
        f"title='{text}' style='left:min({left:.3f}%,100% - "
        f"5px);width:{width:.3f}%;--v:{100 * segment.score:.0f}%'></button>"
    )


def _ticks(result: Timeline) -> str:
    """Times for every level of zoom, at most 11 at the first and twice as many at each that
    follows.
    """
    levels = []
    for level in range(_LEVELS):
        step = tick_step(result.duration, 11 * 2**level)
        ticks = "".join(
            f"<span class=tick style='left:{100 * second / _total(result):.3f}%'>"
            f"{clock(second, hours=result.duration >= 3600)}</span>"
            for second in range(0, int(0.985 * result.duration) + 1, step)
        )
        levels.append(f"<div class='ticks l{level}'>{ticks}</div>")
    return "".join(levels)


def _pictures(result: Timeline, kept: np.ndarray, near: int) -> Iterator[str]:
    yield (
        "<section aria-labelledby=h-pictures><h2 id=h-pictures>Pictures by time</h2>"
        "<div class=scroll id=strip><ol class=pictures id=pictures>"
    )
    for n, i in enumerate(kept):
        at = float(result.pictures_at[i])
        time, here = _time(result, at), " aria-current=true" if n == near else ""
        word = esc(result.words[_window(result, at)])
        yield (
            f"<li><button type=button class=picture{here}><img "
            f"src='{jpeg(result.pictures[i], 160, 72)}' alt='picture, named "
            f"{word},'>{time}</button></li>"
        )
    yield "</ol></div></section>\n"


def _table(result: Timeline, chosen: int | None) -> Iterator[str]:
    yield (
        "<section aria-labelledby=h-table><h2 id=h-table>Segments</h2><div class=table "
        "role=region aria-labelledby=h-table tabindex=0><table class=list id=table><caption "
        "class=hidden>Segments by their start</caption><thead><tr><th scope=col>Label</th><th "
        "scope=col>From</th><th scope=col>To</th><th scope=col>Lasts</th><th scope=col>Mean "
        "score</th><th scope=col>Peak</th></tr></thead>\n<tbody>"
    )
    for i, segment in enumerate(result.segments):
        _, lasts, mean, peak = _texts(result, segment)
        yield (
            f"<tr{' class=chosen' if i == chosen else ''}><th "
            f"scope=row>{bdi(segment.label)}</th><td>{_time(result, segment.start)}</td><td>{_time(result, segment.end)}</td><td>{lasts}</td><td>{mean}</td><td>{peak}</td></tr>\n"
        )
    yield "</tbody></table></div></section>\n"


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
        "times": [_time(result, float(at)) for at in result.pictures_at[kept]],
    }
