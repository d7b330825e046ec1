"""The video plays beside its frames; mouse and keys choose frames and labels."""

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from browser.app.conftest import STAR, wait


def _frame(page):
    """The chosen frame, from 0; what is said of it agrees."""
    frame, number = page.js(
        "return [+document.querySelector('.frame[aria-current]').dataset.frame, "
        "document.querySelector('[data-slot=number]').textContent]"
    )
    assert number == str(frame + 1)
    return frame


def _second(page):
    return page.js("return document.getElementById('film').currentTime")


def _time(page, frame):
    return float(page.texts(".strip thead th")[frame + 1].removesuffix(" s"))


def test_it_starts_at_the_first_keyframe(star):
    wait(lambda: star.shown("film"))
    marked = star.js(
        "return [...document.querySelectorAll('.mark')].findIndex(e => e.innerText.endsWith('1'))"
    )
    assert _frame(star) == marked
    wait(lambda: abs(_second(star) - _time(star, marked)) < 0.1)


def test_a_click_on_a_frame_seeks_the_video(star):
    wait(lambda: star.shown("film"))
    for frame in (12, 3):
        star.all(".frame")[frame].click()
        assert _frame(star) == frame
        wait(lambda frame=frame: abs(_second(star) - _time(star, frame)) < 0.1)
    assert star.js("return document.querySelectorAll('.rail .here').length") == 1


def test_seeking_the_video_chooses_the_frame(star):
    wait(lambda: star.shown("film"))
    star.js("document.getElementById('film').currentTime = 6.3")
    wait(lambda: abs(_time(star, _frame(star)) - 6.3) <= 0.3)


def test_playing_moves_through_the_frames_and_the_space_bar_pauses(star):
    wait(lambda: star.shown("film"))
    star.all(".frame")[0].click()
    star.driver.switch_to.active_element.send_keys(" ")
    wait(lambda: _frame(star) >= 2)
    star.driver.switch_to.active_element.send_keys(" ")
    wait(lambda: star.js("return document.getElementById('film').paused"))
    assert abs(_time(star, _frame(star)) - _second(star)) <= 0.3


def test_the_frame_under_the_pointer_is_named(star):
    frame = _frame(star)
    other = (frame + 5) % 16
    ActionChains(star.driver).move_to_element(star.all(".frame")[other]).perform()
    wait(lambda: f"Frame {other + 1} at" in star.texts(".pointed")[0])
    said = star.texts(".pointed")[0]
    assert any(label in said for label in STAR)
    assert "cosine" in said
    assert "confidence" in said
    assert "adds" in said
    # it is not chosen
    marked = "return +document.querySelector('.frame[aria-current]').dataset.frame"
    assert star.js(marked) == frame
    ActionChains(star.driver).move_to_element(star.id("h-strip")).perform()
    wait(lambda: f"Frame {frame + 1} at" in star.texts(".pointed")[0])


def test_keys_go_from_the_labels_to_the_frames_and_back(star):
    star.id("label-text").send_keys(Keys.CONTROL, Keys.ENTER)
    first = _frame(star)
    focused = star.driver.switch_to.active_element
    assert focused.get_attribute("data-frame") == str(first)
    focused.send_keys(Keys.HOME)
    star.driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert _frame(star) == 1
    assert "Frame 2 of 16" in star.id("said").text
    star.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert star.driver.switch_to.active_element == star.id("label-text")


def test_a_chosen_label_stays_chosen_when_others_come(star):
    star.all(".choice")[2].click()
    chosen = star.texts(".heat .chosen th")[0]
    star.id("label-text").send_keys("\nsomething else")
    star.answered(*STAR, "something else")
    assert star.texts(".heat .chosen th") == [chosen]
    assert set(star.texts("[data-slot=label]")) == {chosen}


def test_a_frame_stays_chosen_when_labels_change(star):
    star.all(".frame")[7].click()
    star.type("one\ntwo")
    star.answered("one", "two")
    assert _frame(star) == 7


def test_a_single_label_has_no_rival(star):
    star.type("alone")
    star.answered("alone")
    assert star.driver.find_element(By.CSS_SELECTOR, ".adds th").text == "Adds to its logit"
