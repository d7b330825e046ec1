"""Pictures of the pages, to look at: `BROWSER_SHOTS=folder make browser` keeps them. Real frames,
where there are.
"""

import base64
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from browser import chromium, scenes
from vtd_jax.report.html import Beside
from vtd_jax.report.pages import write_index, write_page
from vtd_jax.video.clip import read_clip

SHOTS = [
    ("clip", "light", 1200),
    ("clip", "dark", 1200),
    ("clip", "light", 360),
    ("long", "light", 1200),
]
SHOTS += [
    ("long", "dark", 360),
    ("index", "light", 1200),
    ("index", "dark", 360),
    ("hostile", "light", 360),
]


def screenshot(driver, path: Path) -> np.ndarray:
    """A PNG of what is in view; returns its pixels."""
    data = base64.b64decode(
        driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
    )
    path.write_bytes(data)
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def shoot(
    driver, url: str, theme: str, width: int, path: Path, height: int | None = None
) -> np.ndarray:
    """A PNG of a page, all of it without a height; returns its pixels."""
    chromium.media(driver, prefers_color_scheme=theme)
    chromium.size(driver, width)
    driver.get(url)
    chromium.size(
        driver,
        width,
        height or driver.execute_script("return document.documentElement.scrollHeight"),
    )
    return screenshot(driver, path)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory, shared_dir):
    """Pages with real frames where ../shared has clips, and the folder for their pictures."""
    folder = tmp_path_factory.mktemp("gallery")
    files = sorted((shared_dir / "videos").glob("*.[ma][pv][4i]"))[:5]
    clips = [read_clip(file, 16, 224).frames for file in files] or [
        scenes.pictures(16, 224, seed) for seed in range(3)
    ]
    names = [file.name for file in files] or [f"clip {seed}.mp4" for seed in range(3)]
    best = min(2, len(clips) - 1)
    beside = Beside(notice=scenes.NOTICE, before="clip0.html", after="clip.html")
    write_page(
        folder,
        scenes.explanation(clips[0], video="old/earlier.mp4"),
        "earlier",
        {"date": "2025-12-31"},
    )
    entries = [
        write_page(
            folder, scenes.timeline(np.concatenate(clips)[::2]), "long", scenes.ABOUT, beside
        )
    ]
    for i, (frames, name) in enumerate(zip(clips, names)):
        label = Path(name).stem.replace("_", " ")
        labels = (label, *(other for other in scenes.LABELS if other != label))
        result = scenes.explanation(frames, labels, seed=4 * i, video=f"videos/{name}")
        known = Beside(
            truth=labels[i % 2],
            before="long.html",
            after="hostile.html",
            notice=scenes.NOTICE if i else "",
        )
        entries.append(
            write_page(folder, result, "clip" if i == best else f"clip{i}", scenes.ABOUT, known)
        )
    hostile = scenes.explanation(clips[0][:6], scenes.HOSTILE, video="videos/綱引き.mp4")
    entries.append(write_page(folder, hostile, "hostile", scenes.ABOUT))
    failed = [
        ("videos/song.mp3", "has sound, but no video"),
        ("videos/half.mp4", "breaks off after 31 of 250 frames"),
    ]
    write_index(
        folder,
        entries,
        failed,
        scenes.ABOUT,
        notice=scenes.NOTICE,
        right=(len(clips) - 2, len(clips)),
    )
    return folder


def test_pictures_of_the_pages(driver, gallery, tmp_path):
    shots = Path(os.environ.get("BROWSER_SHOTS") or tmp_path)
    shots.mkdir(parents=True, exist_ok=True)
    for page, theme, width in SHOTS:
        url = (gallery / f"{page}.html").as_uri()
        pixels = shoot(driver, url, theme, width, shots / f"{page}_{theme}_{width}.png")
        assert pixels.shape[1] == width
        # most of a page is its ground
        assert (np.median(pixels) > 200) == (theme == "light")
        assert len(np.unique(pixels)) > 100
