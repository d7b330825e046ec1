"""Pages of the report: whole, self-contained, with every text in its place, and legible in both
themes.
"""

import dataclasses
import json
import re

import numpy as np
import pytest

from browser import scenes
from support.page_reader import Page
from vtd_jax.errors import UserError
from vtd_jax.report import clip_page
from vtd_jax.report import html as report_html
from vtd_jax.report.pages import PageEntry, video_key, write_index, write_page
from vtd_jax.report.timeline_page import described

EXPLAINED = scenes.explanation(scenes.pictures(8))
LONG = scenes.timeline(scenes.pictures(6), windows=60)
HOSTILE = scenes.explanation(
    scenes.pictures(3), scenes.HOSTILE, video="it's </title>\n\x1b綱引き\udcff.mp4"
)


def _page(tmp_path, result, name="page"):
    entry = write_page(tmp_path, result, name, scenes.ABOUT)
    return Page((tmp_path / entry.page).read_text(encoding="utf-8")), entry


@pytest.mark.parametrize("result", [EXPLAINED, LONG, HOSTILE], ids=["clip", "long", "hostile"])
def test_pages_need_nothing_else(tmp_path, result):
    page, entry = _page(tmp_path, result)
    write_index(tmp_path, [entry], [("a.mp3", "no video")], scenes.ABOUT)
    for path in (tmp_path / entry.page, tmp_path / "index.html"):
        text = path.read_text(encoding="utf-8")
        for _, attrs in Page(text).elements:
            assert (
                attrs.get("src", "data:").startswith("data:image/jpeg;base64,")
                or "src" not in attrs
            )
            assert attrs.get("href", "") in ("", "data:,", "index.html", entry.page)
        assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttp|innerHTML|eval\(", text)
    policy = next(attrs["content"] for attrs in page.of("meta") if "http-equiv" in attrs)
    assert policy.startswith(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-"
    )


@pytest.mark.parametrize("unit", ["confidence", "frames"])
def test_what_a_vote_is_worth_is_said(tmp_path, unit):
    page, _ = _page(tmp_path, dataclasses.replace(EXPLAINED, vote_unit=unit))
    (worth,) = [attrs for _, attrs in page.elements if attrs.get("class") == "worth"]
    assert ("hidden" in worth) == (unit == "frames")


def test_clip_page_says_what_is_known(tmp_path):
    page, entry = _page(tmp_path, EXPLAINED)
    assert entry == PageEntry(
        EXPLAINED.video,
        "page.html",
        EXPLAINED.label,
        EXPLAINED.score,
        EXPLAINED.duration,
        entry.thumbnail,
        date=scenes.ABOUT["date"],
        key=video_key(EXPLAINED.video),
    )
    assert f"{EXPLAINED.label} {100 * EXPLAINED.score:.1f} %" in page.text
    shown, best = EXPLAINED.order(12), int(EXPLAINED.order(1)[0])
    assert len(page.of("input")) == 12
    assert "and 2 labels with less" in page.text
    for k in shown:
        row = " ".join(f"{value:.2f}" for value in EXPLAINED.confidence[:, k])
        assert f"{EXPLAINED.labels[k]} {row}" in page.text
    for i in clip_page.keyframes(EXPLAINED, best):
        assert report_html.signed(float(EXPLAINED.lead(best)[i])) in page.text
    alts = [attrs["alt"] for attrs in page.of("img")]
    assert f"frame 3 of 8 at {EXPLAINED.seconds[2]:.1f} s, named {EXPLAINED.words[2][0]}" in alts
    assert all(alts)
    for word, votes in zip(EXPLAINED.video_token, EXPLAINED.votes):
        assert f"{word} {votes:.2f}" in page.text
    assert all(f"{name} {value}" in page.text for name, value in scenes.ABOUT.items())
    # frames 4 to 6 have the same word, which is said once
    named = [words[0] for words in EXPLAINED.words]
    assert len({*named[3:6]}) == 1
    assert [int(attrs["colspan"]) for attrs in page.of("td") if "colspan" in attrs] == [
        1,
        1,
        1,
        3,
        1,
        1,
    ]


def test_data_of_the_page_are_the_results(tmp_path):
    page, _ = _page(tmp_path, EXPLAINED)
    data, shown = json.loads(page.blocks[0]), EXPLAINED.order(12)
    assert data["labels"] == [EXPLAINED.labels[k] for k in shown]
    assert data["keys"] == [clip_page.keyframes(EXPLAINED, int(k)) for k in shown]
    np.testing.assert_allclose(data["confidence"], EXPLAINED.confidence[:, shown], atol=5.1e-5)
    np.testing.assert_allclose(data["contribution"], EXPLAINED.contribution[:, shown], atol=5.1e-5)
    np.testing.assert_allclose(
        data["lead"], np.stack([EXPLAINED.lead(int(k)) for k in shown], 1), atol=5.1e-5
    )
    assert data["rivals"] == [EXPLAINED.labels[shown[1]], *[EXPLAINED.label] * (len(shown) - 1)]
    assert data["unit"] == "logit"
    mean = dataclasses.replace(EXPLAINED, unit="score")
    assert json.loads(_page(tmp_path, mean)[0].blocks[0])["unit"] == "score"


def test_long_page_says_what_is_shown_when(tmp_path):
    page, entry = _page(tmp_path, LONG)
    best = int(LONG.mean_scores.argmax())
    assert (entry.label, entry.score) == (LONG.labels[best], float(LONG.mean_scores[best]))
    bars = {int(a["data-segment"]): a for a in page.of("button") if "data-segment" in a}
    assert [bars[i]["aria-label"] for i in range(len(LONG.segments))] == [
        described(LONG, s) for s in LONG.segments
    ]
    segment = LONG.segments[1]
    assert f"from 0:{segment.start:02.0f}" in described(LONG, segment)
    left = 100 * segment.start / LONG.duration
    assert f"left:min({left:.3f}%,100% - 5px)" in bars[1]["style"]
    for segment in LONG.segments:
        assert f"{segment.label} {segment.start // 60:.0f}:{segment.start % 60:02.0f}" in page.text
    assert len(page.of("tr")) == 1 + len(LONG.segments)


def test_long_page_without_segments_and_of_no_length(tmp_path):
    empty = dataclasses.replace(LONG, segments=(), duration=0.0)
    page, _ = _page(tmp_path, empty)
    assert "No label reaches the threshold" in page.text
    assert json.loads(page.blocks[0])["segments"] == []


def test_texts_cannot_leave_their_place(tmp_path):
    page, entry = _page(tmp_path, HOSTILE)
    assert [name for name, _ in page.elements].count("script") == 2
    assert [name for name, _ in page.elements].count("b") == 6
    assert not any(key.startswith("on") for _, attrs in page.elements for key in attrs)
    for label in scenes.HOSTILE:
        assert " ".join(label.split()) in page.text
    assert json.loads(page.blocks[0])["labels"] == [HOSTILE.labels[k] for k in HOSTILE.order()]
    assert "it's </title>\ufffd\ufffd綱引き\\xff.mp4" in page.text
    write_index(
        tmp_path,
        [entry],
        [(HOSTILE.video, scenes.HOSTILE[0])],
        {scenes.HOSTILE[1]: scenes.HOSTILE[0]},
    )
    index = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert [name for name, _ in index.elements].count("script") == 1
    assert index.of("li")[0]["data-label"] == entry.label
    assert scenes.HOSTILE[0] in index.text


def test_keyframes_that_add_nothing_are_not_shown(tmp_path):
    contribution = EXPLAINED.contribution.copy()
    best, rival = (int(k) for k in EXPLAINED.order(2))
    contribution[:, rival] = 7
    contribution[:, best] = np.float32([7, 12, 7.04, 7, 6, 7.3, 7, 7])
    result = dataclasses.replace(EXPLAINED, contribution=contribution)
    assert clip_page.keyframes(result, best) == [1, 5]
    page, _ = _page(tmp_path, result)
    cards = [
        page.elements[i - 1]
        for i, (tag, attrs) in enumerate(page.elements)
        if attrs.get("class") == "card"
    ]
    assert ["hidden" in attrs for _, attrs in cards] == [False, False, True]
    contribution[:, best] = 6
    assert clip_page.keyframes(result, best) == [0]


def test_frames_without_times(tmp_path):
    result = dataclasses.replace(
        EXPLAINED, video="frames", seconds=None, duration=None, attention=None, change=None
    )
    page, entry = _page(tmp_path, result)
    assert entry.duration is None
    assert f"frame 1 of 8, named {result.words[0][0]}" in [attrs["alt"] for attrs in page.of("img")]
    assert "fus" not in page.text
    assert " s " not in page.text.split("How this")[0].split("Frame by frame")[1]


def test_another_vocabulary_is_reported_and_its_words_are_not_marked(tmp_path):
    other = dataclasses.replace(EXPLAINED, vocabulary_size=10_000, vocabulary_is_labels=False)
    page, _ = _page(tmp_path, other)
    assert "named from a vocabulary of 10 000 words" in page.text
    assert not any(attrs.get("class") == "own" for attrs in page.of("td"))
    assert any(attrs.get("class") == "own" for attrs in _page(tmp_path, EXPLAINED)[0].of("td"))


@pytest.mark.slow
def test_sizes_stay_reasonable(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (64, 336, 336, 3), dtype=np.uint8)
    entry = write_page(tmp_path, scenes.explanation(noise), "noise", {})
    assert (
        tmp_path / "noise.html"
    ).stat().st_size < 64 * 60_000  # the worst there is: noise does not compress
    assert len(entry.thumbnail) <= report_html.THUMBNAIL_BYTES
    hours = scenes.timeline(scenes.pictures(200), windows=5000, stride=1.44)
    write_page(tmp_path, hours, "hours", {})
    text = (tmp_path / "hours.html").read_text(encoding="utf-8")
    assert len(text) < 2_000_000
    assert len(re.findall("class=picture[ >]", text)) == 120


def test_index_is_written_as_entries_come(tmp_path):
    _, entry = _page(tmp_path, EXPLAINED, "a b#%&?")
    seen = []

    def entries():
        for i in range(500):
            seen.append(i)
            yield dataclasses.replace(entry, video=f"clip {i}.mp4")

    path = write_index(tmp_path, entries(), [], {})
    page = Page(path.read_text(encoding="utf-8"))
    assert len(page.of("li")) == len(seen) == 500
    assert page.of("a")[0]["href"] == "a%20b%23%25%26%3F.html"
    assert "could not be read" not in page.text
    nothing = write_index(tmp_path / "empty", [], [], {}).read_text(encoding="utf-8")
    assert "No video could be shown" in Page(nothing).text


def test_a_page_is_there_whole_or_not_at_all(tmp_path):
    entry = write_page(tmp_path / "new", EXPLAINED, "clip", {})
    before = (tmp_path / "new" / "clip.html").read_bytes()

    def broken():
        yield entry
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        write_index(tmp_path / "new", broken(), [], {})
    torn = dataclasses.replace(EXPLAINED, words=EXPLAINED.words[:5])
    with pytest.raises(IndexError):
        write_page(tmp_path / "new", torn, "clip", {})
    assert (tmp_path / "new" / "clip.html").read_bytes() == before
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["clip.html"]


@pytest.mark.parametrize("name", ["", "index", "a/b", "/x"])
def test_page_names_are_file_names(tmp_path, name):
    with pytest.raises(UserError, match="expected a plain file name"):
        write_page(tmp_path, EXPLAINED, name, {})
    assert list(tmp_path.iterdir()) == []


def test_entries_survive_json(tmp_path):
    _, entry = _page(tmp_path, LONG)
    assert PageEntry.from_dict(json.loads(json.dumps(entry.to_dict()))) == entry


def _luminance(color):
    channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def _contrast(a, b):
    low, high = sorted((_luminance(a), _luminance(b)))
    return (high + 0.05) / (low + 0.05)


def _mixed(a, b, share):
    return "#" + "".join(
        f"{round(share * int(a[i : i + 2], 16) + (1 - share) * int(b[i : i + 2], 16)):02x}"
        for i in (1, 3, 5)
    )


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_everything_can_be_read_in_both_themes(theme):
    css = report_html.asset("page.css")
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", css)
    colors = {name: pair[theme] for name, *pair in found}
    assert len(colors) == 10
    assert not re.search(r"#[0-9a-f]{3,6}\b", re.sub(r"light-dark\(.*\)", "", css)), (
        "a colour outside of the themes"
    )
    texts = [
        ("ink", "page"),
        ("ink", "raised"),
        ("ink", "tint"),
        ("soft", "page"),
        ("soft", "raised"),
        ("ink", "line"),
    ]
    texts += [
        ("accent", "page"),
        ("accent", "raised"),
        ("accent", "tint"),
        ("on-accent", "accent"),
        ("soft", "tint"),
    ]
    for text, ground in texts:
        assert _contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
    for share in np.linspace(0, 1, 11):
        assert _contrast(colors["ink"], _mixed(colors["heat"], colors["page"], share)) >= 4.5
    # bars and outlines are no texts: 3 is asked of them
    for bar, ground in (("accent", "line"), ("less", "page"), ("accent", "page")):
        assert _contrast(colors[bar], colors[ground]) >= 3, (bar, ground)


def test_numbers_for_people():
    assert [report_html.percent(x) for x in (0.0, 0.0004, 0.5, 0.9996, 1.0)] == [
        "0.0 %", "< 0.1 %", "50.0 %", "> 99.9 %", "100.0 %",
    ]  # fmt: skip
    assert [report_html.signed(x) for x in (1.254, -0.4, -0.001)] == ["+1.25", "−0.40", "+0.00"]
