"""Known ids, cleaning, limits and errors of the tokenizer; `tests/parity` compares it with
OpenAI's.
"""

import csv
import inspect
import json
import time

import numpy as np
import pytest

from vtd_jax.clip import tokenizer
from vtd_jax.clip.tokenizer import EOT, SOT, count_tokens, decode, encode, tokenize
from vtd_jax.errors import UserError

GOLDEN = ("base_to_novel", "few_shot", "text_prompts_only", "zero_shot_names")

KNOWN = {
    "a photo of a": [320, 1125, 539, 320],
    "brush hair": [8594, 2225],
    "cartwheel": [27705, 6744],
    ".": [269],
    "x": [343],
    "": [],
}

# pairs that mean the same to CLIP: case, whitespace, entities, broken encodings, full-width forms
SAME = [
    ("Brush HAIR", "brush hair"),
    ("  brush \t\n  hair ", "brush hair"),
    ("brush\u3000\u00a0hair", "brush hair"),
    ("salt &amp; pepper", "salt & pepper"),
    ("salt &amp;amp; pepper", "salt & pepper"),
    ("&lt;b&gt;", "<b>"),
    ("cafÃ© crÃ¨me", "café crème"),
    ("cafe\u0301", "café"),
    ("ＡＢＣ", "abc"),
    ("it’s", "it's"),
]


@pytest.mark.parametrize("text", KNOWN)
def test_known_ids(text):
    assert encode([text]) == [KNOWN[text]]
    row = tokenize([text])
    assert row.shape == (1, 77)
    assert row.dtype == np.int32
    ids = [SOT, *KNOWN[text], EOT]
    assert row[0].tolist() == ids + [0] * (77 - len(ids))


@pytest.mark.shared
@pytest.mark.parametrize("case", GOLDEN)
def test_tokens_of_the_golden_cases(shared_dir, case):
    golden = np.load(shared_dir / "golden" / f"{case}.npz")
    message = json.loads(str(golden["case"]))
    if message["zs_eval"]:
        texts = message["classes"]
    else:
        few = message["n_ctx_text"] <= 4
        stand_in = "a photo of a" if few else " ".join(["X"] * message["n_ctx_text"])
        texts = [f"{stand_in} {name.replace('_', ' ')}." for name in message["classes"]]
    np.testing.assert_array_equal(tokenize(texts), golden["tokens"])


@pytest.mark.shared
def test_every_published_label_fits_and_comes_back(shared_dir):
    names = []
    for path in sorted((shared_dir / "splits" / "labels").glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            names += [row["name"] for row in csv.DictReader(file)]
    assert len(names) > 2000
    assert count_tokens(names).max() <= 75 - 17
    for name, row in zip(names, tokenize(names), strict=True):
        assert decode(row).replace(" ", "") == "".join(name.lower().split())


@pytest.mark.parametrize("text, plain", SAME)
def test_cleaning(text, plain):
    assert encode([text]) == encode([plain])
    assert encode([plain])[0]


def test_splitting_into_words():
    # digits stand alone, contractions and runs of punctuation are words
    assert encode(["1234"])[0] == [encode([digit])[0][0] for digit in "1234"]
    assert decode(encode(["don't!!! stop2go"])[0]) == "don 't !!! stop 2 go"


def test_special_tokens_spelled_out_in_a_text():
    assert encode(["a <|endoftext|> b<|StartOfText|>"])[0] == [320, EOT, *encode(["b"])[0], SOT]


def test_a_batch_is_its_texts_one_by_one():
    texts = ["brush hair", "", "日本語 🙂", "a" * 70, "brush hair"]
    np.testing.assert_array_equal(
        tokenize(texts), np.concatenate([tokenize([text]) for text in texts])
    )
    np.testing.assert_array_equal(tokenize("brush hair"), tokenize(["brush hair"]))
    assert tokenize([]).shape == (0, 77)
    assert count_tokens(texts).tolist() == [len(ids) for ids in encode(texts)]
    assert count_tokens("brush hair").tolist() == [2]


@pytest.mark.parametrize(
    "text", ["brush hair", "naïve façade", "日本語", "🙂 👩‍👩‍👧", "привет мир", "</w>", "x</w>y"]
)
def test_decode_is_the_inverse_up_to_spaces(text):
    back = decode(tokenize([text])[0])
    assert back.replace(" ", "") == text.replace(" ", "")
    assert encode([back]) == encode([text])


def test_decode_of_part_of_a_character():
    ids = encode(["\U0001fae8"])[0]
    assert len(ids) > 1
    assert decode(ids) == "\U0001fae8"
    assert decode(ids[:1]) == "\ufffd"


@pytest.mark.parametrize("wrong", [-1, 49408])
def test_decode_refuses_ids_of_another_vocabulary(wrong):
    with pytest.raises(UserError, match=f"token id {wrong} is not CLIP's, expected 0 to 49407"):
        decode([320, wrong])


def test_the_longest_text_that_fits():
    words = " ".join(["x"] * 75)
    assert tokenize([words])[0].tolist() == [SOT, *[343] * 75, EOT]
    assert count_tokens([words]).tolist() == [75]


def test_too_long_a_text_is_named():
    text = "waving  " + " ".join(["x"] * 75)
    with pytest.raises(UserError) as caught:
        tokenize(["fine", text])
    message = str(caught.value)
    assert "'waving x x x" in message
    assert "…' has 78 tokens with start and end, the limit is 77" in message
    assert "truncate=True" in message
    assert len(message) < 250


def test_truncation_keeps_the_end_token_last():
    text = " ".join(["x"] * 76)
    assert tokenize([text], truncate=True)[0].tolist() == [SOT, *[343] * 75, EOT]
    short = tokenize([text, "brush hair"], context_length=5, truncate=True)
    assert short.tolist() == [[SOT, 343, 343, 343, EOT], [SOT, 8594, 2225, EOT, 0]]
    with pytest.raises(UserError, match="limit is 5"):
        tokenize([text], context_length=5)


def test_wrong_arguments():
    with pytest.raises(UserError, match=r"context_length=1.*give 2 or more"):
        tokenize(["a"], context_length=1)
    # past the tests' run-time type check, which would speak first
    unchecked = inspect.unwrap(encode)
    with pytest.raises(UserError, match=r"text 1 of 2 is 3 \(int\), expected a string"):
        unchecked(["a", 3])


def test_the_vocabulary_is_whole_and_quick_to_load():
    tokenizer._bpe.cache_clear()
    start = time.process_time()
    vocabulary = tokenizer._bpe().get_vocab()
    assert time.process_time() - start < 1
    assert sorted(vocabulary.values()) == list(range(49408))
    assert [vocabulary[word] for word in ("!", "!</w>", "in", "<|endoftext|>")] == [
        0,
        256,
        512,
        EOT,
    ]
    assert "MIT License" in (tokenizer.MERGES.parent / "NOTICE").read_text()
