"""The page of a long video: segments and moments are chosen by mouse and keyboard; hours stay
quick.
"""

import time

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from browser import chromium, scenes
from vtd_jax.report.timeline_page import described, lanes

LONG = scenes.timeline(scenes.pictures(16))
LANES = lanes(LONG)


def _slot(driver, name):
    return driver.find_element(By.CSS_SELECTOR, f"[data-slot={name}]").text


def _check_segment(driver, i):
    segment = LONG.segments[i]
    assert _slot(driver, "segment") == segment.label
    assert _slot(driver, "mean") == f"{segment.score:.2f}"
    assert [
        row.text.split("\n")[0].startswith(segment.label)
        for row in driver.find_elements(By.CSS_SELECTOR, "tr.chosen")
    ] == [True]
    assert (
        driver.execute_script(
            "return [...document.querySelector('#table tbody').rows].findIndex(r => r.className)"
        )
        == i
    )
    window = int((LONG.starts <= segment.peak_at).sum()) - 1
    likeliest = driver.find_element(By.CSS_SELECTOR, "#likely bdi")
    assert likeliest.text == LONG.labels[LONG.top[window, 0]]
    assert _slot(driver, "word") == LONG.words[window]
    at = driver.execute_script(
        "return [...document.querySelectorAll('.picture')].findIndex(p => p.ariaCurrent)"
    )
    assert at == abs(LONG.pictures_at - segment.peak_at).argmin()


def test_a_click_chooses_a_segment(visit):
    driver = visit("long")
    i = LANES[2][2][0]
    bar = driver.find_element(By.CSS_SELECTOR, f"[data-segment='{i}']")
    assert bar.accessible_name == described(LONG, LONG.segments[i])
    bar.click()
    _check_segment(driver, i)
    assert driver.find_element(By.ID, "said").text == described(LONG, LONG.segments[i])


def test_keys_move_through_segments_and_enter_chooses(visit):
    driver = visit("long")
    driver.find_element(By.CSS_SELECTOR, ".segment[tabindex='0']").send_keys(Keys.HOME)

    def focused():
        return int(driver.switch_to.active_element.get_attribute("data-segment"))

    assert focused() == LANES[0][2][0]
    driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert focused() == LANES[0][2][1]
    driver.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    assert focused() in LANES[1][2]
    driver.switch_to.active_element.send_keys(Keys.END)
    assert focused() == LANES[1][2][-1]
    driver.switch_to.active_element.send_keys(Keys.ENTER)
    _check_segment(driver, LANES[1][2][-1])


def test_buttons_go_through_time(visit):
    driver = visit("long")
    driver.find_element(By.CSS_SELECTOR, "[data-segment='3']").click()
    driver.find_element(By.ID, "next").click()
    _check_segment(driver, 4)
    driver.find_element(By.ID, "previous").click()
    driver.find_element(By.ID, "previous").click()
    _check_segment(driver, 2)


def test_pictures_show_their_moment(visit):
    driver = visit("long")
    driver.find_elements(By.CSS_SELECTOR, ".picture")[3].click()
    window = int((LONG.starts <= LONG.pictures_at[3]).sum()) - 1
    likeliest = driver.find_element(By.CSS_SELECTOR, "#likely bdi")
    assert likeliest.text == LONG.labels[LONG.top[window, 0]]
    assert not driver.find_element(By.ID, "segment").is_displayed()
    assert driver.find_elements(By.CSS_SELECTOR, ".segment[aria-current]") == []
    driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert driver.find_element(By.CSS_SELECTOR, ".picture[aria-current]").text == _slot(
        driver, "moment"
    )
    later = next(
        i for i, segment in enumerate(LONG.segments) if segment.peak_at > LONG.pictures_at[4]
    )
    driver.find_element(By.ID, "next").click()
    _check_segment(driver, later)


def test_hours_open_and_zoom_quickly(visit):
    started = time.monotonic()
    driver = visit("hours")
    assert time.monotonic() - started < 5
    assert len(driver.find_elements(By.CSS_SELECTOR, ".segment")) > 500
    width = "return document.querySelector('#words').offsetWidth"
    before = driver.execute_script(width)
    for factor in (2, 4, 8, 16):
        driver.find_element(By.ID, "in").click()
        assert driver.find_element(By.ID, "factor").text == f"{factor}×"
    assert not driver.find_element(By.ID, "in").is_enabled()
    assert driver.execute_script(width) > 14 * before
    ticks = driver.execute_script(
        "return [...document.querySelectorAll('.tick')].filter(t => t.offsetWidth).length"
    )
    assert 80 < ticks <= 176
    assert driver.execute_script("return document.documentElement.scrollWidth") <= 1200


def test_a_phone_begins_at_the_beginning(visit, driver):
    places = (
        "return [...document.querySelectorAll('.scroll')].map(e => [e.scrollLeft, e.scrollWidth "
        "> e.clientWidth])"
    )
    chromium.size(driver, 360, 740)
    for page in ("long", "hours", "clip"):
        visit(page)
        found = driver.execute_script(places)
        assert [left for left, _ in found] == [0] * len(found), page
        assert any(wide for _, wide in found), page
        assert driver.execute_script(
            "return [...document.querySelectorAll('.table')].every(e => e.scrollTop === 0)"
        )
    # and goes where one goes
    visit("long")
    driver.find_element(By.ID, "next").click()
    driver.find_elements(By.CSS_SELECTOR, ".picture")[-1].click()
    assert driver.execute_script(places)[0][0] > 0
