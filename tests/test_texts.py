"""Texts that CLIP reads as the same, with its tokenizer as the oracle."""

import html
import random
import string

import ftfy
import pytest

from vtd_jax import texts
from vtd_jax.clip.tokenizer import EOT, encode
from vtd_jax.errors import UserError

# what cleaning changes, what parts words, and what does neither
PARTS = (
    *(
        "a",
        "A",
        "é",
        "e\u0301",
        "&amp;",
        "&amp;amp;",
        "&",
        " ",
        "  ",
        "\u3000",
        "\uff41",
        "1",
        "\u0661",
        "_",
        "-",
        "<",
    ),
    *(
        "'s",
        "\u2019s",
        '"',
        "\u201c",
        "\x00",
        "\u200b",
        "\ufb01",
        "fi",
        "\t",
        "&lt;",
        "#39;",
        "&#39;",
        "<|endoftext|>",
    ),
)


def tokens(text):
    """The ids up to the end of the text, which is all that its features depend on."""
    (ids,) = encode([text])
    return tuple(ids[: ids.index(EOT)] if EOT in ids else ids)


@pytest.mark.slow
def test_texts_are_the_same_if_their_tokens_are():
    draw = random.Random(0)
    found = ["".join(draw.choices(PARTS, k=draw.randrange(1, 5))) for _ in range(2000)]
    first, expected = {}, []
    for place, text in enumerate(found):
        other = first.setdefault(tokens(text), place)
        expected += [(place, other)] * (other != place)
    assert len(expected) > 500
    assert texts.same_texts(found, underscores=False) == expected
    empty = [key == "" for key in texts.keys(found, underscores=False)]
    assert empty == [tokens(text) == () for text in found]


def test_printable_ascii_needs_no_cleaning():
    draw = random.Random(1)
    signs = [sign for sign in string.printable if sign.isprintable() and sign != "&"]
    for _ in range(2000):
        text = "".join(draw.choices(signs, k=12))
        assert texts.read_as(text) == " ".join(texts.words(texts.clean(text)))


@pytest.mark.parametrize("underscores", [False, True])
def test_underscores_count_as_the_model_takes_them(underscores):
    found = ["brush_hair", "wave", "Brush  hair", "brush__hair"]
    assert texts.same_texts(found, underscores=underscores) == (
        [(2, 0), (3, 0)] if underscores else []
    )


def test_pairs_that_look_the_same_are_reported_apart():
    assert texts.quoted_pair("caf\xe9", "cafe\u0301") == (r"'caf\xe9'", r"'cafe\u0301'")
    assert texts.quoted_pair("a", "A") == ("'a'", "'A'")


@pytest.mark.parametrize("unit", ["amp;", "#38;", "#x26;", "AMP;", "amp;#38;"])
@pytest.mark.parametrize("before", ["", "a < b ", "\u00c3\u00a9 "])
@pytest.mark.parametrize("after", ["", "lt;b", "eacute;", " x", "#60;"])
def test_nested_entities_are_what_ftfy_makes_of_them(unit, before, after):
    for depth in (0, 1, 2, 7, 8, 9, 10, 30):
        text = f"{before}&{unit * depth}{after}"
        assert (
            texts.clean(text) == html.unescape(html.unescape(ftfy.fix_text(text))).strip().lower()
        )


def test_nested_entities_are_taken_at_once(monkeypatch):
    lengths, mend = [], ftfy.fix_text
    monkeypatch.setattr(ftfy, "fix_text", lambda text: lengths.append(len(text)) or mend(text))
    assert texts.clean("&" + "amp;" * 16_000) == "&"
    # ftfy takes a level at a time, and 8 s for these
    assert lengths == [33]


def test_texts_have_an_end():
    texts.check_lengths(["x" * 4096], ["a"])
    with pytest.raises(
        UserError, match=r"labels.txt:3: 'xx.*a text of 4,097 characters, expected at most 4,096"
    ):
        texts.check_lengths(["a", "x" * 4097], ["labels.txt:1", "labels.txt:3"])


@pytest.mark.parametrize(
    "word",
    ["dog ", "a", "1", "😂", "綱引き", "e\u0301", "ᾂ", "the  \n quick\tbrown fox ", "\u3000猫"],
)
def test_the_beginning_of_a_text_has_all_tokens_that_are_read(word):
    text = "  " + word * 5000
    found = texts.beginning(text)
    assert len(found) <= 4096 < len(text)
    # CLIP reads 75 and two marks
    assert encode([found])[0][:75] == encode([text])[0][:75]


def test_the_beginning_is_found_in_any_text():
    assert texts.beginning(" as  it is ") == " as  it is "
    assert texts.beginning(" " * 200_000 + "a dog" + "\n" * 5000) == "a dog"
    assert texts.beginning("\t" * 10**7) == ""
    assert texts.beginning("x" * 10**8) == "x" * 4096
