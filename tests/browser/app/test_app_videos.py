"""A video comes onto the page: dropped, as a file, from the folder; encoding can be cancelled."""

import pytest
from selenium.webdriver.common.keys import Keys

from browser.app.conftest import STAR, Site, wait
from vtd_jax.app.encoding import CANCELLED
from vtd_jax.app.service import NotEncoded

DROP = """
const [input, target] = arguments, data = new DataTransfer();
data.items.add(input.files[0]);
for (const name of ['dragenter', 'dragover', 'drop'])
  target.dispatchEvent(new DragEvent(name, {bubbles: true, cancelable: true, dataTransfer: data}));
input.remove();
"""
INPUT = """
const input = Object.assign(document.createElement('input'), {type: 'file', id: 'carrier'});
document.body.append(input);
return input;
"""


def test_a_file_that_is_dropped_is_sent_encoded_and_answered(page, site, copied):
    page.open(site)
    page.type("\n".join(STAR))
    carrier = page.js(INPUT)
    carrier.send_keys(str(copied))
    page.js(DROP, carrier, page.id("label-text"))
    page.answered(*STAR)
    assert page.label == STAR[0]
    assert page.texts("h1") == ["my star.mp4"]
    assert not page.shown("drag")
    assert not page.shown("choose")


def test_a_file_that_is_chosen(page, site, copied):
    page.open(site)
    page.id("file").send_keys(str(copied))
    wait(lambda: page.texts("h1") == ["my star.mp4"])
    page.type(STAR[0])
    page.answered(STAR[0])


def test_the_folder_is_searched_and_walked_by_keys(page, site):
    page.open(site)
    wait(lambda: len(page.texts("#folder .file")) == 6)
    page.id("search").send_keys("LONG")
    wait(lambda: len(page.texts("#folder .file")) == 1)
    page.id("search").send_keys(Keys.CONTROL, "a", Keys.DELETE)
    wait(lambda: len(page.texts("#folder .file")) == 6)
    page.id("search").send_keys(Keys.ARROW_DOWN)
    for key, place in ((Keys.ARROW_DOWN, 1), (Keys.END, 5), (Keys.ARROW_UP, 4), (Keys.HOME, 0)):
        page.driver.switch_to.active_element.send_keys(key)
        focused = page.driver.switch_to.active_element
        assert focused == page.all("#folder .file")[place]
    page.id("search").send_keys("nothing is called so")
    wait(lambda: "no video" in page.id("folder-more").text)


def test_another_video_is_chosen_or_not(star):
    star.id("another").click()
    assert star.shown("choose")
    assert star.id("another").get_attribute("aria-expanded") == "true"
    star.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not star.shown("choose")
    assert star.driver.switch_to.active_element == star.id("another")
    star.choose("circle.mp4")
    wait(lambda: star.texts("h1") == ["circle.mp4"])
    wait(lambda: star.label == STAR[1])
    assert not star.shown("choose")


def test_a_broken_video_is_one_line(page, site):
    page.open(site)
    page.choose("broken.mp4")
    wait(lambda: "broken.mp4" in page.id("trouble-text").text)
    assert "\n" not in page.id("trouble-text").text
    assert page.shown("choose")
    assert not page.shown("dock")
    page.id("close").click()
    assert not page.shown("trouble")
    # what had the focus is gone
    assert page.driver.switch_to.active_element == page.id("file")


def test_a_file_that_is_no_video_is_one_line(page, site, tmp_path):
    path = tmp_path / "notes.mp4"
    path.write_text("these are notes")
    page.open(site)
    page.id("file").send_keys(str(path))
    wait(lambda: "notes.mp4" in page.id("choose-problem").text + page.id("trouble-text").text)


def test_a_link_to_a_video_that_is_gone_says_so(page, site):
    page.open(site, f"#video={'0' * 32}&labels=a")
    wait(lambda: page.shown("choose-problem"))
    assert page.shown("choose")
    assert not page.shown("stage")
    # and another one can be taken
    page.choose("star.mp4")
    page.answered("a")


def test_a_video_that_the_server_let_go_is_encoded_again(star, site, monkeypatch):
    inner, refused = site.service.results, []

    async def results(asked, gone=None):
        if not refused:
            refused.append(asked)
            raise NotEncoded("it had to go")
        return await inner(asked, gone)

    monkeypatch.setattr(site.service, "results", results)
    star.type("one\ntwo")
    star.answered("one", "two")
    assert len(refused) == 1


def test_the_first_encoding_is_cancelled(page, site, hold):
    held = hold(site)
    page.open(site, "#frames=11&labels=one")
    page.choose("circle.mp4")
    assert held.begun.wait(60)
    wait(lambda: page.shown("dock"))
    page.id("cancel").click()
    wait(lambda: page.shown("choose"))
    assert not page.shown("stage")
    assert page.state.get("video") is None
    held.go.set()
    page.choose("circle.mp4")
    page.answered("one")
    assert len(page.all(".frame")) == 11


