"""The page of a clip: labels and frames are chosen by mouse and keyboard, the player plays and
stops.
"""

import time

import numpy as np
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from browser import chromium, scenes
from vtd_jax.report.clip_page import keyframes

EXPLAINED = scenes.explanation(scenes.pictures(16))
SHOWN = EXPLAINED.order(12)


def _texts(driver, selector):
    return driver.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)", selector
    )


def _frame(driver):
    """Number of the chosen frame, from 0; the strip, the stage and its picture agree on it."""
    number, word, alt, same, frame = driver.execute_script(
        "const slot = (name) => document.querySelector(`[data-slot=${name}]`).textContent;const "
        "here = document.querySelectorAll('.frame[aria-current]'), picture = "
        "document.getElementById('picture');return [slot('number'), slot('word'), picture.alt, "
        "here.length === 1 && here[0].firstChild.src === picture.src, +here[0].dataset.frame]"
    )
    assert number == str(frame + 1)
    assert word == EXPLAINED.words[frame][0]
    assert alt.startswith(f"frame {frame + 1} of 16 at ")
    assert same
    return frame


def _check_label(driver, n):
    k = int(SHOWN[n])
    keys, frame = keyframes(EXPLAINED, k), _frame(driver)
    assert set(_texts(driver, "[data-slot=label]")) == {EXPLAINED.labels[k]}
    assert _texts(driver, ".heat .chosen th") == [EXPLAINED.labels[k]]
    marked = driver.execute_script(
        "return [...document.querySelectorAll('.mark')].map(m => m.hidden ? 0 : "
        "+m.querySelector('b').textContent)"
    )
    assert [marked.index(place) for place in range(1, len(keys) + 1)] == keys
    assert np.count_nonzero(marked) == len(keys)
    assert _texts(driver, ".cards li:not([hidden]) bdi") == [EXPLAINED.words[t][0] for t in keys]
    shown = [float(text.replace("−", "-")) for text in _texts(driver, ".adds td")]
    np.testing.assert_allclose(shown, EXPLAINED.lead(k), atol=0.006)
    cards = [float(text.replace("−", "-")) for text in _texts(driver, ".cards li:not([hidden]) b")]
    np.testing.assert_allclose(cards, EXPLAINED.lead(k)[keys], atol=0.006)
    assert set(_texts(driver, "[data-slot=rival]")) == {EXPLAINED.labels[EXPLAINED.rival(k)]}
    assert _texts(driver, "[data-slot=which]") == ["the best label" if n else "the runner-up"]
    added, lead = (
        _texts(driver, f"[data-slot={name}]")[0].replace("−", "-")
        for name in ("contribution", "lead")
    )
    np.testing.assert_allclose(float(added), EXPLAINED.contribution[frame, k], atol=0.006)
    np.testing.assert_allclose(float(lead), EXPLAINED.lead(k)[frame], atol=0.006)
    assert _texts(driver, "[data-slot=confidence]") == [f"{EXPLAINED.confidence[frame, k]:.2f}"]


def test_starts_with_the_best_label_and_its_first_keyframe(visit):
    driver = visit("clip")
    assert _frame(driver) == EXPLAINED.keyframes(int(SHOWN[0]))[0]
    _check_label(driver, 0)


def test_a_click_switches_the_label_everywhere(visit):
    driver = visit("clip")
    driver.find_elements(By.CSS_SELECTOR, ".choice")[3].click()
    _check_label(driver, 3)
    assert EXPLAINED.labels[SHOWN[3]] in driver.find_element(By.ID, "said").text


def test_keys_switch_the_label(visit):
    driver = visit("clip")
    driver.find_element(By.CSS_SELECTOR, ".choice input").send_keys(Keys.ARROW_DOWN)
    _check_label(driver, 1)
    driver.switch_to.active_element.send_keys("5")
    _check_label(driver, 4)
    driver.switch_to.active_element.send_keys(Keys.ARROW_UP)
    _check_label(driver, 3)


def test_keys_move_through_the_frames(visit):
    driver = visit("clip")
    first = _frame(driver)
    driver.find_element(By.CSS_SELECTOR, ".frame[aria-current]").send_keys(Keys.ARROW_LEFT)
    assert _frame(driver) == first - 1
    for key, frame in (
        (Keys.HOME, 0),
        (Keys.ARROW_LEFT, 0),
        (Keys.ARROW_RIGHT, 1),
        (Keys.END, 15),
        (Keys.ARROW_RIGHT, 15),
    ):
        driver.switch_to.active_element.send_keys(key)
        assert _frame(driver) == frame
        assert driver.switch_to.active_element.get_attribute("data-frame") == str(frame)
    assert driver.find_element(By.ID, "said").text.startswith("Frame 16 of 16 at ")
    assert driver.execute_script("return scrollX") == 0


