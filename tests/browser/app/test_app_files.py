"""What is shown leaves the page as files, and as lines of Python."""

import csv
import io
import json

from selenium.webdriver.common.by import By

from browser.app.conftest import STAR, wait


def _menu(page, text):
    page.driver.find_element(By.CSS_SELECTOR, "#menu summary").click()
    found = [e for e in page.all("#menu button") if text in e.text]
    found[0].click()


def test_report_json_and_csv(star, saved):
    before = star.texts(".heat .chosen td")
    star.slide("temperature", 0.5)
    wait(lambda: star.texts(".heat .chosen td") != before)
    shown = star.texts(".heat .chosen td")
    _menu(star, "Report")
    report = saved("star.html").read_text()
    assert "Content-Security-Policy" in report
    assert all(label in report for label in STAR)
    _menu(star, "JSON")
    (told,) = json.loads(saved("star.json").read_text())["videos"]
    assert told["label"] == star.label
    assert [f"{row[0]:.2f}" for row in told["confidence"]] == shown
    _menu(star, "row a frame")
    rows = list(csv.DictReader(io.StringIO(saved("star-frames.csv").read_text())))
    assert len(rows) == 16
    _menu(star, "row a label")
    rows = list(csv.DictReader(io.StringIO(saved("star-labels.csv").read_text())))
    assert sorted(row["label"] for row in rows) == sorted(STAR)


def test_lines_of_python(star, saved):
    star.driver.execute_cdp_cmd(
        "Browser.grantPermissions",
        {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]},
    )
    _menu(star, "Python")
    wait(lambda: star.shown("python-box"))
    lines = star.id("python-lines").text
    assert "vtd_jax.load(" in lines
    assert all(label in lines for label in STAR)
    star.id("python-copy").click()
    wait(lambda: star.id("python-copy").text == "Copied")
    star.id("python-file").click()
    assert saved("star.py").read_text().strip() == lines.strip()
    compile(lines, "star.py", "exec")


def test_the_link_opens_the_same(star):
    star.driver.execute_cdp_cmd(
        "Browser.grantPermissions",
        {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]},
    )
    star.slide("temperature", 0.5)
    _menu(star, "link")
    wait(lambda: star.id("link").text == "Copied")
    link = star.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert link == star.js("return location.href")
    assert "temperature=" in link


def test_a_link_that_may_not_be_copied_says_so(star):
    star.js("navigator.clipboard.writeText = () => Promise.reject(new Error())")
    _menu(star, "link")
    wait(lambda: "address bar" in star.id("link").text)


def test_the_menu_closes_again(star):
    star.driver.find_element(By.CSS_SELECTOR, "#menu summary").click()
    assert star.js("return document.getElementById('menu').open")
    star.id("answer").click()
    assert not star.js("return document.getElementById('menu').open")


def test_a_name_that_turns_the_direction_round_does_not_turn_the_title(star):
    star.js("memory.state.name = arguments[0]; choosing.named()", "gpj.\u202e\u2067star.mp4")
    assert star.js("return document.title") == "gpj.star.mp4 – vtd app"