def test_a_server_that_is_gone_is_one_line(page, clips, site):
    own = Site(site.predictor, clips)
    page.open(own, "#labels=one")
    page.choose("star.mp4")
    page.answered("one")
    own.close()
    page.type("two")
    wait(lambda: "does not answer" in page.id("trouble-text").text)
    assert page.label == "one"


@pytest.mark.shared
@pytest.mark.parametrize("name", ["arm_wrestling.mp4", "applying_makeup.avi", "cleaning_pool.mp4"])
def test_real_clips(page, site, shared_dir, name):
    page.open(site)
    page.type("arm wrestling\napplying makeup\ncleaning pool")
    page.id("file").send_keys(str(shared_dir / "videos" / name))
    page.answered("arm wrestling", "applying makeup", "cleaning pool")
    assert page.texts("h1") == [name]
    film = not name.endswith(".avi")
    wait(lambda: page.shown("film") is film and page.shown("picture") is not film)
    if film:
        page.all(".frame")[15].click()
        seconds = float(page.texts(".strip thead th")[16].removesuffix(" s"))
        now = "return document.getElementById('film').currentTime"
        wait(lambda: abs(page.js(now) - seconds) < 0.1)


def test_encoding_is_cancelled(star, site, hold):
    held = hold(site)
    star.slide("frames", 23)
    assert held.begun.wait(60)
    wait(lambda: star.shown("dock"))
    star.id("cancel").click()
    wait(lambda: not star.shown("dock"))
    wait(lambda: held.jobs[-1].now()[0] == CANCELLED)
    # the frames that are there stay
    assert star.id("frames-value").text == "16"
    assert len(star.all(".frame")) == 16
    held.go.set()
    wait(lambda: not site.service.encoder._running)
    star.slide("frames", 5)
    wait(lambda: len(star.all(".frame")) == 5)


def test_an_avi_is_shown_as_frames_alone_and_says_so_once(page, site):
    page.open(site)
    page.type("\n".join(STAR))
    page.choose("old.avi")
    page.answered(*STAR)
    wait(lambda: page.shown("film-note"))
    assert "AVI" in page.id("film-note").text
    assert not page.shown("film")
    assert page.shown("picture")
    page.id("play").click()
    here = page.js("return document.querySelector('.frame[aria-current]').dataset.frame")
    moved = "return document.querySelector('.frame[aria-current]').dataset.frame"
    wait(lambda: page.js(moved) != here)


def test_the_camera_is_recorded_and_sent(page, site):
    page.open(site)
    page.type("\n".join(STAR))
    page.id("record").click()
    wait(lambda: page.shown("camera-box"))
    wait(lambda: page.js("return document.getElementById('camera-view').videoWidth") > 0)
    page.id("camera-start").click()
    wait(lambda: page.id("camera-note").text >= "1.5 s")
    page.id("camera-start").click()
    page.answered(*STAR)
    assert page.texts("h1")[0].startswith("camera.")
    assert not page.shown("camera-box")


def test_without_a_camera_there_is_one_line(page, site):
    page.open(site)
    page.js(
        "navigator.mediaDevices.getUserMedia = async () => "
        "{ throw new DOMException('', 'NotFoundError') }"
    )
    page.id("record").click()
    wait(lambda: page.id("choose-problem").text == "There is no camera.")
    # as on http from another machine
    page.js("Object.defineProperty(navigator, 'mediaDevices', {value: undefined})")
    page.id("record").click()
    wait(lambda: "https" in page.id("choose-problem").text)


def test_a_camera_that_is_asked_for_twice_is_opened_once(page, site):
    page.open(site)
    page.js(
        "window.tracks = []; const given = navigator.mediaDevices.getUserMedia.bind("
        "navigator.mediaDevices); navigator.mediaDevices.getUserMedia = async (wanted) => {"
        "await new Promise((go) => setTimeout(go, 200)); const one = await given(wanted);"
        "tracks.push(...one.getTracks()); return one; };"
        "document.getElementById('record').click(); document.getElementById('record').click()"
    )
    wait(lambda: page.shown("camera-box"))
    page.id("camera-close").click()
    wait(lambda: page.js("return tracks.map(one => one.readyState)") == ["ended"])


def test_a_video_too_large_is_one_line(page, site, copied):
    page.open(site)
    page.js("known.limits.upload_bytes = 1000")
    page.id("file").send_keys(str(copied))
    wait(lambda: page.shown("choose-problem"))
    assert "my star.mp4" in page.id("choose-problem").text


def test_sending_is_cancelled(page, site, copied):
    page.open(site)
    network = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 20_000}
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", network)
    try:
        page.id("file").send_keys(str(copied))
        wait(lambda: page.shown("dock") and "my star.mp4" in page.id("dock-text").text)
        page.id("cancel").click()
        wait(lambda: not page.shown("dock"))
        assert page.shown("choose")
        assert not page.shown("choose-problem")
    finally:
        page.driver.execute_cdp_cmd(
            "Network.emulateNetworkConditions", network | {"uploadThroughput": -1}
        )
