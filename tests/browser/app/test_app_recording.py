"""A recording of an edit: `APP_RECORDING=docs/app.gif make browser` writes the documents' one."""

import io
import os
import time
from pathlib import Path

from PIL import Image
from selenium.webdriver.common.keys import Keys

from browser import chromium
from browser.app.conftest import STAR, wait

WIDTH, HEIGHT, SHOWN = 1160, 1010, 860
LARGEST = 1_500_000


class Recorder:
    """Pictures of the page, each with the milliseconds that it is shown."""

    def __init__(self, page):
        self._page, self.pictures, self.times = page, [], []

    def take(self, milliseconds: int) -> None:
        """Adds a picture; one that is the same as the last is shown longer."""
        picture = Image.open(io.BytesIO(self._page.driver.get_screenshot_as_png())).convert("RGB")
        picture = picture.resize((SHOWN, SHOWN * picture.height // picture.width), Image.LANCZOS)
        if self.pictures and picture.tobytes() == self.pictures[-1].tobytes():
            self.times[-1] += milliseconds
            return
        self.pictures.append(picture)
        self.times.append(milliseconds)

    def save(self, path: Path) -> None:
        """Writes a GIF of one palette."""
        none = Image.Dither.NONE
        width, height = self.pictures[0].size
        all_of_them = Image.new("RGB", (width, 3 * height))
        for place, n in enumerate((0, len(self.pictures) // 2, -1)):
            all_of_them.paste(self.pictures[n], (0, place * height))
        palette = all_of_them.quantize(256, dither=none)
        first, *others = (one.quantize(palette=palette, dither=none) for one in self.pictures)
        first.save(path, save_all=True, append_images=others, duration=self.times, loop=0)


def test_a_recording_of_an_edit(page, site, tmp_path):
    path = Path(os.environ.get("APP_RECORDING") or tmp_path / "app.gif")
    chromium.size(page.driver, WIDTH, HEIGHT)
    chromium.media(page.driver, prefers_color_scheme="light", prefers_reduced_motion="reduce")
    page.open(site)
    page.type("\n".join(STAR[1:]))
    page.choose("star.mp4")
    page.answered(*STAR[1:])
    wait(lambda: page.js("const f = document.getElementById('film'); return f.readyState > 3"))
    # a frame that shows the object
    page.all(".frame")[1].click()
    page.js("document.activeElement.blur()")
    page.js("document.body.style.caretColor = 'transparent'; scrollTo(0, 70)")
    time.sleep(0.5)
    recorder = Recorder(page)
    recorder.take(1500)
    before = page.label, page.texts(".words bdi")
    field = page.id("label-text")
    field.send_keys(Keys.ENTER)
    for at in range(0, len(STAR[0]), 3):
        field.send_keys(STAR[0][at : at + 3])
        typed = STAR[0][: at + 3].strip()
        page.answered(*STAR[1:], typed)
        time.sleep(0.1)
        recorder.take(260)
    recorder.take(2200)
    assert before[0] != STAR[0] == page.label
    assert STAR[0] not in before[1]
    assert STAR[0] in page.texts(".words bdi")
    for at in (0.2, 0.4, 0.6, 0.8, 1.0, 1.2):
        page.slide("temperature", at, released=at == 1.2)
        time.sleep(0.25)
        recorder.take(220)
    recorder.take(1800)
    page.id("undo").click()
    time.sleep(0.3)
    recorder.take(1500)
    recorder.save(path)
    assert len(recorder.pictures) > 10
    assert path.stat().st_size < LARGEST
