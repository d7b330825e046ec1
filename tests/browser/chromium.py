"""Headless Chromium by Selenium, with what it logs; the driver is the installed one, nothing is
downloaded.
"""

import itertools
import os
import shutil
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CHROMIUM = "chromium", "chromium-browser", "google-chrome"
# roles that need a name
NAMED = {"button", "radio", "link", "searchbox", "combobox", "textbox", "slider", "image", "table"}
NAMED |= {"heading", "region", "toolbar", "radiogroup", "progressbar", "dialog"}
MISSING = (
    "error: {} is not there; install it with `apt-get install chromium chromium-driver`, or set "
    "{}=/its/path"
)


def program(variable: str, *names: str) -> str:
    """Path of an installed program; ends with one line that says what to install."""
    found = os.environ.get(variable) or next(filter(None, map(shutil.which, names)), None)
    if not found or not shutil.which(found):
        raise SystemExit(MISSING.format(found or names[0], variable))
    return found


def start() -> webdriver.Chrome:
    """A browser that logs its console and every request."""
    options = webdriver.ChromeOptions()
    options.binary_location = program("CHROMIUM", *CHROMIUM)
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        # a camera that shows a moving picture, and is allowed
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(
        options=options, service=Service(executable_path=program("CHROMEDRIVER", "chromedriver"))
    )


def size(driver: webdriver.Chrome, width: int, height: int = 900) -> None:
    """A viewport of that many CSS pixels, also narrower than a window can be."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
    )


def media(driver: webdriver.Chrome, **features: str) -> None:
    """Wishes of the user, such as `prefers_color_scheme="dark"`."""
    wishes = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wishes})


def check_outline(driver: Any) -> None:
    """Names for screen readers, landmarks, and headings none of which skips a level."""
    tree = driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    nodes = [(node["role"]["value"], node) for node in tree if not node.get("ignored")]
    for role, node in nodes:
        if role in NAMED:
            assert node["name"]["value"].strip(), (role, node)
    roles = [role for role, _ in nodes]
    assert {"banner", "main", "contentinfo", "status"} <= set(roles)
    levels = driver.execute_script(
        "return [...document.querySelectorAll('h1,h2,h3')].filter(h => h.offsetParent).map(h => "
        "+h.tagName[1])"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


if __name__ == "__main__":
    program("CHROMIUM", *CHROMIUM)
    program("CHROMEDRIVER", "chromedriver")
