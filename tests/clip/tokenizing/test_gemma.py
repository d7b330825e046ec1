"""Gemma's tokenizer from a file: rows of ids, prompts' places, and files that are refused.

tests/parity compares the ids with transformers'.
"""

import json
import time

import numpy as np
import pytest

from support.weights.encoders import tokenizer
from support.weights.gemma_files import tokenizer_json
from vtd_jax.clip.tokenizing.gemma import GemmaTokenizer, read_gemma
from vtd_jax.errors import UserError
from vtd_jax.untrusted.limits import TOKENIZER_BYTES

VOCABULARY = tokenizer_json()["model"]["vocab"]
PAD, END = VOCABULARY["<pad>"], VOCABULARY["<eos>"]


def _ids(*tokens):
    return [VOCABULARY[token] for token in tokens]


def test_rows_end_and_are_padded():
    ours = tokenizer()
    rows = ours.tokenize(["A photo of a CAT", ""], context_length=8)
    assert rows.dtype == np.int32
    assert rows[0].tolist() == [*_ids("a", "▁photo", "▁of", "▁a", "▁cat"), END, PAD, PAD]
    assert rows[1].tolist() == [END, *[PAD] * 7]
    assert ours.count_tokens(["a photo", "cat"]).tolist() == [2, 3]
    assert ours.tokenize("a cat").shape == (1, 64)
    cut = ours.tokenize("a cat a cat a cat", context_length=4, truncate=True)[0]
    assert cut.tolist() == [*_ids("a", "▁cat", "▁a"), END]
    with pytest.raises(UserError, match="'a cat a cat' has 4 tokens, the limit is 3 here"):
        ours.tokenize("a cat a cat", context_length=4)


def test_prompts_have_places_and_the_text_continues_behind_them():
    ours = tokenizer()
    rows = ours.behind(3, ["Hugging.", "cat."], context_length=8)
    assert rows[0].tolist() == [PAD] * 3 + [*_ids("▁", "hugging", "."), END, PAD]
    assert rows[1].tolist() == [PAD] * 3 + [*_ids("▁cat", "."), END, PAD, PAD]
    with pytest.raises(
        UserError, match=r"model\.text_prompts=7: leave no room for a name in the 8"
    ):
        ours.behind(7, ["cat"], context_length=8)


def test_bytes_and_tokens_that_are_spelt_out():
    ours = tokenizer()
    assert ours.encode(["é"])[0] == _ids("<0xC3>", "<0xA9>")
    assert ours.encode(["<table>cat"])[0] == _ids("<table>", "c", "a", "t")


def test_half_a_surrogate_is_no_text():
    with pytest.raises(UserError, match=r"text 0 of 1: '\\ud800' cannot be written as UTF-8"):
        tokenizer().tokenize("\ud800")


def test_equal_where_the_files_are():
    assert tokenizer() == tokenizer()
    other = GemmaTokenizer(json.dumps(tokenizer_json(version="2")).encode(), "other")
    assert tokenizer() != other
    assert hash(tokenizer()) == hash(tokenizer())
    assert str(tokenizer()).startswith("GemmaTokenizer(")


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(model=dict(type="Unigram")), "model.type is 'Unigram', expected 'BPE'"),
        (dict(model=dict(byte_fallback=False)), "model.byte_fallback is False, expected True"),
        (dict(model=dict(fuse_unk=False)), "model.fuse_unk is False"),
        (dict(model=dict(dropout=0.5)), "model.dropout is 0.5"),
        (dict(model=dict(end_of_word_suffix="</w>")), "model.end_of_word_suffix is '</w>'"),
        (dict(model=dict(vocab=[])), "model.vocab is "),
        (dict(model=dict(vocab={"a": 0, "b": 7})), "ids are not all numbers from 0 on"),
        (dict(model=dict(vocab={"a": 0, "b": True})), "ids are not all numbers from 0 on"),
        (dict(model=dict(vocab={"a": 0})), "no token <pad>"),
        (dict(model=dict(merges=[["q", "qqq"]])), "merge 1 is .*expected two tokens"),
        (dict(model=dict(merges=[["a"]])), "merge 1 is .*expected two tokens"),
        (dict(model=dict(merges=["a b c"])), "merge 1 is 'a b c'"),
        (dict(model=dict(merges=[7])), "merge 1 is 7"),
        (dict(model=dict(merges=7)), "model.merges is 7"),
        (dict(normalizer={"type": "NFKC"}), "normalizer is .*expected Gemma's"),
        # a pattern that takes forever is never run
        (
            dict(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}}),
            "pre_tokenizer is .*expected Gemma's",
        ),
        (dict(added_tokens=[dict(id=1, content="<new>")]), "an added token is "),
        (dict(added_tokens=[dict(id=0, content="<eos>")]), "an added token is "),
        (dict(added_tokens=[7]), "an added token is 7"),
        (dict(added_tokens=7), "added_tokens is 7"),
        (dict(made_up=1), "made_up is 1, expected nothing"),
    ],
)
def test_files_of_other_tokenizers(tmp_path, changes, message):
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(tokenizer_json(**changes)))
    with pytest.raises(UserError, match=message) as error:
        read_gemma(file)
    assert str(error.value).startswith(str(file))


def test_files_that_are_none(tmp_path):
    file = tmp_path / "tokenizer.json"
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_gemma(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError):
        read_gemma(file)
    with file.open("wb") as sparse:
        sparse.truncate(TOKENIZER_BYTES + 1)
    started = time.process_time()
    with pytest.raises(UserError, match="expected a tokenizer of at most 67,108,864"):
        read_gemma(file)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("length, fits", [(100, True), (2000, False)])
def test_many_tokens_that_a_text_may_spell_out(length, fits):
    content = tokenizer_json()
    vocabulary = content["model"]["vocab"]
    for number in range(9_000):
        token = f"{number}x".ljust(length, "y")
        vocabulary[token] = len(vocabulary)
        content["added_tokens"].append(dict(id=vocabulary[token], content=token, special=True))
    raw, started = json.dumps(content).encode(), time.process_time()
    if fits:
        # each alone takes as long as all those before it
        assert GemmaTokenizer(raw, "x").encode([f"cat{token}"])[0][-1] == vocabulary[token]
    else:
        with pytest.raises(UserError, match=r"x: added_tokens have 18,0.* characters, expected at"):
            GemmaTokenizer(raw, "x")
    assert time.process_time() - started < 10
