"""What results show of themselves: safe text, rows, a data frame, a cell, a page, a figure."""

import dataclasses
import importlib.util
import sys
import types

import numpy as np
import pytest

from browser import scenes
from support.page_reader import Page
from vtd_jax.errors import UserError
from vtd_jax.predict.display.texts import percent
from vtd_jax.predict.results import Explanation, Prediction
from vtd_jax.report import scores_page
from vtd_jax.report.pages import write_index

EXPLAINED = scenes.explanation(scenes.pictures(20))
LONG = scenes.timeline(scenes.pictures(30), windows=60)
HOSTILE = scenes.explanation(
    scenes.pictures(3), scenes.HOSTILE, video="<img src=x onerror=alert(1)>\n\x1b[31m\udcff.mp4"
)


def _prediction(explained: Explanation) -> Prediction:
    fields = dataclasses.fields(Prediction)
    return Prediction(**{field.name: getattr(explained, field.name) for field in fields})


PREDICTED = _prediction(EXPLAINED)
ALL = pytest.mark.parametrize(
    "result",
    [PREDICTED, EXPLAINED, LONG, HOSTILE, _prediction(HOSTILE)],
    ids=["prediction", "explanation", "timeline", "hostile", "hostile prediction"],
)


@ALL
def test_text_is_short_and_safe(result):
    for text in (repr(result), str(result)):
        assert len(text) < 1000
        assert all(line.isprintable() for line in text.splitlines())
        assert "array" not in text
    assert "\n" not in repr(result)


@pytest.mark.parametrize(
    "total, text, page",
    [
        (380, "20 of 380 frames", "20 frames of 380"),
        (4, "4 frames, repeated to 20", "4 frames, repeated to 20"),
        (1, "1 frame, repeated to 20", "1 frame, repeated to 20"),
    ],
)
def test_a_short_video_repeats_its_frames(total, text, page):
    short = dataclasses.replace(PREDICTED, total=total)
    assert str(short).startswith(f"arm_wrestling.mp4: {text}, ")
    assert page in scores_page.facts(short)


def test_text_says_video_labels_scores_and_words():
    text = str(EXPLAINED)
    assert text.startswith("arm_wrestling.mp4: 20 of 380 frames, 12.7 s\n")
    assert f"{100 * EXPLAINED.score:.1f} %  {EXPLAINED.label}" in text
    assert "and 9 more" in text
    first, votes = EXPLAINED.video_token[0], EXPLAINED.votes[0]
    assert f"video token: {first} ({votes:.2f} votes)" in text
    most = max(EXPLAINED.words, key=lambda words: [w[0] for w in EXPLAINED.words].count(words[0]))
    assert f"words of the frames: {most[0]} × " in text
    assert repr(PREDICTED).startswith("<Prediction arm_wrestling.mp4: arm wrestling ")
    long = str(LONG)
    assert "5:00, 60 windows of 10 s" in long
    one = {name: getattr(LONG, name)[:1] for name in ("starts", "ends", "top", "top_scores")}
    assert ", 1 window of 10 s" in str(dataclasses.replace(LONG, **one))
    assert f"  0:00 – 0:{LONG.segments[0].end:02.0f}  {LONG.segments[0].label}" in long
    assert "note: cut short" in str(dataclasses.replace(LONG, note="cut short"))


def test_rows_are_the_results():
    rows = PREDICTED.rows()
    assert [(row["label"], row["score"]) for row in rows] == PREDICTED.top(len(rows))
    assert rows == EXPLAINED.rows("label")
    assert "match" not in rows[0]
    matched = dataclasses.replace(PREDICTED, matches=PREDICTED.scores / 2)
    assert matched.rows()[0]["match"] == pytest.approx(rows[0]["score"] / 2)

    frames, best = EXPLAINED.rows("frame"), int(EXPLAINED.order(1)[0])
    assert [row["frame"] for row in frames] == EXPLAINED.indices.tolist()
    assert [row["word"] for row in frames] == [words[0] for words in EXPLAINED.words]
    np.testing.assert_allclose([row["lead"] for row in frames], EXPLAINED.lead(best))
    confidence = EXPLAINED.confidence[:, best]
    np.testing.assert_allclose([row["confidence"] for row in frames], confidence)
    untimed = dataclasses.replace(EXPLAINED, seconds=None, duration=None)
    assert untimed.rows("frame")[0]["seconds"] is None

    assert [row["start"] for row in LONG.rows()] == [part.start for part in LONG.segments]
    windows = LONG.rows("window")
    assert [row["word"] for row in windows] == list(LONG.words)
    np.testing.assert_allclose([row["score"] for row in windows], LONG.top_scores[:, 0])
    with pytest.raises(UserError, match="by: 'frame', expected one of label"):
        PREDICTED.rows("frame")


