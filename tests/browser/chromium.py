"""Headless Chromium by Selenium, with what it logs; the driver is the installed one, nothing is
downloaded.
"""

import os
import shutil

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CHROMIUM = "chromium", "chromium-browser", "google-chrome"
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


if __name__ == "__main__":
    program("CHROMIUM", *CHROMIUM)
    program("CHROMEDRIVER", "chromedriver")
