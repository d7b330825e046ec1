"""What holds for every page: width of a phone, themes, names for screen readers, the keyboard's
way, no scripts.
"""

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from browser import chromium, scenes
from vtd_jax.report.pages import write_page

PAGES = ["clip", "vocabulary", "hostile", "long", "hours", "index"]


@pytest.mark.parametrize("page", PAGES)
def test_a_phone_scrolls_down_only(visit, driver, page):
    chromium.size(driver, 360, 740)
    visit(page)
    for width in (360, 320):
        chromium.size(driver, width, 740)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("page", ["clip", "hostile", "long", "index"])
def test_names_headings_and_landmarks(visit, driver, page):
    visit(page)
    chromium.check_outline(driver)


@pytest.mark.parametrize("page", ["clip", "long", "index"])
def test_tab_reaches_everything_and_shows_where_it_is(visit, driver, page):
    visit(page)
    wanted = driver.execute_script(
        "return "
        "[...document.querySelectorAll("
        "'a,button,input:not([type=radio]),select,summary,:checked')].filter(e "
        "=> e.offsetParent && !e.disabled && e.tabIndex === 0)"
    )
    reached = []
    seen = (
        "const e = document.activeElement;return [e, [e, e.closest('.choice')].some(o => o && "
        "getComputedStyle(o).outlineStyle === 'solid')]"
    )
    for _ in range(len(wanted) + 8):
        ActionChains(driver, 0).send_keys(Keys.TAB).perform()
        element, outlined = driver.execute_script(seen)
        if element.tag_name == "body":
            break
        assert outlined, element.get_attribute("outerHTML")[:200]
        reached.append(element)
    assert [e for e in wanted if e not in reached] == []
    # one stop each for labels, frames, segments and pictures; arrows move on from there
    for group in (".frame", ".segment", ".picture", "[type=radio]"):
        inside = driver.find_elements(By.CSS_SELECTOR, group)
        assert len([e for e in reached if e in inside]) == bool(inside)


def test_light_and_dark(visit, driver):
    def background():
        return driver.execute_script("return getComputedStyle(document.body).backgroundColor")

    visit("clip")
    button, light = driver.find_element(By.ID, "theme"), background()
    assert (button.text, button.accessible_name) == ("Dark", "Switch to the dark theme")
    button.click()
    dark = background()
    assert dark != light
    assert (button.text, button.accessible_name) == ("Light", "Switch to the light theme")
    button.click()
    assert (background(), button.text) == (light, "Dark")
    chromium.media(driver, prefers_color_scheme="dark")
    visit("clip")
    assert background() == dark
    assert driver.find_element(By.ID, "theme").text == "Light"


def test_hostile_texts_stay_texts(visit, driver):
    visit("hostile")
    assert "taken" not in driver.title.split(" – ")[0]
    assert driver.execute_script("return document.querySelectorAll('[onerror], b b').length") == 0
    assert (
        driver.find_element(By.CSS_SELECTOR, ".verdict bdi").get_attribute("textContent")
        in scenes.HOSTILE
    )
    assert (
        driver.execute_script("return document.querySelectorAll('script:not([type])').length") == 1
    )
    driver.execute_script("document.querySelectorAll('.choice').forEach(e => e.click())")
    assert (
        driver.find_element(By.CSS_SELECTOR, ".heat .chosen bdi").get_attribute("textContent")
        in scenes.HOSTILE
    )
    shown = driver.execute_script(
        "return [...document.querySelectorAll('.choice bdi')].map(e => e.textContent)"
    )
    assert sorted(shown) == sorted(scenes.HOSTILE)


def test_scripts_leave_no_names_behind(visit, site):
    (site / "plain.html").write_text("<!doctype html><title>plain</title>")
    names = "return Object.getOwnPropertyNames(window)"
    before = set(visit("plain").execute_script(names))
    for page in ("clip", "long", "index"):
        assert set(visit(page).execute_script(names)) <= before, page