def test_a_data_frame_has_the_rows(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=tuple))
    assert EXPLAINED.to_dataframe("frame") == tuple(EXPLAINED.rows("frame"))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"^to_dataframe\(\) needs pandas: pip install pandas; "):
        EXPLAINED.to_dataframe()


@pytest.mark.skipif(importlib.util.find_spec("pandas") is None, reason="pandas is not installed")
def test_a_data_frame_of_pandas():
    table = EXPLAINED.to_dataframe()
    assert list(table["label"]) == [label for label, _ in EXPLAINED.top(len(table))]


@ALL
def test_a_cell_has_no_scripts_and_fetches_nothing(result):
    html = result._repr_html_()
    page = Page(html)
    tags = {tag for tag, _ in page.elements}
    assert tags <= {"div", "p", "b", "bdi", "span", "br", "figure", "img", "table", "tr", "td"}
    for _, attrs in page.elements:
        assert attrs.get("src", "data:").startswith("data:")
        assert not any(name.startswith("on") or name == "href" for name in attrs)
        assert "url(" not in attrs.get("style", "")
    assert len(html) < 100_000


def test_a_cell_shows_frames_words_and_confidences():
    page = Page(EXPLAINED._repr_html_())
    pictures = page.of("img")
    assert len(pictures) == 16
    assert all(attrs["src"].startswith("data:image/jpeg;base64,") for attrs in pictures)
    assert pictures[0]["alt"] == f"frame 1, named {EXPLAINED.words[0][0]}"
    best = int(EXPLAINED.order(1)[0])
    word, confidence = EXPLAINED.words[0][0], EXPLAINED.confidence[0, best]
    assert f"{word} {confidence:.2f} {EXPLAINED.seconds[0]:.1f} s" in page.text
    assert "16 of 20 frames" in page.text
    for label, score in EXPLAINED.top(5):
        assert f"{label} {100 * score:.1f} %" in page.text
    assert not Page(PREDICTED._repr_html_()).of("img")
    long = Page(LONG._repr_html_())
    assert len(long.of("img")) == 16
    assert f"{LONG.segments[0].label} {LONG.segments[0].score:.2f} 0:00 – " in long.text


@ALL
def test_a_page_is_whole_and_replaces_only_ours(tmp_path, result):
    path = result.save_html(tmp_path / "new" / "one.html")
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert "default-src 'none'" in next(a["content"] for a in page.of("meta") if "http-equiv" in a)
    assert "x onerror=alert(1)>" not in text.replace("&lt;img src=x onerror=alert(1)&gt;", "")
    # there is no index to lead to
    assert not page.of("a")
    assert result.save_html(str(path)) == path
    assert [file.name for file in path.parent.iterdir()] == ["one.html"]


def test_a_page_shows_every_label(tmp_path):
    text = Page(PREDICTED.save_html(tmp_path / "a.html").read_text(encoding="utf-8")).text
    for label, score in PREDICTED.top(14):
        assert f"{label} {percent(score)}" in text


def test_what_is_not_ours_stays(tmp_path):
    other = tmp_path / "mine.html"
    other.write_text("<p>mine</p>")
    write_index(tmp_path, [], [], scenes.ABOUT)
    for path, message in [
        (other, "is there already, and no page of this package"),
        (tmp_path / "index.html", "is the name of the index of a report"),
        (tmp_path / "a.txt", "the name must end in .html"),
    ]:
        for result in (PREDICTED, EXPLAINED, LONG):
            with pytest.raises(UserError, match=message):
                result.save_html(path)
    assert other.read_text() == "<p>mine</p>"


@ALL
def test_a_figure_can_be_shown_and_saved(tmp_path, result):
    figure = result.plot(top=3)
    assert figure._repr_png_().startswith(b"\x89PNG")
    figure.savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
    with pytest.raises(UserError, match="top=0`: expected 1 or more labels"):
        result.plot(top=0)


def test_a_figure_says_its_title_and_labels():
    figure = PREDICTED.plot(title="my title")
    (axes,) = figure.axes
    assert figure.get_suptitle() == "my title"
    assert [text.get_text() for text in axes.get_yticklabels()] == [k for k, _ in PREDICTED.top()]


def test_without_matplotlib_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for result in (PREDICTED, EXPLAINED, LONG):
        with pytest.raises(UserError, match=r"^plot\(\) needs matplotlib: pip install .*figures"):
            result.plot()
