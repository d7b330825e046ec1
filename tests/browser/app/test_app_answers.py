"""Labels, words and sliders are edited, and what is shown follows: always the newest edit."""

import asyncio
import json
import time

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from browser.app.conftest import SLOW, STAR, wait

HOSTILE = (
    '<img src=x onerror="document.title=1">',
    "</script><script>document.title=2</script>",
    '"><b>bold</b>',
    "عربي",
)


def test_an_edit_changes_scores_words_and_confidences(star, site):
    words = set(star.texts(".words bdi"))
    assert words <= set(STAR)
    assert star.label == STAR[0]
    star.id("label-text").send_keys("\nwhite solid star")
    star.answered(*STAR, "white solid star")
    star.type("white solid star, green dotted star")
    star.answered("white solid star", "green dotted star")
    assert set(star.texts(".words bdi")) <= {"white solid star", "green dotted star"}
    assert sorted(star.texts(".heat tr:not(:first-child) th")) == [
        "green dotted star",
        "white solid star",
    ]
    # what is shown is what the server computes
    video = wait(lambda: star.state.get("video"))
    asked = {"video": video, "labels": star.texts(".choice bdi"), "frames": 16}
    told = star.js(
        "return fetch('/answer', {method: 'POST', body: arguments[0], headers: {'X-VTD-Token': "
        "new URLSearchParams(location.search).get('token')}}).then(r => r.json())",
        json.dumps(asked),
    )
    first = told["model"]["order"][0]
    assert star.label == asked["labels"][first]
    column = [f"{row[0]:.2f}" for row in told["model"]["confidence"]]
    assert star.texts(".heat .chosen td") == column


def test_an_older_answer_is_never_shown(star, site):
    star.js(
        "window.seen = []; new MutationObserver(() => "
        "seen.push(document.querySelector('.choice bdi').textContent))"
        ".observe(document.getElementById('labels'), {subtree: true, childList: true, "
        "characterData: true})"
    )
    star.type(SLOW)
    time.sleep(0.3)
    star.type("blue star")
    star.answered("blue star")
    time.sleep(site.late + 0.3)
    assert star.label == "blue star"
    assert SLOW not in star.js("return window.seen")


def test_a_slider_that_moves_does_not_take_back_what_is_asked(star, site):
    star.type(SLOW)
    time.sleep(0.3)
    star.slide("temperature", 0.5)
    star.answered(SLOW)
    wait(lambda: star.state.get("temperature") is not None)


def test_a_label_twice_is_one_line_beside_the_field(star):
    star.id("label-text").send_keys(f"\n{STAR[0]}")
    wait(lambda: star.shown("label-problem"))
    assert STAR[0] in star.id("label-problem").text
    assert star.id("label-text").get_attribute("aria-invalid") == "true"
    # the last answer stays
    assert star.label == STAR[0]
    star.id("label-text").send_keys(" b")
    wait(lambda: not star.shown("label-problem"))
    star.answered(*STAR, f"{STAR[0]} b")


def test_too_many_or_too_long_is_one_line_beside_the_field(star):
    fill = (
        "const [e, text] = arguments; e.value = text;"
        "e.dispatchEvent(new InputEvent('input', {bubbles: true}))"
    )
    star.js(fill, star.id("label-text"), "\n".join(f"label {n}" for n in range(2001)))
    wait(lambda: "at most 2\u202f000" in star.id("label-problem").text)
    star.js(fill, star.id("label-text"), "x" * 5000)
    wait(lambda: "5\u202f000 characters" in star.id("label-problem").text)
    star.js(fill, star.id("label-text"), "one\ntwo")
    star.answered("one", "two")
    assert not star.shown("label-problem")
    star.js(fill, star.id("word-text"), "\n".join(f"word {n}" for n in range(20_001)))
    wait(lambda: "at most 20\u202f000" in star.id("word-problem").text)


