"""The page of an explained clip. It is whole without scripts, for the best label; scripts switch
label and frame.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np

from vtd_jax.predict.results import Explanation
from vtd_jax.report.html import (
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
    signed,
    truth,
)

SCRIPT = "clip.js"
_ALL, _KEYFRAMES = 12, 3  # labels that can be chosen, frames that are marked for each


def verdict(result: Explanation) -> tuple[str, float, np.ndarray]:
    """The best label, its score, and the frame that says most for it."""
    best = int(result.order(1)[0])
    return result.label, result.score, result.pictures[result.keyframes(best, 1)[0]]


def keyframes(result: Explanation, label: int) -> list[int]:
    """The frames that decided for a label, most first: 1 to 3, without those whose lead is below 1
    % of the first's.
    """
    first, *others = result.keyframes(label, _KEYFRAMES)
    lead = result.lead(label)
    least = 0.01 * abs(float(lead[first]))
    return [first, *(i for i in others if lead[i] >= least)]


def body(result: Explanation, beside: Beside) -> Iterator[str]:
    """What the page's `main` holds, HTML."""
    shown = result.order(_ALL)
    uris = [jpeg(picture) for picture in result.pictures]
    keys = keyframes(result, int(shown[0]))
    yield _answer(result, beside)
    yield "<div class=split>\n"
    yield _stage(result, uris, keys[0], int(shown[0]))
    yield _labels(result, shown)
    yield "</div>\n"
    yield _decided(result, uris, keys, int(shown[0]))
    yield from _strip(result, uris, shown, keys)
    yield _token(result)
    yield '<p class=hidden role=status id="said"></p>\n'
    yield data_block("data", _data(result, shown))


def _times(result: Explanation) -> list[str]:
    return (
        [""] * len(result.words)
        if result.seconds is None
        else [clock(s, tenths=True) for s in result.seconds]
    )


def _described(result: Explanation, i: int) -> str:
    time = _times(result)[i]
    return (
        f"frame {i + 1} of {len(result.words)}{f' at {time}' if time else ''}, named "
        f"{result.words[i][0]}"
    )


def _against(result: Explanation, label: int) -> str:
    """The label that a lead is over; "" of a single label."""
    rival = result.rival(label)
    return "" if rival is None else result.labels[rival]


def _answer(result: Explanation, beside: Beside) -> str:
    facts = [f"{counted(len(result.words), 'frame')} of {result.total:,}".replace(",", "\u202f")]
    if result.duration is not None:
        facts.append(clock(result.duration, tenths=True))
    facts.append(f"best of {counted(len(result.labels), 'label')}")
    own = (
        None
        if beside.truth not in result.labels
        else float(result.scores[result.labels.index(beside.truth)])
    )
    return (
        "<section class=answer aria-labelledby=h-answer><h2 id=h-answer "
        f"class=hidden>Answer</h2><p class=verdict><strong>{bdi(result.label)}</strong> "
        f"<span>{percent(result.score)}</span></p>{truth(result.label, own, beside)}<p "
        f"class=note>{' · '.join(facts)}{place(result, beside)}{odd(result.note)}</p><noscript><p "
        "class=note>Scripts are off: the page shows its best label, and its frame that says most "
        "for it.</p></noscript></section>\n"
    )


def _stage(result: Explanation, uris: list[str], i: int, label: int) -> str:
    """One frame large, and all that is known of it."""
    times, largest = _times(result), _largest(result)
    near = "".join(
        f"<li>{bdi(word, f'word{n}')}{bar(float(cosine) / largest, f'near{n}')}"
        f"<span class=number data-slot=cosine{n}>{cosine:.3f}</span></li>"
        for n, (word, cosine) in enumerate(zip(result.words[i], result.similarity[i]))
    )
    named = (
        "the labels"
        if result.vocabulary_is_labels
        else f"a vocabulary of {counted(result.vocabulary_size, 'word')}"
    )
    time = f" <span data-slot=time>{f'at {times[i]}' if times[i] else ''}</span>"
    return (
        "<section class=stage aria-labelledby=h-frame>"
        f"<figure><img id=picture src='{uris[i]}' alt='{esc(_described(result, i))}'>"
        '<div class="js player" role=group aria-label="Player">'
        "<button type=button id=previous aria-label='Previous frame'>‹</button>"
        "<button type=button id=play>Play</button>"
        "<button type=button id=next aria-label='Next frame'>›</button></div></figure>\n"
        f"<div><h2 id=h-frame>Frame <span data-slot=number>{i + 1}</span> of {len(uris)}{time}</h2>"
        f"<p class=word>{bdi(result.words[i][0], 'word')}</p>"
        f"<h3>Nearest words</h3><ol class=rows>{near}</ol><p class=note>Cosine with the frame; named from {named}.</p>"
        f"<h3>For {bdi(result.labels[label], 'label')}</h3><dl class=facts>"
        f"<div><dt>Confidence among frames</dt><dd data-slot=confidence>{result.confidence[i, label]:.2f}</dd></div>"
        f"<div><dt>Adds to its {result.unit}</dt>"
        f"<dd data-slot=contribution>{signed(float(result.contribution[i, label]))}</dd></div>"
        f"<div><dt>{_lead_over(result, label)}</dt><dd data-slot=lead>{signed(float(result.lead(label)[i]))}</dd></div>"
        "</dl></div></section>\n"
    )


