"""One browser for all tests, pages from seeded numbers, and the rule that a page logs nothing and
fetches nothing.
"""

import json
from pathlib import Path

import pytest

from browser import chromium, scenes
from vtd_jax.report.html import Beside
from vtd_jax.report.pages import write_index, write_page


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """A report: clip, another vocabulary, hostile texts, frames without times, a long video, hours,
    and the index.
    """
    folder = tmp_path_factory.mktemp("report")
    frames = scenes.pictures(16)
    results = {
        "clip": scenes.explanation(frames),
        "vocabulary": scenes.explanation(frames[:5], seed=2, video="vocabulary.mp4", own=False),
        "hostile": scenes.explanation(frames[:6], scenes.HOSTILE, video=scenes.HOSTILE[1]),
        "long": scenes.timeline(frames),
        "hours": scenes.timeline(
            scenes.pictures(100, 48), scenes.HOSTILE, windows=5000, stride=1.44
        ),
    }
    truths, names = {"clip": "arm wrestling", "vocabulary": "hugging"}, list(results)
    # a page of an earlier run
    write_page(
        folder,
        scenes.explanation(frames[:4], video="old/earlier.mp4"),
        "earlier",
        {"date": "2025-12-31"},
    )
    entries = []
    for i, (name, result) in enumerate(results.items()):
        before, after = (f"{names[k]}.html" if 0 <= k < len(names) else "" for k in (i - 1, i + 1))
        beside = Beside(truth=truths.get(name), notice=scenes.NOTICE, before=before, after=after)
        entries.append(write_page(folder, result, name, scenes.ABOUT, beside))
    failed = [("song.mp3", "has sound, but no video")]
    write_index(folder, entries, failed, scenes.ABOUT, notice=scenes.NOTICE, right=(1, 2))
    return folder


@pytest.fixture(scope="session")
def browser_program():
    driver = chromium.start()
    yield driver
    driver.quit()


@pytest.fixture
def driver(browser_program):
    """The browser, 1200 pixels wide; afterwards its console must be empty, and only files may
    have been requested.
    """
    driver = browser_program
    chromium.size(driver, 1200)
    chromium.media(driver, prefers_color_scheme="light", prefers_reduced_motion="no-preference")
    yield driver
    assert driver.get_log("browser") == []
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            assert message["params"]["request"]["url"].split(":")[0] in (
                "file",
                "data",
                "about",
                "chrome",
            )


@pytest.fixture
def visit(driver, site):
    """Opens a page of the report, and gives the browser."""

    def open_page(name: str):
        driver.get(f"{(site / name).as_uri()}.html")
        return driver

    return open_page
