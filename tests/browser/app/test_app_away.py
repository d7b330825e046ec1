"""The server or the page is away for a while: what comes back by itself, and what is said."""

import threading
import time

from browser.app.conftest import STAR, Site, wait
from vtd_jax.app.service import NotEncoded

SHOW = "document.dispatchEvent(new Event('visibilitychange', {bubbles: true}))"


def test_a_job_that_the_server_gave_up_is_asked_for_again(page, site, hold):
    held = hold(site)
    page.open(site, "#frames=13&labels=one")
    page.choose("star.mp4")
    assert held.begun.wait(60)
    # as it does with a page that it has not heard of for a while
    site.service.encoder.cancel(held.jobs[0])
    held.go.set()
    page.answered("one")
    assert len(page.all(".frame")) == 13
    assert len(held.jobs) == 2
    assert not page.shown("trouble")


def test_a_page_that_wakes_asks_again_for_what_is_not_there(page, site, hold):
    held = hold(site)
    page.open(site, "#frames=14&labels=one")
    page.choose("star.mp4")
    assert held.begun.wait(60)
    wait(lambda: page.shown("dock"))
    page.js(SHOW)
    wait(lambda: len(held.jobs) == 2)
    # both are shares in the same work
    assert held.jobs[0].job is held.jobs[1].job
    held.go.set()
    page.answered("one")
    page.js(SHOW)
    assert len(held.jobs) == 2


def test_a_server_that_is_started_again_goes_on_with_the_video(page, site, clips, hold):
    own = Site(site.predictor, clips)
    held = hold(own)
    page.open(own, "#frames=15&labels=one")
    page.choose("star.mp4")
    assert held.begun.wait(60)
    threading.Timer(0.5, held.go.set).start()
    own.close()
    other = Site(site.predictor, clips, port=own.port)
    try:
        page.answered("one")
        assert len(page.all(".frame")) == 15
        assert not page.shown("trouble")
        assert not page.shown("dock")
    finally:
        other.close()


def test_after_a_silence_there_is_another_try(page, site, clips):
    own = Site(site.predictor, clips)
    page.open(own)
    page.type("\n".join(STAR))
    page.choose("star.mp4")
    page.answered(*STAR)
    own.close()
    page.type("two")
    wait(lambda: "does not answer" in page.id("trouble-text").text)
    other = Site(site.predictor, clips, port=own.port)
    try:
        page.id("again").click()
        page.answered("two")
        assert not page.shown("trouble")
    finally:
        other.close()


def test_a_video_that_cannot_be_kept_is_not_encoded_for_ever(star, site, monkeypatch):
    encode, jobs = site.service.encode, []

    async def results(asked, gone=None):
        raise NotEncoded("it had to go")

    monkeypatch.setattr(site.service, "results", results)
    monkeypatch.setattr(
        site.service, "encode", lambda asked: jobs.append(encode(asked)) or jobs[-1]
    )
    star.type("one")
    wait(lambda: "had to go" in star.id("trouble-text").text)
    assert len(jobs) <= 3


def test_a_screen_reader_hears_the_answer_and_not_every_key(star, site):
    wait(lambda: star.id("said").text.startswith(STAR[0]))
    star.js(
        "window.heard = []; for (const e of document.querySelectorAll("
        "'[role=status], [role=alert], [aria-live=polite], output:not([aria-live=off])'))"
        "new MutationObserver(() => heard.push(e.id + ': ' + e.textContent))"
        ".observe(e, {subtree: true, childList: true, characterData: true})"
    )
    star.type("a red circle, a blue star")
    star.slide("temperature", 1)
    star.slide("frames", 7)
    star.answered("a red circle", "a blue star")
    wait(lambda: star.js("return heard.length"))
    # work that takes its time is said once
    heard = [text for text in star.js("return heard") if "coding: " not in text]
    assert all("best of 2 labels" in text for text in heard), heard
    assert len(set(heard)) <= 2


def test_a_problem_and_the_work_go_side_by_side(star, site, hold):
    held = hold(site)
    star.slide("frames", 21)
    assert held.begun.wait(60)
    wait(lambda: star.shown("dock"))
    star.js("dock.problem('something failed')")
    assert star.shown("trouble")
    assert star.shown("dock")
    star.id("close").click()
    star.id("cancel").click()
    wait(lambda: held.jobs[-1].left)
    assert not star.shown("dock")
    assert star.id("frames-value").text == "16"


def test_a_stream_that_always_breaks_off_is_not_asked_for_in_a_loop(page, site, hold):
    held = hold(site)
    page.open(site, "#frames=27&labels=one")
    # as a proxy does that closes what it has passed on
    page.js(
        "const follow = server.follow; server.follow = (job, on) => {"
        "const leave = follow(job, on); setTimeout(() => { leave(); on.broken() }, 50);"
        "return leave }"
    )
    page.choose("star.mp4")
    assert held.begun.wait(60)
    time.sleep(1.5)
    assert 1 < len(held.jobs) <= 4
    page.id("cancel").click()
    wait(lambda: not page.shown("dock"))
    wait(lambda: page.shown("choose"))
