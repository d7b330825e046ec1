"""Texts that CLIP reads alike, with its tokenizer as the oracle."""

import random
import string

import pytest

from vtd_jax import texts
from vtd_jax.clip.tokenizer import EOT, encode

# what cleaning changes, what parts words, and what does neither
PARTS = (
    *("a", "A", "é", "e\u0301", "&amp;", "&amp;amp;", "&", " ", "  ", "\u3000", "\uff41", "1", "\u0661", "_", "-", "<"),
    *("'s", "\u2019s", '"', "\u201c", "\x00", "\u200b", "\ufb01", "fi", "\t", "&lt;", "#39;", "&#39;", "<|endoftext|>"),
)


def tokens(text):
    """The ids up to the end of the text, which is all that its features depend on."""
    (ids,) = encode([text])
    return tuple(ids[: ids.index(EOT)] if EOT in ids else ids)


def test_alike_is_what_has_the_same_tokens():
    draw = random.Random(0)
    found = ["".join(draw.choices(PARTS, k=draw.randrange(1, 5))) for _ in range(2000)]
    first, expected = {}, []
    for place, text in enumerate(found):
        other = first.setdefault(tokens(text), place)
        expected += [(place, other)] * (other != place)
    assert len(expected) > 500
    assert texts.alike(found, underscores=False) == expected
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
    assert texts.alike(found, underscores=underscores) == ([(2, 0), (3, 0)] if underscores else [])


def test_pairs_that_look_the_same_are_told_apart():
    assert texts.told_pair("caf\xe9", "cafe\u0301") == (r"'caf\xe9'", r"'cafe\u0301'")
    assert texts.told_pair("a", "A") == ("'a'", "'A'")
