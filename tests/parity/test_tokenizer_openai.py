"""Token for token what OpenAI's tokenizer gives: generated strings, the basic plane, every
published label.
"""

import csv
import random
import warnings

import numpy as np
import pytest

from parity.openai import load
from vtd_jax.clip.tokenizer import EOT, SOT, count_tokens, decode, encode, tokenize

# fmt: off
WORDS = [
    "a photo of the", "Brush hair CARTWHEEL", "don't we'll I'M they've", "x2 3D",
    "café naïve Straße", "İſŉǆﬁ",
]
SCRIPTS = [
    "日本語", "中文字符", "한국어", "привет", "Ελληνικά ΟΔΟΣ", "العربية", "हिन्दी", "ไทย",
    "עברית", "ქართული", "𐐀𝔘", "ᾳῼ",
]
EMOJI = ["🙂", "👩‍👩‍👧", "🇫🇷", "👍🏽", "❤️", "\U0001fae8", "1️⃣", "☃", "©™"]
MARKS = [
    "!", "...", "?!", "—", "“quoted”", "‘s", "'s", "'S", "’ll", "'ſ", "''",
    "#@", "<", ">", "|", "_", "\\", "§", "½", "²", "٣", "Ⅷ", "$€¥",
]
ENTITIES = [
    "&amp;", "&amp;amp;", "&lt;b&gt;", "&#39;s", "&#x1F642;", "&eacute;",
    "&nbsp;", "&notit;", "&#0;", "&#xD800;", "&",
]
SPACES = [
    " ", "   ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u2009" * 3,
    "\u200b", "\ufeff", "\x0b\x0c", "\x1c", "\x85", " " * 50,
]
SPECIAL = [
    "<|startoftext|>", "<|endoftext|>", "<|EndOfText|>", "<|ſtartoftext|>", "<|startoftext",
    "</w>", "\x00", "\x7f", "\udcff",
]
BROKEN = ["é", "’", "“x”", "日本", "🙂", "ü—ß"]
# fmt: on


def _mojibake(rng):
    """UTF-8 read as if it were another encoding, once or twice."""
    text = rng.choice(BROKEN)
    for _ in range(rng.choice((1, 1, 2))):
        text = text.encode().decode(rng.choice(("latin-1", "cp1252", "cp437")), errors="ignore")
    return text


def _string(rng):
    """Up to 30 pieces of every kind, with and without spaces between them."""
    kinds = [WORDS, WORDS, SCRIPTS, EMOJI, MARKS, ENTITIES, SPACES, SPECIAL]
    pieces = []
    for _ in range(rng.randint(0, 30)):
        choice = rng.random()
        if choice < 0.8:
            pieces.append(rng.choice(rng.choice(kinds)))
        elif choice < 0.9:
            pieces.append(_mojibake(rng))
        else:
            points = [
                rng.randrange(*rng.choice(((0x20, 0x250), (0x250, 0xD800)))) for _ in range(4)
            ]
            pieces.append("".join(map(chr, points)))
        pieces.append(rng.choice(("", " ", " ", rng.choice(SPACES))))
    return "".join(pieces)


@pytest.fixture(scope="module")
def openai():
    with warnings.catch_warnings():
        # OpenAI's code leaves its vocabulary file open
        warnings.simplefilter("ignore", ResourceWarning)
        return load("simple_tokenizer").SimpleTokenizer()


def _check(openai, texts):
    """Compares one by one, so that a difference names its text."""
    for text, ids in zip(texts, encode(texts), strict=True):
        assert ids == openai.encode(text), repr(text)


def test_ten_thousand_generated_strings(openai):
    rng = random.Random(2021)
    texts = [_string(rng) for _ in range(10_000)]
    assert len(set(texts)) > 9_500
    assert sum("&" in text for text in texts) > 1_000
    _check(openai, texts)


def test_every_character_of_the_basic_plane(openai):
    points = [chr(i) for i in range(0x10000) if not 0xD800 <= i < 0xE000]
    groups = [points[i : i + 8] for i in range(0, len(points), 8)]
    _check(openai, ["a".join(group) + " 1".join(group) + " x'".join(group) for group in groups])


def test_repeats_and_long_words(openai):
    _check(
        openai,
        ["a" * n for n in range(1, 70)] + ["ab" * 200, "!" * 300, "é" * 90, "aab" * 33 + "'s" * 20],
    )


def _labels(shared_dir):
    for path in sorted((shared_dir / "splits" / "labels").glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            yield from (row["name"] for row in csv.DictReader(file))


@pytest.mark.shared
@pytest.mark.parametrize("stand_in", ["", "a photo of a ", "X " * 10, "X " * 16])
def test_every_published_label(openai, shared_dir, stand_in):
    names = list(_labels(shared_dir))
    assert len(names) > 2000
    texts = [f"{stand_in}{name.replace('_', ' ')}." for name in names] if stand_in else names
    expected = [openai.encode(text) for text in texts]
    assert encode(texts) == expected
    assert count_tokens(texts).tolist() == [len(ids) for ids in expected]
    rows = np.zeros((len(texts), 77), np.int32)
    for row, ids in zip(rows, expected, strict=True):
        row[: len(ids) + 2] = [SOT, *ids, EOT]
    np.testing.assert_array_equal(tokenize(texts), rows)


def test_decode(openai):
    for text in [*WORDS, *SCRIPTS, *EMOJI, *MARKS]:
        ids = encode([text])[0]
        assert decode(ids) == openai.decode(ids).strip()
