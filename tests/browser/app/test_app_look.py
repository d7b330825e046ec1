"""What holds for the page in every state: width of a phone, themes, names for screen readers, the
keyboard's way, pictures.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from browser import chromium
from browser.app.conftest import STAR, wait
from browser.test_shots import screenshot

LONG = ("underwater photography of jellyfish", "a-very-long-word-" * 8, "playing basketball")


def _still(page):
    """Waits for the video's picture."""
    code = "const f = document.getElementById('film'); return f.readyState > 3 && !f.seeking"
    wait(lambda: page.shown("film") and page.js(code))


def _timeline(page, site):
    page.open(site, "#mode=timeline&window=2&frames=4")
    page.type("\n".join(STAR))
    page.choose("long.mp4")
    wait(lambda: page.all(".segment") and page.label)
    _still(page)


def _clip(page, site):
    page.open(site)
    page.type("\n".join(STAR))
    page.choose("star.mp4")
    page.answered(*STAR)
    _still(page)


def _start(page, site):
    page.open(site)
    wait(lambda: page.texts("#folder .file"))


STATES = {"start": _start, "clip": _clip, "timeline": _timeline, "tuned": _clip}


@pytest.fixture
def server(request, site):
    """The server of a test's state: that of the tuned model for "tuned"."""
    state = request.node.callspec.params["state"]
    return request.getfixturevalue("tuned") if state == "tuned" else site


@pytest.mark.parametrize("state", STATES)
def test_a_phone_scrolls_down_only(page, server, state):
    chromium.size(page.driver, 360, 740)
    STATES[state](page, server)
    if state == "clip":
        page.type("\n".join(LONG))
        page.answered(*LONG)
    for width in (360, 320):
        chromium.size(page.driver, width, 740)
        assert page.js("return document.documentElement.scrollWidth") <= width
    small = page.js(
        "return [...document.querySelectorAll('button:not(.segment), .button, summary, .choice, "
        ".modes label, .switch label, input[type=range], input[type=search]')]"
        ".filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 40)"
        ".map(e => e.outerHTML)"
    )
    assert small == []


@pytest.mark.parametrize("state", STATES)
def test_names_headings_and_landmarks(page, server, state):
    STATES[state](page, server)
    chromium.check_outline(page.driver)
    doubled = page.js(
        "const ids = [...document.querySelectorAll('[id]')].map(e => e.id);"
        "return ids.filter((id, n) => ids.indexOf(id) !== n)"
    )
    assert doubled == []


@pytest.mark.parametrize("state", STATES)
def test_tab_reaches_everything_and_shows_where_it_is(page, server, state):
    STATES[state](page, server)
    wanted = page.js(
        "return [...document.querySelectorAll('button,input:not([type=radio]),textarea,summary,"
        ":checked')].filter(e => e.checkVisibility() && !e.disabled && e.tabIndex === 0)"
    )
    page.js("document.activeElement.blur()")
    seen = (
        "const e = document.activeElement; return [e, [e, e.closest('label'), e.closest('.button')]"
        ".some(o => o && getComputedStyle(o).outlineStyle !== 'none')]"
    )
    reached, ends = [], 0
    for _ in range(2 * len(wanted) + 40):
        ActionChains(page.driver, 0).send_keys(Keys.TAB).perform()
        element, outlined = page.js(seen)
        if element.tag_name == "body":
            ends += 1
            # the first round starts where the focus was
            if ends == 2:
                break
            continue
        # a video shows the focus on its own controls
        assert outlined or element.tag_name == "video", element.get_attribute("outerHTML")[:200]
        reached.append(element)
    assert [e.get_attribute("outerHTML")[:90] for e in wanted if e not in reached] == []
    for group in (".frame", ".segment", ".picture", "[name=label]", ".file"):
        inside = page.driver.find_elements(By.CSS_SELECTOR, group)
        assert len([e for e in inside if e in reached]) <= 1, group


def test_the_answer_is_said(star):
    said = star.id("said")
    assert said.get_attribute("role") == "status"
    wait(lambda: STAR[0] in said.text and "%" in said.text)


def test_keys_are_listed(page, site):
    page.open(site)
    page.id("keys").click()
    wait(lambda: page.shown("keys-box"))
    assert "undo" in page.id("keys-box").text
    page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    wait(lambda: not page.shown("keys-box"))


def test_nothing_moves_for_who_wants_no_motion(star):
    chromium.media(star.driver, prefers_reduced_motion="reduce")
    moving = star.js(
        "return [...document.querySelectorAll('body *')]"
        ".filter(e => parseFloat(getComputedStyle(e).transitionDuration) > 0).length"
    )
    assert moving == 0


@pytest.mark.parametrize("state", ["clip", "timeline", "tuned"])
def test_paper_has_no_buttons(page, server, state):
    STATES[state](page, server)
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        controls = page.js(
            "return [...document.querySelectorAll('button:not(.frame, .card, .segment, .picture), "
            "input:not([name=label]), textarea, .problem')].filter(e => e.checkVisibility())"
            ".map(e => e.outerHTML)"
        )
        assert controls == []
        assert page.texts(".choice bdi" if state != "timeline" else "#means bdi")
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


SHOTS = [
    ("start", "light", 1200),
    ("start", "dark", 360),
    ("clip", "light", 1200),
    ("clip", "dark", 1200),
    ("clip", "light", 360),
    ("timeline", "light", 1200),
    ("timeline", "dark", 360),
    ("tuned", "light", 1200),
    ("tuned", "dark", 360),
]


@pytest.mark.parametrize("state, theme, width", SHOTS)
def test_pictures_of_the_page(page, server, state, theme, width, tmp_path):
    shots = Path(os.environ.get("BROWSER_SHOTS") or tmp_path)
    shots.mkdir(parents=True, exist_ok=True)
    chromium.media(page.driver, prefers_color_scheme=theme)
    chromium.size(page.driver, width)
    STATES[state](page, server)
    chromium.size(page.driver, width, page.js("return document.documentElement.scrollHeight"))
    pixels = screenshot(page.driver, shots / f"app_{state}_{theme}_{width}.png")
    assert pixels.shape[1] == width
    # most of a page is its ground
    assert (np.median(pixels) > 200) == (theme == "light")
    assert len(np.unique(pixels)) > 100
