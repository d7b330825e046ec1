"""What pages say beside their result: truth, neighbours, how they were made; and the index over
several runs.
"""

import dataclasses
import html
import json
import os
import re

import numpy as np
import pytest

from browser import scenes
from support.page_reader import Page
from vtd_jax.report import html as report_html
from vtd_jax.report.html import Beside
from vtd_jax.report.pages import earlier_pages, read_entry, relink, write_index, write_page

EXPLAINED = scenes.explanation(scenes.pictures(8))
LONG = scenes.timeline(scenes.pictures(6), windows=60)
HOSTILE = scenes.explanation(
    scenes.pictures(3), scenes.HOSTILE, video="it's </title>\n\x1b綱引き\udcff.mp4"
)


def _page(tmp_path, result):
    entry = write_page(tmp_path, result, "page", scenes.ABOUT)
    return Page((tmp_path / entry.page).read_text(encoding="utf-8")), entry


@pytest.mark.parametrize("result", [EXPLAINED, LONG, HOSTILE], ids=["clip", "long", "hostile"])
def test_a_page_says_what_it_is_to_an_index(tmp_path, result):
    beside = Beside(truth=scenes.HOSTILE[0])
    entry = write_page(tmp_path, result, "page", scenes.ABOUT, beside)
    assert read_entry(tmp_path / "page.html") == entry
    (tmp_path / "page.html").rename(tmp_path / "other.html")
    assert read_entry(tmp_path / "other.html").page == "other.html"


def test_an_index_keeps_the_pages_of_earlier_runs(tmp_path):
    old = write_page(
        tmp_path, dataclasses.replace(EXPLAINED, video="old.mp4"), "old", {"date": "2026-01-02"}
    )
    write_index(tmp_path, [old], [], {})
    again = write_page(tmp_path, dataclasses.replace(EXPLAINED, video="again.mp4"), "again", {})
    new = write_page(tmp_path, LONG, "new", {})
    text = write_index(tmp_path, [new, again], [], {}).read_text(encoding="utf-8")
    assert [attrs["href"] for attrs in Page(text).of("a")] == ["new.html", "again.html", "old.html"]
    assert "earlier, 2026-01-02" in Page(text).text
    (tmp_path / "old.html").unlink()
    assert "old.html" not in write_index(tmp_path, [new], [], {}).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "change",
    [
        {"thumbnail": "https://example.org/x.jpg"},
        {"thumbnail": 'data:image/jpeg;base64,x" onerror=alert(1) x="'},
        {"score": "1"},
        {"score": float("nan")},
        {"duration": -1},
        {"label": None},
        {"truth": 3},
        {"more": 1},
        {"video": ["x"]},
        {"score": 10**400},
    ],
    ids=str,
)
def test_pages_of_strangers_are_not_believed(tmp_path, change):
    _, entry = _page(tmp_path, EXPLAINED)
    (tmp_path / "notes.html").write_text("<!doctype html><title>notes</title>")
    meta = html.escape(json.dumps(entry.to_dict() | change))
    name = report_html.ENTRY
    (tmp_path / "bad.html").write_text(f'<!doctype html><meta name="{name}" content="{meta}">')
    assert [found.page for found in earlier_pages(tmp_path)] == ["page.html"]


def test_what_is_no_page_stays_and_hangs_nothing(tmp_path):
    _page(tmp_path, EXPLAINED)
    os.mkfifo(tmp_path / "pipe.html")
    (tmp_path / "folder.html").mkdir()
    name = report_html.ENTRY
    (tmp_path / "deep.html").write_text(f'<meta name="{name}" content="{"[" * 30_000}">')
    (tmp_path / "text.html").write_text("<nav class=ways>mine</nav>")
    (tmp_path / "page.html").rename(tmp_path / "torn.html")
    text = (tmp_path / "torn.html").read_text(encoding="utf-8")
    (tmp_path / "torn.html").write_text(text.replace("<nav class=ways", "<nav"), encoding="utf-8")
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert [found.page for found in earlier_pages(tmp_path)] == ["torn.html"]
    for path in tmp_path.iterdir():
        relink(path, "a.html", "")
    assert {path: path.read_bytes() for path in before} == before


def test_neighbours_are_linked_and_changed_in_place(tmp_path):
    result = dataclasses.replace(
        EXPLAINED, video="</nav><nav class=ways>.mp4", labels=("</nav>", *EXPLAINED.labels[1:])
    )
    write_page(tmp_path, result, "b", {}, Beside(before="a.html", after="c d.html"))
    before = (tmp_path / "b.html").read_text(encoding="utf-8")

    def links(text):
        return [(attrs.get("rel"), attrs["href"]) for attrs in Page(text).of("a")]

    assert links(before) == [(None, "index.html"), ("prev", "a.html"), ("next", "c%20d.html")]
    relink(tmp_path / "b.html", "", "綱.html")
    after = (tmp_path / "b.html").read_text(encoding="utf-8")
    assert links(after) == [(None, "index.html"), ("next", "%E7%B6%B1.html")]
    relink(tmp_path / "b.html", "a.html", "c d.html")
    assert (tmp_path / "b.html").read_text(encoding="utf-8") == before