def test_no_labels_are_no_mistake(star):
    star.id("label-text").send_keys(Keys.CONTROL, "a", Keys.DELETE)
    wait(lambda: not star.label)
    assert not star.shown("label-problem")
    # what is left of the labels before is neither read nor used, but sliders are
    assert star.js("return document.getElementById('labels').closest('[inert]') !== null")
    assert star.js("return document.getElementById('strip').closest('[inert]') !== null")
    assert star.js("return document.getElementById('frames').closest('[inert], .stale')") is None
    star.slide("frames", 12)
    star.type("one")
    star.answered("one")
    assert star.js("return document.querySelectorAll('[inert], .stale').length") == 0
    assert len(star.all(".frame")) == 12


def test_quotes_keep_a_comma(star):
    star.type('"one, two"\nthree, four')
    star.answered("one, two", "three", "four")


def test_frames_are_named_from_a_vocabulary(star):
    star.driver.find_element(By.CSS_SELECTOR, "#word-box summary").click()
    star.type("purple dotted cross\norange striped star", "word-text")
    named = {"purple dotted cross", "orange striped star"}
    wait(lambda: set(star.texts(".words bdi")) <= named)
    assert star.texts("[data-slot=named_from]") == ["a vocabulary of 2 words"]
    star.type("twice\ntwice", "word-text")
    wait(lambda: star.shown("word-problem"))
    assert not star.shown("label-problem")
    star.id("word-text").send_keys(Keys.CONTROL, "a", Keys.DELETE)
    wait(lambda: set(star.texts(".words bdi")) <= set(STAR))


def test_more_labels_are_shown_when_they_are_wanted(star):
    star.type("\n".join(f"label {n}" for n in range(20)))
    wait(lambda: star.texts("[data-slot=more]") == ["8 labels"])
    assert len(star.texts(".choice")) == 12
    star.id("show-more").click()
    wait(lambda: len(star.texts(".choice")) == 20)
    assert not star.shown("show-more")


def test_a_long_vocabulary_is_sent_in_portions_with_progress(star):
    star.driver.find_element(By.CSS_SELECTOR, "#word-box summary").click()
    star.js(
        "window.said = []; new MutationObserver(() => said.push(document.getElementById("
        "'dock-text').textContent)).observe(document.getElementById('dock'), "
        "{subtree: true, childList: true, attributes: true})"
    )
    many = "\n".join(f"word {n}" for n in range(501))
    star.js(
        "const e = document.getElementById('word-text'); e.value = arguments[0];"
        "e.dispatchEvent(new InputEvent('input', {bubbles: true}))",
        many,
    )
    wait(lambda: star.texts("[data-slot=named_from]") == ["a vocabulary of 501 words"])
    assert not star.shown("dock")
    said = star.js("return window.said")
    assert [f"encoding texts: {n} of 501" in said for n in (0, 200, 400)] == [True] * 3


def test_a_long_vocabulary_is_cancelled(star, site, monkeypatch):
    inner = site.service.words

    async def words(texts, *more):
        await asyncio.sleep(0.5)
        return await inner(texts, *more)

    monkeypatch.setattr(site.service, "words", words)
    star.driver.find_element(By.CSS_SELECTOR, "#word-box summary").click()
    star.js(
        "const e = document.getElementById('word-text'); e.value = arguments[0];"
        "e.dispatchEvent(new InputEvent('input', {bubbles: true}))",
        "\n".join(f"other {n}" for n in range(900)),
    )
    wait(lambda: star.shown("dock"))
    star.id("cancel").click()
    wait(lambda: star.shown("word-problem"))
    assert not star.shown("dock")
    assert set(star.texts(".words bdi")) <= set(STAR)
    star.type("purple dotted cross", "word-text")
    wait(lambda: star.texts(".words bdi") == ["purple dotted cross"])
    assert not star.shown("word-problem")