def test_clicks_choose_frames(visit):
    driver = visit("clip")
    driver.find_elements(By.CSS_SELECTOR, ".frame")[2].click()
    assert _frame(driver) == 2
    driver.find_element(By.ID, "next").click()
    driver.find_element(By.ID, "next").click()
    driver.find_element(By.ID, "previous").click()
    assert _frame(driver) == 3
    driver.find_elements(By.CSS_SELECTOR, ".card")[1].click()
    assert _frame(driver) == EXPLAINED.keyframes(int(SHOWN[0]))[1]


def test_the_player_stops_at_the_end_and_when_it_is_reported(visit):
    driver = visit("clip")
    time.sleep(0.7)
    assert _frame(driver) == EXPLAINED.keyframes(int(SHOWN[0]))[0], "it plays without being asked"
    play = driver.find_element(By.ID, "play")
    driver.find_elements(By.CSS_SELECTOR, ".frame")[13].click()
    driver.switch_to.active_element.send_keys(" ")
    assert play.text == "Pause"
    WebDriverWait(driver, 5, 0.1).until(lambda _: play.text == "Play")
    assert _frame(driver) == 15
    play.click()
    assert _frame(driver) == 0, "from the end it plays from the start"
    WebDriverWait(driver, 5, 0.05).until(lambda _: _frame(driver) == 1)
    driver.find_element(By.CSS_SELECTOR, ".frame[tabindex='0']").send_keys(" ")
    assert play.text == "Play"
    stopped = _frame(driver)
    time.sleep(0.7)
    assert _frame(driver) == stopped


def test_the_space_bar_plays_from_anywhere_but_where_it_has_another_use(visit, driver):
    visit("clip")
    play, body = driver.find_element(By.ID, "play"), driver.find_element(By.TAG_NAME, "body")
    scrolled = "return scrollY"
    body.send_keys(" ")
    assert (play.text, driver.execute_script(scrolled)) == ("Pause", 0)
    body.send_keys(" ")
    assert play.text == "Play"
    # a label that was just chosen leaves the space bar free
    driver.find_elements(By.CSS_SELECTOR, ".choice input")[1].send_keys(" ")
    assert play.text == "Pause"
    play.send_keys(" ")
    assert play.text == "Play"
    # a button and a folded part have their own use for it
    theme = driver.find_element(By.ID, "theme")
    theme.send_keys(" ")
    assert (play.text, theme.text) == ("Play", "Light")
    driver.find_element(By.TAG_NAME, "summary").send_keys(" ")
    assert play.text == "Play"
    assert driver.find_element(By.TAG_NAME, "details").get_attribute("open") == "true"


def test_the_space_bar_scrolls_where_nothing_plays(visit, driver):
    chromium.size(driver, 360, 400)
    visit("clip")
    driver.execute_script(
        "document.querySelector('.decided').scrollIntoView(); document.activeElement.blur()"
    )
    before = driver.execute_script("return scrollY")
    driver.find_element(By.TAG_NAME, "body").send_keys(" ")
    WebDriverWait(driver, 2, 0.05).until(lambda _: driver.execute_script("return scrollY") > before)
    assert driver.find_element(By.ID, "play").get_attribute("textContent") == "Play"
    visit("index")
    box = driver.find_element(By.ID, "filter")
    box.send_keys("a b")
    assert box.get_attribute("value") == "a b"


def test_reduced_motion_moves_nothing(visit):
    moving = "return getComputedStyle(document.querySelector('.column i')).transitionDuration"
    driver = visit("clip")
    assert driver.execute_script(moving) != "0s"
    chromium.media(driver, prefers_reduced_motion="reduce")
    assert driver.execute_script(moving) == "0s"


def test_words_that_are_no_labels_are_not_coloured_as_labels(visit):
    driver = visit("vocabulary")
    assert driver.find_elements(By.CSS_SELECTOR, ".words .own") == []
    assert "a vocabulary of 10\u202f000 words" in driver.find_element(By.CLASS_NAME, "stage").text
    own = visit("clip").find_elements(By.CSS_SELECTOR, ".words .own")
    assert own
    assert {cell.text for cell in own} == {EXPLAINED.label}
