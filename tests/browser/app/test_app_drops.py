"""What is dropped onto the page by a real drag: videos, several files, folders, links, texts."""

import pytest

from browser.app.conftest import STAR, wait

COPY = 1


@pytest.fixture
def drop(page):
    """Drags files or texts of some types over a point of the page, and lets them go."""

    def over(*paths, items=(), at=(300, 300)):
        given = [{"mimeType": kind, "data": text} for kind, text in items]
        data = {"items": given, "files": [*map(str, paths)], "dragOperationsMask": COPY}
        for step in ("dragEnter", "dragOver", "drop"):
            event = {"type": step, "x": at[0], "y": at[1], "data": data}
            page.driver.execute_cdp_cmd("Input.dispatchDragEvent", event)

    return over


@pytest.fixture
def own(clips, tmp_path):
    """Copies of videos that no other test sends: the server knows a content by its first name."""
    for name in ("star.mp4", "circle.mp4"):
        # an empty box at the end
        (tmp_path / name).write_bytes((clips / name).read_bytes() + b"\0\0\0\x08free")
    return tmp_path


def test_of_several_files_the_video_is_taken_and_that_is_said(page, site, drop, own, tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("these are notes")
    page.open(site, "#labels=one")
    # the line goes when the video is there, which can be at once
    page.js(
        "const line = document.getElementById('trouble-text'); window.said = [];"
        "new MutationObserver(() => said.push(line.textContent)).observe(line, {childList: true})"
    )
    drop(notes, own / "star.mp4", own / "circle.mp4")
    page.answered("one")
    (said,) = filter(None, page.js("return said"))
    assert said == "3 were dropped, and one is taken at a time: star.mp4"
    assert page.texts("h1") == ["star.mp4"]
    assert not page.shown("trouble")
    assert not page.shown("drag")


def test_a_folder_or_an_empty_file_is_one_line(page, site, drop, tmp_path):
    (tmp_path / "holiday").mkdir()
    (tmp_path / "empty.mp4").touch()
    page.open(site)
    drop(tmp_path / "holiday")
    wait(lambda: page.id("choose-problem").text == "holiday: is a folder; drop a video of it")
    drop(tmp_path / "empty.mp4")
    wait(lambda: page.id("choose-problem").text == "empty.mp4: is empty")


def test_a_file_that_cannot_be_read_is_no_silent_server(page, site, tmp_path, clips):
    path = tmp_path / "gone.mp4"
    path.write_bytes((clips / "star.mp4").read_bytes())
    page.open(site)
    page.js(
        "File.prototype.slice = () => "
        "({arrayBuffer: async () => { throw new DOMException('', 'NotReadableError') }})"
    )
    page.id("file").send_keys(str(path))
    wait(lambda: "gone.mp4: cannot be read" in page.id("choose-problem").text)
    assert not page.shown("dock")


def test_a_link_does_not_leave_the_page_and_a_text_goes_into_a_field(star, drop):
    link = [("text/uri-list", "http://127.0.0.1:9/"), ("text/plain", "http://127.0.0.1:9/")]
    before = star.driver.current_url
    drop(items=link)
    box = star.js(
        "const r = document.getElementById('label-text').getBoundingClientRect();"
        "return [r.x, r.y, r.width]"
    )
    drop(items=[("text/plain", "violet ")], at=(box[0] + box[2] - 20, box[1] + 18))
    wait(lambda: "violet" in star.id("label-text").get_attribute("value"))
    assert star.driver.current_url.split("#")[0] == before.split("#")[0]
    wait(lambda: any("violet" in text for text in star.texts(".choice bdi")))


def test_a_video_that_is_dropped_while_another_is_encoded(page, site, drop, own, hold):
    held = hold(site)
    page.open(site, "#frames=18")
    page.type("\n".join(STAR))
    page.choose("star.mp4")
    assert held.begun.wait(60)
    drop(own / "circle.mp4")
    wait(lambda: page.texts("h1") == ["circle.mp4"])
    wait(lambda: held.jobs[0].left)
    held.go.set()
    page.answered(*STAR)
    assert page.label == STAR[1]
    assert not page.shown("dock")
