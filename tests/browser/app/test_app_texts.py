"""What is typed or pasted as labels and words, and what of it the address and a reload keep."""

import pytest

from browser.app.conftest import STAR, wait


@pytest.mark.parametrize(
    "text, labels",
    [
        ('"one, two", three', ["one, two", "three"]),
        ('"one","two"', ["one", "two"]),
        ('"say ""hi"", you",b', ['say "hi", you', "b"]),
        ("a\tb\r\nc\r\n", ["a", "b", "c"]),
        ('5" disc, "open', ['5" disc', '"open']),
        ('"open, b\n"c, d"', ['"open', "b", "c, d"]),
        ("1,,2,\n , \n", ["1", "2"]),
        ("👩‍🚒 fire, עברית, <b>x</b>", ["👩‍🚒 fire", "עברית", "<b>x</b>"]),
    ],
)
def test_lists_of_any_source(page, site, text, labels):
    if page.driver.current_url.split("?")[0] != site.address.split("?")[0]:
        page.open(site)
    assert page.js("return memory.list(arguments[0])", text) == labels


def test_labels_of_a_model_are_written_so_that_they_are_read_again(page, tuned, monkeypatch):
    names = ["plain", "a, b", '"quoted"', 'say "hi", you', "tab\there", '5" disc']
    inner = tuned.service.page_data

    def data():
        told = inner()
        told["model"]["labels"] = names
        return told

    monkeypatch.setattr(tuned.service, "page_data", data)
    page.open(tuned)
    assert page.js("return memory.list(memory.state.labels)") == names


def test_a_long_vocabulary_stays_out_of_the_address_but_is_there_after_a_reload(star):
    star.js("document.getElementById('word-box').open = true")
    star.fill("\n".join(f"word number {n}" for n in range(2000)), "word-text")
    named = ["a vocabulary of 2\u202f000 words"]
    wait(lambda: star.texts("[data-slot=named_from]") == named)
    wait(lambda: "leaves the vocabulary out" in star.id("address-note").text)
    assert len(star.driver.current_url) < 1000
    # at once, before a pause ends the edit
    star.id("label-text").send_keys("\nfifth")
    star.driver.refresh()
    star.answered(*STAR, "fifth")
    wait(lambda: star.texts("[data-slot=named_from]") == named)
    # a link has no more than its address
    address = star.driver.current_url
    star.fill("few\nwords", "word-text")
    wait(lambda: star.state.get("words") == "few\nwords")
    assert not star.shown("address-note")
    star.driver.get("about:blank")
    star.driver.get(address)
    star.answered(*STAR, "fifth")
    assert star.texts("[data-slot=named_from]") == ["the labels"]


def test_another_address_is_not_mixed_with_what_is_kept(star):
    star.fill("kept\nin this tab")
    star.answered("kept", "in this tab")
    star.js("location.hash = '#labels=z'")
    wait(lambda: star.texts("#label-count") == ["1 label"])
    assert star.id("label-text").get_attribute("value") == "z"
    assert star.state.get("video") is None


def test_many_choices_in_a_row_do_not_wear_out_the_address(star):
    for _ in range(150):
        star.js("memory.change({label: arguments[0]})", STAR[1])
        star.js("memory.change({label: arguments[0]})", STAR[2])
    wait(lambda: star.state.get("label") == STAR[2])


def test_a_problem_does_not_flash_at_every_key(star):
    star.id("label-text").send_keys(f"\n{STAR[0]}")
    wait(lambda: star.shown("label-problem"))
    # what is shown is not of these labels
    assert "stale" in star.id("answer").get_attribute("class")
    star.js(
        "window.flashed = 0; new MutationObserver(() => flashed++).observe("
        "document.getElementById('label-problem'), {attributes: true, childList: true})"
    )
    for _ in range(3):
        star.js("document.getElementById('label-text').dispatchEvent(new InputEvent('input'))")
        wait(lambda: star.js("return document.getElementById('label-problem').hidden") is False)
    wait(lambda: star.shown("label-problem"))
    assert star.js("return flashed") <= 1


def test_a_text_too_long_is_one_line_without_python(star):
    star.fill("word " * 200)
    wait(lambda: "tokens" in star.id("label-problem").text)
    assert "truncate" not in star.id("label-problem").text
    star.fill("one")
    star.answered("one")
    assert "stale" not in star.id("answer").get_attribute("class")
