"""A timeline of a long video; zero-shot beside a tuned model."""

import itertools

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from browser import chromium
from browser.app.conftest import STAR, wait


def _timeline(page, site):
    page.open(site, "#mode=timeline&window=2&frames=4")
    page.type("\n".join(STAR))
    page.choose("long.mp4")
    wait(lambda: page.all(".segment") and page.label)


def test_a_timeline_shows_what_is_when(page, site):
    _timeline(page, site)
    assert page.texts("#lanes bdi")[0] in STAR
    rows = [row.text for row in page.all("#table tbody tr")]
    assert len(rows) == len(page.all(".segment"))
    # one object after another, ten seconds each
    firsts = {}
    for row in page.all("#table tbody tr"):
        label, *_ = (cell.text for cell in row.find_elements(By.CSS_SELECTOR, "th, td"))
        firsts.setdefault(label, len(firsts))
    order = [label for label in firsts if label in STAR[:3]]
    assert order == list(STAR[:3])
    wait(lambda: page.shown("film"))
    last = [e for e in page.all(".segment") if e.get_attribute("title").startswith(STAR[2])][-1]
    last.click()
    assert page.texts("[data-slot=segment]") == [STAR[2]]
    wait(lambda: page.js("return document.getElementById('film').currentTime") > 15)
    page.js("document.getElementById('film').currentTime = 3")
    wait(lambda: page.texts("[data-slot=moment]") == ["3.0 s"])
    assert page.texts("#likely bdi")[0] == STAR[0]


def test_an_edit_stays_at_the_moment_and_says_the_answer_only(page, site):
    _timeline(page, site)
    wait(lambda: page.shown("film"))
    page.js("document.getElementById('film').currentTime = 3.3")
    wait(lambda: page.texts("[data-slot=moment]") == ["3.3 s"])
    page.js(
        "window.heard = []; new MutationObserver(() => heard.push(document.getElementById('said')"
        ".textContent)).observe(document.getElementById('said'), {childList: true})"
    )
    page.type("\n".join([*STAR, "fifth"]))
    wait(lambda: "best of 5 labels" in page.texts("#answer .note")[0])
    wait(lambda: page.js("return heard.length"))
    assert all("best of 5 labels" in text for text in page.js("return heard"))
    assert page.texts("[data-slot=moment]") == ["3.3 s"]


def test_times_of_hours_do_not_overlap(page, site):
    chromium.size(page.driver, 360, 740)
    _timeline(page, site)
    ticks = page.js(
        "const a = answers.last(), given = structuredClone(a); given.answer.model.duration = 7200;"
        "timelineAnswer.show(given, encoding.done());"
        "return [...document.querySelectorAll('.ticks')].filter(e => e.checkVisibility())"
        ".flatMap(e => [...e.children].map(t => { const r = t.getBoundingClientRect();"
        "return [r.left, r.right] }))"
    )
    assert len(ticks) > 2
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(ticks)), ticks


def test_window_and_threshold_are_sliders(page, site):
    _timeline(page, site)
    assert page.id("window-value").text == "2 s"
    before = page.texts("#answer .note")
    page.slide("window", 3)
    wait(
        lambda: page.texts("#answer .note") != before and "of 4 s" in page.texts("#answer .note")[0]
    )
    wait(lambda: page.state.get("window") == "4")
    page.slide("threshold", 1)
    wait(lambda: page.texts("[data-slot=threshold]") == ["1"])
    page.id("undo").click()
    wait(lambda: page.texts("[data-slot=threshold]") == ["0.25"])


def test_clip_and_timeline_are_two_views_of_one_video(star):
    star.driver.find_element(By.CSS_SELECTOR, "#modes [value=timeline]").send_keys(Keys.SPACE)
    wait(lambda: star.all(".segment"))
    assert star.all("#strip .frame") == []
    address = star.driver.current_url
    star.driver.find_element(By.CSS_SELECTOR, "#modes [value=clip]").send_keys(Keys.SPACE)
    star.answered(*STAR)
    assert len(star.all(".frame")) == 16
    star.driver.get("about:blank")
    star.driver.get(address)
    wait(lambda: star.all(".segment"))