@pytest.mark.parametrize("result", [EXPLAINED, LONG], ids=["clip", "long"])
def test_truth_notice_and_path(tmp_path, result):
    best = _page(tmp_path, result)[1].label
    other = next(label for label in result.labels if label != best)

    def text(**beside):
        write_page(
            tmp_path,
            dataclasses.replace(result, video="/home/me/a.mp4"),
            "page",
            {"a": "b"},
            Beside(**beside),
        )
        return Page((tmp_path / "page.html").read_text(encoding="utf-8")).text

    assert "Right: this is the video's label." in text(truth=best)
    scores = result.mean_scores if result is LONG else result.scores
    score = report_html.percent(float(scores[result.labels.index(other)]))
    assert f"Wrong: the video's label is {other} , which scores {score}." in text(truth=other)
    assert "the video's label" not in text()
    assert "answers mean nothing" in text(notice="its answers mean nothing")
    # where the file is: in the foot all of it, at the top what distinguishes it from others
    head, foot = text().split("How this was made")
    assert "/home/me" not in head
    assert "video /home/me/a.mp4 a b" in foot
    assert "red/a.mp4" in text(path="red/a.mp4").split("How this was made")[0]


def test_leads_are_over_the_runner_up_and_sum_to_the_difference():
    order = EXPLAINED.order()
    assert EXPLAINED.rival(int(order[0])) == order[1]
    assert all(EXPLAINED.rival(int(k)) == order[0] for k in order[1:])
    for k in order:
        difference = EXPLAINED.logits[k] - EXPLAINED.logits[EXPLAINED.rival(int(k))]
        np.testing.assert_allclose(EXPLAINED.lead(int(k)).sum(), difference, atol=1e-4)
        assert EXPLAINED.keyframes(int(k))[0] == EXPLAINED.lead(int(k)).argmax()
    fields = {
        name: getattr(EXPLAINED, name)[:, :1]
        for name in ("confidence", "frame_weight", "contribution")
    }
    alone = {
        "labels": EXPLAINED.labels[:1],
        "scores": np.float32([1]),
        "logits": EXPLAINED.logits[:1],
    }
    single = dataclasses.replace(EXPLAINED, **fields, **alone)
    assert single.rival(0) is None
    np.testing.assert_array_equal(single.lead(0), single.contribution[:, 0])


def test_a_word_that_is_not_the_answer_is_explained(tmp_path):
    assert EXPLAINED.video_token[0] == EXPLAINED.label
    assert "no contradiction" not in _page(tmp_path, EXPLAINED)[0].text
    other = dataclasses.replace(EXPLAINED, video_token=("hugging", "arm wrestling"))
    found = _page(tmp_path, other)[0].text
    assert (
        "hugging , is not the answer, arm wrestling , is no contradiction: votes are of the "
        "nearest label" in found
    )
    words = dataclasses.replace(other, vocabulary_size=10_000, vocabulary_is_labels=False)
    assert "votes are of another list of words than the labels" in _page(tmp_path, words)[0].text


def test_a_word_of_most_windows_that_is_not_the_answer_is_explained(tmp_path):
    best = _page(tmp_path, LONG)[1].label
    other = next(label for label in LONG.labels if label != best)
    same, differs = (
        dataclasses.replace(LONG, words=(word,) * len(LONG.words)) for word in (best, other)
    )
    assert "no contradiction" not in _page(tmp_path, same)[0].text
    assert (
        f"That {other} has the most time and {best} is the answer is no"
        in _page(tmp_path, differs)[0].text
    )


@pytest.mark.parametrize("result", [EXPLAINED, LONG], ids=["clip", "long"])
def test_pages_say_when_how_and_with_what_weights(tmp_path, result):
    about = {
        "date": "2026-11-28 14:05 UTC",
        "command": "python -m experiments.predict --video=a.mp4",
        "weights": "0f",
    }
    write_page(tmp_path, result, "page", about)
    text = Page((tmp_path / "page.html").read_text(encoding="utf-8")).text
    assert "How this was made · 2026-11-28 14:05 UTC" in text
    assert "command python -m experiments.predict --video=a.mp4 weights 0f" in text


def test_pages_of_earlier_versions_are_read_and_relinked(tmp_path):
    _, entry = _page(tmp_path, HOSTILE)
    meta = html.escape(json.dumps(entry.to_dict()))
    name = report_html.ENTRY
    old = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="{name}" content="{meta}">\n</head>\n<body>\n<nav class=ways '
        'aria-label=Videos><a href="index.html">All videos</a><a rel=prev href="a.html">‹ '
        "Previous</a></nav>it&#x27;s\n"
    )
    (tmp_path / "old.html").write_text(old, encoding="utf-8")
    assert read_entry(tmp_path / "old.html") == dataclasses.replace(entry, page="old.html")
    relink(tmp_path / "old.html", "b.html", "")
    expected = old.replace('"a.html"', '"b.html"')
    assert (tmp_path / "old.html").read_text(encoding="utf-8") == expected


def test_no_template_lets_a_text_be_html():
    environment = report_html.templates()
    names = environment.list_templates()
    assert {"clip.html", "index.html", "timeline.html"} <= set(names)
    for name in names:
        source = environment.loader.get_source(environment, name)[0]
        assert not re.search(r"\|\s*safe\b|autoescape", source), name
        # an attribute without quotes would end at a blank: only numbers stand in one
        for value in re.findall(r"=\{\{(.*?)\}\}", source):
            assert re.fullmatch(r" (loop\.index0|i|count|frames\|length \+ 1|.*\|int) ", value)