def _labels(result: Explanation, shown: np.ndarray) -> str:
    """Score bars, which are the switch between labels."""
    rows = "".join(
        "<label class=choice><input type=radio name=label "
        f"value={n}{' checked' if n == 0 else ''}>{bdi(result.labels[k])}{bar(float(result.scores[k]))}<span "
        f"class=number>{percent(float(result.scores[k]))}</span></label>"
        for n, k in enumerate(shown)
    )
    more = len(result.labels) - len(shown)
    note = f"<p class=note>and {counted(more, 'label')} with less</p>" if more else ""
    return (
        "<section class=labels aria-labelledby=h-labels><h2 id=h-labels>Scores</h2><fieldset "
        f"id=labels><legend class=hidden>Explain this label</legend>{rows}</fieldset>{note}<p "
        "class='js note'>Choose a label to see what speaks for it.</p></section>\n"
    )


def _lead_over(result: Explanation, label: int) -> str:
    """Names a lead, HTML."""
    against = _against(result, label)
    return f"Lead over {bdi(against, 'rival')}" if against else f"Adds to its {result.unit}"


def _decided(result: Explanation, uris: list[str], keys: list[int], label: int) -> str:
    times, lead = _times(result), result.lead(label)
    # another label may have more of them: their places are there, hidden
    cards = [*keys, *keys[:1] * (min(_KEYFRAMES, len(uris)) - len(keys))]
    items = "".join(
        f"<li{'' if n < len(keys) else ' hidden'}><button type=button class=card><img "
        f"data-slot=key{n} src='{jpeg(result.pictures[i], 112)}' "
        f"alt='{esc(_described(result, i))}'><span><b><span "
        f"data-slot=added{n}>{signed(float(lead[i]))}</span></b> "
        f"{bdi(result.words[i][0], f'named{n}')}<span class=note "
        f"data-slot=when{n}>{times[i]}</span></span></button></li>"
        for n, i in enumerate(cards)
    )
    return (
        "<section class=decided aria-labelledby=h-decided><h2 id=h-decided>Frames that decided "
        f"for {bdi(result.labels[label], 'label')}</h2><ol "
        f"class=cards>{items}</ol>{_lead_note(result, label)}</section>\n"
    )


def _lead_note(result: Explanation, label: int) -> str:
    """What the numbers of the cards are."""
    unit, against = result.unit, _against(result, label)
    if not against:
        return f"<p class=note>What each adds to the only label's {unit}.</p>"
    return (
        f"<p class=note>A frame's lead: what it adds to the {unit} of "
        f"{bdi(result.labels[label], 'label')}, less what it adds to that of "
        f"{bdi(against, 'rival')}, <span data-slot=which>the runner-up</span>. Over all frames "
        f"<span data-slot=sum>{signed(float(result.lead(label).sum()))}</span>.</p>"
    )


