"""The page of `vtd app` on servers of this process: the package's small CLIP, and a tuned model."""

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from app.conftest import small_predictor
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

import vtd_jax
from browser import chromium
from support.video_files import encode
from vtd_jax.app.jobs import Ticket
from vtd_jax.app.routes import Routes
from vtd_jax.app.server import guarded
from vtd_jax.app.service import Service
from vtd_jax.predict.predictor import Predictor
from vtd_jax.scenes.render import render_clip, write_mp4

TOKEN = "a-token-of-sixteen-characters"
PATIENCE = 60.0
STAR = ("green checkered star", "red striped circle", "blue dotted triangle", "white solid cross")
# a label that takes its time to be answered
SLOW = "slow label"
# what Chromium logs of an answer that is an error, which the page shows itself
EXPECTED = "Failed to load resource"


def scene(name: str, frames: int = 64, seed: int = 0, irrelevant: float = 0.4) -> np.ndarray:
    """Frames of a rendered object, uint8 `[frames, 128, 128, 3]`."""
    rng = np.random.default_rng(seed)
    return render_clip(name, rng, frames=frames, size=128, irrelevant=irrelevant)[0]


def write_clips(folder: Path) -> None:
    """Videos that Chromium plays, one that it does not, a long one, and one that is none."""
    import av

    write_mp4(folder / "star.mp4", scene(STAR[0]))
    write_mp4(folder / "circle.mp4", scene(STAR[1], seed=1))
    parts = np.concatenate([scene(name, 80, seed, 0) for seed, name in enumerate(STAR[:3])])
    write_mp4(folder / "long.mp4", parts)
    write_mp4(folder / "minutes.mp4", parts, fps=2)
    with av.open(str(folder / "old.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 128
        stream.pix_fmt = "yuv420p"
        encode(container, stream, scene(STAR[2], 40, 3))
    (folder / "broken.mp4").write_bytes((folder / "star.mp4").read_bytes()[:3000])


class Site:
    """A server that a browser reaches.

    Attributes:
      address: of the page.
      service: behind it; an answer for `SLOW` waits for `late`.
      port: it listens there.
    """

    def __init__(self, predictor: Predictor, folder: Path | None, notice: str = "", port: int = 0):
        self.predictor = predictor
        self.service = Service(predictor, folder, {"Model": predictor.description}, notice)
        self.late = 1.0
        inner = self.service.results

        async def results(asked: Any, gone: Any = None) -> Any:
            if SLOW in asked.labels:
                await asyncio.sleep(self.late)
            return await inner(asked, gone)

        self.service.results = results
        self.routes = Routes(self.service)
        app = guarded(self.routes, TOKEN)
        config = uvicorn.Config(app, port=port, log_config=None, access_log=False, lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        wait(lambda: self._server.started)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}/?token={TOKEN}"

    def close(self) -> None:
        """Ends the server and its service."""
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()
        self.service.close()


def wait(condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Waits until something is true, and returns it."""
    end = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> Path:
    """The folder of the server."""
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder)
    return folder


@pytest.fixture(scope="session")
def site(clips) -> Iterator[Site]:
    """With the small CLIP, which knows rendered shapes."""
    made = Site(vtd_jax.load("tiny"), clips)
    yield made
    made.close()


@pytest.fixture(scope="session")
def tuned(clips) -> Iterator[Site]:
    """With a tuned model, beside which its CLIP answers zero-shot."""
    made = Site(small_predictor(), clips)
    yield made
    made.close()


class Held:
    """Encoding that waits.

    Attributes:
      jobs: clients' shares, as they come.
      begun: set when frames are to be encoded.
      go: lets them.
    """

    def __init__(self):
        self.jobs: list[Ticket] = []
        self.begun, self.go = threading.Event(), threading.Event()


@pytest.fixture
def hold(monkeypatch) -> Iterator[Callable[[Site], Held]]:
    """Holds the encoding of a server until it is let go, at the latest at the end of the test."""
    made: list[Held] = []

    def of(site: Site) -> Held:
        held = Held()
        made.append(held)
        device, encode = site.predictor.on_devices, site.service.encode
        start = device.start

        def wait_first(*given: Any) -> Any:
            held.begun.set()
            assert held.go.wait(PATIENCE)
            return start(*given)

        monkeypatch.setattr(device, "start", wait_first)
        # frames that other tests have encoded would leave nothing to do
        monkeypatch.setattr(site.service._kept, "rows", lambda *given: {})
        monkeypatch.setattr(
            site.service, "encode", lambda asked: held.jobs.append(encode(asked)) or held.jobs[-1]
        )
        return held

    yield of
    for held in made:
        held.go.set()


class Page:
    """The page as its user sees it."""

    def __init__(self, driver: Any):
        self.driver = driver

    def open(self, site: Site, fragment: str = "") -> "Page":
        """Opens the page anew."""
        self.driver.get("about:blank")
        self.driver.get(site.address + fragment)
        return self

    def js(self, code: str, *given: Any) -> Any:
        """Runs a script."""
        return self.driver.execute_script(code, *given)

    def id(self, name: str) -> WebElement:
        """An element by its id."""
        return self.driver.find_element(By.ID, name)

    def all(self, selector: str) -> list[WebElement]:
        """Elements by a selector."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """Texts of elements that are shown."""
        code = (
            "return [...document.querySelectorAll(arguments[0])]"
            ".filter(e => e.checkVisibility()).map(e => e.innerText)"
        )
        return self.js(code, selector)

    def shown(self, name: str) -> bool:
        """Whether an element is shown."""
        return self.id(name).is_displayed()

    def type(self, text: str, field: str = "label-text") -> None:
        """Replaces the text of a field, as a user would."""
        self.id(field).send_keys(Keys.CONTROL, "a")
        self.id(field).send_keys(text)

    def fill(self, text: str, field: str = "label-text") -> None:
        """Replaces the text of a field at once, as pasting does."""
        self.js(
            "const [e, text] = arguments; e.value = text;"
            "e.dispatchEvent(new InputEvent('input', {bubbles: true}))",
            self.id(field),
            text,
        )

    def slide(self, name: str, value: float, released: bool = True) -> None:
        """Moves a slider."""
        events = ["input", *(["change"] if released else [])]
        self.js(
            "const [e, value, events] = arguments; e.value = value;"
            "events.forEach(name => e.dispatchEvent(new Event(name, {bubbles: true})))",
            self.id(name),
            value,
            events,
        )

    def choose(self, name: str) -> None:
        """Chooses a video of the folder."""
        if not self.shown("choose"):
            self.id("another").click()
        found = wait(lambda: [e for e in self.all("#folder .file") if name in e.text])
        found[0].click()

    @property
    def label(self) -> str:
        """The label of the answer, "" while there is none."""
        return "".join(self.texts("#answer .verdict strong"))

    def answered(self, *labels: str) -> None:
        """Waits for an answer with these labels."""
        wait(lambda: sorted(self.texts(".choice bdi")) == sorted(labels) and self.label)

    @property
    def state(self) -> dict[str, str]:
        """What the address says."""
        code = "return Object.fromEntries(new URLSearchParams(location.hash.slice(1)))"
        return self.js(code)


@pytest.fixture
def page(browser_program, request) -> Iterator[Page]:
    """The page, 1200 pixels wide; afterwards nothing but errors of the server was logged, and
    nothing else was asked than the server.
    """
    driver = browser_program
    chromium.size(driver, 1200)
    chromium.media(driver, prefers_color_scheme="light", prefers_reduced_motion="no-preference")
    driver.get_log("browser")
    driver.get_log("performance")
    yield Page(driver)
    driver.get("about:blank")
    logged = [entry["message"] for entry in driver.get_log("browser")]
    assert [message for message in logged if EXPECTED not in message] == []
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            assert url.startswith(("http://127.0.0.1:", "data:", "blob:", "about:", "chrome:")), url


@pytest.fixture
def star(page, site) -> Page:
    """The page with an answer."""
    page.open(site)
    page.type("\n".join(STAR))
    page.choose("star.mp4")
    page.answered(*STAR)
    return page


@pytest.fixture
def saved(browser_program, tmp_path) -> Callable[[str], Path]:
    """Lets the browser download into a folder; waits for a file of some name."""
    settings = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser_program.execute_cdp_cmd("Browser.setDownloadBehavior", settings)

    def file(name: str) -> Path:
        wait((tmp_path / name).exists)
        return tmp_path / name

    return file


@pytest.fixture(scope="session")
def copied(clips, tmp_path_factory) -> Path:
    """A file outside the folder, to upload."""
    return Path(shutil.copy(clips / "star.mp4", tmp_path_factory.mktemp("own") / "my star.mp4"))
