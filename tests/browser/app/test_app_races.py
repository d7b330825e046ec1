"""Quick users: what is shown is always of the newest video, labels and sliders."""

import threading
import time

from selenium.webdriver.common.keys import Keys

from browser.app.conftest import SLOW, STAR, wait

NETWORK = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}


def _nothing_old(page):
    assert page.texts("h1") == ["circle.mp4"]
    assert page.texts(".choice") == page.texts(".strip") == page.texts("#rail i") == []
    assert page.label == ""
    assert page.js("return document.getElementById('picture').src") == "data:,"
    assert not page.shown("menu")


def test_nothing_of_the_video_before_is_under_a_new_one(star, site, hold):
    held = hold(site)
    star.slide("frames", 17)
    wait(lambda: held.begun.is_set())
    star.choose("circle.mp4")
    wait(lambda: len(held.jobs) == 2)
    _nothing_old(star)
    assert held.jobs[0].left
    held.go.set()
    star.answered(*STAR)
    assert len(star.all(".frame")) == 17
    assert star.label == STAR[1]


def test_an_answer_for_the_video_before_is_not_shown(star, site, hold):
    # as many as no other test encodes
    star.slide("frames", 25)
    wait(lambda: len(star.all(".frame")) == 25)
    star.type(SLOW)
    time.sleep(0.3)
    held = hold(site)
    star.choose("circle.mp4")
    time.sleep(site.late + 0.3)
    _nothing_old(star)
    assert not star.shown("trouble")
    held.go.set()
    star.answered(SLOW)
    star.type("\n".join(STAR))
    star.answered(*STAR)
    assert star.label == STAR[1]


def test_a_video_whose_job_comes_too_late_is_given_up(page, site, monkeypatch):
    encode, jobs, late = site.service.encode, {}, threading.Event()

    def slow_first(asked):
        ticket = encode(asked)
        jobs.setdefault(ticket.job.wanted.video.name, ticket)
        if len(jobs) == 1:
            assert late.wait(60)
        return ticket

    monkeypatch.setattr(site.service, "encode", slow_first)
    page.open(site, "#frames=9&labels=one")
    page.choose("star.mp4")
    wait(lambda: jobs)
    page.choose("circle.mp4")
    page.answered("one")
    late.set()
    wait(lambda: jobs["star.mp4"].left)
    assert not jobs["circle.mp4"].left
    assert page.texts("h1") == ["circle.mp4"]


def test_undoing_the_frames_ends_their_encoding(star, site, hold):
    held = hold(site)
    star.slide("frames", 26)
    assert held.begun.wait(60)
    star.id("undo").click()
    wait(lambda: held.jobs[-1].left)
    assert not star.shown("dock")
    held.go.set()
    star.type("one")
    star.answered("one")
    assert star.id("frames-value").text == "16"
    assert len(star.all(".frame")) == 16


def test_a_slider_is_undone_without_what_was_typed_before(star):
    star.fill("one\ntwo")
    star.slide("temperature", 1)
    star.answered("one", "two")
    star.id("undo").click()
    wait(lambda: star.id("temperature-value").text == "0.01")
    assert star.id("label-text").get_attribute("value") == "one\ntwo"


def test_what_is_chosen_last_counts_and_not_what_is_sent_longest(page, site, copied):
    page.open(site, "#labels=one")
    page.driver.execute_cdp_cmd("Network.enable", {})
    slow = NETWORK | {"uploadThroughput": 20_000}
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", slow)
    try:
        page.id("file").send_keys(str(copied))
        wait(lambda: page.shown("dock"))
        page.choose("circle.mp4")
        page.answered("one")
        assert not page.shown("dock")
    finally:
        page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", NETWORK)
    time.sleep(0.3)
    assert page.texts("h1") == ["circle.mp4"]


def test_the_focus_goes_on_when_the_videos_close(page, site):
    page.open(site)
    wait(lambda: page.texts("#folder .file"))
    page.id("search").send_keys(Keys.ARROW_DOWN)
    page.driver.switch_to.active_element.send_keys(Keys.END, Keys.ENTER)
    wait(lambda: page.texts("h1") == ["star.mp4"])
    # labels come next
    assert page.driver.switch_to.active_element == page.id("label-text")
    page.type("one")
    page.answered("one")
    page.id("another").click()
    page.all("#folder .file")[1].send_keys(Keys.ENTER)
    wait(lambda: page.texts("h1") == ["circle.mp4"])
    assert page.driver.switch_to.active_element == page.id("another")


def test_views_that_are_gone_take_no_memory(star):
    def nodes():
        star.driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
        return star.driver.execute_cdp_cmd("Memory.getDOMCounters", {})

    def there_and_back():
        star.js("document.querySelector('#modes [value=timeline]').click()")
        # not as elements: the driver would keep them
        wait(lambda: star.texts(".segment"))
        star.js("document.querySelector('#modes [value=clip]').click()")
        star.answered(*STAR)
        # the listener of a strip that is gone goes with the next key
        star.id("label-text").send_keys(Keys.SHIFT)

    there_and_back()
    before = nodes()
    for _ in range(4):
        there_and_back()
    after = nodes()
    assert after["nodes"] < before["nodes"] + 500
    assert after["jsEventListeners"] <= before["jsEventListeners"] + 10