def test_temperature_follows_while_the_slider_moves(star):
    def count():
        """Of frames that would count the same if they shared the confidence evenly."""
        shares = [float(text) for text in star.texts(".heat .chosen td")]
        return 1 / sum(share**2 for share in shares)

    before = count()
    star.slide("temperature", 2, released=False)
    wait(lambda: count() > 14 > before)
    told = star.id("temperature-note").text.split(" of 16 frames")[0]
    assert abs(float(told) - count()) < 0.6


def test_frames_are_encoded_when_the_slider_is_released(star):
    star.slide("frames", 4, released=False)
    assert star.id("frames-value").text == "4"
    assert len(star.all("#rail i")) == 4
    time.sleep(0.3)
    assert len(star.all(".frame")) == 16
    star.slide("frames", 4)
    wait(lambda: len(star.all(".frame")) == 4)
    wait(lambda: star.state.get("frames") == "4")


def test_edits_are_undone_and_redone(star):
    time.sleep(0.8)
    star.id("label-text").send_keys("\nfifth")
    star.answered(*STAR, "fifth")
    time.sleep(0.8)
    star.slide("temperature", 1)
    star.slide("frames", 8)
    wait(lambda: len(star.all(".frame")) == 8)
    star.id("undo").click()
    wait(lambda: len(star.all(".frame")) == 16)
    assert star.id("temperature-value").text == "0.1"
    star.id("label-text").send_keys(Keys.CONTROL, "z")
    wait(lambda: star.id("temperature-value").text == "0.01")
    star.id("label-text").send_keys(Keys.CONTROL, "z")
    star.answered(*STAR)
    assert star.id("label-text").get_attribute("value") == "\n".join(STAR)
    star.id("label-text").send_keys(Keys.CONTROL, "y")
    star.answered(*STAR, "fifth")
    star.id("label-text").send_keys(Keys.CONTROL, Keys.SHIFT, "z")
    wait(lambda: star.id("temperature-value").text == "0.1")
    # another edit ends what could be redone
    star.type("new")
    star.answered("new")
    assert not star.id("redo").is_enabled()
    time.sleep(0.8)
    star.id("undo").click()
    star.answered(*STAR, "fifth")
    assert star.id("temperature-value").text == "0.1"
    assert len(star.all(".frame")) == 16


def test_a_link_opens_the_same_again(star, site):
    star.slide("temperature", -0.5)
    star.slide("frames", 6)
    wait(lambda: len(star.all(".frame")) == 6)
    star.all(".choice")[2].click()
    chosen = star.texts(".heat .chosen th")
    wait(lambda: star.state.get("frames") == "6" and star.state.get("label") == chosen[0])
    address = star.driver.current_url
    before = star.texts(".heat td")
    star.driver.get("about:blank")
    star.driver.get(address)
    star.answered(*STAR)
    assert star.texts(".heat .chosen th") == chosen
    assert star.texts(".heat td") == before
    assert star.texts("h1") == ["star.mp4"]
    star.driver.refresh()
    star.answered(*STAR)
    assert star.texts(".heat td") == before


@pytest.mark.parametrize(
    "fragment",
    [
        "#frames=-7&temperature=x&mode=q&video=../etc&label=z",
        "#%ff=%&frames=1e9&window=1e99",
        "#name=<img src=x onerror=alert(1)>&labels=<b>x</b>&words=<img src=x onerror=alert(1)>",
    ],
)
def test_any_link_opens(page, site, fragment):
    page.open(site, fragment)
    wait(lambda: page.texts("#folder .file"))
    assert page.shown("choose")
    assert page.js("return document.querySelectorAll('[onerror], b b').length") == 0


def test_hostile_names_stay_texts(star):
    star.type("\n".join(HOSTILE))
    star.answered(*HOSTILE)
    for row in star.all(".choice"):
        row.click()
    assert star.js("return document.querySelectorAll('[onerror], b b').length") == 0
    assert star.driver.title == "star.mp4 – vtd app"
    assert star.js("return document.querySelectorAll('script:not([type])').length") == 1