def test_pages_are_whole_without_scripts(visit, driver):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        for page, texts in {
            "clip": ["arm wrestling", "Frames that decided", "Scripts are off", "Nearest words"],
            "long": ["What is shown when", "Segments", "mean over the whole video"],
            "index": ["song.mp3", "festival.mp4"],
        }.items():
            visit(page)
            shown = driver.find_element(By.TAG_NAME, "body").text
            assert all(text in shown for text in texts)
            for selector in (".player", ".theme", ".tools", ".zoom"):
                assert not any(
                    e.is_displayed() for e in driver.find_elements(By.CSS_SELECTOR, selector)
                )
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_index_filters_sorts_and_leads_to_pages(visit, driver):
    visit("index")

    def shown():
        return [
            card.get_attribute("data-name")
            for card in driver.find_elements(By.CSS_SELECTOR, ".videos li")
            if card.is_displayed()
        ]

    everything = shown()
    # the last is of an earlier run
    assert len(everything) == 6
    assert everything[-1] == "old/earlier.mp4"
    assert "earlier, 2025-12-31" in driver.find_elements(By.CSS_SELECTOR, ".videos li")[-1].text
    assert (
        "1 of 2 videos with a known label are right (50.0 %)"
        in driver.find_element(By.TAG_NAME, "main").text
    )
    box = driver.find_element(By.ID, "filter")
    box.send_keys("FESTIVAL")
    assert shown() == ["hours/festival.mp4"] * 2
    assert driver.find_element(By.ID, "shown").text == "2 of 6 shown"
    box.send_keys(Keys.CONTROL, "a", Keys.DELETE)
    assert shown() == everything
    order = Select(driver.find_element(By.ID, "sort"))
    order.select_by_value("score")
    scores = [
        float(card.get_attribute("data-score"))
        for card in driver.find_elements(By.CSS_SELECTOR, ".videos li")
    ]
    assert scores == sorted(scores, reverse=True)
    order.select_by_value("low")
    found = [
        float(card.get_attribute("data-score"))
        for card in driver.find_elements(By.CSS_SELECTOR, ".videos li")
    ]
    assert found == sorted(scores)
    order.select_by_value("wrong")
    texts = [card.text for card in driver.find_elements(By.CSS_SELECTOR, ".videos li")[:3]]
    assert [
        "✗ truth: hugging" in texts[0],
        "✓ right" in texts[1],
        "✓" in texts[2] or "✗" in texts[2],
    ] == [
        True,
        True,
        False,
    ]
    order.select_by_value("truth")
    known = [
        card.get_attribute("data-truth")
        for card in driver.find_elements(By.CSS_SELECTOR, ".videos li")
    ]
    assert known == ["arm wrestling", "hugging", *[None] * 4]
    order.select_by_value("")
    assert shown() == everything
    driver.find_element(By.CSS_SELECTOR, ".videos a").click()
    assert driver.title == "arm_wrestling.mp4 – arm wrestling"


def test_pages_lead_to_each_other_and_back(visit, driver, site):
    visit("clip")
    assert driver.find_elements(By.CSS_SELECTOR, "[rel=prev]") == []
    assert scenes.NOTICE in driver.find_element(By.CSS_SELECTOR, "[role=note]").text
    for page in ("vocabulary", "hostile", "long", "hours"):
        driver.find_element(By.CSS_SELECTOR, "[rel=next]").click()
        assert driver.current_url == (site / f"{page}.html").as_uri()
    assert driver.find_elements(By.CSS_SELECTOR, "[rel=next]") == []
    driver.find_element(By.CSS_SELECTOR, "[rel=prev]").click()
    assert driver.current_url == (site / "long.html").as_uri()
    driver.find_element(By.LINK_TEXT, "All videos").click()
    assert driver.current_url == (site / "index.html").as_uri()


BROKEN = """
const broken = [];
for (const e of document.querySelectorAll("bdi, .run, th")) {
  if (!e.checkVisibility() || e.closest(".run, h1, .hidden")) continue;
  const walk = document.createTreeWalker(e, NodeFilter.SHOW_TEXT), range = document.createRange();
  for (let node; (node = walk.nextNode()); )
    for (const word of node.data.matchAll(/[^\\s-]+-?/g)) {
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map((r) => Math.round(r.top))).size > 1)\
 broken.push(word[0]);
    }
}
return broken;
"""


def test_words_are_whole_on_a_phone(driver, tmp_path):
    frames = scenes.pictures(6)
    write_page(tmp_path, scenes.explanation(frames, scenes.LONG_WORDS), "clip", {})
    write_page(tmp_path, scenes.timeline(frames, scenes.LONG_WORDS, windows=40), "long", {})
    for width in (360, 320):
        chromium.size(driver, width, 740)
        for page in ("clip", "long"):
            driver.get((tmp_path / f"{page}.html").as_uri())
            assert driver.execute_script(BROKEN) == [], (page, width)


def test_scores_come_before_the_details_of_a_frame_on_a_phone(visit, driver):
    chromium.size(driver, 360, 740)
    visit("clip")
    tops = driver.execute_script(
        "return ['#picture', '#h-labels', '#h-frame', '#h-decided']"
        ".map(s => document.querySelector(s).getBoundingClientRect().top)"
    )
    assert tops == sorted(tops)
    chromium.size(driver, 1200)
    assert driver.execute_script(
        "return document.querySelector('#h-frame').getBoundingClientRect().top === "
        "document.querySelector('#h-labels').getBoundingClientRect().top"
    )


@pytest.mark.parametrize("page", ["clip", "long"])
def test_on_paper_there_are_no_controls_and_nothing_is_cut_off(visit, driver, page):
    visit(page)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert not any(
            e.is_displayed()
            for e in driver.find_elements(By.CSS_SELECTOR, ".player, .theme, .zoom")
        )
        chromium.size(driver, 720)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 720
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