def test_a_long_video_offers_its_timeline(page, site):
    page.open(site, "#labels=one%0Atwo")
    page.choose("star.mp4")
    page.answered("one", "two")
    assert not page.shown("offer")
    page.choose("minutes.mp4")
    wait(lambda: page.shown("offer"))
    page.id("as-timeline").click()
    wait(lambda: page.all(".segment"))
    wait(lambda: page.state.get("mode") == "timeline")
    assert not page.shown("offer")


def test_a_timeline_leaves_as_csv(page, site, saved):
    _timeline(page, site)
    page.driver.find_element(By.CSS_SELECTOR, "#menu summary").click()
    next(e for e in page.all("#menu button") if "row a segment" in e.text).click()
    lines = saved("long-segments.csv").read_text().splitlines()
    assert len(lines) == 1 + len(page.all(".segment"))


def test_zero_shot_beside_tuned(page, tuned):
    page.open(tuned)
    page.type("\n".join(STAR))
    page.choose("star.mp4")
    page.answered(*STAR)
    assert page.texts("#other")[0].startswith("Zero-shot: ")
    assert page.texts(".second > :first-child") == ["zero-shot"] * 4
    assert set(page.texts(".others bdi")) <= set(STAR)
    assert page.texts(".others th") == ["Word, zero-shot"]
    assert page.texts(".moved th") == ["Moved by fusion"]
    tuned_scores = page.texts(".choice > .number")
    page.driver.find_element(By.CSS_SELECTOR, "[name=explained][value=beside]").send_keys(
        Keys.SPACE
    )
    wait(lambda: page.texts(".others th") == ["Word, tuned"])
    # CLIP alone has no fusion
    assert page.texts(".moved th") == []
    assert sorted(page.texts(".second .number")) == sorted(tuned_scores)
    page.driver.refresh()
    page.answered(*STAR)
    assert page.texts(".others th") == ["Word, tuned"]


# the line of the other model, which has no box of its own
SECOND = ".second > :first-child"


def _beside(page):
    return page.id("beside").is_selected()


def test_zero_shot_is_beside_a_clip_and_beside_a_timeline_only_if_wanted(page, tuned):
    page.open(tuned)
    page.type("\n".join(STAR))
    page.choose("star.mp4")
    page.answered(*STAR)
    assert _beside(page)
    assert "JSON and Python of both" in page.id("menu-note").get_attribute("textContent")
    page.id("beside").send_keys(Keys.SPACE)
    wait(lambda: page.texts(SECOND) == [] and page.texts(".others th") == [])
    assert page.texts("#other") == page.texts("[name=explained]") == []
    assert page.id("menu-note").get_attribute("textContent") == "All of the tuned model alone."
    wait(lambda: page.state.get("beside") == "no")
    page.driver.refresh()
    page.answered(*STAR)
    assert not _beside(page)
    assert page.texts(SECOND) == []
    page.id("beside").send_keys(Keys.SPACE)
    wait(lambda: len(page.texts(SECOND)) == 4)
    page.id("undo").click()
    wait(lambda: page.texts(SECOND) == [])


def test_a_timeline_is_encoded_once(page, tuned, monkeypatch):
    encode, asked = tuned.service.encode, []
    monkeypatch.setattr(tuned.service, "encode", lambda one: asked.append(one) or encode(one))
    page.open(tuned, "#mode=timeline&window=2&frames=2")
    page.type("\n".join(STAR))
    page.choose("long.mp4")
    wait(lambda: page.texts(".segment") and page.label)
    assert [one.beside for one in asked] == [False]
    assert page.texts("#other") == []
    page.id("beside").send_keys(Keys.SPACE)
    wait(lambda: page.texts("#other"))
    assert [one.beside for one in asked] == [False, True]
    # what is there for both is there for one
    page.id("beside").send_keys(Keys.SPACE)
    wait(lambda: not page.texts("#other"))
    assert len(asked) == 2


def test_the_name_of_the_model_says_nothing_twice(page, site):
    page.open(site)
    (kicker,) = page.texts(".kicker")
    parts = kicker.removeprefix("vtd app · ").split(", ")
    assert parts == ["tiny", "zero-shot"]