def _strip(
    result: Explanation, uris: list[str], shown: np.ndarray, keys: list[int]
) -> Iterator[str]:
    """One table: a column a frame; rows are pictures, words, what frames add, and the confidences
    of the labels.
    """
    times, t = _times(result), len(uris)
    yield (
        "<section aria-labelledby=h-strip><h2 id=h-strip>Frame by frame</h2><p class='js "
        "note'>Arrow keys move through the frames, the space bar plays and pauses.</p><div "
        f"class=scroll id=scroll><table class=strip id=strip style='--t:{t}'><caption "
        "class=hidden>Frames from left to right: picture, word, its lead for the chosen label, "
        "and its confidence for each label; a label's confidences sum to 1 over the "
        "frames.</caption>\n"
    )
    head = "".join(f"<th scope=col>{times[i] or i + 1}</th>" for i in range(t))
    yield (
        "<thead><tr><th "
        f"scope=row>{'Time' if times[0] else 'Frame'}</th>{head}</tr></thead>\n<tbody>"
    )
    yield "<tr class=frames><th scope=row>Picture</th>"
    for i, uri in enumerate(uris):
        rank = keys.index(i) + 1 if i in keys else 0
        off = "" if rank else " hidden"
        mark = (
            f"<span class=mark{off}><span class=hidden>, decided, place </span><b>{rank}</b></span>"
        )
        here = " aria-current=true" if i == keys[0] else ""
        yield (
            f"<td><button type=button class=frame data-frame={i}{here}>"
            f"<img src='{uri}' alt='{esc(_described(result, i))}'>{mark}</button></td>"
        )
    yield "</tr>\n<tr class=words><th scope=row>Word</th>"
    for word, run in groupby(words[0] for words in result.words):
        own = " class=own" if result.vocabulary_is_labels and word == result.label else ""
        yield f"<td colspan={len(list(run))}{own}><span>{bdi(word)}</span></td>"
    yield "</tr>\n"
    yield from _numbers(result, shown)
    yield "</table></div>"
    moved = (
        ""
        if result.change is None
        else " Moved by fusion: |h − x| / |x|, the video token's effect on the frame."
    )
    highest = result.confidence[:, shown].max()
    yield (
        f"<p class=note>The strongest colour is a confidence of {highest:.2f}; a label's row sums "
        f"to 1.{moved}</p>"
    )
    yield "</section>\n"


def _numbers(result: Explanation, shown: np.ndarray) -> Iterator[str]:
    """The table's rows of numbers."""
    label = int(shown[0])
    column = result.lead(label)
    low = min(0.0, float(column.min()))
    span = max(0.0, float(column.max())) - low or 1.0
    yield (
        f"<tr class=adds style='--base:{-100 * low / span:.1f}%'><th "
        f"scope=row>{_lead_over(result, label)}</th>"
    )
    for value in column:
        yield _added(float(value), span)
    yield (
        "</tr></tbody>\n<tbody class=heat><tr><th scope=rowgroup "
        f"colspan={len(column) + 1}><span>Confidence</span>"
    )
    yield "</th></tr>\n"
    highest = float(result.confidence[:, shown].max()) or 1.0
    for n, k in enumerate(shown):
        cells = "".join(
            f"<td style='--v:{100 * v / highest:.0f}%'>{v:.2f}</td>"
            for v in result.confidence[:, k]
        )
        yield (
            f"<tr{' class=chosen' if n == 0 else ''}><th "
            f"scope=row>{bdi(result.labels[k])}</th>{cells}</tr>\n"
        )
    yield "</tbody>\n"
    if result.change is not None:
        cells = "".join(f"<td>{value:.2f}</td>" for value in result.change)
        yield f"<tbody class=moved><tr><th scope=row>Moved by fusion</th>{cells}</tr></tbody>\n"


def _added(value: float, scale: float) -> str:
    kind = " class=less" if value < 0 else ""
    share = (
        f"<span class=column aria-hidden=true><i{kind} "
        f"style='--h:{100 * abs(value) / scale:.1f}%'></i></span>"
    )
    return f"<td>{share}<span>{signed(value)}</span></td>"


def _token(result: Explanation) -> str:
    total = float(result.votes.sum()) or 1.0
    rows = "".join(
        f"<li>{bdi(word)}{bar(float(votes) / total)}<span class=number>{votes:.2f}</span></li>"
        for word, votes in zip(result.video_token, result.votes)
    )
    several = len(result.video_token) > 1
    title = "Words of the video" if several else "Word of the video"
    fused = (
        ""
        if result.change is None
        else f"; {'their codes are' if several else 'its code is'} fused into the frames"
    )
    return (
        f"<section class=token aria-labelledby=h-token><h2 id=h-token>{title}</h2><ol "
        f"class=rows>{rows}</ol><p class=note>Every frame votes for its word, with its confidence "
        f"for it{fused}.{_other_word(result)}</p></section>\n"
    )


def _other_word(result: Explanation) -> str:
    """Why the word is not the answer, where it is not."""
    word = result.video_token[0]
    if word == result.label:
        return ""
    words = (
        "the nearest label of each frame alone"
        if result.vocabulary_is_labels
        else "another list of words than the labels"
    )
    return (
        f" That the first word, {bdi(word)}, is not the answer, {bdi(result.label)}, is no "
        f"contradiction: votes are of {words}, while the answer is the label with the highest "
        "score over all frames together."
    )


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
